/**
 * The log in memory: the entries behind the base, without gaps.
 *
 * Invariants
 * 1. The entry at place i has index base + 1 + i.
 * 2. Terms never fall from one entry to the next.
 * 3. The term of the base is known, so that an append right behind it can be checked.
 */
import assert from "node:assert/strict";
import type { Entry, Index, Term } from "./types.ts";

/** Removed entries at the front are cut off only when there are this many, and half of the array: amortised O(1). */
const cutThreshold = 1024;

export class Log {
  #entries: Entry[];
  /** Places at the front of #entries that are compacted away already. */
  #skipped = 0;
  #baseIndex: Index;
  #baseTerm: Term;

  constructor(base: { index: Index; term: Term }, entries: readonly Entry[]) {
    this.#baseIndex = base.index;
    this.#baseTerm = base.term;
    this.#entries = [...entries];
    entries.forEach((entry, place) => {
      assert.equal(entry.index, base.index + 1 + place, "the log has a gap");
    });
  }

  /** The entry before the first kept one; its term is known, the entry is not. */
  get baseIndex(): Index {
    return this.#baseIndex;
  }
  get lastIndex(): Index {
    return (this.#baseIndex + this.#entries.length - this.#skipped) as Index;
  }
  get lastTerm(): Term {
    return this.#entries.length === this.#skipped
      ? this.#baseTerm
      : this.#entries[this.#entries.length - 1]!.term;
  }

  /** Term of the entry at `index`; undefined before the base and behind the last entry. */
  termAt(index: number): Term | undefined {
    if (index === this.#baseIndex) return this.#baseTerm;
    return this.#at(index)?.term;
  }

  /** True when a log that ends in (index, term) has at least what this one has (section 5.4.1). */
  isUpToDate(index: number, term: number): boolean {
    return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);
  }

  append(entry: Entry): void {
    assert.equal(entry.index, this.lastIndex + 1, "an append leaves a gap");
    assert(entry.term >= this.lastTerm, "an append lowers the term");
    this.#entries.push(entry);
  }

  /** Drops the entry at `index` and all behind it. */
  truncateFrom(index: number): void {
    assert(index > this.#baseIndex, "a truncation reaches behind the base");
    this.#entries.length = Math.min(
      this.#entries.length,
      this.#skipped + index - this.#baseIndex - 1,
    );
  }

  /**
   * Entries from `from` on, below `to`, of at most `maxBytes` of payload in all (but always the first one).
   * `from` is behind the base.
   */
  slice(from: number, to: number, maxBytes = Number.POSITIVE_INFINITY): Entry[] {
    assert(from > this.#baseIndex, "a slice reaches behind the base");
    const first = this.#skipped + from - this.#baseIndex - 1;
    const end = Math.min(this.#entries.length, first + Math.max(0, to - from));
    if (maxBytes === Number.POSITIVE_INFINITY) return this.#entries.slice(first, end);
    let place = first;
    let bytes = 0;
    while (place < end) {
      bytes += this.#entries[place]!.payload.length;
      if (bytes > maxBytes && place > first) break;
      place++;
    }
    return this.#entries.slice(first, place);
  }

  /** The largest index at or before `index` whose term is at most `term`, and the term there (fast backtrack). */
  lastAtOrBelow(index: number, term: number): { index: Index; term: Term } {
    let at = Math.min(index, this.lastIndex);
    while (at > this.#baseIndex && this.#at(at)!.term > term) at--;
    const found = this.termAt(at);
    // Behind the base terms are unknown; only the base itself can be agreed on, by a snapshot if need be.
    return found === undefined
      ? { index: this.#baseIndex, term: this.#baseTerm }
      : { index: at as Index, term: found };
  }

  /** Forgets entries at and before `index`, which becomes the base. */
  compact(index: Index): void {
    if (index <= this.#baseIndex) return;
    const term = this.termAt(index);
    assert(term !== undefined, "a compaction reaches behind the end of the log");
    this.#skipped += index - this.#baseIndex;
    this.#baseIndex = index;
    this.#baseTerm = term;
    if (this.#skipped >= cutThreshold && this.#skipped * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#skipped);
      this.#skipped = 0;
    }
  }

  /** Drops everything and starts behind a snapshot. */
  reset(index: Index, term: Term): void {
    this.#entries = [];
    this.#skipped = 0;
    this.#baseIndex = index;
    this.#baseTerm = term;
  }

  #at(index: number): Entry | undefined {
    const offset = index - this.#baseIndex - 1;
    return offset < 0 ? undefined : this.#entries[this.#skipped + offset];
  }
}
