/**
 * Chunks of a snapshot as bytes, for shipping it between masters: crc32 | count | (key length, key, value length, value)…
 * with numbers of 4 bytes, big-endian. Pure.
 */
import { crc32 } from "node:zlib";
import { WeirError } from "../../lib/errors.ts";
import type { KeyValue } from "./types.ts";

const headerBytes = 8;

export function encodeChunk(rows: readonly KeyValue[]): Uint8Array {
  let length = headerBytes;
  for (const [key, value] of rows) length += 8 + key.length + value.length;
  const chunk = Buffer.allocUnsafe(length);
  chunk.writeUInt32BE(rows.length, 4);
  let at = headerBytes;
  for (const [key, value] of rows) {
    chunk.writeUInt32BE(key.length, at);
    chunk.write(key, at + 4, "latin1");
    at += 4 + key.length;
    chunk.writeUInt32BE(value.length, at);
    chunk.set(value, at + 4);
    at += 4 + value.length;
  }
  chunk.writeUInt32BE(crc32(chunk.subarray(4)), 0);
  return chunk;
}

/**
 * The rows of a chunk; values are copies.
 * @throws WeirError `Corrupt` for bytes that are no chunk, or a damaged one
 */
export function decodeChunk(bytes: Uint8Array): readonly KeyValue[] {
  const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (chunk.length < headerBytes || chunk.readUInt32BE(0) !== crc32(chunk.subarray(4))) {
    throw new WeirError("Corrupt", "Cannot read a chunk of a snapshot: its crc is wrong");
  }
  const count = chunk.readUInt32BE(4);
  const rows: KeyValue[] = [];
  let at = headerBytes;
  const take = (): Buffer => {
    const length = chunk.readUInt32BE(at);
    at += 4 + length;
    return chunk.subarray(at - length, at);
  };
  for (let i = 0; i < count; i++) rows.push([take().toString("latin1"), new Uint8Array(take())]);
  return rows;
}
