/**
 * Blocks over NATS as both ends see them. Bytes flow in chunks of at most `max_payload` less headers, in order, each
 * with offset and crc, under a credit that is bounded per connection. Every call has a deadline or a signal; a dead
 * peer shows as `Unavailable` (no responders, or silence), and what was received before it stays valid.
 */
import type { InodeId, MountId, WorkerId, WriteId } from "../lib/ids.ts";

export interface ContainerId {
  readonly inode: InodeId;
  readonly writeId: WriteId;
}

/** The file name of a container, as used for keys and in logs. */
export function containerName(container: ContainerId): string {
  return `${String(container.inode)}.${String(container.writeId)}`;
}

/** Where a missing block can be read. */
export interface UfsSource {
  readonly mountId: MountId;
  readonly path: string;
  readonly fingerprint: string;
  /** Where byte 0 of the block lies in the object. */
  readonly blockOffset: number;
}

export interface BlockRead {
  readonly container: ContainerId;
  readonly blockIndex: number;
  /** Length of the whole block, in bytes. */
  readonly blockLength: number;
  /** Bytes [offset, offset + length) of the block. */
  readonly offset: number;
  readonly length: number;
  readonly ufs?: UfsSource | undefined;
  /** Whether a miss is kept in the worker's tiers. */
  readonly cache: boolean;
}

/** A worker's side: what the server half calls. */
export interface BlockService {
  /** @throws WeirError `NotFound` when the block is not here and no `ufs` says where it could be read */
  read(request: BlockRead, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Opens a container for appending; one writer at a time, the latest wins. `resumeAt` must equal its length. */
  openContainer(container: ContainerId, options: { resumeAt: number }): Promise<ContainerSink>;
}

/** A container being written on this worker. */
export interface ContainerSink {
  readonly length: number;
  append(chunk: Uint8Array): Promise<void>;
  /** All appended bytes can be read by others; with `sync` they are also fsynced where the tier is a disk. */
  flush(options: { sync: boolean }): Promise<void>;
  /** `keep: false` takes back what was appended since the opening: the caller never committed it. */
  close(options: { keep: boolean }): Promise<void>;
  /** The writer went away without a close: only what was flushed stays. */
  abort(): Promise<void>;
}

/** A client's side of one container on a chain of workers; the first passes on to the next. */
export interface ContainerWriter {
  /** Workers that hold every byte so far, in chain order. */
  readonly workers: readonly WorkerId[];
  /** Bytes handed over so far. */
  readonly length: number;
  /** Takes the next bytes; resolves when there is credit for more. The buffer is the callee's until then. */
  write(chunk: Uint8Array): Promise<void>;
  /** Resolves when every worker of the chain holds all bytes so far (on disk, with `sync`). */
  flush(options: { sync: boolean }): Promise<void>;
  close(options: { keep: boolean }): Promise<void>;
  /** Lets go at once; the workers keep only what was flushed. */
  abort(): Promise<void>;
}

export interface BlockClient {
  read(
    worker: WorkerId,
    request: BlockRead,
    options: { signal: AbortSignal },
  ): AsyncIterable<Uint8Array>;
  /**
   * Opens a container for appending on all workers of `chain`; `signal` ends only the opening. When a worker behind the
   * first goes away, the next call fails with `Unavailable` that names it; with `degrade` the others go on instead, and
   * `workers` says who they are after each `flush`.
   */
  openContainer(
    chain: readonly WorkerId[],
    container: ContainerId,
    options: { resumeAt: number; signal: AbortSignal; degrade?: boolean | undefined },
  ): Promise<ContainerWriter>;
  close(): Promise<void>;
}
