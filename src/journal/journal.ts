/**
 * The journal of one master: the consensus log and the hard state, durable before anything depends on them.
 *
 * Invariants
 * 1. One write is in flight at a time; what arrives meanwhile goes out together as the next one (group commit).
 * 2. A failed write is never retried, nor is anything written behind it: the kernel may have dropped the dirty pages
 *    and would report the next fsync as good. Every later call rejects.
 * 3. Each segment begins with the identity, the hard state and the base, so that older ones can go.
 */
import assert from "node:assert/strict";
import { mkdir, open, readdir, rm } from "node:fs/promises";
import { join, resolve as resolvePath } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import type { HardState, Index, Term } from "../raft/types.ts";
import { lockDirectory, type DirectoryLock } from "./directory-lock.ts";
import { DiskSpace } from "./disk-space.ts";
import { encodeFrame, frameBytes, type JournalRecord, recordBytes } from "./format.ts";
import { damage, recoverSegments } from "./recovery.ts";
import { Replay } from "./replay.ts";
import {
  type OpenSegmentWriter,
  openSegmentWriter,
  syncDirectory,
  syncParents,
} from "./segment-file.ts";
import { type Segment, Segments } from "./segments.ts";
import type { Journal, JournalBatch, JournalIdentity, JournalState } from "./types.ts";

/** Most bytes that appends of different callers are gathered into. */
const maxGroupBytes = 8 * 1024 * 1024;

export interface JournalOptions {
  /** Made with its parents when it is missing. */
  readonly directory: string;
  /** Length of a segment file; the first ones are shorter. */
  readonly segmentBytes: number;
  /** Entries are refused with `DiskFull` while less is free. */
  readonly reservedDiskBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How segments are written; a seam for tests of failing disks. */
  readonly openWriter?: OpenSegmentWriter;
}

/**
 * Opens a directory's journal, cutting the torn tail of a write that was not acknowledged.
 * @throws WeirError `Corrupt`: acknowledged records are damaged or missing; the message says where and the ways back
 * @throws WeirError `Busy`: another process has it open
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const directory = resolvePath(options.directory);
  const firstMade = await mkdir(directory, { recursive: true });
  if (firstMade !== undefined) await syncParents(directory, firstMade);
  const lock = await lockDirectory(directory);
  try {
    for (const name of await readdir(directory)) {
      if (name.endsWith(".tmp")) await rm(join(directory, name));
    }
    const space = new DiskSpace(directory, options.clock);
    await space.check();
    const { openWriter = openSegmentWriter } = options;
    const segments = new Segments({ ...options, directory, space, openWriter });
    const state = await recover(directory, segments, options.logger);
    return new FileJournal({ ...options, directory, lock, space, segments, state });
  } catch (thrown) {
    await lock.release();
    throw toWeirError(thrown, `Cannot open the journal in "${directory}"`);
  }
}

async function recover(
  directory: string,
  segments: Segments,
  logger: Logger,
): Promise<JournalState> {
  const replay = new Replay();
  const found: Segment[] = [];
  let tornEnd = 0;
  for await (const { path, header, frames, end, tornEnd: torn } of recoverSegments(directory)) {
    let maxIndex = 0;
    for (const { offset, records } of frames) {
      for (const record of records) {
        const refusal = replay.add(record);
        if (refusal !== undefined) throw damage(path, offset - header.startOffset, refusal);
        if (record.type === "entry") maxIndex = Math.max(maxIndex, record.entry.index);
      }
    }
    found.push({ path, header, end, maxIndex });
    tornEnd = torn;
  }
  const state = replay.finish();
  if (typeof state === "string") throw damage(found[0]!.path, 0, state);
  const last = found[found.length - 1];
  if (last === undefined) return state;
  // A process that was killed may have left in the page cache, or in the directory, what no disk has: what is read is
  // made durable before anything is built on it.
  const file = await open(last.path, "r+");
  await file.sync().finally(() => file.close());
  await syncDirectory(directory);
  if (tornEnd > last.end) {
    logger.warn(
      { path: last.path, from: last.end, to: tornEnd },
      "cutting the torn tail of a write that was not acknowledged",
    );
  }
  await segments.adopt(found, tornEnd);
  logger.info(
    { entries: state.entries.length, baseIndex: state.baseIndex, segments: found.length },
    "journal opened",
  );
  return state;
}

/** Something to be written, in order. `rolls` begins a new segment with it. */
interface Job {
  readonly records: readonly JournalRecord[];
  readonly bytes: number;
  readonly rolls: boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

class FileJournal implements Journal {
  readonly #directory: string;
  readonly #reservedDiskBytes: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #lock: DirectoryLock;
  readonly #space: DiskSpace;
  readonly #segments: Segments;
  #state: JournalState;
  #identity: JournalIdentity | undefined;
  /** Of what was handed to the disk: what a new segment begins with. */
  #hardState: HardState;
  #baseIndex: Index;
  #baseTerm: Term;
  /** Of what was asked for, so that a hole is refused before it is written. */
  #lastIndex: number;
  #jobs: Job[] = [];
  #draining: Promise<void> | undefined;
  #writingSinceMs: number | undefined;
  /** Why nothing can be written any more. */
  #failure: WeirError | undefined;

