/**
 * The journal of one master: the consensus log and the hard state, durable before anything depends on them.
 *
 * Invariants
 * 1. One write is in flight at a time; what arrives meanwhile goes out together as the next one (group commit).
 * 2. A failed write is never retried, nor is anything written behind it: the kernel may have dropped the dirty pages
 *    and would report the next fsync as good. Every later call rejects.
 * 3. Each segment begins with the identity, the hard state and the base, so that older ones can go.
 * 4. What was acknowledged is soon attested by a frame behind it: the next write, or an empty frame once none has come
 *    for a while, and at closing. So even a last frame that a disk loses whole, later, is missed at opening.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import type { HardState, Index, Term } from "../raft/types.ts";
import { DiskSpace } from "./disk-space.ts";
import { type JournalFiles, openJournalFiles } from "./files.ts";
import { frameBytes, type JournalRecord, recordBytes } from "./format.ts";
import { readOpening } from "./opening.ts";
import { Segments } from "./segments.ts";
import type { Journal, JournalBatch, JournalIdentity, JournalState } from "./types.ts";

/** Most bytes that appends of different callers are gathered into. */
const maxGroupBytes = 8 * 1024 * 1024;
/** Pause after which the last write is attested by an empty frame. */
const attestAfterMs = 100;

export interface JournalOptions {
  /** Made with its parents when it is missing. */
  readonly directory: string;
  /** Length of a segment file; the first ones are shorter. */
  readonly segmentBytes: number;
  /** Entries are refused with `DiskFull` while less is free. */
  readonly reservedDiskBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The directory's operations, with its lock taken; those of the disk by default. */
  readonly openFiles?: (directory: string) => Promise<JournalFiles>;
  /** Random numbers below 2^32, one for each segment. */
  readonly newSalt?: () => number;
}

/**
 * Opens a directory's journal, cutting the torn tail of a write that was not acknowledged.
 * @throws WeirError `Corrupt`: acknowledged records are damaged or missing; the message says where and the ways back
 * @throws WeirError `NotSupported`: a newer version wrote it
 * @throws WeirError `Busy`: another process has it open
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { openFiles = openJournalFiles, newSalt = () => randomBytes(4).readUInt32BE() } = options;
  const files = await openFiles(options.directory);
  try {
    for (const name of await files.list()) {
      if (name.endsWith(".tmp")) await files.remove(name);
    }
    const space = new DiskSpace(files, options.clock);
    await space.check();
    const segments = new Segments({ ...options, files, space, newSalt });
    const state = await recover(files, segments, options.logger);
    return new FileJournal({ ...options, files, space, segments, state });
  } catch (thrown) {
    await files.close();
    throw toWeirError(thrown, `Cannot open the journal in "${files.directory}"`);
  }
}

async function recover(
  files: JournalFiles,
  segments: Segments,
  logger: Logger,
): Promise<JournalState> {
  const opening = await readOpening(files);
  const { state, active } = opening;
  for (const tail of [active, opening.unused]) {
    if (tail === undefined || tail.tornEnd <= tail.segment.end) continue;
    logger.warn(
      { path: join(files.directory, tail.segment.name), from: tail.segment.end, to: tail.tornEnd },
      "cutting the torn tail of a write that was not acknowledged",
    );
  }
  // A process that was killed may have left in the page cache, or in the directory, what no disk has: what was read is
  // made durable before anything is built on it.
  await segments.adopt(opening);
  await files.syncDirectory();
  if (active !== undefined) {
    logger.info(
      {
        entries: state.entries.length,
        baseIndex: state.baseIndex,
        segments: opening.sealed.length + 1,
      },
      "journal opened",
    );
  }
  return state;
}

/** Something to be written, in order. */
interface Job {
  readonly records: readonly JournalRecord[];
  readonly bytes: number;
  /** Begins a new segment: `always`, or where that frees more than it takes. */
  readonly rolls: "always" | "toFree" | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

class FileJournal implements Journal {
  readonly #files: JournalFiles;
  readonly #reservedDiskBytes: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
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
  #lastWriteMs = 0;
  /** Whether nothing but attestations lies at the end. */
  #isAttested = true;
  #cancelAttestation: (() => void) | undefined;
  /** Why nothing can be written any more. */
  #failure: WeirError | undefined;

