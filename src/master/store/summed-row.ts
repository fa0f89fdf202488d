/**
 * A row as it lies in LevelDB: its value, and behind it four bytes, one lane of the row's hash, big-endian. LevelDB checks
 * sums of its own when it opens and compacts, not when it reads, and its binding has no option for that: a flipped bit
 * would be an answer. The hash is computed for the sum over the state anyway. Pure.
 */
import { hashRow, type RowHash } from "./state-hash.ts";

const sumBytes = 4;
const scratch = Buffer.allocUnsafeSlow(1024);
/** Views of the scratch by length. */
const views: Buffer[] = [];

/** A row whose hash is `hash`, until the next call: for calls into LevelDB that copy it at once. */
export function summedRow(value: Uint8Array, hash: RowHash): Uint8Array {
  const size = value.length + sumBytes;
  const row =
    size > scratch.length ? Buffer.allocUnsafe(size) : (views[size] ??= scratch.subarray(0, size));
  const end = value.length;
  row.set(value);
  row[end] = hash.low >>> 24;
  row[end + 1] = hash.low >>> 16;
  row[end + 2] = hash.low >>> 8;
  row[end + 3] = hash.low;
  return row;
}

/** The value of a row, with its hash in `hash`; undefined when it is not what was written under the key. */
export function checkedValue(key: string, row: Uint8Array, hash: RowHash): Uint8Array | undefined {
  const end = row.length - sumBytes;
  if (end < 0) return undefined;
  const value = row.subarray(0, end);
  hashRow(key, value, hash);
  const sum = (row[end]! << 24) | (row[end + 1]! << 16) | (row[end + 2]! << 8) | row[end + 3]!;
  return sum === hash.low ? value : undefined;
}
