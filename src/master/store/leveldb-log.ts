/**
 * LevelDB's log format (doc/log_format.md of its sources), in which its write-ahead log and its manifest are: blocks of 32
 * KiB with records of crc (4) | length (2) | type (1) | data, which are whole batches or fragments of them. Pure.
 */
import { crc32c } from "./crc32c.ts";

const blockBytes = 32_768;
const headerBytes = 7;
const full = 1;
const first = 2;
const last = 4;

export interface LogContent {
  /** What was appended, in order, as far as it is whole. */
  readonly appends: readonly Buffer[];
  /** Where it is broken. At the end that is how a write looks that a crash cut short; before later appends it is damage. */
  readonly broken: { readonly offset: number; readonly isDamage: boolean } | undefined;
}

export function readLog(log: Buffer): LogContent {
  const appends: Buffer[] = [];
  let fragments: Buffer[] = [];
  let begun = 0;
  let at = 0;
  while (at < log.length) {
    const leftInBlock = blockBytes - (at % blockBytes);
    if (leftInBlock < headerBytes) {
      at += leftInBlock;
      continue;
    }
    const type = typeAt(log, at);
    const isStart = type === full || type === first;
    if (type === undefined || isStart !== (fragments.length === 0)) {
      return { appends, broken: { offset: at, isDamage: beginsBehind(log, at) } };
    }
    if (isStart) begun = at;
    const end = at + headerBytes + log.readUInt16LE(at + 4);
    fragments.push(log.subarray(at + headerBytes, end));
    if (type === full || type === last) {
      appends.push(fragments.length === 1 ? fragments[0]! : Buffer.concat(fragments));
      fragments = [];
    }
    at = end;
  }
  const isCut = fragments.length > 0;
  return { appends, broken: isCut ? { offset: begun, isDamage: false } : undefined };
}

/** The type of the record at an offset; undefined where there is none. */
function typeAt(log: Buffer, at: number): number | undefined {
  if (at + headerBytes > log.length) return undefined;
  const end = at + headerBytes + log.readUInt16LE(at + 4);
  const type = log[at + 6]!;
  if (type < full || type > last || end > log.length) return undefined;
  if (end > at - (at % blockBytes) + blockBytes) return undefined;
  return crc32c(log, at + 6, end) === unmasked(log.readUInt32LE(at)) ? type : undefined;
}

/**
 * Whether an append begins behind an offset. Each is synced before the next one begins, so what is before it was on disk.
 * (Later fragments of the same append say nothing: a disk may write them in any order.)
 */
function beginsBehind(log: Buffer, offset: number): boolean {
  for (let at = offset + 1; at + headerBytes <= log.length; at++) {
    const type = typeAt(log, at);
    if (type === full || type === first) return true;
  }
  return false;
}

/** LevelDB stores sums rotated and shifted, since data may hold sums itself. */
export function unmasked(stored: number): number {
  const rotated = (stored - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}
