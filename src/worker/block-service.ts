/**
 * What a worker does for readers and writers of blocks: its own copy if it is there and intact, else the store's object,
 * else a clear no. A wrong byte never leaves it.
 */
import {
  type BlockRead,
  type BlockService,
  type ContainerId,
  type ContainerSink,
  containerName,
} from "../blocks/types.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import type { BlockLoader } from "./block-loader.ts";
import type { BlockStore } from "./block-store.ts";
import type { ContainerWriters } from "./container-sink.ts";

export class WorkerBlockService implements BlockService {
  readonly #store: BlockStore;
  readonly #loader: BlockLoader;
  readonly #writers: ContainerWriters;
  #streamedBytes = 0;

  constructor(store: BlockStore, loader: BlockLoader, writers: ContainerWriters) {
    this.#store = store;
    this.#loader = loader;
    this.#writers = writers;
  }

  /** Bytes that were sent to readers since the start. */
  get streamedBytes(): number {
    return this.#streamedBytes;
  }

  async *read(request: BlockRead, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const end = request.offset + request.length;
    if (end > request.blockLength || request.blockLength > this.#store.blockSizeBytes) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot read block ${request.blockIndex} of "${containerName(request.container)}" up to ${end}: it is said to have ${request.blockLength} bytes, of at most ${this.#store.blockSizeBytes}`,
      );
    }
    let at = request.offset;
    try {
      const range = { offset: at, length: request.length };
      for await (const piece of this.#store.read(request.container, request.blockIndex, range)) {
        signal.throwIfAborted();
        at += piece.length;
        this.#streamedBytes += piece.length;
        yield piece;
      }
      return;
    } catch (error) {
      if (request.ufs === undefined || !hasCode(error, "NotFound", "Corrupt")) throw error;
    }
    const rest = { ...request, offset: at, length: end - at };
    for await (const piece of this.#loader.read(rest, request.ufs, signal)) {
      this.#streamedBytes += piece.length;
      yield piece;
    }
  }

  openContainer(container: ContainerId, options: { resumeAt: number }): Promise<ContainerSink> {
    return this.#writers.open(container, options);
  }
}
