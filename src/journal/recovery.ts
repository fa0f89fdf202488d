/**
 * Reads the segments of a stopped journal and decides what an invalid frame is: the torn tail of a write that nobody
 * was told of, or damage to what was acknowledged.
 *
 * The rule, for an invalid or missing frame at X (design: "torn or damaged must be decidable")
 * 1. The header of a frame behind X, in this segment or a later one, attests that everything before it was durable:
 *    damage.
 * 2. Otherwise X is the last frame. A write that the power cut left torn has sectors that are still zero as they were
 *    prepared; if there are none beyond those that the frame declares, it was written whole and changed since: damage.
 *    A sector is written whole or not at all, so a header that is not zero and yet invalid is damage as well. So is a
 *    frame at another place than its own: the disk put it there, and what it should have written is missing.
 * 3. Otherwise it is a torn tail, and is cut at X.
 *
 * Segments get their name only after their header was synced, and nothing is written into one before the one before it
 * says that it exists: so a segment that is missing, short or without a valid header is damage too, the last one
 * included. Only the last one may be without a frame. What this cannot decide is told in docs/ARCHITECTURE.md.
 */
import { join } from "node:path";
import { WeirError } from "../lib/errors.ts";
import type { ReadableFiles } from "./files.ts";
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

/** Those of `names` that are segments, in order. */
export function segmentsAmong(names: readonly string[]): string[] {
  return names.filter((name) => segmentName.test(name)).sort();
}

/** A valid frame with its place. */
export interface RecoveredFrame {
  /** Journal offset of its first byte. */
  readonly offset: number;
  readonly records: readonly JournalRecord[];
}

export interface RecoveredSegment {
  readonly name: string;
  readonly header: SegmentHeader;
  /** Empty in a segment that was prepared and not used yet. */
  readonly frames: readonly RecoveredFrame[];
  /** Byte of the file behind its last valid frame. */
  readonly end: number;
  /** Bytes behind `end` up to which a torn write left something; `end` when there is nothing to cut. */
  readonly tornEnd: number;
  /** Bytes from the last valid frame to `end`; the header too when it is the first one, or when there is none. */
  readonly lastFrame: Uint8Array;
  /** Whether a frame says that the next segment exists. */
  readonly isNextAnnounced: boolean;
}

/** A segment on its own: what it is depends on the next one. */
interface ScannedSegment extends RecoveredSegment {
  readonly path: string;
  /** What lies at `end`, where it is not blank. */
  readonly invalid: { readonly torn: boolean; readonly reason: string } | undefined;
}

/**
 * The segments of a directory in order, two at a time in memory.
 * @throws WeirError `Corrupt`: what was acknowledged is damaged or missing
 * @throws WeirError `NotSupported`: a newer version wrote it
 */
export async function* recoverSegments(files: ReadableFiles): AsyncGenerator<RecoveredSegment> {
  let held: ScannedSegment | undefined;
  for (const name of segmentsAmong(await files.list())) {
    const path = join(files.directory, name);
    const segment = scanSegment(name, path, await files.read(name));
    if (held !== undefined) {
      checkFollowed(held, segment);
      yield held;
    } else if (segment.frames.length === 0 && segment.header.startOffset > 0) {
      throw damage(path, sectorBytes, "it was never used, and the segments before it are missing");
    }
    held = segment;
  }
  if (held === undefined) return;
  if (held.isNextAnnounced) throw damage(held.path, held.header.sizeBytes, missing(held.header));
  checkTail(held);
  yield held;
}

