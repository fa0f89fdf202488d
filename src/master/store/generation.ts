/**
 * What was changed and is not in LevelDB yet: one generation of the write-behind overlay, in the order of the changes.
 * Writing adds to a list alone; keys are sorted, as far as that is read, when somebody asks for a range. Pure.
 *
 * Invariant: the contents of its rows are those of its cells, but for those that a later generation has changed since:
 * they were kept before.
 */
import type { Cell, Contents } from "./cell.ts";
import { SortedKeys } from "./sorted-keys.ts";
import type { KeyRange } from "./types.ts";

export class Generation {
  /** From 1, one more than that of the one before. */
  readonly number: number;
  /** Bytes that it holds in the heap, roughly. */
  weight = 0;
  /** Changed cells, each once. */
  readonly cells: Cell[] = [];
  readonly #kept = new Map<Cell, Contents>();
  readonly #keys = new SortedKeys();
  /** So many of the cells have their keys in `#keys`. */
  #sortedUpTo = 0;
  #cellOf: Map<string, Cell> | undefined;

  constructor(number: number) {
    this.number = number;
  }

  /** Gives up all cells but the first ones: their changes were taken back. */
  truncate(count: number): void {
    this.cells.length = count;
    // Keys that were sorted in stay: a range may give keys that were not changed.
    this.#sortedUpTo = Math.min(this.#sortedUpTo, count);
  }

  /** Called before a later generation changes a cell that is of this one. */
  keep(cell: Cell): void {
    const { schema, value, chunk, start, end, weight } = cell;
    this.#kept.set(cell, { schema, value, chunk, start, end, weight });
  }

  /** What a cell was in this generation; undefined: the generation did not change it after all. */
  contentsOf(cell: Cell): Contents | undefined {
    return cell.generation === this.number ? cell : this.#kept.get(cell);
  }

  /** The cell of a key that it may have changed. Only when nothing is added any more. */
  cellOf(key: string): Cell | undefined {
    this.#cellOf ??= new Map(this.cells.map((cell) => [cell.key, cell]));
    return this.#cellOf.get(key);
  }

  /** Keys of a range in order: all that were changed, and perhaps some that were not. Not to be added to while reading. */
  range({ from, to }: KeyRange): Generator<string> {
    this.#sortIn();
    return this.#keys.range(from, to);
  }

  /** As `range`, the last key first. */
  backwards({ from, to }: KeyRange): Generator<string> {
    this.#sortIn();
    return this.#keys.backwards(from, to);
  }

  #sortIn(): void {
    for (; this.#sortedUpTo < this.cells.length; this.#sortedUpTo++) {
      this.#keys.add(this.cells[this.#sortedUpTo]!.key);
    }
  }
}
