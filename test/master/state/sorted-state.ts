/** The state in a sorted map, for tests of pure apply: it refuses scans of ranges that were not loaded, like the real one. */
import { createHash } from "node:crypto";
import type { TransactionalState } from "../../../src/master/state/machine.ts";
import type { KeyRange, KeyValue, StateReader } from "../../../src/master/store/types.ts";

export class SortedState implements TransactionalState, StateReader {
  readonly #values = new Map<string, Uint8Array>();
  #loaded: readonly KeyRange[] = [];
  #undo: Map<string, Uint8Array | undefined> | undefined;

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key);
  }

  put(key: string, value: Uint8Array): void {
    this.#keep(key);
    this.#values.set(key, value);
  }

  delete(key: string): void {
    this.#keep(key);
    this.#values.delete(key);
  }

  load(ranges: readonly KeyRange[]): void {
    this.#loaded = ranges;
  }

  scan(range: KeyRange): readonly KeyValue[] {
    const isLoaded = this.#loaded.some((each) => each.from === range.from && each.to === range.to);
    if (!isLoaded) throw new Error(`range ${JSON.stringify(range)} was not loaded`);
    return this.#between(range);
  }

  async iterate(range: KeyRange, limit: number): Promise<readonly KeyValue[]> {
    return this.#between(range).slice(0, limit);
  }

  savepoint(): { rollback(): void; commit(): void } {
    if (this.#undo !== undefined) throw new Error("savepoints do not nest");
    const undo = new Map<string, Uint8Array | undefined>();
    this.#undo = undo;
    return {
      rollback: () => {
        this.#undo = undefined;
        for (const [key, value] of undo) {
          if (value === undefined) this.#values.delete(key);
          else this.#values.set(key, value);
        }
      },
      commit: () => {
        this.#undo = undefined;
      },
    };
  }

  entries(prefix: string): KeyValue[] {
    return [...this.#values].filter(([key]) => key.startsWith(prefix)).sort(byKey);
  }

  hash(): string {
    const hash = createHash("sha256");
    for (const [key, value] of [...this.#values].sort(byKey)) {
      hash
        .update(`${String(key.length)}:${String(value.length)}:`)
        .update(key, "latin1")
        .update(value);
    }
    return hash.digest("hex");
  }

  #between(range: KeyRange): KeyValue[] {
    return [...this.#values].filter(([key]) => key >= range.from && key < range.to).sort(byKey);
  }

  #keep(key: string): void {
    if (this.#undo !== undefined && !this.#undo.has(key)) this.#undo.set(key, this.get(key));
  }
}

function byKey([a]: KeyValue, [b]: KeyValue): number {
  return a < b ? -1 : 1;
}