function scanSegment(name: string, path: string, bytes: Buffer): ScannedSegment {
  const header = decodeSegmentHeader(bytes.subarray(0, sectorBytes));
  if (typeof header === "string") throw damage(path, 0, header);
  if (nameOfSegment(header.startOffset) !== name) {
    throw damage(path, 0, `it says that its name is "${nameOfSegment(header.startOffset)}"`);
  }
  if (bytes.length !== header.sizeBytes) {
    throw damage(path, bytes.length, `it ends here, wanted ${header.sizeBytes} bytes`);
  }
  const frames: RecoveredFrame[] = [];
  let [at, lastAt, isNextAnnounced] = [sectorBytes, 0, false];
  let invalid: ScannedSegment["invalid"];
  while (at < bytes.length) {
    const frame = decodeFrame(bytes, at, header);
    if (frame.kind !== "valid") {
      if (frame.kind === "invalid") invalid = frame;
      break;
    }
    frames.push({ offset: header.startOffset + at, records: frame.records });
    isNextAnnounced ||= frame.records.some((record) => record.type === "next");
    lastAt = frames.length === 1 ? 0 : at;
    at += frame.bytes;
  }
  const behind = findFrame(bytes, at + sectorBytes, header);
  if (behind !== undefined && !behind.isInPlace) {
    throw damage(path, behind.at, `the frame of journal offset ${behind.offset} lies here`);
  }
  if (behind !== undefined) {
    throw damage(path, at, `what was synced before byte ${behind.at} is not there`);
  }
  return {
    name,
    path,
    header,
    frames,
    end: at,
    tornEnd: endOfWritten(bytes, at),
    lastFrame: bytes.subarray(lastAt, at),
    isNextAnnounced,
    invalid,
  };
}

/** Checks a segment that is not the last one. */
function checkFollowed(segment: ScannedSegment, next: ScannedSegment): void {
  const { path, header, end } = segment;
  if (next.header.startOffset !== header.startOffset + header.sizeBytes) {
    throw damage(next.path, 0, missing(header));
  }
  if (segment.frames.length === 0) throw damage(path, sectorBytes, "its first frame is not there");
  const first = next.frames[0];
  if (first === undefined && next.header.version > 1) {
    const isWritten = next.tornEnd > next.end;
    if (isWritten && (segment.invalid !== undefined || !saysNext(segment))) {
      throw damage(path, end, `what was synced before "${next.name}" was written is not there`);
    }
    checkTail(segment);
    checkTail(next);
    return;
  }
  const { previousEnd, previousSalt } = linkOf(next, header.salt);
  if (previousEnd !== header.startOffset + end) {
    const wanted = previousEnd - header.startOffset;
    const reason = segment.invalid?.reason ?? "it ends here";
    throw damage(path, end, `${reason}, wanted its end at byte ${wanted}`);
  }
  if (previousSalt !== header.salt) {
    throw damage(path, 0, `it is not the segment that "${next.name}" was written behind`);
  }
  if (segment.tornEnd > end) {
    throw damage(path, end, `its frames end here, but there is more up to byte ${segment.tornEnd}`);
  }
}

function saysNext({ header, isNextAnnounced }: ScannedSegment): boolean {
  return isNextAnnounced || header.version === 1;
}

/** What the first frame of a segment, in version 1 its header, says of the segment before it. */
function linkOf(
  segment: ScannedSegment,
  salt: number,
): { previousEnd: number; previousSalt: number } {
  const { previousEnd } = segment.header;
  if (previousEnd !== undefined) return { previousEnd, previousSalt: salt };
  const link = segment.frames[0]!.records.find((record) => record.type === "link");
  if (link === undefined) {
    throw damage(segment.path, sectorBytes, "it says nothing of the segment before it");
  }
  return link;
}

/** Checks the frames at the end of the journal. */
function checkTail(segment: ScannedSegment): void {
  const { path, header, frames, end, invalid } = segment;
  if (frames.length === 0 && header.version === 1) {
    throw damage(path, sectorBytes, "its first frame is not there");
  }
  if (invalid !== undefined && !invalid.torn) {
    throw damage(path, end, `${invalid.reason}, and it was written whole`);
  }
}

function missing(header: SegmentHeader): string {
  return `the segment "${nameOfSegment(header.startOffset + header.sizeBytes)}" is missing`;
}

/** The refusal to open: where, and the two ways back. */
export function damage(path: string, offset: number, reason: string): WeirError {
  return new WeirError(
    "Corrupt",
    `Cannot open the journal: "${path}" is damaged at byte ${offset}: ${reason}. Two ways back: ` +
      "start this master with an empty data directory and let it join anew as a learner (weir cluster replace NAME); " +
      "or, when no majority has the data any more, restore a backup into a new cluster (weir backup restore FILE)",
  );
}
