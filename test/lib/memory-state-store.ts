/**
 * The replicated state in plain maps, for tests of what stands on it. It flushes when asked to, and `crash` gives the
 * store as a restart would find it.
 */
import assert from "node:assert/strict";
import { WeirError } from "../../src/lib/errors.ts";
import { decode, encode, type Schema } from "../../src/lib/schema.ts";
import { StateHash } from "../../src/master/store/state-hash.ts";
import { partOf } from "../../src/master/store/pinned-ranges.ts";
import type {
  KeyRange,
  KeyValue,
  ReachingRange,
  ScanRange,
  StateStore,
  StoreSnapshot,
} from "../../src/master/store/types.ts";

interface Flushed {
  readonly values: ReadonlyMap<string, Uint8Array>;
  readonly index: number;
  readonly term: number;
}

/** Rows of a chunk: few, so that small states have several. */
const chunkLength = 10;

export class MemoryStateStore implements StateStore {
  /** Set by a test to have proposals refused. */
  full = false;
  #values: Map<string, Uint8Array>;
  /** Over `#values`. */
  #sum: StateHash;
  #flushed: Flushed;
  #appliedIndex: number;
  #appliedTerm: number;
  #undo: (readonly [key: string, before: Uint8Array | undefined])[] = [];
  #savepoints = 0;
  #loaded: ScanRange[] = [];

  constructor(flushed: Flushed = { values: new Map(), index: 0, term: 0 }) {
    this.#flushed = flushed;
    this.#values = new Map(flushed.values);
    this.#sum = sumOf(flushed.values);
    this.#appliedIndex = flushed.index;
    this.#appliedTerm = flushed.term;
  }

  /** What a restart finds: the state of the last flush. */
  crash(): MemoryStateStore {
    return new MemoryStateStore(this.#flushed);
  }

  get flushedIndex(): number {
    return this.#flushed.index;
  }

  get flushedTerm(): number {
    return this.#flushed.term;
  }

  get flushedHash(): string {
    return sumOf(this.#flushed.values).digest();
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key);
  }

  read<T>(schema: Schema<T>, key: string): T | undefined {
    const value = this.#values.get(key);
    return value === undefined ? undefined : decode(schema, value, key);
  }

  write<T>(schema: Schema<T>, key: string, value: T): void {
    this.put(key, encode(schema, value));
  }

  add<T>(schema: Schema<T>, key: string, value: T): void {
    assert(!this.#values.has(key), `"${key}" is there already`);
    this.write(schema, key, value);
  }

  put(key: string, value: Uint8Array): void {
    this.#remember(key);
    this.#set(key, value);
  }

  delete(key: string): void {
    this.#remember(key);
    this.#set(key, undefined);
  }

  #set(key: string, value: Uint8Array | undefined): void {
    const before = this.#values.get(key);
    if (before !== undefined) this.#sum.remove(key, before);
    if (value === undefined) {
      this.#values.delete(key);
    } else {
      this.#sum.add(key, value);
      this.#values.set(key, value);
    }
  }

  #remember(key: string): void {
    if (this.#savepoints > 0) this.#undo.push([key, this.#values.get(key)]);
  }

  async load(ranges: readonly ScanRange[]): Promise<void> {
    this.#loaded.push(...ranges);
  }

  release(ranges: readonly ScanRange[]): void {
    for (const range of ranges) {
      const at = this.#loaded.findIndex((each) => isSame(each, range));
      if (at >= 0) this.#loaded.splice(at, 1);
    }
  }

  scan(range: ScanRange): readonly KeyValue[] {
    const { since = range.from, to } = range;
    const loaded = this.#loaded.some((each) => {
      const isWhole = each.since === undefined && each.limit === undefined;
      return isSame(each, range) || (isWhole && since >= each.from && to <= each.to);
    });
    assert(loaded, "scan of a range that was not loaded");
    return partOf(this.#rows({ from: since, to }), range);
  }

  async iterate(range: ReachingRange, limit: number): Promise<readonly KeyValue[]> {
    const { from, to, since } = range;
    return partOf(this.#rows({ from: since ?? from, to }), { ...range, limit: Math.max(0, limit) });
  }

  #rows({ from, to }: KeyRange): KeyValue[] {
    const keys = [...this.#values.keys()].filter((key) => key >= from && key < to).sort();
    return keys.map((key) => [key, this.#values.get(key)!]);
  }

  savepoint(): { rollback(): void; commit(): void } {
    const mark = this.#undo.length;
    this.#savepoints++;
    const end = () => {
      this.#savepoints--;
      if (this.#savepoints === 0) this.#undo = [];
    };
    return {
      commit: end,
      rollback: () => {
        for (const [key, before] of this.#undo.splice(mark).reverse()) {
          this.#set(key, before);
        }
        end();
      },
    };
  }

  applied(index: number, term: number): void {
    assert(index > this.#appliedIndex, `entry ${index} applied after ${this.#appliedIndex}`);
    this.#appliedIndex = index;
    this.#appliedTerm = term;
  }

  hash(): string {
    return this.#sum.digest();
  }

  async flush(): Promise<{ index: number; term: number }> {
    const [index, term] = [this.#appliedIndex, this.#appliedTerm];
    this.#flushed = { values: new Map(this.#values), index, term };
    return { index, term };
  }

  async snapshot(): Promise<StoreSnapshot> {
    const flushing = this.flush();
    // Of the index that is flushed: nothing is applied before.
    const rows = this.#rows({ from: "", to: "\xff" });
    const hash = this.hash();
    const { index, term } = await flushing;
    return {
      index,
      term,
      hash,
      async *chunks() {
        for (let i = 0; i < rows.length; i += chunkLength) yield rows.slice(i, i + chunkLength);
      },
      async *rows({ from, to }) {
        const within = rows.filter(([key]) => key >= from && key < to);
        for (let i = 0; i < within.length; i += chunkLength) yield within.slice(i, i + chunkLength);
      },
      close: async () => undefined,
    };
  }

  async install(
    index: number,
    term: number,
    chunks: AsyncIterable<readonly KeyValue[]>,
    hash?: string,
  ): Promise<void> {
    const values = new Map<string, Uint8Array>();
    for await (const chunk of chunks) for (const [key, value] of chunk) values.set(key, value);
    const sum = sumOf(values);
    if (hash !== undefined && sum.digest() !== hash) {
      throw new WeirError(
        "Corrupt",
        `Cannot install a snapshot: it sums to ${sum.digest()}, wanted ${hash}`,
      );
    }
    this.#values = values;
    this.#sum = sum;
    this.#flushed = { values: new Map(values), index, term };
    this.#appliedIndex = index;
    this.#appliedTerm = term;
    this.#loaded = [];
  }

  async close(): Promise<void> {
    await this.flush();
  }
}

function isSame(a: ScanRange, b: ScanRange): boolean {
  return a.from === b.from && a.to === b.to && a.since === b.since && a.limit === b.limit;
}

function sumOf(values: ReadonlyMap<string, Uint8Array>): StateHash {
  const sum = new StateHash();
  for (const [key, value] of values) sum.add(key, value);
  return sum;
}
