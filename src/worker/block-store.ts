/**
 * The containers of this worker: where they lie, what of them is there, and what has to go when a tier is full.
 *
 * Invariants
 * 1. Bytes at a published address never change, and files go as a whole: who has one open reads on undisturbed.
 * 2. What is kept, leased, being written or being loaded is never evicted; when nothing else is left, the tiers are full.
 * 3. A container is in `#containers` if and only if it can be read or is being made; its bytes are charged to its tier.
 * 4. The sidecar on disk never says more than the data file holds: data first, sidecar after it.
 */
import { type FileHandle, open, rename, unlink, writeFile } from "node:fs/promises";
import { type ContainerId, containerName } from "../blocks/types.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { InodeId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import type { TierUsage } from "../rpc/namespace.ts";
import type { ContainerReport } from "../rpc/tasks.ts";
import { ChangeLog } from "./change-log.ts";
import { type BlockInfo, Container, encodeSidecar } from "./container.ts";
import { readBlockFile } from "./block-file.ts";
import { scanDirectory } from "./container-scan.ts";
import { chooseVictims, isEvictable } from "./eviction.ts";
import type { TierDirectory } from "./tier-directory.ts";
import { charge, emptiestDirectory, limitMemory, type Tier, usageOf } from "./tiers.ts";

export interface BlockStoreOptions {
  readonly tiers: readonly Tier[];
  readonly blockSizeBytes: number;
  readonly logger: Logger;
}

export class BlockStore {
  readonly blockSizeBytes: number;
  readonly changes = new ChangeLog();
  readonly #tiers: readonly Tier[];
  readonly #logger: Logger;
  /** All containers; the order is that of their last use, oldest first. */
  readonly #containers = new Map<string, Container>();
  /** Those that are kept. */
  readonly #kept = new Set<Container>();
  /** Files whose copies are pinned, as far as the masters were asked. */
  readonly #pinned = new Set<InodeId>();
  /** Files on their way out, by container. */
  readonly #removals = new Map<string, Promise<void>>();
  #evictions = 0;

  private constructor(options: BlockStoreOptions) {
    this.#tiers = options.tiers;
    this.blockSizeBytes = options.blockSizeBytes;
    this.#logger = options.logger;
  }

  /** Takes over what the directories hold: unfinished containers are cleaned, the others served again. */
  static async open(options: BlockStoreOptions): Promise<BlockStore> {
    const store = new BlockStore(options);
    for (const [place, tier] of options.tiers.entries()) {
      for (const directory of tier.directories) {
        for (const container of await scanDirectory(directory, place, options.logger)) {
          const other = store.#containers.get(container.key);
          if (
            other !== undefined ||
            (container.loaded && container.blockSizeBytes !== options.blockSizeBytes)
          ) {
            // Left by a move that was cut short, or of another block size: the copy, or the store, has it.
            await unlink(`${container.path}.meta`).catch(() => undefined);
            await unlink(container.path).catch(() => undefined);
            continue;
          }
          store.#containers.set(container.key, container);
          if (container.kept) store.#kept.add(container);
          charge(tier, directory, container.bytes);
          store.#changed(container);
        }
      }
    }
    await limitMemory(options.tiers, options.logger);
    return store;
  }

  get tiers(): readonly Tier[] {
    return this.#tiers;
  }

