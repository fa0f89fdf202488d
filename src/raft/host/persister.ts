/**
 * Carries out the core's writes in order, and lets the messages that wait for them leave afterwards. Whatever comes in
 * while the disk is busy becomes one write together.
 *
 * Invariants
 * 1. One call to the journal is under way at a time.
 * 2. A message leaves after everything that was submitted with it or before it is durable. With a full disk, votes need
 *    only the hard state, which still fits.
 * 3. While entries wait for room, compactions pass them, as they make room: what they forget is durable already. One that
 *    is of entries that wait, too, passes as far as the journal holds what it is of. They do not pass a reset. Of the messages that wait, the newest of each kind to each peer is kept: all may be lost.
 */
import type { Clock } from "../../lib/clock.ts";
import { hasCode } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Journal } from "../journal.ts";
import type { Persist } from "../state.ts";
import type { Entry, HardState, Index, Message, Term } from "../types.ts";

/** Pause before a write that found the disk full is tried again. */
const fullDiskRetryMs = 50;

interface Batch {
  readonly kind: "batch";
  sequence: number;
  hardState: HardState | undefined;
  readonly reset: Persist["reset"];
  entries: readonly Entry[];
  messages: readonly Message[];
}

interface Compaction {
  readonly kind: "compaction";
  readonly index: Index;
  readonly term: Term;
}

export interface PersisterOptions {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onPersisted: (sequence: number) => void;
  /** Entries wait for room, term and vote are durable. */
  readonly onHardStatePersisted: (sequence: number) => void;
  readonly send: (messages: readonly Message[]) => void;
  readonly onFatal: (error: unknown) => void;
}

export class Persister {
  readonly #options: PersisterOptions;
  #queue: (Batch | Compaction)[] = [];
  #running: Promise<void> | undefined;
  /** The batch that the journal is busy with. */
  #writing: Batch | undefined;
  #isStopped = false;
  /** Since when entries wait for room on the disk. */
  #fullSinceMs: number | undefined;
  #sequence = 0;

  constructor(options: PersisterOptions) {
    this.#options = options;
  }

