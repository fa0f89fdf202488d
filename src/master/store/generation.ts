/**
 * What was changed and is not in LevelDB yet: one generation of the write-behind overlay, in the order of the changes.
 * Writing adds to a list alone; keys are sorted in when somebody asks for a range. Pure.
 *
 * Invariant: while it is active the newest values are those of its cells. `seal` copies them, so that what is applied
 * while it is written belongs to the next one.
 */
import type { Schema } from "../../lib/schema.ts";
import { bytesOf, type Cell } from "./cell.ts";
import { SortedKeys } from "./sorted-keys.ts";
import type { KeyRange } from "./types.ts";

export class Generation {
  /** From 1. */
  readonly number: number;
  /** Bytes that it holds in the heap, roughly. */
  weight = 0;
  /** Changed cells; some more than once, or not at all since a savepoint was rolled back. */
  #cells: Cell[] = [];
  readonly #schemas: (Schema<unknown> | undefined)[] = [];
  readonly #values: unknown[] = [];
  readonly #keys = new SortedKeys();
  /** So many of the cells have their keys in `#keys`. */
  #sortedUpTo = 0;
  #placeOf: Map<string, number> | undefined;

  constructor(number: number) {
    this.number = number;
  }

  /** Cells that were changed; after `seal` each once. */
  get cells(): readonly Cell[] {
    return this.#cells;
  }

  add(cell: Cell): void {
    this.#cells.push(cell);
  }

  /** Copies what its cells hold; returns those that it lists and that are unchanged after all. */
  seal(): Cell[] {
    const changed: Cell[] = [];
    const unchanged: Cell[] = [];
    for (const cell of this.#cells) {
      if (cell.generation !== this.number) {
        unchanged.push(cell);
      } else if (cell.copiedIn !== this.number) {
        cell.copiedIn = this.number;
        changed.push(cell);
        this.#schemas.push(cell.schema);
        this.#values.push(cell.value);
      }
    }
    // Its keys are in `#keys`, or are added to it now in another order.
    this.#cells = changed;
    this.#sortedUpTo = 0;
    return unchanged;
  }

  /** The bytes of the cell at `place` as they were when this was sealed; null where the row was deleted. */
  bytesAt(place: number): Uint8Array | null {
    return bytesOf(this.#schemas[place], this.#values[place]);
  }

  /** As `bytesAt`, by key; undefined for keys that it did not change. Only after `seal`. */
  bytes(key: string): Uint8Array | null | undefined {
    this.#placeOf ??= new Map(this.#cells.map((cell, place) => [cell.key, place]));
    const place = this.#placeOf.get(key);
    return place === undefined ? undefined : this.bytesAt(place);
  }

  /** Keys of a range in order: all that were changed, and perhaps some that were not. Not to be added to while reading. */
  range({ from, to }: KeyRange): Generator<string> {
    for (; this.#sortedUpTo < this.#cells.length; this.#sortedUpTo++) {
      this.#keys.add(this.#cells[this.#sortedUpTo]!.key);
    }
    return this.#keys.range(from, to);
  }
}
