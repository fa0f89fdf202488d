/**
 * Appending to containers of this worker.
 *
 * Invariants
 * 1. One writer per container: a later one ends the earlier one, which keeps what it had flushed.
 * 2. Room is taken as data arrives; a container that outgrows its tier moves to the next one that has room.
 * 3. Readers see exactly what was flushed.
 */
import { type FileHandle, open } from "node:fs/promises";
import { type ContainerId, type ContainerSink, containerName } from "../blocks/types.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { BlockStore } from "./block-store.ts";
import { BlockChecksums, type BlockInfo, type Container } from "./container.ts";

/** The writers of a store. */
export class ContainerWriters {
  readonly #store: BlockStore;
  readonly #sinks = new Map<string, StoreSink>();
  /** Openings wait for each other by container. */
  readonly #openings = new Map<string, Promise<unknown>>();
  #writtenBytes = 0;

  constructor(store: BlockStore) {
    this.#store = store;
  }

  /** Bytes that were appended since the start. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /**
   * @throws WeirError `InvalidArgument` when `resumeAt` is not the length of what is there, `NotFound` when nothing is
   * there to resume
   */
  async open(id: ContainerId, options: { resumeAt: number }): Promise<ContainerSink> {
    const key = containerName(id);
    const before = this.#openings.get(key) ?? Promise.resolve();
    const opening = before.then(
      () => this.#open(id, options.resumeAt),
      () => this.#open(id, options.resumeAt),
    );
    this.#openings.set(key, opening);
    try {
      return await opening;
    } finally {
      if (this.#openings.get(key) === opening) this.#openings.delete(key);
    }
  }

  async #open(id: ContainerId, resumeAt: number): Promise<ContainerSink> {
    const key = containerName(id);
    const doing = `Cannot write container "${key}"`;
    await this.#sinks.get(key)?.abort();
    const found = this.#store.peek(id);
    const length = found?.prefixLength ?? 0;
    if (found?.loaded === true || length !== resumeAt) {
      throw new WeirError(
        found === undefined ? "NotFound" : "InvalidArgument",
        `${doing} at ${resumeAt}: it has ${length} bytes`,
      );
    }
    const container =
      found ?? (await this.#store.create(id, { loaded: false, kept: true, bytes: 0 }));
    this.#store.keep(container);
    container.writers += 1;
    try {
      const file = await open(container.path, found === undefined ? "w+" : "r+", 0o600);
      const sink = new StoreSink({
        store: this.#store,
        container,
        file,
        length,
        onAppend: (bytes) => {
          this.#writtenBytes += bytes;
        },
        onEnd: () => {
          this.#sinks.delete(key);
        },
      });
      this.#sinks.set(key, sink);
      return sink;
    } catch (error) {
      container.writers -= 1;
      if (found === undefined) this.#store.drop(container);
      throw toWeirError(error, doing);
    }
  }
}

class StoreSink implements ContainerSink {
  readonly #store: BlockStore;
  readonly #container: Container;
  readonly #onAppend: (bytes: number) => void;
  readonly #onEnd: () => void;
  /** What was there before this writer came. */
  readonly #opened: { readonly length: number; readonly blocks: ReadonlyMap<number, BlockInfo> };
  /** What readers see. */
  #flushed: { readonly length: number; readonly blocks: ReadonlyMap<number, BlockInfo> };
  /** Blocks that grew since the last flush. */
  readonly #growing = new Map<number, BlockChecksums>();
  #file: FileHandle;
  #length: number;
  #ended = false;
  /** Operations run one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: {
    store: BlockStore;
    container: Container;
    file: FileHandle;
    length: number;
    onAppend: (bytes: number) => void;
    onEnd: () => void;
  }) {
    this.#store = options.store;
    this.#container = options.container;
    this.#file = options.file;
    this.#length = options.length;
    this.#onAppend = options.onAppend;
    this.#onEnd = options.onEnd;
    this.#opened = { length: options.length, blocks: new Map(options.container.blocks) };
    this.#flushed = this.#opened;
  }

  get length(): number {
    return this.#length;
  }

  append(chunk: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      this.#check();
      if (!this.#store.grow(this.#container, chunk.length)) await this.#move(chunk.length);
      try {
        await this.#write(chunk);
      } catch (error) {
        const known = toWeirError(error, this.#doing);
        // The file system is fuller than the quota thinks: a lower tier may do.
        this.#store.shrink(this.#container, chunk.length);
        if (known.code !== "NoSpace") throw known;
        await this.#move(chunk.length);
        await this.#write(chunk);
      }
      this.#note(chunk);
      this.#length += chunk.length;
      this.#onAppend(chunk.length);
    });
  }

  flush(options: { sync: boolean }): Promise<void> {
    return this.#inTurn(async () => {
      this.#check();
      await this.#flush(options);
    });
  }

  close(options: { keep: boolean }): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#ended) return;
      try {
        if (options.keep) {
          this.#check();
          await this.#flush({ sync: false });
        } else {
          await this.#cutTo(this.#opened);
        }
      } finally {
        await this.#end();
      }
    });
  }

  abort(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#ended) return;
      try {
        await this.#cutTo(this.#flushed);
      } finally {
        await this.#end();
      }
    });
  }

  get #doing(): string {
    return `Cannot write container "${this.#container.key}"`;
  }

  #check(): void {
    if (this.#ended) {
      throw new WeirError("LeaseLost", `${this.#doing}: it is closed, or a later writer took over`);
    }
    if (this.#container.dropped) {
      throw new WeirError("NotFound", `${this.#doing}: it was dropped`);
    }
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(action, action);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #move(bytes: number): Promise<void> {
    await this.#store.move(this.#container, bytes);
    await this.#file.close();
    this.#file = await open(this.#container.path, "r+", 0o600);
  }

  async #write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const { bytesWritten } = await this.#file.write(
        chunk,
        at,
        chunk.length - at,
        this.#length + at,
      );
      at += bytesWritten;
    }
  }

  #note(chunk: Uint8Array): void {
    const { blockSizeBytes, blocks } = this.#container;
    for (let at = 0; at < chunk.length; ) {
      const position = this.#length + at;
      const index = Math.floor(position / blockSizeBytes);
      const part = chunk.subarray(at, at + (index + 1) * blockSizeBytes - position);
      let growing = this.#growing.get(index);
      if (growing === undefined) {
        growing = new BlockChecksums(blocks.get(index));
        this.#growing.set(index, growing);
      }
      growing.add(part);
      at += part.length;
    }
  }

  async #flush(options: { sync: boolean }): Promise<void> {
    const container = this.#container;
    if (options.sync && container.directory.persistent) await this.#file.datasync();
    const grown = new Map([...this.#growing].map(([index, sums]) => [index, sums.info()] as const));
    if (grown.size === 0 && !options.sync) return;
    await this.#store.publish(container, grown, options);
    this.#flushed = { length: this.#length, blocks: new Map(container.blocks) };
    const last = Math.floor(this.#length / container.blockSizeBytes);
    for (const index of grown.keys()) if (index !== last) this.#growing.delete(index);
  }

  /** Takes back what came after a state. */
  async #cutTo(state: {
    readonly length: number;
    readonly blocks: ReadonlyMap<number, BlockInfo>;
  }): Promise<void> {
    const container = this.#container;
    if (container.dropped) return;
    if (state.length === 0) {
      this.#store.drop(container);
      return;
    }
    if (state.length === this.#length) return;
    await this.#file.truncate(state.length);
    this.#store.shrink(container, this.#length - state.length);
    this.#length = state.length;
    container.blocks = new Map(state.blocks);
    await this.#store.publish(container, state.blocks, { sync: false });
  }

  async #end(): Promise<void> {
    this.#ended = true;
    this.#container.writers -= 1;
    this.#onEnd();
    await this.#file.close();
  }
}
