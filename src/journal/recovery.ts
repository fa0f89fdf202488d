/**
 * Reads the segments of a stopped journal and decides what an invalid frame is: the torn tail of a write that nobody
 * was told of, or damage to what was acknowledged.
 *
 * The rule, for an invalid frame at X (design: "torn or damaged must be decidable")
 * 1. A valid frame behind X, or a later segment, attests that everything before it was durable: damage.
 * 2. Otherwise X is the last frame. A write that the power cut left torn has sectors that are still zero as they were
 *    preallocated; if there are none beyond those that the frame declares, it was written whole and changed since:
 *    damage. A sector is written whole or not at all, so a header that is not zero and yet invalid is damage as well.
 * 3. Otherwise it is a torn tail, and is cut at X.
 *
 * Segments appear under their name only after their header and first frame were synced, and end where the next one
 * says; so a segment that is missing, short or without a valid header is damage too.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { WeirError } from "../lib/errors.ts";
import {
  decodeFrame,
  decodeSegmentHeader,
  endOfWritten,
  findFrame,
  type JournalRecord,
  type SegmentHeader,
  sectorBytes,
} from "./format.ts";

const segmentName = /^[0-9a-f]{12}\.wal$/;

/** File name of the segment that starts at a journal offset. */
export function nameOfSegment(startOffset: number): string {
  return `${startOffset.toString(16).padStart(12, "0")}.wal`;
}

/** A valid frame with its place. */
export interface RecoveredFrame {
  /** Journal offset of its first byte. */
  readonly offset: number;
  readonly records: readonly JournalRecord[];
}

export interface RecoveredSegment {
  readonly path: string;
  readonly header: SegmentHeader;
  readonly frames: readonly RecoveredFrame[];
  /** Byte of the file behind its last valid frame. */
  readonly end: number;
  /** Bytes behind `end` up to which a torn write left something; `end` when there is nothing to cut. */
  readonly tornEnd: number;
}

/**
 * The segments of a directory in order, one at a time in memory.
 * @throws WeirError `Corrupt`: what was acknowledged is damaged or missing
 */
export async function* recoverSegments(directory: string): AsyncGenerator<RecoveredSegment> {
  const names = (await readdir(directory)).filter((name) => segmentName.test(name)).sort();
  let previous: RecoveredSegment | undefined;
  for (const [i, name] of names.entries()) {
    const path = join(directory, name);
    const bytes = await readFile(path);
    const header = decodeSegmentHeader(bytes.subarray(0, sectorBytes));
    if (typeof header === "string") throw damage(path, 0, header);
    if (nameOfSegment(header.startOffset) !== name) {
      throw damage(path, 0, `it says that its name is "${nameOfSegment(header.startOffset)}"`);
    }
    if (bytes.length !== header.sizeBytes) {
      throw damage(path, bytes.length, `it ends here, wanted ${header.sizeBytes} bytes`);
    }
    if (previous !== undefined) checkFollows(previous, path, header);
    const segment = recoverSegment(path, bytes, header, i === names.length - 1);
    yield segment;
    previous = segment;
  }
}

function checkFollows(previous: RecoveredSegment, path: string, header: SegmentHeader): void {
  const { startOffset, sizeBytes } = previous.header;
  if (header.startOffset !== startOffset + sizeBytes) {
    throw damage(path, 0, `the segment "${nameOfSegment(startOffset + sizeBytes)}" is missing`);
  }
  if (header.previousEnd !== startOffset + previous.end) {
    const wanted = header.previousEnd - startOffset;
    throw damage(previous.path, previous.end, `it ends here, wanted at ${wanted}`);
  }
}

function recoverSegment(
  path: string,
  bytes: Buffer,
  header: SegmentHeader,
  isLast: boolean,
): RecoveredSegment {
  const frames: RecoveredFrame[] = [];
  let at = sectorBytes;
  while (at < bytes.length) {
    const frame = decodeFrame(bytes, at, header);
    if (frame.kind === "valid") {
      frames.push({ offset: header.startOffset + at, records: frame.records });
      at += frame.bytes;
      continue;
    }
    const attesting = findFrame(bytes, at + sectorBytes, header);
    if (attesting !== undefined) {
      throw damage(path, at, `what was synced before byte ${attesting} is not there`);
    }
    if (frame.kind === "invalid" && !isLast) throw damage(path, at, frame.reason);
    if (frame.kind === "invalid" && !frame.torn) {
      throw damage(path, at, `${frame.reason}, and it was written whole`);
    }
    break;
  }
  // The first frame was synced before the segment got its name.
  if (frames.length === 0) throw damage(path, sectorBytes, "its first frame is not there");
  return { path, header, frames, end: at, tornEnd: endOfWritten(bytes, at) };
}

/** The refusal to open: where, and the two ways back. */
export function damage(path: string, offset: number, reason: string): WeirError {
  return new WeirError(
    "Corrupt",
    `Cannot open the journal: "${path}" is damaged at byte ${offset}: ${reason}. Two ways back: ` +
      "start this node with an empty directory, so that it joins anew as a learner; or restore a backup of the directory",
  );
}
