/**
 * Cells by their keys: a hash table of our own, since a Map of strings costs several times as much where most keys are new
 * and asked for once. It keeps a hash of 32 bits beside each cell, so neither a search that fails nor growing looks at a
 * string. Pure.
 *
 * Invariant: a cell is at the first place that was free for it from that of its hash on, and nothing between is free. The
 * places of deleted cells are not free: they are given back when the table grows, or is dropped.
 */
import type { Cell } from "./cell.ts";

const fewestSlots = 1024;

/**
 * 1 to 2^32 - 1. `seed` differs from process to process: nobody can prepare names that fall on one another.
 */
export function hashOfKey(key: string, seed: number): number {
  let hash = seed ^ key.length;
  for (let i = 0; i < key.length; i++) {
    hash = Math.imul(hash ^ key.charCodeAt(i), 0x5bd1e995);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash, 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0 || 1;
}

export class CellMap {
  /** Of the cell at the same place, or of one that was deleted there; 0: free. */
  #hashes = new Uint32Array(fewestSlots);
  #cells = new Array<Cell | undefined>(fewestSlots).fill(undefined);
  /** Places that are not free. */
  #taken = 0;

  get(key: string, hash: number): Cell | undefined {
    const at = this.#find(key, hash);
    return at < 0 ? undefined : this.#cells[at];
  }

  set(cell: Cell, hash: number): void {
    const hashes = this.#hashes;
    const mask = hashes.length - 1;
    let at = hash & mask;
    for (let found = hashes[at]!; found !== 0; found = hashes[at]!) {
      if (found === hash && this.#cells[at]?.key === cell.key) {
        this.#cells[at] = cell;
        return;
      }
      at = (at + 1) & mask;
    }
    hashes[at] = hash;
    this.#cells[at] = cell;
    if (++this.#taken * 3 > hashes.length * 2) this.#grow();
  }

  delete(key: string, hash: number): void {
    const at = this.#find(key, hash);
    if (at >= 0) this.#cells[at] = undefined;
  }

  /** The place of a key, or -1. */
  #find(key: string, hash: number): number {
    const hashes = this.#hashes;
    const mask = hashes.length - 1;
    let at = hash & mask;
    for (let found = hashes[at]!; found !== 0; found = hashes[at]!) {
      if (found === hash && this.#cells[at]?.key === key) return at;
      at = (at + 1) & mask;
    }
    return -1;
  }

  #grow(): void {
    const hashes = this.#hashes;
    const cells = this.#cells;
    const length = hashes.length * 2;
    const mask = length - 1;
    this.#hashes = new Uint32Array(length);
    this.#cells = new Array<Cell | undefined>(length).fill(undefined);
    this.#taken = 0;
    for (let from = 0; from < cells.length; from++) {
      const cell = cells[from];
      if (cell === undefined) continue;
      const hash = hashes[from]!;
      let at = hash & mask;
      while (this.#hashes[at] !== 0) at = (at + 1) & mask;
      this.#hashes[at] = hash;
      this.#cells[at] = cell;
      this.#taken++;
    }
  }
}
