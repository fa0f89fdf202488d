/**
 * Looks at a stopped journal, for people who have to find out what happened to it. It changes nothing, and reads what
 * can be read: an invalid frame is told with its place, and the listing goes on behind it.
 */
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { WeirError } from "../lib/errors.ts";
import { holderOf } from "./directory-lock.ts";
import { type ReadableFiles, readJournalFiles } from "./files.ts";
import {
  decodeFrame,
  decodeSegmentHeader,
  findFrame,
  type JournalRecord,
  type SegmentHeader,
  sectorBytes,
} from "./format.ts";
import { readOpening } from "./opening.ts";
import { segmentsAmong } from "./recovery.ts";
import type { JournalState } from "./types.ts";

/** What is found, in order; `offset` is a byte of the file `segment`. */
export type Inspected =
  | {
      readonly kind: "segment";
      readonly segment: string;
      readonly sizeBytes: number;
      /** Undefined when its first sector is none. */
      readonly header: SegmentHeader | undefined;
    }
  | {
      readonly kind: "record";
      readonly segment: string;
      readonly offset: number;
      readonly record: JournalRecord;
    }
  | {
      readonly kind: "problem";
      readonly segment: string;
      readonly offset: number;
      readonly problem: string;
    };

/** What opening would decide. */
export interface Verdict {
  readonly state: JournalState;
  readonly segmentCount: number;
  readonly frameCount: number;
  /** Bytes [from, to) of the file `path` that opening will cut: a write that nobody was told of. */
  readonly tornTails: readonly {
    readonly path: string;
    readonly from: number;
    readonly to: number;
  }[];
}

/**
 * The files of a stopped master's journal. `path` is its data directory, or the folder `journal` in it.
 * @throws WeirError `Busy`: a running master has it open
 * @throws WeirError `NotFound`: there are no segments
 */
export async function openStoppedJournal(path: string): Promise<ReadableFiles> {
  for (const directory of [join(resolve(path), "journal"), resolve(path)]) {
    const names = await readdir(directory).catch(() => []);
    if (segmentsAmong(names).length === 0) continue;
    const holder = await holderOf(directory);
    if (holder !== undefined) {
      throw new WeirError(
        "Busy",
        `Cannot read the journal in "${directory}": process ${holder} has it open; stop that master first`,
      );
    }
    return readJournalFiles(directory);
  }
  throw new WeirError(
    "NotFound",
    `Cannot read a journal in "${resolve(path)}": it has no segments`,
  );
}

/** The segments, their records in order, and the places where there are none but should be. */
export async function* inspectJournal(files: ReadableFiles): AsyncGenerator<Inspected> {
  for (const segment of segmentsAmong(await files.list())) {
    yield* inspectSegment(segment, await files.read(segment));
  }
}

/**
 * What opening would decide.
 * @throws WeirError `Corrupt`: where it is damaged, and the ways back
 * @throws WeirError `NotSupported`: a newer version wrote it
 */
export async function verifyJournal(files: ReadableFiles): Promise<Verdict> {
  const { state, sealed, active, unused, frameCount } = await readOpening(files);
  const tails = [active, unused].filter((tail) => tail !== undefined);
  return {
    state,
    segmentCount: sealed.length + tails.length,
    frameCount,
    tornTails: tails
      .filter(({ segment, tornEnd }) => tornEnd > segment.end)
      .map(({ segment, tornEnd }) => ({
        path: join(files.directory, segment.name),
        from: segment.end,
        to: tornEnd,
      })),
  };
}

function* inspectSegment(segment: string, bytes: Buffer): Generator<Inspected> {
  const header = attempt(() => decodeSegmentHeader(bytes.subarray(0, sectorBytes)));
  const isReadable = typeof header !== "string";
  yield {
    kind: "segment",
    segment,
    sizeBytes: bytes.length,
    header: isReadable ? header : undefined,
  };
  if (!isReadable) {
    yield { kind: "problem", segment, offset: 0, problem: header };
    return;
  }
  if (bytes.length !== header.sizeBytes) {
    const problem = `it ends here, wanted ${header.sizeBytes} bytes`;
    yield { kind: "problem", segment, offset: bytes.length, problem };
  }
  const whole = bytes.subarray(0, Math.floor(bytes.length / sectorBytes) * sectorBytes);
  let at = sectorBytes;
  while (at < whole.length) {
    const frame = attempt(() => decodeFrame(whole, at, header));
    if (typeof frame === "string") {
      yield { kind: "problem", segment, offset: at, problem: frame };
    } else if (frame.kind === "valid") {
      for (const record of frame.records) yield { kind: "record", segment, offset: at, record };
      at += frame.bytes;
      continue;
    }
    const next = findFrame(whole, at + sectorBytes, header);
    if (typeof frame !== "string" && frame.kind === "invalid") {
      const problem = frame.torn ? "a torn write" : frame.reason;
      yield { kind: "problem", segment, offset: at, problem };
    } else if (next !== undefined) {
      yield { kind: "problem", segment, offset: at, problem: "zeros where a frame was" };
    }
    if (next === undefined) return;
    at = next.at;
  }
}

/** What `read` returns, or its refusal of what a newer version wrote. */
function attempt<T>(read: () => T): T | string {
  try {
    return read();
  } catch (thrown) {
    if (thrown instanceof WeirError) return thrown.message;
    throw thrown;
  }
}
