/**
 * A container as the store knows it, and its sidecar: which blocks are there, how long they are, and a crc for each 64
 * KiB of them. Block i lies at i × block size in the data file.
 *
 * Invariants
 * 1. What `blocks` names is in the data file and never changes, but that the last block of a written container may grow.
 * 2. A `BlockInfo` is never changed, only replaced: who holds one can check exactly the bytes that it describes.
 */
import { crc32 } from "node:zlib";
import { type ContainerId, containerName } from "../blocks/types.ts";
import { WeirError } from "../lib/errors.ts";
import type { InodeId, WriteId } from "../lib/ids.ts";
import { boolean, bytes, decode, encode, list, struct, unsigned } from "../lib/schema.ts";
import type { TierDirectory } from "./tier-directory.ts";

/** Bytes under one crc. */
export const crcUnitBytes = 64 * 1024;

export interface BlockInfo {
  readonly length: number;
  /** One for each started 64 KiB. */
  readonly crcs: Uint32Array;
}

export class Container {
  readonly id: ContainerId;
  readonly key: string;
  readonly blockSizeBytes: number;
  /** Filled from under storage; else written by a client or a job. */
  readonly loaded: boolean;
  directory: TierDirectory;
  /** The tier of `directory`, by its place. */
  tier: number;
  kept: boolean;
  blocks = new Map<number, BlockInfo>();
  /** What is charged for it, reservations of blocks under way included. */
  bytes = 0;
  leases = 0;
  writers = 0;
  /** Dropped: what is under way on it must not publish anything. */
  dropped = false;
  /** Earlier places that leases still refer to. */
  readonly formerFiles: { directory: TierDirectory; path: string; bytes: number; tier: number }[] =
    [];
  /** Orders the writes of its sidecar. */
  sidecarWrites: Promise<void> = Promise.resolve();

  constructor(options: {
    id: ContainerId;
    blockSizeBytes: number;
    loaded: boolean;
    kept: boolean;
    directory: TierDirectory;
    tier: number;
  }) {
    this.id = options.id;
    this.key = containerName(options.id);
    this.blockSizeBytes = options.blockSizeBytes;
    this.loaded = options.loaded;
    this.kept = options.kept;
    this.directory = options.directory;
    this.tier = options.tier;
  }

  get path(): string {
    return this.directory.dataPath(this.key);
  }

  /** Bytes that are there from the start without a gap. */
  get prefixLength(): number {
    for (let index = 0, length = 0; ; index++) {
      const block = this.blocks.get(index);
      length += block?.length ?? 0;
      if (block === undefined || block.length < this.blockSizeBytes) return length;
    }
  }
}

const sidecar = struct({
  inode: unsigned<InodeId>(),
  writeId: unsigned<WriteId>(),
  blockSizeBytes: unsigned(),
  loaded: boolean,
  kept: boolean,
  blocks: list(struct({ index: unsigned(), length: unsigned(), crcs: bytes })),
});

/** The bytes of a sidecar, their crc at the end. */
export function encodeSidecar(container: Container): Buffer {
  const body = encode(sidecar, {
    ...container.id,
    blockSizeBytes: container.blockSizeBytes,
    loaded: container.loaded,
    kept: container.kept,
    blocks: [...container.blocks].map(([index, { length, crcs }]) => ({
      index,
      length,
      crcs: new Uint8Array(crcs.buffer, crcs.byteOffset, crcs.byteLength),
    })),
  });
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(crc32(body));
  return Buffer.concat([body, crc]);
}

/** @throws WeirError `Corrupt` or `ProtocolError` for bytes that are no sidecar */
export function decodeSidecar(
  encoded: Buffer,
  place: { directory: TierDirectory; tier: number },
): Container {
  const body = encoded.subarray(0, Math.max(0, encoded.length - 4));
  if (encoded.length < 4 || crc32(body) !== encoded.readUInt32BE(body.length)) {
    throw new WeirError("Corrupt", "Cannot read a container's sidecar: its crc is wrong");
  }
  const { inode, writeId, blocks, ...rest } = decode(sidecar, body, "sidecar");
  const container = new Container({ id: { inode, writeId }, ...rest, ...place });
  for (const { index, length, crcs } of blocks) {
    if (crcs.length !== 4 * Math.ceil(length / crcUnitBytes)) {
      throw new WeirError("Corrupt", "Cannot read a container's sidecar: crcs are missing");
    }
    container.blocks.set(index, { length, crcs: new Uint32Array(Uint8Array.from(crcs).buffer) });
    container.bytes += length;
  }
  return container;
}

/** Builds a `BlockInfo` from bytes in order. */
export class BlockChecksums {
  readonly #crcs: number[];
  #length: number;

  constructor(start: BlockInfo = { length: 0, crcs: new Uint32Array() }) {
    this.#crcs = [...start.crcs];
    this.#length = start.length;
  }

  get length(): number {
    return this.#length;
  }

  add(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const unit = Math.floor(this.#length / crcUnitBytes);
      const room = (unit + 1) * crcUnitBytes - this.#length;
      const part = chunk.subarray(at, at + room);
      this.#crcs[unit] = crc32(part, this.#crcs[unit] ?? 0);
      this.#length += part.length;
      at += part.length;
    }
  }

  info(): BlockInfo {
    return { length: this.#length, crcs: Uint32Array.from(this.#crcs) };
  }
}

/** Whether `unit`, the bytes of the block from `unitIndex` × 64 KiB on, is what was written. */
export function unitIsIntact(block: BlockInfo, unitIndex: number, unit: Uint8Array): boolean {
  return crc32(unit) === block.crcs[unitIndex];
}