  constructor(
    options: JournalOptions & {
      lock: DirectoryLock;
      space: DiskSpace;
      segments: Segments;
      state: JournalState;
    },
  ) {
    this.#directory = options.directory;
    this.#reservedDiskBytes = options.reservedDiskBytes;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#lock = options.lock;
    this.#space = options.space;
    this.#segments = options.segments;
    const { state } = options;
    this.#state = state;
    this.#hardState = state.hardState;
    this.#baseIndex = state.baseIndex;
    this.#baseTerm = state.baseTerm;
    this.#lastIndex = state.baseIndex + state.entries.length;
    if (state.nodeId !== undefined && state.clusterId !== undefined) {
      const { nodeId, clusterId, members } = state;
      this.#identity = { nodeId, clusterId, members };
    }
  }

  get state(): JournalState {
    return this.#state;
  }

  get diskFull(): boolean {
    return this.#space.freeBytes < this.#reservedDiskBytes;
  }

  async initialize(identity: JournalIdentity): Promise<void> {
    assert(this.#segments.isEmpty && this.#identity === undefined, "initialized twice");
    this.#identity = identity;
    await this.#enqueue([], true);
    this.#state = { ...this.#state, ...identity };
  }

  async append(batch: JournalBatch): Promise<void> {
    assert(this.#identity !== undefined, "append to a journal without an identity");
    const { hardState, entries } = batch;
    if (entries.length > 0 && this.#failure === undefined && this.diskFull) {
      throw new WeirError(
        "DiskFull",
        `Cannot append to the journal in "${this.#directory}": less than ${this.#reservedDiskBytes} bytes are free`,
      );
    }
    const records: JournalRecord[] = [];
    if (hardState !== undefined) records.push({ type: "hardState", ...hardState });
    let next = entries[0]?.index ?? 0;
    if (entries.length > 0) {
      const { baseIndex } = this.#state;
      assert(next > baseIndex && next <= this.#lastIndex + 1, `entry ${next} leaves a gap`);
      for (const entry of entries) {
        assert(entry.index === next, `entry ${entry.index} follows ${next - 1}`);
        next++;
        records.push({ type: "entry", entry });
      }
      this.#lastIndex = next - 1;
    }
    if (records.length > 0) await this.#enqueue(records, false);
    else await this.#idle();
  }

  oldestWriteAgeMs(): number {
    if (this.#writingSinceMs === undefined) return 0;
    return this.#clock.monotonicMs() - this.#writingSinceMs;
  }

  async compact(index: Index, term: Term): Promise<void> {
    assert(index <= this.#lastIndex, `compaction at ${index} passes the last entry`);
    if (index <= this.#state.baseIndex) return;
    const { entries } = this.#state;
    const kept = entries.findIndex((entry) => entry.index > index);
    this.#state = {
      ...this.#state,
      entries: kept < 0 ? [] : entries.slice(kept),
      baseIndex: index,
      baseTerm: term,
    };
    await this.#enqueue([{ type: "base", index, term }], false);
    await this.#segments.removeBehind(index);
  }

  async reset(baseIndex: Index, baseTerm: Term): Promise<void> {
    this.#lastIndex = baseIndex;
    this.#state = { ...this.#state, entries: [], baseIndex, baseTerm };
    await this.#enqueue([{ type: "reset", index: baseIndex, term: baseTerm }], true);
    await this.#segments.removeBehind(0);
  }

  sizeBytes(): number {
    return this.#segments.sizeBytes();
  }

  async close(): Promise<void> {
    await this.#idle().catch(() => undefined);
    this.#failure ??= new WeirError("Unavailable", "Cannot write to the journal: it is closed");
    await this.#segments.close();
    await this.#lock.release();
  }

  #enqueue(records: readonly JournalRecord[], rolls: boolean): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    let bytes = 0;
    for (const record of records) bytes += recordBytes(record);
    return new Promise((resolve, reject) => {
      this.#jobs.push({ records, bytes, rolls, resolve, reject });
      this.#draining ??= this.#drain();
    });
  }

  /** Resolves when all that was asked for is durable. */
  async #idle(): Promise<void> {
    while (this.#draining !== undefined) await this.#draining;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #drain(): Promise<void> {
    while (this.#jobs.length > 0) {
      const group = this.#takeGroup();
      this.#writingSinceMs = this.#clock.monotonicMs();
      try {
        await this.#write(group);
      } catch (thrown) {
        this.#fail(thrown, group);
        break;
      }
      this.#writingSinceMs = undefined;
      for (const job of group) job.resolve();
    }
    this.#draining = undefined;
  }

  #takeGroup(): Job[] {
    let count = 1;
    let bytes = this.#jobs[0]!.bytes;
    while (!this.#jobs[0]!.rolls && count < this.#jobs.length) {
      const next = this.#jobs[count]!;
      bytes += next.bytes;
      if (next.rolls || bytes > maxGroupBytes) break;
      count++;
    }
    return this.#jobs.splice(0, count);
  }

  async #write(group: readonly Job[]): Promise<void> {
    const records = group.length === 1 ? group[0]!.records : group.flatMap((job) => job.records);
    let bytes = 0;
    for (const job of group) bytes += job.bytes;
    if (group[0]!.rolls) {
      this.#note(records);
      await this.#segments.roll(this.#head(records), 0);
      this.#segments.forgetEntries();
      return;
    }
    const length = frameBytes(bytes);
    if (!this.#segments.fits(length)) await this.#segments.roll(this.#head([]), length);
    const frame = encodeFrame(records, this.#segments.place());
    await this.#segments.write(frame, this.#note(records));
  }

  /** First frame of a segment: what the segments before it said, without their entries. */
  #head(extra: readonly JournalRecord[]): JournalRecord[] {
    const head: JournalRecord[] = [{ type: "identity", identity: this.#identity! }];
    const { term } = this.#hardState;
    if (term > 0) head.push({ type: "hardState", ...this.#hardState });
    if (extra.length > 0) head.push(...extra);
    else if (this.#baseIndex > 0) {
      head.push({ type: "base", index: this.#baseIndex, term: this.#baseTerm });
    }
    return head;
  }

  /** Remembers what later heads repeat; the highest index among `records`. */
  #note(records: readonly JournalRecord[]): number {
    let maxIndex = 0;
    for (const record of records) {
      if (record.type === "entry") maxIndex = Math.max(maxIndex, record.entry.index);
      else if (record.type === "hardState") this.#hardState = record;
      else if (record.type !== "identity") {
        this.#baseIndex = record.index;
        this.#baseTerm = record.term;
      }
    }
    return maxIndex;
  }

  #fail(thrown: unknown, group: readonly Job[]): void {
    this.#failure = new WeirError(
      "Unavailable",
      `Cannot write to the journal in "${this.#directory}": ${String(thrown)}; it takes no more`,
      { cause: thrown, outcome: "unknown" },
    );
    this.#logger.error({ error: String(thrown) }, "the journal failed");
    for (const job of [...group, ...this.#jobs.splice(0)]) job.reject(this.#failure);
  }
}
