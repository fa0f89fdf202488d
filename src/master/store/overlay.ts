/**
 * What was written and is not in LevelDB yet: one generation of the write-behind overlay; and the merge of sorted rows
 * with the changes that lie above them. Pure.
 */
import { SortedKeys } from "./sorted-keys.ts";
import type { KeyRange, KeyValue } from "./types.ts";

/** A key with its new value, null where it was deleted. */
export type Change = readonly [key: string, value: Uint8Array | null];

/** Rough cost of an entry in the heap beyond its bytes. */
const entryOverheadBytes = 100;

export class Overlay {
  readonly #values = new Map<string, Uint8Array | null>();
  readonly #keys = new SortedKeys();
  #bytes = 0;

  /** Bytes that it holds in the heap, roughly. */
  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#values.size;
  }

  /** The value, null when the key was deleted here, undefined when this generation does not know it. */
  get(key: string): Uint8Array | null | undefined {
    return this.#values.get(key);
  }

  /** `undefined` takes the key back as if it had never been written here. */
  set(key: string, value: Uint8Array | null | undefined): void {
    const before = this.#values.get(key);
    if (before !== undefined) this.#bytes -= bytesOf(key, before);
    if (value === undefined) {
      this.#values.delete(key);
      return;
    }
    if (before === undefined) this.#keys.add(key);
    this.#bytes += bytesOf(key, value);
    this.#values.set(key, value);
  }

  /** All changes, in no order. */
  changes(): IterableIterator<Change> {
    return this.#values.entries();
  }

  /** Changes of a range in order. Not to be written to while reading. */
  *range({ from, to }: KeyRange): Generator<Change> {
    for (const key of this.#keys.range(from, to)) {
      const value = this.#values.get(key);
      if (value !== undefined) yield [key, value];
    }
  }
}

function bytesOf(key: string, value: Uint8Array | null): number {
  return key.length + (value?.length ?? 0) + entryOverheadBytes;
}

/** Changes of a range over all layers, in order; later layers win. Ends when `limit` keys that live were copied. */
export function changesIn(layers: readonly Overlay[], range: KeyRange, limit: number): Change[] {
  const cursors = layers.map((layer) => layer.range(range));
  const heads = cursors.map((cursor) => cursor.next());
  const changes: Change[] = [];
  let living = 0;
  while (living < limit) {
    let least: Change | undefined;
    for (const head of heads) {
      // Equal keys: the later layer.
      if (head.done !== true && (least === undefined || head.value[0] <= least[0])) {
        least = head.value;
      }
    }
    if (least === undefined) break;
    for (const [i, head] of heads.entries()) {
      if (head.done !== true && head.value[0] === least[0]) heads[i] = cursors[i]!.next();
    }
    changes.push(least);
    if (least[1] !== null) living++;
  }
  return changes;
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
