/**
 * Ranges that were read ahead from LevelDB so that apply can scan them without waiting.
 *
 * Invariant: the rows of a pin are those of LevelDB at the moment of `load`; what is flushed since is kept beside them,
 * in order, until the pin is released. So a scan is right whatever was flushed between.
 */
import assert from "node:assert/strict";
import { bytesOf } from "./cell.ts";
import type { Generation } from "./generation.ts";
import { changesIn, Merge } from "./merge.ts";
import type { KeyRange, KeyValue } from "./types.ts";

interface Pin {
  readonly range: KeyRange;
  /** Undefined while they are being read. */
  rows: readonly KeyValue[] | undefined;
  readonly flushedSince: Generation[];
}

export class PinnedRanges {
  #pins: Pin[] = [];

  /** Pins a range; `read` is called at once and gives its rows as they are in LevelDB now. */
  async pin(range: KeyRange, read: () => Promise<readonly KeyValue[]>): Promise<void> {
    const pin: Pin = { range, rows: undefined, flushedSince: [] };
    this.#pins.push(pin);
    try {
      pin.rows = await read();
    } catch (thrown) {
      this.#pins = this.#pins.filter((each) => each !== pin);
      throw thrown;
    }
  }

  unpin(range: KeyRange): void {
    const at = this.#pins.findIndex(
      (pin) => isWithin(range, pin.range) && isWithin(pin.range, range),
    );
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
    range: KeyRange,
    generations: readonly Generation[],
    newest: (key: string) => Uint8Array | null | undefined,
  ): KeyValue[] {
    const pin = this.#pins.find((each) => each.rows !== undefined && isWithin(range, each.range));
    assert(pin?.rows !== undefined, "scan of a range that was not loaded");
    const { flushedSince } = pin;
    const known = (key: string) => {
      const value = newest(key);
      return value === undefined ? lastOf(flushedSince, key) : value;
    };
    const all = [...flushedSince, ...generations];
    const changes = changesIn(all, known, range, Number.MAX_SAFE_INTEGER);
    const merge = new Merge(changes, Number.MAX_SAFE_INTEGER);
    for (const row of pin.rows) {
      if (row[0] >= range.to) break;
      if (row[0] >= range.from) merge.add(row);
    }
    return merge.finish();
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

function isWithin(inner: KeyRange, outer: KeyRange): boolean {
  return inner.from >= outer.from && inner.to <= outer.to;
}
