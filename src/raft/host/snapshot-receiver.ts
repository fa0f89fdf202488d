/**
 * A snapshot that comes in: spooled to a file, then installed at one go.
 *
 * Invariants
 * 1. One at a time comes in. A sender of a later term, or the same one on a new connection, takes the place of the former.
 * 2. The state machine changes over only when all chunks are there; a broken transfer leaves it as it was.
 * 3. What a broken transfer left is one file, kept for `keepMs`; in memory are `maxWaitingFrames` chunks at most.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { decode, encode } from "../../lib/schema.ts";
import { decodeConfiguration } from "../configuration-codec.ts";
import type { Index, NodeId, Term } from "../types.ts";
import type { Driver } from "./driver.ts";
import type { FramedSocket } from "./framed-socket.ts";
import {
  done,
  end,
  installBeatMs,
  keepMs,
  type SnapshotHeader,
  snapshotHeader,
  type SnapshotMachine,
  snapshotResume,
  stallTimeoutMs,
} from "./snapshot-protocol.ts";
import { SnapshotSpool } from "./snapshot-spool.ts";

export interface SnapshotReceiverOptions {
  readonly machine: SnapshotMachine;
  /** For the file that is spooled to; made when it is missing. */
  readonly directory: string;
  readonly driver: Driver;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onFatal: (error: unknown) => void;
}

interface Transfer {
  readonly from: NodeId;
  readonly term: number;
  readonly socket: FramedSocket;
  readonly over: Promise<void>;
}

interface Partial {
  readonly id: string | undefined;
  readonly spool: SnapshotSpool;
  cancelExpiry: () => void;
}

export class SnapshotReceiver {
  readonly #options: SnapshotReceiverOptions;
  #transfer: Transfer | undefined;
  #partial: Partial | undefined;
  readonly #arriving = new Set<Promise<void>>();
  readonly #sockets = new Set<FramedSocket>();
  #isStopped = false;
  /** Gives up an installation that has not begun. */
  #abandon: (() => void) | undefined;

  constructor(options: SnapshotReceiverOptions) {
    this.#options = options;
  }

