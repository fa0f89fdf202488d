/**
 * Short circuit: reading containers straight from the tier's files, where this process can read the nonce of the tier.
 * Whether storage is shared is never decided by a host name.
 *
 * Invariants
 * 1. A file is read only through a descriptor that was opened under a block lease: published bytes never change, and what
 *    is unlinked stays readable through it. Where the leases are lost the descriptors are given up soon after, so that
 *    nobody's memory is held.
 * 2. At most `openFiles` descriptors are open; none is closed while a read of it is under way.
 */
import { type FileHandle as DiskFile, open, readFile, statfs } from "node:fs/promises";
import { readSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { hasCode } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { type ContainerId, containerName } from "../blocks/types.ts";
import type { RpcClient } from "../rpc/client.ts";
import { workerApi } from "../rpc/worker-api.ts";
import type { Workers } from "./workers.ts";

const openFiles = 256;
const callTimeoutMs = 3000;
/** How long a worker that shares nothing, or a container that is not there, is not asked again. */
const refusalMs = 1000;
const foreignMs = 30_000;
/** How often leases are renewed at the latest, and so the loss of a worker is noticed. */
const renewEveryMs = 2000;
/** statfs(2): f_type of tmpfs. Reads of memory are done at once, they never block. */
const tmpfsMagic = 0x01021994;

/** A container on this machine, open for reading. */
export class LocalContainer {
  /** Bytes [0, length) of the container are there. */
  readonly length: number;
  readonly #file: DiskFile;
  readonly #base: number;
  readonly #inMemory: boolean;
  #reads = 0;
  #retired = false;

  constructor(file: DiskFile, options: { base: number; length: number; inMemory: boolean }) {
    this.#file = file;
    this.#base = options.base;
    this.length = options.length;
    this.#inMemory = options.inMemory;
  }

  /** Fills `target` with the bytes from `position` of the container; false when the file is shorter than it should be. */
  async read(target: Uint8Array, position: number): Promise<boolean> {
    if (this.#retired) return false;
    if (this.#inMemory) {
      return (
        readSync(this.#file.fd, target, 0, target.length, this.#base + position) === target.length
      );
    }
    this.#reads++;
    try {
      const { bytesRead } = await this.#file.read(target, 0, target.length, this.#base + position);
      return bytesRead === target.length;
    } finally {
      this.#reads--;
      if (this.#retired && this.#reads === 0) await this.#file.close();
    }
  }

  /** Closes the file as soon as nobody reads it. */
  async retire(): Promise<void> {
    if (this.#retired) return;
    this.#retired = true;
    if (this.#reads === 0) await this.#file.close();
  }
}

interface Entry {
  readonly container: ContainerId;
  readonly shared: Shared;
  /** Undefined when the container is not here. */
  readonly opened: Promise<LocalContainer | undefined>;
  /** The settled value of `opened`. */
  local: LocalContainer | undefined;
  retryAtMs: number;
}

/** What a worker shares with this process. */
interface Shared {
  readonly connection: RpcClient;
  /** The worker's directories that are shared, and whether they lie in memory. */
  readonly directories: readonly { path: string; inMemory: boolean }[];
  leases: number;
  stopRenewing: (() => void) | undefined;
}

/** Where the control connections of workers are found. */
type WorkerPlaces = Pick<Workers, "get" | "refresh" | "connection">;

export class LocalStorage {
  readonly #workers: WorkerPlaces;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #enabled: boolean;
  /** Address → what is shared with the worker there. */
  readonly #shared = new Map<string, { proof: Promise<Shared | undefined>; untilMs: number }>();
  /** Container name → its state, in the order of last use. */
  readonly #entries = new Map<string, Entry>();
  #closed = false;

  constructor(options: { workers: WorkerPlaces; clock: Clock; logger: Logger; enabled: boolean }) {
    this.#workers = options.workers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#enabled = options.enabled;
  }

  /** The container if it is open already: no waiting on the hot path. */
  opened(container: ContainerId): LocalContainer | undefined {
    return this.#entries.get(containerName(container))?.local;
  }

  /**
   * The container as a local file with at least `length` bytes, or undefined where no worker of `locations` shares its
   * storage with this process.
   */
  async open(
    container: ContainerId,
    locations: readonly WorkerId[],
    length: number,
  ): Promise<LocalContainer | undefined> {
    if (!this.#enabled || this.#closed) return undefined;
    const name = containerName(container);
    const known = this.#entries.get(name);
    if (known !== undefined) {
      const local = await known.opened;
      if (local !== undefined && local.length >= length) {
        this.#entries.delete(name);
        this.#entries.set(name, known);
        return local;
      }
      if (this.#clock.monotonicMs() < known.retryAtMs && this.#entries.get(name) === known) {
        return undefined;
      }
      this.#drop(name, known);
    }
    for (const worker of locations) {
      const shared = await this.#prove(worker);
      if (shared === undefined) continue;
      const raced = this.#entries.get(name);
      if (raced !== undefined) {
        const local = await raced.opened;
        return local !== undefined && local.length >= length ? local : undefined;
      }
      const entry: Entry = {
        container,
        shared,
        opened: this.#lease(shared, container),
        local: undefined,
        retryAtMs: this.#clock.monotonicMs() + refusalMs,
      };
      this.#entries.set(name, entry);
      entry.local = await entry.opened;
      this.#evict();
      if (entry.local !== undefined && entry.local.length >= length) return entry.local;
    }
    return undefined;
  }

  /** Whether this process reads the worker's storage directly. */
  async shares(worker: WorkerId): Promise<boolean> {
    return this.#enabled && !this.#closed && (await this.#prove(worker)) !== undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { proof } of this.#shared.values()) {
      void proof.then((shared) => shared?.stopRenewing?.());
    }
    this.#shared.clear();
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    await Promise.all(entries.map(async (entry) => (await entry.opened)?.retire()));
  }

  #prove(id: WorkerId): Promise<Shared | undefined> {
    const worker = this.#workers.get(id);
    if (worker === undefined) {
      return this.#workers.refresh().then(
        () => (this.#workers.get(id) === undefined ? undefined : this.#prove(id)),
        () => undefined,
      );
    }
    const known = this.#shared.get(worker.address);
    if (known !== undefined && this.#clock.monotonicMs() < known.untilMs) return known.proof;
    const proof = this.#proveAt(this.#workers.connection(worker)).catch((error: unknown) => {
      this.#logger.debug({ worker: id, error: String(error) }, "no short circuit");
      return undefined;
    });
    const state = { proof, untilMs: Number.POSITIVE_INFINITY };
    this.#shared.set(worker.address, state);
    void proof.then((shared) => {
      if (shared === undefined) state.untilMs = this.#clock.monotonicMs() + foreignMs;
    });
    return proof;
  }

  async #proveAt(connection: RpcClient): Promise<Shared | undefined> {
    const options = { deadlineMs: callTimeoutMs };
    const { directories } = await connection.call(workerApi.tiers, {}, options);
    const nonces = await Promise.all(
      directories.map((directory) => readFile(join(directory, "nonce"), "utf8").catch(() => "")),
    );
    if (nonces.every((nonce) => nonce === "")) return undefined;
    const { local } = await connection.call(workerApi.proveLocal, { nonces }, options);
    const shared: { path: string; inMemory: boolean }[] = [];
    for (const [index, path] of directories.entries()) {
      if (local[index] !== true) continue;
      shared.push({ path, inMemory: (await statfs(path)).type === tmpfsMagic });
    }
    return shared.length === 0
      ? undefined
      : { connection, directories: shared, leases: 0, stopRenewing: undefined };
  }

  async #lease(shared: Shared, container: ContainerId): Promise<LocalContainer | undefined> {
    const { connection } = shared;
    try {
      const { address } = await connection.call(
        workerApi.leaseContainer,
        { container: { inode: container.inode, writeId: container.writeId } },
        { deadlineMs: callTimeoutMs },
      );
      if (address === undefined) return undefined;
      const file = await open(address.path, "r");
      shared.leases++;
      this.#renewAfter(shared, address.leaseMs / 3);
      const inMemory = shared.directories.some(
        (directory) => directory.inMemory && address.path.startsWith(`${directory.path}/`),
      );
      return new LocalContainer(file, { base: address.offset, length: address.length, inMemory });
    } catch (error) {
      this.#logger.debug(
        { container: containerName(container), error: String(error) },
        "no block lease",
      );
      if (hasCode(error, "Unavailable", "DeadlineExceeded")) this.#forget(connection);
      return undefined;
    }
  }

  #renewAfter(shared: Shared, periodMs: number): void {
    shared.stopRenewing ??= this.#clock.after(Math.min(periodMs, renewEveryMs), () => {
      shared.stopRenewing = undefined;
      if (this.#closed || shared.leases === 0) return;
      shared.connection.call(workerApi.renewLeases, {}, { deadlineMs: callTimeoutMs }).then(
        ({ leaseMs }) => this.#renewAfter(shared, leaseMs / 3),
        () => this.#forget(shared.connection),
      );
    });
  }

  /** The connection was lost, and with it proof and leases. */
  #forget(connection: RpcClient): void {
    const known = this.#shared.get(connection.address);
    if (known === undefined) return;
    this.#shared.set(connection.address, {
      proof: Promise.resolve(undefined),
      untilMs: this.#clock.monotonicMs() + refusalMs,
    });
    for (const [name, entry] of this.#entries) {
      if (entry.shared.connection === connection) this.#drop(name, entry);
    }
  }

  #evict(): void {
    if (this.#entries.size <= openFiles) return;
    const [name, entry] = this.#entries.entries().next().value!;
    this.#drop(name, entry);
  }

  #drop(name: string, entry: Entry): void {
    if (this.#entries.get(name) === entry) this.#entries.delete(name);
    void entry.opened.then(async (local) => {
      if (local === undefined) return;
      await local.retire();
      const { shared } = entry;
      shared.leases--;
      if ((await this.#shared.get(shared.connection.address)?.proof) !== shared) return;
      const { inode, writeId } = entry.container;
      // Another entry of the same container may be leased again by now: the lease is one per container.
      if (this.#entries.has(name)) return;
      await shared.connection
        .call(
          workerApi.releaseContainers,
          { containers: [{ inode, writeId }] },
          { deadlineMs: callTimeoutMs },
        )
        .catch(() => undefined);
    });
  }
}
