/**
 * A journal in memory for simulations: durable after a simulated sync, everything else is lost by `crash`. Appends that
 * arrive while a sync is under way go out together with the next one, as on disk.
 */
import assert from "node:assert/strict";
import { WeirError } from "../../src/lib/errors.ts";
import type { Clock } from "../../src/lib/clock.ts";
import type { JournalRecord } from "../../src/journal/format.ts";
import { Replay } from "../../src/journal/replay.ts";
import type {
  Journal,
  JournalBatch,
  JournalIdentity,
  JournalState,
} from "../../src/journal/types.ts";
import type { Index, Term } from "../../src/raft/types.ts";

interface Pending {
  readonly records: readonly JournalRecord[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface MemoryJournalOptions {
  /** Simulated time of a sync; without it a sync takes one turn of the event loop. */
  readonly clock?: Clock;
  readonly syncMs?: number;
}

export class MemoryJournal implements Journal {
  /** Set by a test to have entries refused with `DiskFull`. */
  diskFull = false;
  readonly #options: MemoryJournalOptions;
  #durable: JournalRecord[];
  #state: JournalState;
  #lastIndex: number;
  #pending: Pending[] = [];
  #syncing = false;
  #syncSinceMs: number | undefined;
  #failure: Error | undefined;
  #crashed = false;
  #stalled: Promise<void> | undefined;

  constructor(options: MemoryJournalOptions = {}, durable: readonly JournalRecord[] = []) {
    this.#options = options;
    this.#durable = [...durable];
    this.#state = stateOf(durable);
    this.#lastIndex = this.#state.baseIndex + this.#state.entries.length;
  }

  get state(): JournalState {
    return this.#state;
  }

  /** Loses what is not synced and returns what a restart finds; calls under way on this one never settle. */
  crash(): MemoryJournal {
    this.#crashed = true;
    this.#pending = [];
    return new MemoryJournal(this.#options, this.#durable);
  }

  /** Makes the next sync fail, and with it every later call. */
  failNextSync(error: Error): void {
    this.#failure = error;
  }

  /** Lets no sync come to its end until the returned one is called. */
  stall(): { end(): void } {
    let end: () => void = () => undefined;
    this.#stalled = new Promise<void>((resolve) => {
      end = resolve;
    });
    return { end };
  }

  async initialize(identity: JournalIdentity): Promise<void> {
    assert(this.#state.nodeId === undefined, "initialized twice");
    await this.#write([{ type: "identity", identity }]);
    this.#state = { ...this.#state, ...identity };
  }

  async append({ hardState, entries }: JournalBatch): Promise<void> {
    assert(this.#state.nodeId !== undefined, "append to a journal without an identity");
    if (entries.length > 0 && this.diskFull) {
      throw new WeirError("DiskFull", "Cannot append to the journal in memory: it is told so");
    }
    const records: JournalRecord[] = [];
    if (hardState !== undefined) records.push({ type: "hardState", ...hardState });
    const first = entries[0]?.index ?? 0;
    assert(first <= this.#lastIndex + 1, `entry ${first} leaves a gap`);
    entries.forEach((entry, i) => {
      assert(entry.index === first + i, `entry ${entry.index} follows ${first + i - 1}`);
      records.push({ type: "entry", entry });
    });
    if (entries.length > 0) this.#lastIndex = first + entries.length - 1;
    await this.#write(records);
  }

  oldestWriteAgeMs(): number {
    if (this.#syncSinceMs === undefined || this.#options.clock === undefined) return 0;
    return this.#options.clock.monotonicMs() - this.#syncSinceMs;
  }

  async compact(index: Index, term: Term): Promise<void> {
    assert(index <= this.#lastIndex, `compaction at ${index} passes the last entry`);
    if (index <= this.#state.baseIndex) return;
    const entries = this.#state.entries.filter((entry) => entry.index > index);
    this.#state = { ...this.#state, entries, baseIndex: index, baseTerm: term };
    await this.#write([{ type: "base", index, term }]);
    this.#durable = recordsOf(stateOf(this.#durable));
  }

  async reset(baseIndex: Index, baseTerm: Term): Promise<void> {
    this.#lastIndex = baseIndex;
    this.#state = { ...this.#state, entries: [], baseIndex, baseTerm };
    await this.#write([{ type: "reset", index: baseIndex, term: baseTerm }]);
    this.#durable = recordsOf(stateOf(this.#durable));
  }

  sizeBytes(): number {
    let total = 0;
    for (const record of this.#durable) {
      total += record.type === "entry" ? record.entry.payload.length + 18 : 18;
    }
    return total;
  }

  async close(): Promise<void> {
    await this.#write([]).catch(() => undefined);
    this.#failure ??= new WeirError("Unavailable", "Cannot write to the journal: it is closed");
  }

  #write(records: readonly JournalRecord[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ records, resolve, reject });
      if (!this.#syncing) this.#sync();
    });
  }

  #sync(): void {
    this.#syncing = true;
    const group = this.#pending.splice(0);
    const { clock, syncMs = 1 } = this.#options;
    const done = () => {
      this.#syncing = false;
      this.#syncSinceMs = undefined;
      if (this.#crashed) return;
      for (const { records, resolve, reject } of group) {
        if (this.#failure !== undefined) {
          reject(this.#failure);
          continue;
        }
        this.#durable.push(...records);
        resolve();
      }
      if (this.#pending.length > 0) this.#sync();
    };
    if (this.#stalled !== undefined) void this.#stalled.then(done);
    else if (clock === undefined) setImmediate(done);
    else {
      this.#syncSinceMs = clock.monotonicMs();
      clock.after(syncMs, done);
    }
  }
}

function stateOf(records: readonly JournalRecord[]): JournalState {
  const replay = new Replay();
  for (const record of records) {
    const refusal = replay.add(record);
    assert(refusal === undefined, refusal);
  }
  const state = replay.finish();
  if (typeof state === "string") assert.fail(state);
  return state;
}

function recordsOf(state: JournalState): JournalRecord[] {
  const { nodeId, clusterId, members, admittedAt, hardState, baseIndex, baseTerm } = state;
  assert(nodeId !== undefined && clusterId !== undefined, "records without an identity");
  return [
    { type: "identity", identity: { nodeId, clusterId, members, admittedAt } },
    { type: "hardState", ...hardState },
    { type: "base", index: baseIndex, term: baseTerm },
    ...state.entries.map((entry): JournalRecord => ({ type: "entry", entry })),
  ];
}
