/**
 * A simulated disk under a journal. Batches handed over while a sync is under way go out together with the next one. A
 * crash loses what is not synced; of the sync under way, any number of its records from the front may have reached the
 * disk.
 */
import type { Random } from "../../src/lib/clock.ts";
import type { Persist } from "../../src/raft/state.ts";
import type { Entry, HardState, Index, Term } from "../../src/raft/types.ts";
import type { Timeline } from "./timeline.ts";

/** What a restart finds. */
export interface DiskContents {
  hardState: HardState;
  entries: Entry[];
  baseIndex: Index;
  baseTerm: Term;
}

type Record =
  | { readonly kind: "hardState"; readonly hardState: HardState }
  | { readonly kind: "entry"; readonly entry: Entry }
  | { readonly kind: "base"; readonly index: Index; readonly term: Term; readonly drop: boolean };

interface Batch {
  readonly records: readonly Record[];
  readonly done: () => void;
}

export class SimulatedDisk {
  readonly contents: DiskContents = {
    hardState: { term: 0 as Term, vote: undefined },
    entries: [],
    baseIndex: 0 as Index,
    baseTerm: 0 as Term,
  };
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #syncMs: () => number;
  #waiting: Batch[] = [];
  #syncing: Batch[] = [];
  /** Counts crashes: what was under way before one is void. */
  #generation = 0;

  constructor(options: { timeline: Timeline; random: Random; syncMs: () => number }) {
    this.#timeline = options.timeline;
    this.#random = options.random;
    this.#syncMs = options.syncMs;
  }

  get isBusy(): boolean {
    return this.#syncing.length > 0;
  }

  /** Calls `done` when this and everything before it is durable. */
  write(persist: Persist | undefined, done: () => void): void {
    this.#enqueue(persist === undefined ? [] : recordsOf(persist), done);
  }

  compact(index: Index, term: Term): void {
    this.#enqueue([{ kind: "base", index, term, drop: false }], () => undefined);
  }

  /** Starts the log anew, at once: what a node does before it takes part. */
  resetNow(index: Index, term: Term): void {
    this.#apply({ kind: "base", index, term, drop: true });
  }

  /** Whether this version of the entry would be found after a crash. */
  holds(index: number, term: Term): boolean {
    const { baseIndex, entries } = this.contents;
    return index <= baseIndex || entries[index - baseIndex - 1]?.term === term;
  }

  crash(): void {
    this.#generation++;
    const records = this.#syncing.flatMap((batch) => batch.records);
    const survivors = this.#random.below(records.length + 1);
    for (const record of records.slice(0, survivors)) this.#apply(record);
    this.#syncing = [];
    this.#waiting = [];
  }

  #enqueue(records: readonly Record[], done: () => void): void {
    this.#waiting.push({ records, done });
    if (this.#syncing.length === 0) this.#sync();
  }

  #sync(): void {
    if (this.#waiting.length === 0) return;
    this.#syncing = this.#waiting;
    this.#waiting = [];
    const generation = this.#generation;
    this.#timeline.after(this.#syncMs(), () => {
      if (generation !== this.#generation) return;
      const synced = this.#syncing;
      for (const { records } of synced) for (const record of records) this.#apply(record);
      this.#syncing = [];
      this.#sync();
      for (const { done } of synced) if (generation === this.#generation) done();
    });
  }

  #apply(record: Record): void {
    const { contents } = this;
    switch (record.kind) {
      case "hardState":
        contents.hardState = record.hardState;
        return;
      case "entry":
        contents.entries.length = record.entry.index - contents.baseIndex - 1;
        contents.entries.push(record.entry);
        return;
      case "base":
        contents.entries = record.drop
          ? []
          : contents.entries.slice(Math.max(0, record.index - contents.baseIndex));
        contents.baseIndex = record.index;
        contents.baseTerm = record.term;
    }
  }
}

function recordsOf({ hardState, reset, entries }: Persist): Record[] {
  const records: Record[] = [];
  if (hardState !== undefined) records.push({ kind: "hardState", hardState });
  if (reset !== undefined) records.push({ kind: "base", ...reset, drop: true });
  for (const entry of entries) records.push({ kind: "entry", entry });
  return records;
}
