/**
 * Blocks that are missing here, read from under storage: to the readers and into the tiers at once.
 *
 * Invariants
 * 1. One load per block, however many readers: they follow it through its file, so that nothing piles up in memory.
 * 2. A block is published only when it is whole and the store said that the object was still the same.
 */
import { setMaxListeners } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { type BlockRead, containerName } from "../blocks/types.ts";
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import type { InodeId, MountId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { unlinkedPath } from "../lib/store-names.ts";
import type { UnderFileSystem } from "../ufs/types.ts";
import type { BlockStore } from "./block-store.ts";
import { BlockChecksums, type Container } from "./container.ts";

export interface BlockLoaderOptions {
  readonly store: BlockStore;
  readonly mounts: { get(id: MountId): Promise<UnderFileSystem> };
  readonly logger: Logger;
}

/** Loads at once; what comes beyond them is read without being cached. */
const maxLoads = 16;
/** A reader further ahead of a load than this reads for itself. */
const followBytes = 4 * 1024 * 1024;
const pieceBytes = 512 * 1024;

type Source = NonNullable<BlockRead["ufs"]>;

export class BlockLoader {
  readonly #options: BlockLoaderOptions;
  readonly #loads = new Map<string, Load>();
  /** Beginnings of loads wait for each other by container, since one of them may have to move it. */
  readonly #beginnings = new Map<string, Promise<unknown>>();
  readonly #closing = new AbortController();
  #storeBytes = 0;

  constructor(options: BlockLoaderOptions) {
    this.#options = options;
    setMaxListeners(0, this.#closing.signal);
  }

  /** Bytes read from under storage since the start. */
  get storeBytes(): number {
    return this.#storeBytes;
  }

  /** Bytes [offset, offset + length) of a block. @throws WeirError what the store says, `Stale` for a changed object */
  async *read(request: BlockRead, source: Source, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const load = request.cache ? await this.#loadOf(request, source) : undefined;
    if (load === undefined || request.offset > load.written + followBytes) {
      load?.release();
      const range = { offset: source.blockOffset + request.offset, length: request.length };
      yield* this.#fromStore(request.container.inode, source, range, signal);
      return;
    }
    try {
      yield* load.follow(request, signal);
    } finally {
      load.release();
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new WeirError("Unavailable", "The worker stops"));
    await Promise.all([...this.#loads.values()].map((load) => load.ended));
  }

  /** The load of a block, retained for the caller, begun if need be; `undefined` when it cannot be cached. */
  async #loadOf(request: BlockRead, source: Source): Promise<Load | undefined> {
    const key = `${containerName(request.container)}.${request.blockIndex}`;
    const known = this.#loads.get(key);
    if (known !== undefined) {
      known.retain();
      await known.begun;
      if (known.usable) return known;
      known.release();
      return undefined;
    }
    if (this.#loads.size >= maxLoads) return undefined;
    const load = new Load();
    this.#loads.set(key, load);
    load.retain();
    void this.#run(load, request, source).finally(() => {
      this.#loads.delete(key);
    });
    await load.begun;
    if (load.usable) return load;
    load.release();
    return undefined;
  }

  /** Never rejects. */
  async #run(load: Load, request: BlockRead, source: Source): Promise<void> {
    const { store, logger } = this.#options;
    let container: Container | undefined;
    load.retain();
    try {
      container = await this.#begin(load, request);
      if (container === undefined) return;
      const position = request.blockIndex * container.blockSizeBytes;
      const sums = new BlockChecksums();
      const range = { offset: source.blockOffset, length: request.blockLength };
      const { inode } = request.container;
      for await (const chunk of this.#fromStore(inode, source, range, this.#closing.signal)) {
        if (container.dropped) throw new WeirError("NotFound", "The container was dropped");
        await load.append(position, chunk);
        sums.add(chunk);
      }
      await store.publish(container, new Map([[request.blockIndex, sums.info()]]), { sync: false });
      load.finish(undefined);
    } catch (error) {
      const known = toWeirError(error, `Cannot load "${containerName(request.container)}"`);
      logger.debug({ err: known }, "load failed");
      if (container !== undefined) store.shrink(container, request.blockLength);
      load.finish(known);
    } finally {
      load.finish(undefined);
      if (container !== undefined) {
        container.writers -= 1;
        if (container.blocks.size === 0 && container.writers === 0) store.drop(container);
      }
      load.release();
    }
  }

  /** Takes the room and opens the file. */
  async #begin(load: Load, request: BlockRead): Promise<Container | undefined> {
    const key = containerName(request.container);
    const before = this.#beginnings.get(key) ?? Promise.resolve();
    const beginning = before.then(() => this.#beginInTurn(load, request));
    const settled = beginning.catch(() => undefined);
    this.#beginnings.set(key, settled);
    try {
      return await beginning;
    } finally {
      if (this.#beginnings.get(key) === settled) this.#beginnings.delete(key);
      load.markBegun();
    }
  }

  async #beginInTurn(load: Load, request: BlockRead): Promise<Container | undefined> {
    const { store } = this.#options;
    const found = store.peek(request.container);
    const bytes = request.blockLength;
    if (found !== undefined && (!found.loaded || found.blocks.has(request.blockIndex))) {
      return undefined;
    }
    // Counted as a writer from here on: making room must not evict the very container.
    if (found !== undefined) found.writers += 1;
    let container = found;
    try {
      if (container === undefined) {
        container = await store.create(request.container, { loaded: true, kept: false, bytes });
        container.writers += 1;
      } else if (!store.grow(container, bytes)) {
        // Others write to the file where it is now.
        if (container.writers > 1) throw new WeirError("NoSpace", "The tier is full");
        await store.move(container, bytes);
      }
      const file = await open(container.path, found === undefined ? "w+" : "r+", 0o600);
      load.open(file, container.blockSizeBytes * request.blockIndex);
      return container;
    } catch (err) {
      // Not to have it cached is no reason not to read it. A container whose file cannot be opened is of no use.
      this.#options.logger.debug({ err, container: request.container }, "not cached");
      if (container !== undefined) {
        container.writers -= 1;
        if (!hasCode(err, "NoSpace")) store.drop(container);
      }
      return undefined;
    }
  }

  /** An object whose last name goes meanwhile may lie aside by now. */
  async *#fromStore(
    inode: InodeId,
    source: Source,
    range: { offset: number; length: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    if (range.length === 0) return;
    const ufs = await this.#options.mounts.get(source.mountId);
    const { fingerprint } = source;
    let got = 0;
    const readAt = async function* (path: string) {
      for await (const chunk of ufs.read(path, { ...range, fingerprint, signal })) {
        got += chunk.length;
        yield chunk;
      }
    };
    try {
      yield* this.#counted(readAt(source.path));
    } catch (thrown) {
      const aside = unlinkedPath(inode);
      if (got > 0 || source.path === aside || !hasCode(thrown, "NotFound", "Stale")) throw thrown;
      try {
        yield* this.#counted(readAt(aside));
      } catch (other) {
        // Nothing is there for this file: what was said of its own place is what counts.
        throw got === 0 && hasCode(other, "NotFound", "Stale") ? thrown : other;
      }
    }
    if (got !== range.length) {
      throw new WeirError(
        "Stale",
        `Cannot read "${source.path}" of ${ufs.uri}: got ${got} bytes at ${range.offset}, wanted ${range.length}`,
      );
    }
  }

  async *#counted(chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const chunk of chunks) {
      this.#storeBytes += chunk.length;
      yield chunk;
    }
  }
}

