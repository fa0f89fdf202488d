/**
 * Lists what a stopped journal holds, for people who have to find out what happened to it. It reads what can be read:
 * an invalid frame is told with its place and the listing goes on behind it.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  decodeFrame,
  decodeSegmentHeader,
  findFrame,
  type JournalRecord,
  sectorBytes,
} from "./format.ts";
import { recoverSegments } from "./recovery.ts";

/** One line of the listing; `offset` is a byte of the file `segment`. */
export type Inspected =
  | { readonly segment: string; readonly offset: number; readonly record: JournalRecord }
  | { readonly segment: string; readonly offset: number; readonly problem: string };

/** The records of all segments in order, and the places where there are none but should be. */
export async function* inspectJournal(directory: string): AsyncGenerator<Inspected> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".wal")).sort();
  for (const segment of names)
    yield* inspectSegment(segment, await readFile(join(directory, segment)));
}

/**
 * What opening would decide.
 * @throws WeirError `Corrupt`: where it is damaged, and the ways back
 */
export async function verifyJournal(
  directory: string,
): Promise<{ segments: number; frames: number }> {
  let [segments, frames] = [0, 0];
  for await (const segment of recoverSegments(directory)) {
    segments++;
    frames += segment.frames.length;
  }
  return { segments, frames };
}

function* inspectSegment(segment: string, bytes: Buffer): Generator<Inspected> {
  const header = decodeSegmentHeader(bytes.subarray(0, sectorBytes));
  if (typeof header === "string") {
    yield { segment, offset: 0, problem: header };
    return;
  }
  const whole = bytes.subarray(0, Math.floor(bytes.length / sectorBytes) * sectorBytes);
  let at = sectorBytes;
  while (at < whole.length) {
    const frame = decodeFrame(whole, at, header);
    if (frame.kind === "valid") {
      for (const record of frame.records) yield { segment, offset: at, record };
      at += frame.bytes;
      continue;
    }
    const next = findFrame(whole, at + sectorBytes, header);
    if (frame.kind === "invalid") {
      yield { segment, offset: at, problem: frame.torn ? "a torn write" : frame.reason };
    } else if (next !== undefined) {
      yield { segment, offset: at, problem: "zeros where a frame was" };
    }
    if (next === undefined) return;
    at = next;
  }
}
