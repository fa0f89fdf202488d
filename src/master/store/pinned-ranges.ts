/**
 * Ranges that were read ahead from LevelDB so that apply can scan them without waiting.
 *
 * Invariants
 * 1. The rows of a pin are those of LevelDB at the moment of `load`; what is flushed since is kept beside them, in order,
 *    until the pin is released. So a scan is right whatever was flushed between.
 * 2. A pin of a part of a range (`since`, `limit`) has the rows that the part was made of at the moment of `load`: it
 *    answers that very question alone.
 */
import assert from "node:assert/strict";
import { bytesOf } from "./cell.ts";
import type { Generation } from "./generation.ts";
import { changesIn, Merge } from "./merge.ts";
import type { KeyValue, ScanRange } from "./types.ts";

interface Pin {
  readonly range: ScanRange;
  /** Undefined while they are being read. */
  rows: readonly KeyValue[] | undefined;
  readonly flushedSince: Generation[];
}

export class PinnedRanges {
  #pins: Pin[] = [];

  /** Pins a range; `read` is called at once and gives its rows as they are in LevelDB now. */
  async pin(range: ScanRange, read: () => Promise<readonly KeyValue[]>): Promise<void> {
    const pin: Pin = { range, rows: undefined, flushedSince: [] };
    this.#pins.push(pin);
    try {
      pin.rows = await read();
    } catch (thrown) {
      this.#pins = this.#pins.filter((each) => each !== pin);
      throw thrown;
    }
  }

  unpin(range: ScanRange): void {
    const at = this.#pins.findIndex((pin) => isSame(range, pin.range));
    if (at >= 0) this.#pins.splice(at, 1);
  }

  /** Told of each generation in the turn in which it leaves the overlay. */
  flushed(generation: Generation): void {
    for (const pin of this.#pins) pin.flushedSince.push(generation);
  }

  clear(): void {
    this.#pins = [];
  }

  /**
   * The rows of a range within a pinned one, under what `generations` changed since. `newest` knows the values of all keys
   * that they changed.
   */
  scan(
    range: ScanRange,
    generations: readonly Generation[],
    newest: (key: string) => Uint8Array | null | undefined,
  ): KeyValue[] {
    const pin =
      this.#pins.find((each) => each.rows !== undefined && isWithin(range, each.range)) ??
      this.#pins.find((each) => each.rows !== undefined && isSame(range, each.range));
    assert(pin?.rows !== undefined, "scan of a range that was not loaded");
    const { flushedSince } = pin;
    const whole = { from: range.since ?? range.from, to: range.to };
    const known = (key: string) => {
      const value = newest(key);
      return value === undefined ? lastOf(flushedSince, key) : value;
    };
    const all = [...flushedSince, ...generations];
    // Of a part no row before its first one lives.
    const first = pin.rows[0]?.[0] ?? range.from;
    const from = !isPart(pin.range) ? whole.from : first < range.from ? first : range.from;
    const limit = range.limit === undefined ? everyRow : range.limit + 1;
    const changes = changesIn(all, known, { from, to: whole.to }, limit);
    const merge = new Merge(changes, everyRow);
    for (const row of pin.rows) {
      if (row[0] >= whole.to) break;
      if (row[0] >= from) merge.add(row);
    }
    return partOf(merge.finish(), range);
  }
}

/** The value of a key that is not in the overlay any more: its last cell has not changed since. */
function lastOf(generations: readonly Generation[], key: string): Uint8Array | null | undefined {
  for (let i = generations.length - 1; i >= 0; i--) {
    const cell = generations[i]!.cellOf(key);
    if (cell !== undefined) return bytesOf(cell);
  }
  return undefined;
}

const everyRow = Number.MAX_SAFE_INTEGER;

/** Of all rows of a range, in order, those that it asks for. */
export function partOf(rows: KeyValue[], { from, since, limit }: ScanRange): KeyValue[] {
  if (since === undefined && limit === undefined) return rows;
  const begin = rows.findIndex(([key]) => key >= from);
  const before = begin < 0 ? rows.length : begin;
  const end = limit === undefined ? rows.length : Math.min(rows.length, before + limit);
  return rows.slice(Math.max(0, before - (since === undefined ? 0 : 1)), end);
}

function isPart({ since, limit }: ScanRange): boolean {
  return since !== undefined || limit !== undefined;
}

/** Whether all rows of `inner` are among those of `outer`, as far as it is no part. */
function isWithin(inner: ScanRange, outer: ScanRange): boolean {
  return !isPart(outer) && (inner.since ?? inner.from) >= outer.from && inner.to <= outer.to;
}

function isSame(a: ScanRange, b: ScanRange): boolean {
  return a.from === b.from && a.to === b.to && a.since === b.since && a.limit === b.limit;
}
