/** What a stopped journal amounts to: its segments by the rule of recovery, and the state that their records make. */
import { join } from "node:path";
import type { ReadableFiles } from "./files.ts";
import { damage, recoverSegments } from "./recovery.ts";
import { Replay } from "./replay.ts";
import type { Segment } from "./segments.ts";
import type { JournalState } from "./types.ts";

/** The end of a segment, and what a torn write left behind it. */
export interface Tail {
  readonly segment: Segment;
  /** Its last frame (see `RecoveredSegment`). */
  readonly lastFrame: Uint8Array;
  /** Byte of the file up to which a torn write left something; the segment's end when there is nothing to cut. */
  readonly tornEnd: number;
}

export interface Opening {
  readonly state: JournalState;
  /** Oldest first, those before the active one. */
  readonly sealed: readonly Segment[];
  /** The last segment with frames; undefined for an empty journal. */
  readonly active: Tail | undefined;
  /** A segment behind it that was prepared and never used. */
  readonly unused: Tail | undefined;
  readonly frameCount: number;
}

/**
 * Reads a journal without changing anything.
 * @throws WeirError `Corrupt`: acknowledged records are damaged or missing; the message says where and the ways back
 * @throws WeirError `NotSupported`: a newer version wrote it
 */
export async function readOpening(files: ReadableFiles): Promise<Opening> {
  const replay = new Replay();
  const sealed: Segment[] = [];
  let active: Tail | undefined;
  let unused: Tail | undefined;
  let frameCount = 0;
  for await (const recovered of recoverSegments(files)) {
    const { name, header, frames, end, lastFrame, tornEnd, isNextAnnounced } = recovered;
    let maxIndex = 0;
    for (const { offset, records } of frames) {
      for (const record of records) {
        const refusal = replay.add(record);
        if (refusal !== undefined) {
          throw damage(join(files.directory, name), offset - header.startOffset, refusal);
        }
        if (record.type === "entry") maxIndex = Math.max(maxIndex, record.entry.index);
      }
    }
    frameCount += frames.length;
    const tail = { segment: { name, header, end, maxIndex, isNextAnnounced }, lastFrame, tornEnd };
    if (frames.length === 0) {
      unused = tail;
    } else {
      if (active !== undefined) sealed.push(active.segment);
      active = tail;
    }
  }
  const state = replay.finish();
  if (typeof state === "string") {
    const first = sealed[0] ?? active!.segment;
    throw damage(join(files.directory, first.name), 0, state);
  }
  return { state, sealed, active, unused, frameCount };
}
