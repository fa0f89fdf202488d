/**
 * The rows that are in the heap: all that are not on disk yet, and of the others those that were used last, absent ones
 * included, bounded in bytes. Two halves stand in for a list of uses: what is found in the old one moves to the young one,
 * and when the young one has its share of the bytes it becomes the old one. Pure.
 */
import type { Cell } from "./cell.ts";

export class RowTable {
  readonly #maxBytes: number;
  readonly #unflushed: () => Iterable<Cell>;
  #young = new Map<string, Cell>();
  #old = new Map<string, Cell>();
  #youngBytes = 0;

  /** `unflushed` gives the cells that have to stay; they count beyond `maxBytes`, once it is passed. */
  constructor(maxBytes: number, unflushed: () => Iterable<Cell>) {
    this.#maxBytes = maxBytes;
    this.#unflushed = unflushed;
  }

  /** The row, or undefined when nothing is known of the key. */
  get(key: string): Cell | undefined {
    const cell = this.#young.get(key);
    if (cell !== undefined) return cell;
    const aged = this.#old.get(key);
    if (aged !== undefined) this.set(aged);
    return aged;
  }

  set(cell: Cell): void {
    this.#young.set(cell.key, cell);
    // A row that is set again counts twice until the half is full: the bound holds all the more.
    this.#youngBytes += cell.weight;
    if (this.#youngBytes * 2 < this.#maxBytes) return;
    this.#old = this.#young;
    this.#young = new Map();
    for (const each of this.#unflushed()) this.#young.set(each.key, each);
    this.#youngBytes = 0;
  }

  delete(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
  }
}
