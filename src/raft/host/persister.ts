/**
 * Carries out the core's writes in order, and lets the messages that wait for them leave afterwards. Whatever comes in
 * while the disk is busy becomes one write together.
 *
 * Invariants
 * 1. One call to the journal is under way at a time.
 * 2. A message leaves after everything that was submitted with it or before it is durable. With a full disk, votes need
 *    only the hard state, which still fits.
 * 3. A compaction runs once the journal holds what it forgets, whatever waits: it makes room. One that is of entries that
 *    wait, too, runs as far as the journal holds what it is of, and holds nothing back. None passes a reset.
 * 4. Entries that wait for room are given up when a reset would forget them, so it does not wait for them. What they were
 *    to let go, but for votes, is given up with them: nothing says that they are durable.
 * 5. Of the messages that wait for room, the newest of each kind to each peer is kept: all may be lost.
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
  sequence: number;
  hardState: HardState | undefined;
  readonly reset: Persist["reset"];
  entries: readonly Entry[];
  messages: readonly Message[];
}

interface Compaction {
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
  #queue: Batch[] = [];
  /** Those that are due, in ascending order. */
  #compactions: Compaction[] = [];
  /** The highest that was asked for. */
  #compactedIndex = 0;
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
      sequence: this.#sequence,
      hardState: persist?.hardState,
      reset: persist?.reset,
      entries: persist?.entries ?? [],
      messages,
    });
    this.#run();
  }

  /**
   * Forgets the journal's entries at and below `index`, once it holds them. `termAt` knows the terms of the log up to there
   * that are not forgotten yet.
   */
  compact(index: Index, termAt: (index: number) => Term | undefined): void {
    if (this.#isStopped || index <= this.#compactedIndex) return;
    this.#compactedIndex = index;
    const held = this.#heldIndex();
    // After a snapshot it may be of entries that find no room: those before them can go all the same.
    for (const at of 0 < held && held < index ? [held as Index, index] : [index]) {
      const term = termAt(at);
      if (term !== undefined) this.#compactions.push({ index: at, term });
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
    this.#compactions = [];
    await this.#running;
  }

  get #hasWork(): boolean {
    return this.#queue.length > 0 || this.#compactions.length > 0;
  }

  #run(): void {
    this.#running ??= this.#drain()
      .catch((error: unknown) => {
        this.#isStopped = true;
        this.#options.onFatal(error);
      })
      .finally(() => {
        this.#running = undefined;
        if (this.#hasWork && !this.#isStopped) this.#run();
      });
  }

  async #drain(): Promise<void> {
    while (this.#hasWork && !this.#isStopped) {
      const compaction = this.#takeCompaction();
      if (compaction !== undefined) {
        await this.#options.journal.compact(compaction.index, compaction.term);
        continue;
      }
      const work = this.#takeBatch();
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
    this.#options.send(batch.messages.filter(isVote));
    const { sequence, entries } = batch;
    const messages = newestOfEach(batch.messages.filter((message) => !isVote(message)));
    this.#queue.unshift({ sequence, hardState: undefined, reset: undefined, entries, messages });
    await new Promise<void>((resolve) => {
      clock.after(fullDiskRetryMs, resolve);
    });
  }

  /**
   * The journal surely holds what is up to here and not compacted: infinite when nothing is to be written, 0 while the log
   * is to begin anew.
   */
  #heldIndex(): number {
    let held = Number.POSITIVE_INFINITY;
    for (const { reset, entries } of this.#writing === undefined
      ? this.#queue
      : [this.#writing, ...this.#queue]) {
      if (reset !== undefined) return 0;
      const first = entries[0];
      if (first !== undefined) held = Math.min(held, first.index - 1);
    }
    return held;
  }

  /** The highest of those that may run now, which is all of them when nothing is to be written. */
  #takeCompaction(): Compaction | undefined {
    const held = this.#heldIndex();
    let highest: Compaction | undefined;
    while (this.#compactions.length > 0 && this.#compactions[0]!.index <= held) {
      highest = this.#compactions.shift();
    }
    return highest;
  }

  /** The next write: a reset, or all batches up to one that begins with a reset. */
  #takeBatch(): Batch {
    if (this.#fullSinceMs !== undefined) this.#giveUpBeforeReset();
    const head = this.#queue[0]!;
    let count = 1;
    // What waits for a reset must not wait for room that entries behind it may need.
    if (head.reset === undefined) {
      const parts = [head.entries];
      const messages = [...head.messages];
      for (; count < this.#queue.length; count++) {
        const next = this.#queue[count]!;
        if (next.reset !== undefined) break;
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

  /** Puts the last reset that is queued in the place of all before it. */
  #giveUpBeforeReset(): void {
    const place = this.#queue.findLastIndex(({ reset }) => reset !== undefined);
    if (place <= 0) return;
    const before = this.#queue.splice(0, place);
    const first = this.#queue[0]!;
    first.hardState ??= before.findLast(({ hardState }) => hardState !== undefined)?.hardState;
    const votes = before.flatMap(({ messages }) => messages.filter(isVote));
    first.messages = [...votes, ...first.messages];
  }
}

/** What needs the hard state alone. */
function isVote({ kind }: Message): boolean {
  return kind === "requestVote" || kind === "voteReply";
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