  /** Takes a snapshot from a peer, and installs it when it brings this node forward. */
  receive(socket: FramedSocket, from: NodeId, version: number): void {
    if (this.#isStopped) {
      socket.close();
      return;
    }
    this.#sockets.add(socket);
    const arriving = this.#arrive(socket, from, version)
      .catch((error: unknown) => {
        this.#options.logger.warn(
          { from, error: String(error) },
          "a snapshot did not arrive whole",
        );
      })
      .finally(() => {
        this.#arriving.delete(arriving);
        this.#sockets.delete(socket);
        socket.close();
      });
    this.#arriving.add(arriving);
  }

  /** Ends what comes in; resolves when no file is left. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const socket of this.#sockets) socket.close();
    this.#abandon?.();
    await Promise.all(this.#arriving);
    await this.#dropPartial();
  }

  /** Removes what a process that was killed has left. */
  async clear(): Promise<void> {
    await rm(this.#path, { force: true });
  }

  get #path(): string {
    return join(this.#options.directory, "snapshot.part");
  }

  async #arrive(socket: FramedSocket, from: NodeId, version: number): Promise<void> {
    const { driver } = this.#options;
    const header = decode(snapshotHeader, await socket.next(stallTimeoutMs), "snapshotHeader");
    if (header.term < driver.core.term) {
      throw new WeirError("Stale", `Cannot take a snapshot of term ${header.term}: it is over`);
    }
    while (this.#transfer !== undefined) {
      const { term, from: present, socket: old, over } = this.#transfer;
      if (header.term <= term && present !== from) {
        throw new WeirError("Busy", `Cannot take a snapshot: another one comes in from ${present}`);
      }
      old.close();
      await over;
    }
    const { promise: over, resolve } = withResolver();
    this.#transfer = { from, term: header.term, socket, over };
    try {
      await this.#take(socket, from, header, version);
    } finally {
      this.#transfer = undefined;
      resolve();
    }
    socket.write([done]);
    // The sender closes once it has read that.
    await socket.next(stallTimeoutMs).catch(() => undefined);
  }

  async #take(
    socket: FramedSocket,
    from: NodeId,
    header: SnapshotHeader,
    version: number,
  ): Promise<void> {
    const { driver, logger, machine } = this.#options;
    const { index, indexTerm: term, hash } = header;
    const meta = hash === undefined ? { index, term } : { index, term, hash };
    const partial = await this.#partialOf(header.id);
    try {
      const { spool } = partial;
      if (version >= 2) {
        socket.write([encode(snapshotResume, { chunks: spool.count, crc: spool.crc })]);
      }
      logger.info({ from, index: meta.index, fromChunk: spool.count }, "a snapshot comes in");
      for (;;) {
        const chunk = await socket.next(stallTimeoutMs);
        if (chunk.length === 0) break;
        await spool.add(chunk);
      }
      const stopBeats = version >= 2 ? this.#beat(socket) : () => undefined;
      await this.#installBetweenApplies(meta, spool).finally(stopBeats);
    } catch (error) {
      await this.#keep(partial, error);
      throw error;
    }
    await this.#dropPartial();
    const stored = machine.configuration();
    driver.step({
      kind: "installed",
      index: meta.index as Index,
      term: meta.term as Term,
      from,
      configuration: stored && decodeConfiguration(stored.payload),
      configurationIndex: stored && (stored.index as Index),
    });
  }

  /** Tells the sender now and then that this node is there; until the returned function is called. */
  #beat(socket: FramedSocket): () => void {
    const { clock } = this.#options;
    const onTimer = () => {
      socket.write([end]);
      cancel = clock.after(installBeatMs, onTimer);
    };
    let cancel = clock.after(installBeatMs, onTimer);
    return () => cancel();
  }

  #installBetweenApplies(
    meta: { index: number; term: number; hash?: string },
    spool: SnapshotSpool,
  ): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const giveUp = () => reject(new WeirError("Unavailable", "Cannot install: this node stops"));
      if (this.#isStopped) {
        // The last chunks were there before the connection was closed.
        giveUp();
        return;
      }
      // A driver that has ended would never come to it.
      this.#abandon = giveUp;
      this.#options.driver.betweenApplies(async () => {
        this.#abandon = undefined;
        if (this.#isStopped) giveUp();
        else await this.#install(meta, spool).then(resolve, reject);
      });
    });
  }

  /** Runs while the state machine does nothing else, so that what is checked here still holds at the end. */
  async #install(
    meta: { index: number; term: number; hash?: string },
    spool: SnapshotSpool,
  ): Promise<void> {
    const { machine, logger, onFatal } = this.#options;
    if (meta.index <= machine.appliedIndex) return;
    logger.info({ index: meta.index, chunks: spool.count }, "installing a snapshot");
    let isWhole = false;
    const chunks = (async function* () {
      yield* spool.chunks();
      isWhole = true;
    })();
    try {
      await machine.install(meta, chunks);
    } catch (error) {
      // With all chunks there, it is the state machine that failed.
      if (isWhole) onFatal(error);
      throw error;
    }
    logger.info({ index: meta.index }, "snapshot installed");
  }

  /** What there is of this very snapshot; an empty file when there is nothing. */
  async #partialOf(id: string | undefined): Promise<Partial> {
    const kept = this.#partial;
    if (kept !== undefined && id !== undefined && kept.id === id) {
      kept.cancelExpiry();
      return kept;
    }
    await this.#dropPartial();
    const spool = await SnapshotSpool.create(this.#path);
    this.#partial = { id, spool, cancelExpiry: () => undefined };
    return this.#partial;
  }

  /** After a failure: what is there may be gone on with, unless it is itself what is wrong. */
  async #keep(partial: Partial, error: unknown): Promise<void> {
    if (this.#partial !== partial || this.#isStopped) return;
    const isUseless = partial.id === undefined || !isOfConnection(error);
    if (isUseless) await this.#dropPartial();
    else partial.cancelExpiry = this.#options.clock.after(keepMs, () => void this.#dropPartial());
  }

  async #dropPartial(): Promise<void> {
    const partial = this.#partial;
    if (partial === undefined) return;
    this.#partial = undefined;
    partial.cancelExpiry();
    await partial.spool.remove().catch((error: unknown) => {
      this.#options.logger.warn({ error: String(error) }, "a spooled snapshot was not removed");
    });
  }
}

/** True when the transfer broke, and not what was transferred. */
function isOfConnection(error: unknown): boolean {
  return error instanceof WeirError && error.code === "Unavailable";
}

function withResolver(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((resolved) => {
    resolve = resolved;
  });
  return { promise, resolve };
}