  constructor(
    options: JournalOptions & {
      files: JournalFiles;
      space: DiskSpace;
      segments: Segments;
      state: JournalState;
    },
  ) {
    this.#files = options.files;
    this.#reservedDiskBytes = options.reservedDiskBytes;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#space = options.space;
    this.#segments = options.segments;
    const { state } = options;
    this.#state = state;
    this.#hardState = state.hardState;
    this.#baseIndex = state.baseIndex;
    this.#baseTerm = state.baseTerm;
    this.#lastIndex = state.baseIndex + state.entries.length;
    if (state.nodeId !== undefined && state.clusterId !== undefined) {
      const { nodeId, clusterId, members, admittedAt } = state;
      this.#identity = { nodeId, clusterId, members, admittedAt };
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
    await this.#enqueue([], "always");
    this.#state = { ...this.#state, ...identity };
  }

  async append(batch: JournalBatch): Promise<void> {
    assert(this.#identity !== undefined, "append to a journal without an identity");
    const { hardState, entries } = batch;
    if (entries.length > 0 && this.#failure === undefined && this.diskFull) {
      throw new WeirError(
        "DiskFull",
        `Cannot append to the journal in "${this.#files.directory}": less than ${this.#reservedDiskBytes} bytes are free`,
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
    if (records.length > 0) await this.#enqueue(records);
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
    // A segment is removed only once it is left: on a full disk that is worth doing when nothing in it is needed any more.
    const isAll = index === this.#lastIndex && this.diskFull;
    await this.#enqueue([{ type: "base", index, term }], isAll ? "toFree" : undefined);
    this.#segments.removeBehind(index);
  }

  async reset(baseIndex: Index, baseTerm: Term): Promise<void> {
    this.#lastIndex = baseIndex;
    this.#state = { ...this.#state, entries: [], baseIndex, baseTerm };
    await this.#enqueue([{ type: "reset", index: baseIndex, term: baseTerm }], "always");
    this.#segments.removeBehind(0);
  }

  sizeBytes(): number {
    return this.#segments.sizeBytes();
  }

  async close(): Promise<void> {
    this.#cancelAttestation?.();
    await this.#idle()
      .then(() => (this.#isAttested ? undefined : this.#enqueue([])))
      .catch(() => undefined);
    this.#failure ??= new WeirError("Unavailable", "Cannot write to the journal: it is closed");
    await this.#segments.close();
    await this.#files.close();
  }

  #enqueue(records: readonly JournalRecord[], rolls?: Job["rolls"]): Promise<void> {
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
      this.#lastWriteMs = this.#writingSinceMs;
      this.#writingSinceMs = undefined;
      for (const job of group) job.resolve();
    }
    this.#draining = undefined;
    if (!this.#isAttested && this.#failure === undefined) this.#attestLater(attestAfterMs);
  }

  /** One timer for any number of writes. */
  #attestLater(delayMs: number): void {
    this.#cancelAttestation ??= this.#clock.after(delayMs, () => {
      this.#cancelAttestation = undefined;
      if (this.#isAttested || this.#draining !== undefined || this.#failure !== undefined) return;
      const restMs = this.#lastWriteMs + attestAfterMs - this.#clock.monotonicMs();
      if (restMs > 0) this.#attestLater(Math.ceil(restMs));
      // A failure shows at the next append.
      else this.#enqueue([]).catch(() => undefined);
    });
  }

  #takeGroup(): Job[] {
    let count = 1;
    let bytes = this.#jobs[0]!.bytes;
    while (this.#jobs[0]!.rolls === undefined && count < this.#jobs.length) {
      const next = this.#jobs[count]!;
      bytes += next.bytes;
      if (next.rolls !== undefined || bytes > maxGroupBytes) break;
      count++;
    }
    return this.#jobs.splice(0, count);
  }

  async #write(group: readonly Job[]): Promise<void> {
    const records = group.length === 1 ? group[0]!.records : group.flatMap((job) => job.records);
    const { rolls } = group[0]!;
    if (rolls === "always" || (rolls === "toFree" && this.#segments.isWorthLeaving)) {
      this.#note(records);
      await this.#segments.roll(this.#head(records), [], 0);
      this.#segments.forgetEntries();
    } else {
      const { announcement } = this.#segments;
      let bytes = 0;
      for (const record of announcement) bytes += recordBytes(record);
      for (const job of group) bytes += job.bytes;
      if (this.#segments.fits(frameBytes(bytes))) {
        const all = announcement.length === 0 ? records : [...records, ...announcement];
        await this.#segments.write(all, this.#note(records));
      } else if (records.length > 0 || this.#segments.hasNext) {
        // What it repeats is of before.
        const head = this.#head([]);
        await this.#segments.roll(head, records, this.#note(records));
      } else {
        // No segment is made for an attestation alone, on a disk that may be full: it is tried again.
        return;
      }
    }
    this.#isAttested = records.length === 0;
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
      else if (record.type === "base" || record.type === "reset") {
        this.#baseIndex = record.index;
        this.#baseTerm = record.term;
      }
    }
    return maxIndex;
  }

  #fail(thrown: unknown, group: readonly Job[]): void {
    this.#failure = new WeirError(
      "Unavailable",
      `Cannot write to the journal in "${this.#files.directory}": ${String(thrown)}; it takes no more`,
      { cause: thrown, outcome: "unknown" },
    );
    this.#logger.error({ error: String(thrown) }, "the journal failed");
    // No write is under way any more, or the host would take the disk for a slow one and keep still for ever.
    this.#writingSinceMs = undefined;
    for (const job of [...group, ...this.#jobs.splice(0)]) job.reject(this.#failure);
  }
}
