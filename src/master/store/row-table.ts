/**
 * The rows that are in the heap: all that are not on disk yet, and of the others those that were used last, absent ones
 * included, bounded in bytes. Two halves stand in for a list of uses: what is found in the old one moves to the young one,
 * and when the young one has its share of the bytes it becomes the old one. Most commands ask for the same few rows
 * (counters, the session, the directory): those are found without a hash table. Pure.
 *
 * Invariant: a cell among the recent ones is the young half's cell of its key.
 */
import type { Cell } from "./cell.ts";
import { CellMap, hashOfKey } from "./cell-map.ts";

const recentSlots = 512;

/** Keys of one kind differ at their ends. */
function slotOf(key: string): number {
  const { length } = key;
  if (length < 3) return 0;
  const mixed = key.charCodeAt(length - 1) * 5 + key.charCodeAt(length - 2) * 37;
  return (mixed + key.charCodeAt(length - 3) * 3 + length * 11) % recentSlots;
}

export class RowTable {
  readonly #maxBytes: number;
  readonly #unflushed: () => Iterable<Cell>;
  readonly #seed: number;
  #young = new CellMap();
  #old = new CellMap();
  #youngBytes = 0;
  /** Of the young half; a cell says in which one it was entered last. */
  #epoch = 1;
  readonly #recent = new Array<Cell | undefined>(recentSlots).fill(undefined);

  /**
   * `unflushed` gives the cells that have to stay; they count beyond `maxBytes`, once it is passed. `seed`: any 32 bits,
   * random ones where strangers name rows.
   */
  constructor(maxBytes: number, unflushed: () => Iterable<Cell>, seed = 0) {
    this.#maxBytes = maxBytes;
    this.#seed = seed;
    this.#unflushed = unflushed;
  }

  /** The row, or undefined when nothing is known of the key. */
  get(key: string): Cell | undefined {
    const slot = slotOf(key);
    const recent = this.#recent[slot];
    if (recent !== undefined && recent.key === key) return recent;
    const hash = hashOfKey(key, this.#seed);
    const cell = this.#young.get(key, hash);
    if (cell !== undefined) {
      this.#recent[slot] = cell;
      return cell;
    }
    const aged = this.#old.get(key, hash);
    if (aged !== undefined) this.#enter(aged, hash);
    return aged;
  }

  set(cell: Cell): void {
    this.#enter(cell, hashOfKey(cell.key, this.#seed));
  }

  #enter(cell: Cell, hash: number): void {
    this.#young.set(cell, hash);
    cell.epoch = this.#epoch;
    this.#recent[slotOf(cell.key)] = cell;
    // A row that is set again counts twice until the half is full: the bound holds all the more.
    this.#youngBytes += cell.weight;
    if (this.#youngBytes * 2 < this.#maxBytes) return;
    this.#old = this.#young;
    this.#young = new CellMap();
    const leaving = this.#epoch++;
    // What was entered since the last time is in the old half now, and stays until the next time.
    for (const each of this.#unflushed()) {
      if (each.epoch >= leaving) continue;
      this.#young.set(each, hashOfKey(each.key, this.#seed));
      each.epoch = this.#epoch;
    }
    this.#youngBytes = 0;
    this.#recent.fill(undefined);
  }

  /** A row in the table takes so much more than it did when it was set. It counts for the young half, wherever it is. */
  grew(bytes: number): void {
    this.#youngBytes += bytes;
  }

  delete(key: string): void {
    const slot = slotOf(key);
    if (this.#recent[slot]?.key === key) this.#recent[slot] = undefined;
    const hash = hashOfKey(key, this.#seed);
    this.#young.delete(key, hash);
    this.#old.delete(key, hash);
  }

  clear(): void {
    this.#young = new CellMap();
    this.#old = new CellMap();
    this.#youngBytes = 0;
    this.#recent.fill(undefined);
  }
}