/** One block on its way from the store into its file. */
class Load {
  /** Resolves when it is known whether the block is cached. */
  readonly begun: Promise<void>;
  readonly ended: Promise<void>;
  /** Bytes of the block that are in the file. */
  written = 0;
  #markBegun: () => void = () => undefined;
  #markEnded: () => void = () => undefined;
  #finished = false;
  #failure: WeirError | undefined;
  #file: FileHandle | undefined;
  #position = 0;
  #users = 0;
  #waiting: (() => void)[] = [];

  constructor() {
    this.begun = new Promise((resolve) => {
      this.#markBegun = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
  }

  get usable(): boolean {
    return this.#file !== undefined;
  }

  open(file: FileHandle, position: number): void {
    this.#file = file;
    this.#position = position;
  }

  markBegun(): void {
    this.#markBegun();
  }

  async append(position: number, chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const to = position + this.written;
      const { bytesWritten } = await this.#file!.write(chunk, at, chunk.length - at, to);
      at += bytesWritten;
      this.written += bytesWritten;
    }
    this.#wake();
  }

  finish(failure: WeirError | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#failure = failure;
    this.#markEnded();
    this.#wake();
  }

  retain(): void {
    this.#users += 1;
  }

  /** The file is closed behind its last user. */
  release(): void {
    this.#users -= 1;
    if (this.#users === 0) void this.#file?.close();
  }

  async *follow(
    range: { offset: number; length: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    const end = range.offset + range.length;
    for (let at = range.offset; at < end; ) {
      signal.throwIfAborted();
      const available = Math.min(end, this.written);
      if (available > at) {
        const piece = Buffer.allocUnsafeSlow(Math.min(available - at, pieceBytes));
        const { bytesRead } = await this.#file!.read(piece, 0, piece.length, this.#position + at);
        if (bytesRead === 0) throw new WeirError("Internal", "A file that is being loaded shrank");
        at += bytesRead;
        yield piece.subarray(0, bytesRead);
      } else if (this.#failure !== undefined) {
        throw this.#failure;
      } else if (this.#finished) {
        throw new WeirError(
          "InvalidArgument",
          `Cannot read up to ${end}: the block ends at ${available}`,
        );
      } else {
        await this.#changed(signal);
      }
    }
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener("abort", wake);
        resolve();
      };
      signal.addEventListener("abort", wake, { once: true });
      this.#waiting.push(wake);
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}
