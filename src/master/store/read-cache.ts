/**
 * Rows as they are in LevelDB, absent ones included, bounded in bytes. Two generations stand in for a list of uses: what is
 * found in the old one moves to the young one, and when the young one has its half of the bytes it becomes the old one.
 * Pure.
 */
import type { Cell } from "./cell.ts";

export class ReadCache {
  readonly #maxBytes: number;
  #young = new Map<string, Cell>();
  #old = new Map<string, Cell>();
  #youngBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
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
    // A row that is set again counts twice until the generation ends: the bound holds all the more.
    this.#youngBytes += cell.weight;
    if (this.#youngBytes * 2 < this.#maxBytes) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngBytes = 0;
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
  }
}