  get usage(): readonly TierUsage[] {
    return usageOf(this.#tiers);
  }

  get count(): number {
    return this.#containers.size;
  }

  get evictions(): number {
    return this.#evictions;
  }

  get keptBytes(): number {
    let bytes = 0;
    for (const container of this.#kept) bytes += container.bytes;
    return bytes;
  }

  /** The container, without counting as a use. */
  peek(id: ContainerId): Container | undefined {
    return this.#containers.get(containerName(id));
  }

  /** The block's description if the whole range is there; counts as a use. */
  find(id: ContainerId, blockIndex: number, endOffset: number): BlockInfo | undefined {
    const container = this.peek(id);
    const block = container?.blocks.get(blockIndex);
    if (container === undefined || block === undefined || endOffset > block.length)
      return undefined;
    this.touch(container);
    return block;
  }

  touch(container: Container): void {
    if (this.#containers.delete(container.key)) this.#containers.set(container.key, container);
  }

  /**
   * Bytes [offset, offset + length) of a block, checked against their crcs.
   * @throws WeirError `NotFound` when they are not here (any more); `Corrupt` for a damaged copy, which is put aside
   */
  async *read(
    id: ContainerId,
    blockIndex: number,
    range: { readonly offset: number; readonly length: number },
  ): AsyncIterable<Uint8Array> {
    const block = this.find(id, blockIndex, range.offset + range.length);
    const container = this.peek(id);
    if (container === undefined || block === undefined) throw notHere(id, blockIndex);
    let file: FileHandle;
    try {
      file = await open(container.path, "r");
    } catch (cause) {
      const error = toWeirError(cause, `Cannot read container "${container.key}"`);
      if (error.code === "NotFound" && !container.dropped) {
        this.#logger.error({ container: container.key, kept: container.kept }, "a copy is gone");
        this.drop(container);
      }
      throw error;
    }
    try {
      yield* readBlockFile(file, blockIndex * container.blockSizeBytes, block, range);
    } catch (error) {
      if (error instanceof WeirError && error.code === "Corrupt") this.quarantine(container);
      throw error;
    } finally {
      await file.close();
    }
  }

  /** A new container, empty, in the first tier that has `bytes` of room. @throws WeirError `NoSpace` */
  async create(
    id: ContainerId,
    options: { loaded: boolean; kept: boolean; bytes: number },
  ): Promise<Container> {
    const key = containerName(id);
    await this.#removals.get(key);
    if (this.#containers.has(key)) {
      throw new WeirError("AlreadyExists", `Cannot make container "${key}": it is there`);
    }
    const tier = this.#tiers.findIndex((each) => {
      return this.#makeRoom(each, options.bytes, options.kept);
    });
    const at = this.#tiers[tier];
    if (at === undefined) throw this.#full(key);
    const { loaded, kept, bytes } = options;
    const directory = emptiestDirectory(at);
    const { blockSizeBytes } = this;
    const container = new Container({ id, blockSizeBytes, loaded, kept, directory, tier });
    this.#charge(container, bytes);
    this.#containers.set(container.key, container);
    if (kept) this.#kept.add(container);
    return container;
  }

  /**
   * Charges `bytes` more to a container; false when its tier has no room for them (another one may, see `move`).
   */
  grow(container: Container, bytes: number): boolean {
    if (!this.#makeRoom(this.#tiers[container.tier]!, bytes, container.kept)) return false;
    this.#charge(container, bytes);
    return true;
  }

  /** Gives back what was charged and not used. */
  shrink(container: Container, bytes: number): void {
    if (!container.dropped) this.#charge(container, -bytes);
  }

  /**
   * Moves a container that has outgrown its tier to a lower one with room for `bytes` more, which are charged then. The
   * caller is the only one that adds to it. The former file stays as long as it is leased.
   * @throws WeirError `NoSpace` when no tier has the room
   */
  async move(container: Container, bytes: number): Promise<void> {
    const tier = this.#tiers.findIndex(
      (each, place) =>
        place > container.tier && this.#makeRoom(each, container.bytes + bytes, container.kept),
    );
    const target = this.#tiers[tier];
    if (target === undefined) throw this.#full(container.key);
    // No other container of this name is made meanwhile, but files of former ones may still be on their way out.
    const removal = this.#removals.get(container.key);
    const directory = emptiestDirectory(target);
    const moved = container.bytes;
    charge(target, directory, moved + bytes);
    const former = { directory: container.directory, path: container.path, tier: container.tier };
    try {
      await removal;
      await this.#copy(container, directory.dataPath(container.key));
      await container.sidecarWrites;
      if (container.dropped) throw notHere(container.id, 0);
      container.directory = directory;
      container.tier = tier;
      container.bytes = moved + bytes;
      await this.writeSidecar(container, { sync: false });
    } catch (error) {
      container.directory = former.directory;
      container.tier = former.tier;
      container.bytes = moved;
      charge(target, directory, -(moved + bytes));
      await unlink(directory.dataPath(container.key)).catch(() => undefined);
      throw error;
    }
    await unlink(`${former.path}.meta`).catch(() => undefined);
    container.formerFiles.push({ ...former, bytes: moved });
    this.settleLeases(container);
  }

  /** To be called when leases of a container ended: frees what only they held. */
  settleLeases(container: Container): void {
    if (container.leases > 0) return;
    for (const { directory, path, bytes, tier } of container.formerFiles.splice(0)) {
      charge(this.#tiers[tier]!, directory, -bytes);
      this.#remove(container.key, () => unlink(path));
    }
  }

  /** Makes blocks readable that are in the data file: describes them in the sidecar, then to everybody. */
  async publish(
    container: Container,
    blocks: ReadonlyMap<number, BlockInfo>,
    options: { sync: boolean },
  ): Promise<void> {
    if (container.dropped) throw notHere(container.id, 0);
    for (const [index, block] of blocks) container.blocks.set(index, block);
    this.#changed(container);
    await this.writeSidecar(container, options);
  }

  async writeSidecar(container: Container, options: { sync: boolean }): Promise<void> {
    const write = async (): Promise<void> => {
      if (container.dropped) return;
      const flush = options.sync && container.directory.persistent;
      const file = `${container.path}.meta`;
      await writeFile(`${file}.tmp`, encodeSidecar(container), { mode: 0o600, flush });
      await rename(`${file}.tmp`, file);
      if (flush) await syncDirectory(container.directory.containersPath);
      // Dropped meanwhile: its files went before this one came.
      if (container.dropped) await unlink(file).catch(() => undefined);
    };
    container.sidecarWrites = container.sidecarWrites.then(write, write);
    await container.sidecarWrites;
  }

  /** Makes it a duty to keep a container: it is being written again. */
  keep(container: Container): void {
    container.kept = true;
    this.#kept.add(container);
  }

  /** Ends the duty to keep a container: it is cache from now on. */
  async release(id: ContainerId): Promise<void> {
    const container = this.peek(id);
    if (container?.kept !== true || container.writers > 0) return;
    container.kept = false;
    this.#kept.delete(container);
    this.#changed(container);
    await this.writeSidecar(container, { sync: false });
  }

  /** Takes a container away; who has its file open reads on. */
  drop(container: Container): void {
    this.#takeAway(container, (path) => unlink(path));
  }

  /** Puts a damaged copy aside and reports it as gone. */
  quarantine(container: Container): void {
    if (container.dropped) return;
    const { directory, key, kept } = container;
    this.#logger.error({ container: key, directory: directory.path, kept }, "a copy is damaged");
    this.#takeAway(container, () => directory.quarantine(key));
  }

  /** What a master is to be told of a container; `undefined` when it is gone. */
  report(id: ContainerId): ContainerReport | undefined {
    const container = this.peek(id);
    if (container === undefined || container.blocks.size === 0) return undefined;
    const blocks = [...container.blocks.keys()].sort((a, b) => a - b);
    const { kept, loaded } = container;
    return { ...container.id, blocks, kept, length: loaded ? undefined : container.prefixLength };
  }

  /** Up to `limit` reports of kept containers from place `from` of them on; `next` is 0 when there are no more. */
  keptAfter(from: number, limit: number): { reports: ContainerReport[]; next: number } {
    const reports: ContainerReport[] = [];
    let place = 0;
    for (const { id } of this.#kept) {
      if (place++ < from) continue;
      if (reports.length >= limit) return { reports, next: from + limit };
      const report = this.report(id);
      if (report !== undefined) reports.push(report);
    }
    return { reports, next: 0 };
  }

  /** How many containers are kept in a directory. */
  keptIn(directory: TierDirectory): number {
    return [...this.#kept].filter((container) => container.directory === directory).length;
  }

  /** Drops all that may be evicted, of one directory or of all. */
  dropCache(directory?: TierDirectory): void {
    for (const container of [...this.#containers.values()]) {
      if (directory !== undefined && container.directory !== directory) continue;
      if (isEvictable(container)) this.drop(container);
    }
  }

  /** Resolves when files that are to go are gone. */
  async settle(): Promise<void> {
    while (this.#removals.size > 0) await Promise.all(this.#removals.values());
  }

  async close(): Promise<void> {
    await this.settle();
    for (const tier of this.#tiers) {
      for (const directory of tier.directories) await directory.close();
    }
  }

  /** All files of which there are containers, those first that would be evicted first. */
  inodesInOrder(): InodeId[] {
    const inodes = new Set<InodeId>();
    for (const { id } of this.#containers.values()) inodes.add(id.inode);
    return [...inodes];
  }

  /** Says whether copies of a file are to stay as long as there is another way. */
  setPinned(inode: InodeId, isPinned: boolean): void {
    if (isPinned) this.#pinned.add(inode);
    else this.#pinned.delete(inode);
  }

  /** Forgets pins of all other files. */
  retainPins(inodes: ReadonlySet<InodeId>): void {
    for (const inode of this.#pinned) if (!inodes.has(inode)) this.#pinned.delete(inode);
  }

  /** `kept`: for bytes that nobody else has, before which pinned copies give way. */
  #makeRoom(tier: Tier, bytes: number, kept: boolean): boolean {
    const needed = tier.usedBytes + bytes - tier.quotaBytes;
    if (needed <= 0) return true;
    if (bytes > tier.quotaBytes) return false;
    const victims = chooseVictims(this.#oldestOf(tier), needed, {
      isPinned: ({ id }) => this.#pinned.has(id.inode),
      giveWay: kept,
    });
    if (victims === undefined) return false;
    for (const victim of victims) {
      this.#evictions += 1;
      this.#logger.debug({ container: victim.key, bytes: victim.bytes }, "evicted");
      this.drop(victim);
    }
    return true;
  }

  *#oldestOf(tier: Tier): Iterable<Container> {
    for (const container of this.#containers.values()) {
      if (this.#tiers[container.tier] === tier) yield container;
    }
  }

  #charge(container: Container, bytes: number): void {
    container.bytes += bytes;
    charge(this.#tiers[container.tier]!, container.directory, bytes);
  }

  #changed(container: Container): void {
    this.changes.note(container.key, container.id, false);
  }

  async #copy(container: Container, targetPath: string): Promise<void> {
    const source = await open(container.path, "r");
    const target = await open(targetPath, "w", 0o600);
    try {
      const buffer = Buffer.allocUnsafeSlow(1024 * 1024);
      // All that was written, published or not; holes of blocks that are not there stay holes.
      const { size } = await source.stat();
      for (let position = 0; position < size; ) {
        const { bytesRead } = await source.read(buffer, 0, buffer.length, position);
        if (bytesRead === 0) break;
        const piece = buffer.subarray(0, bytesRead);
        if (piece.some((byte) => byte !== 0)) await target.write(piece, 0, bytesRead, position);
        position += bytesRead;
      }
    } finally {
      await source.close();
      await target.close();
    }
  }

  #full(key: string): WeirError {
    const kept = this.keptBytes;
    return new WeirError(
      "NoSpace",
      `Cannot hold container "${key}": the tiers are full, ${kept} bytes are kept until they are persisted`,
    );
  }

  #takeAway(container: Container, removeData: (path: string) => Promise<void>): void {
    if (container.dropped) return;
    container.dropped = true;
    this.#containers.delete(container.key);
    this.#kept.delete(container);
    this.changes.note(container.key, container.id, true);
    this.#charge(container, -container.bytes);
    container.leases = 0;
    this.settleLeases(container);
    const { path } = container;
    this.#remove(container.key, async () => {
      await container.sidecarWrites.catch(() => undefined);
      // The sidecar first: data without one is cleaned at the next start.
      await unlink(`${path}.meta`).catch(ignoreMissing);
      await removeData(path);
    });
  }

  /** Removes files of a container that is gone; one of the same name is made only after that. */
  #remove(key: string, remove: () => Promise<void>): void {
    const before = this.#removals.get(key) ?? Promise.resolve();
    const done = before.then(remove).catch((err: unknown) => {
      if ((err as NodeJS.ErrnoException).code !== "ENOENT") {
        this.#logger.warn({ err, key }, "a file of a dropped container stays");
      }
    });
    this.#removals.set(key, done);
    void done.then(() => {
      if (this.#removals.get(key) === done) this.#removals.delete(key);
    });
  }
}

function notHere(id: ContainerId, blockIndex: number): WeirError {
  return new WeirError(
    "NotFound",
    `Cannot read block ${blockIndex} of "${containerName(id)}": it is not here`,
  );
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