  /** Takes one output's write, which may be nothing, and the messages that wait for it and for all before it. */
  submit(persist: Persist | undefined, messages: readonly Message[]): void {
    if (this.#isStopped || (persist === undefined && messages.length === 0)) return;
    if (persist === undefined && this.#running === undefined) {
      this.#options.send(messages);
      return;
    }
    if (persist !== undefined) this.#sequence = persist.sequence;
    this.#queue.push({
      kind: "batch",
      sequence: this.#sequence,
      hardState: persist?.hardState,
      reset: persist?.reset,
      entries: persist?.entries ?? [],
      messages,
    });
    this.#run();
  }

  /**
   * Forgets the journal's entries at and below `index`, after what was submitted before. `termAt` knows the terms of the log
   * up to there that are not forgotten yet.
   */
  compact(index: Index, termAt: (index: number) => Term | undefined): void {
    const held = this.#heldIndex();
    // After a snapshot it may be of entries that find no room: those before them can go all the same.
    for (const at of held < index ? [held as Index, index] : [index]) {
      const term = termAt(at);
      if (term !== undefined) this.#queue.push({ kind: "compaction", index: at, term });
    }
    this.#run();
  }

  /** How long entries have been waiting for room on the disk; 0 when none do. */
  fullDiskAgeMs(): number {
    return this.#fullSinceMs === undefined
      ? 0
      : this.#options.clock.monotonicMs() - this.#fullSinceMs;
  }

  /** Starts nothing new; resolves when what is under way is over. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#queue = [];
    await this.#running;
  }

  #run(): void {
    this.#running ??= this.#drain()
      .catch((error: unknown) => {
        this.#isStopped = true;
        this.#options.onFatal(error);
      })
      .finally(() => {
        this.#running = undefined;
        if (this.#queue.length > 0 && !this.#isStopped) this.#run();
      });
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0 && !this.#isStopped) {
      const work = this.#takeNext();
      if (work.kind === "compaction") {
        await this.#options.journal.compact(work.index, work.term);
        continue;
      }
      this.#writing = work;
      const isWritten = await this.#write(work);
      this.#writing = undefined;
      if (isWritten) {
        this.#fullSinceMs = undefined;
        if (this.#isStopped) return;
        this.#options.onPersisted(work.sequence);
        this.#options.send(work.messages);
      }
    }
  }

  /** Returns false when the entries found no room: they are queued again then. */
  async #write(batch: Batch): Promise<boolean> {
    const { journal } = this.#options;
    const { hardState, reset, entries } = batch;
    if (reset !== undefined) {
      // The term first: a log must not end in a term that the node has not heard of.
      if (hardState !== undefined) await journal.append({ hardState, entries: [] });
      await journal.reset(reset.index, reset.term);
      batch.hardState = undefined;
    }
    try {
      if (batch.hardState !== undefined || entries.length > 0) {
        await journal.append({ hardState: batch.hardState, entries });
      }
      return true;
    } catch (error) {
      if (!hasCode(error, "DiskFull") || entries.length === 0) throw error;
    }
    await this.#waitForRoom(batch);
    return false;
  }

  async #waitForRoom(batch: Batch): Promise<void> {
    const { journal, clock, logger } = this.#options;
    if (this.#fullSinceMs === undefined) {
      this.#fullSinceMs = clock.monotonicMs();
      logger.error({ entries: batch.entries.length }, "the disk is full: entries wait for room");
    }
    if (batch.hardState !== undefined) {
      await journal.append({ hardState: batch.hardState, entries: [] });
    }
    this.#options.onHardStatePersisted(batch.sequence);
    const isVote = ({ kind }: Message) => kind === "requestVote" || kind === "voteReply";
    this.#options.send(batch.messages.filter(isVote));
    const { sequence, entries } = batch;
    const messages = newestOfEach(batch.messages.filter((message) => !isVote(message)));
    this.#queue.unshift({
      kind: "batch",
      sequence,
      hardState: undefined,
      reset: undefined,
      entries,
      messages,
    });
    await new Promise<void>((resolve) => {
      clock.after(fullDiskRetryMs, resolve);
    });
  }

  /** The journal surely holds what is up to here and not compacted; infinite when nothing is to be written. */
  #heldIndex(): number {
    let held = Number.POSITIVE_INFINITY;
    for (const work of this.#writing === undefined
      ? this.#queue
      : [this.#writing, ...this.#queue]) {
      if (work.kind === "compaction") continue;
      if (work.reset !== undefined) return Number.POSITIVE_INFINITY;
      const first = work.entries[0];
      if (first !== undefined) held = Math.min(held, first.index - 1);
    }
    return held;
  }

  /**
   * Where a compaction stands that may pass the entries that wait before it: it must be of entries that the journal holds.
   * After a snapshot it may be of some that wait, which the state machine has from there. -1 when there is none.
   */
  #placeOfCompaction(): number {
    let held = Number.POSITIVE_INFINITY;
    for (const [place, work] of this.#queue.entries()) {
      if (work.kind === "compaction") return work.index <= held ? place : -1;
      if (work.reset !== undefined) return -1;
      const first = work.entries[0];
      if (first !== undefined) held = Math.min(held, first.index - 1);
    }
    return -1;
  }

  /** The next thing to do: a compaction, or all batches up to one that begins with a reset. */
  #takeNext(): Batch | Compaction {
    const place = this.#fullSinceMs === undefined ? -1 : this.#placeOfCompaction();
    if (place >= 0) return this.#queue.splice(place, 1)[0]!;
    const head = this.#queue[0]!;
    let count = 1;
    if (head.kind === "batch") {
      const parts = [head.entries];
      const messages = [...head.messages];
      for (; count < this.#queue.length; count++) {
        const next = this.#queue[count]!;
        if (next.kind !== "batch" || next.reset !== undefined) break;
        head.sequence = next.sequence;
        head.hardState = next.hardState ?? head.hardState;
        if (next.entries.length > 0) parts.push(next.entries);
        messages.push(...next.messages);
      }
      head.entries = joinSuffixes(parts);
      head.messages = messages;
    }
    this.#queue.splice(0, count);
    return head;
  }
}

/** Those that no later one of the same kind to the same peer follows, in their order. */
function newestOfEach(messages: readonly Message[]): readonly Message[] {
  const newest = new Map<string, Message>();
  for (const message of messages) {
    const key = `${message.kind} ${message.to}`;
    newest.delete(key);
    newest.set(key, message);
  }
  return [...newest.values()];
}

/** One run of entries out of several, where a later one replaces what it overlaps of those before. */
function joinSuffixes(parts: readonly (readonly Entry[])[]): readonly Entry[] {
  if (parts.length === 1) return parts[0]!;
  const joined: Entry[] = [];
  for (const part of parts) {
    const first = part[0];
    if (first === undefined) continue;
    const start = joined[0]?.index ?? first.index;
    joined.length = Math.min(joined.length, Math.max(0, first.index - start));
    for (const entry of part) joined.push(entry);
  }
  return joined;
}
