/**
 * Finds where two long lists differ that should say the same, in any order, without holding either: facts of the one side
 * are added to sums by bucket, those of the other are taken off. Where a bucket is not zero in the end, its facts are
 * collected in a second reading of the same state. Pure.
 *
 * Invariant: two lists that differ leave a bucket that is not zero, but for a chance of about 2^-64.
 */
import { hashRow, type RowHash } from "../store/state-hash.ts";

const usualBuckets = 65_536;
/** Facts that the second reading may hold at once, roughly. */
const mostCollected = 200_000;
const noBytes = new Uint8Array();

/** A fact that one side has more often than the other. */
export interface Difference {
  readonly fact: string;
  /** Above 0: so many more on the left, where it is said; below 0: on the right. */
  readonly excess: number;
}

export class Relation {
  readonly #low: Int32Array;
  readonly #high: Int32Array;
  readonly #hash: RowHash = { low: 0, high: 0 };
  #facts = 0;
  /** Buckets of the second reading; undefined in the first. */
  #wanted: Set<number> | undefined;
  readonly #collected = new Map<string, number>();

  constructor(buckets = usualBuckets) {
    this.#low = new Int32Array(buckets);
    this.#high = new Int32Array(buckets);
  }

  /** A fact is said `times` (below 0: on the right). A character of it is a byte. */
  add(fact: string, times: number): void {
    const hash = this.#hash;
    hashRow(fact, noBytes, hash);
    const bucket = (hash.high >>> 0) % this.#low.length;
    if (this.#wanted !== undefined) {
      if (!this.#wanted.has(bucket)) return;
      this.#collected.set(fact, (this.#collected.get(fact) ?? 0) + times);
      return;
    }
    this.#facts++;
    this.#low[bucket] = this.#low[bucket]! + Math.imul(hash.low, times);
    this.#high[bucket] = this.#high[bucket]! + Math.imul(hash.high, times);
  }

  /**
   * After the first reading: how many buckets differ, and how many of them the next reading does not collect, since that
   * would hold too much. Without one that differs, no second reading is needed.
   */
  collect(): { readonly differing: number; readonly left: number } {
    const differing: number[] = [];
    for (let bucket = 0; bucket < this.#low.length; bucket++) {
      if (this.#low[bucket] !== 0 || this.#high[bucket] !== 0) differing.push(bucket);
    }
    const perBucket = Math.max(1, this.#facts / this.#low.length);
    const fitting = Math.max(1, Math.floor(mostCollected / perBucket));
    this.#wanted = new Set(differing.slice(0, fitting));
    return { differing: differing.length, left: differing.length - this.#wanted.size };
  }

  /** After the second reading, in order. */
  differences(): Difference[] {
    return [...this.#collected]
      .filter(([, excess]) => excess !== 0)
      .map(([fact, excess]) => ({ fact, excess }))
      .sort((a, b) => (a.fact < b.fact ? -1 : 1));
  }
}
