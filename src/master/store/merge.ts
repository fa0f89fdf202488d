/** Sorted rows from disk under the changes that lie above them. Pure. */
import type { Generation } from "./generation.ts";
import type { KeyRange, KeyValue } from "./types.ts";

/** A key with its new value, null where it was deleted. */
export type Change = readonly [key: string, value: Uint8Array | null];

/**
 * Changes of a range over all generations, in order, with the newest value of each as `newest` knows it (undefined: it is
 * no change). Ends when `limit` keys that live were found.
 */
export function changesIn(
  generations: readonly Generation[],
  newest: (key: string) => Uint8Array | null | undefined,
  range: KeyRange,
  limit: number,
): Change[] {
  const cursors = generations.map((generation) => generation.range(range));
  const heads = cursors.map((cursor) => cursor.next());
  const changes: Change[] = [];
  let living = 0;
  while (living < limit) {
    let least: string | undefined;
    for (const head of heads) {
      if (head.done !== true && (least === undefined || head.value < least)) least = head.value;
    }
    if (least === undefined) break;
    for (const [i, head] of heads.entries()) {
      if (head.done !== true && head.value === least) heads[i] = cursors[i]!.next();
    }
    const value = newest(least);
    if (value === undefined) continue;
    changes.push([least, value]);
    if (value !== null) living++;
  }
  return changes;
}

/** The greatest key of a range that was changed and lives, over all generations; `newest` as above. */
export function lastLiving(
  generations: readonly Generation[],
  newest: (key: string) => Uint8Array | null | undefined,
  range: KeyRange,
): string | undefined {
  let last: string | undefined;
  for (const generation of generations) {
    for (const key of generation.backwards(range)) {
      if (last !== undefined && key <= last) break;
      if (newest(key) instanceof Uint8Array) last = key;
    }
  }
  return last;
}

/** Merges rows that arrive in order with changes above them, up to `limit` rows. */
export class Merge {
  readonly rows: KeyValue[] = [];
  readonly #changes: readonly Change[];
  readonly #limit: number;
  #next = 0;

  constructor(changes: readonly Change[], limit: number) {
    this.#changes = changes;
    this.#limit = limit;
  }

  get isFull(): boolean {
    return this.rows.length >= this.#limit;
  }

  /** Takes the next row from below. */
  add(row: KeyValue): void {
    this.#takeChanges(row[0]);
    const change = this.#changes[this.#next];
    if (change?.[0] !== row[0]) this.#push(row);
  }

  /** No row follows from below. */
  finish(): KeyValue[] {
    this.#takeChanges(undefined);
    return this.rows;
  }

  /** Takes the changes below `key`; that of `key` itself stays, to hide the row. */
  #takeChanges(key: string | undefined): void {
    while (this.#next < this.#changes.length && !this.isFull) {
      const [changed, value] = this.#changes[this.#next]!;
      if (key !== undefined && changed >= key) return;
      this.#next++;
      if (value !== null) this.#push([changed, value]);
    }
  }

  #push(row: KeyValue): void {
    if (!this.isFull) this.rows.push(row);
  }
}
