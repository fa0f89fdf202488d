/**
 * The last changes that were applied, for clients that follow them: it is how their caches are invalidated.
 *
 * Invariants
 * 1. A subscriber gets every change after the index that it named, in order, or a gap in place of what is forgotten.
 * 2. A slow subscriber costs no memory of its own: it reads from the one ring, and falls into a gap.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Changes } from "../state/context.ts";

export interface Change {
  readonly index: number;
  readonly inodes: readonly InodeId[];
  readonly names: readonly (readonly [InodeId, string])[];
}

export type FeedItem = ({ readonly kind: "change" } & Change) | { kind: "gap"; index: number };

/** Entries that are kept, unless their notes are too many: those take up to about 50 bytes each. */
const maxEntries = 8192;
const maxNotes = 256 * 1024;

interface Kept {
  readonly index: number;
  readonly changes: Changes;
}

export class ChangeFeed {
  readonly #ring = new Array<Kept | undefined>(maxEntries).fill(undefined);
  /** Place in the ring of the oldest entry. */
  #head = 0;
  #length = 0;
  #notes = 0;
  /** All changes after this index are in the ring. */
  #knownAfter: number;
  #lastIndex: number;
  readonly #waiting = new Set<() => void>();

  /** Follows on state that stands at `appliedIndex`. */
  constructor(appliedIndex: number) {
    this.#knownAfter = appliedIndex;
    this.#lastIndex = appliedIndex;
  }

  /** Takes the changes of the entry just applied. Entries that change nothing that clients see may be left out. */
  publish(index: number, changes: Changes): void {
    this.#lastIndex = index;
    if (changes.size === 0) return;
    this.#notes += changes.size;
    while (this.#length > 0 && (this.#length === maxEntries || this.#notes > maxNotes)) {
      this.#forgetOldest();
    }
    this.#ring[(this.#head + this.#length) % maxEntries] = { index, changes };
    this.#length++;
    this.#wake();
  }

  #forgetOldest(): void {
    const { index, changes } = this.#at(0);
    this.#knownAfter = index;
    this.#notes -= changes.size;
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) % maxEntries;
    this.#length--;
  }

  /** The state was replaced: what changed up to `index` is not known. */
  reset(index: number): void {
    this.#ring.fill(undefined);
    this.#head = this.#length = this.#notes = 0;
    this.#knownAfter = index;
    this.#lastIndex = index;
    this.#wake();
  }

  /** Changes after index `after` (0: from now on), until `signal` is aborted. */
  async *subscribe(after: number, signal: AbortSignal): AsyncGenerator<FeedItem, void, undefined> {
    let seen = after === 0 ? this.#lastIndex : after;
    while (!signal.aborted) {
      if (seen < this.#knownAfter) {
        seen = this.#lastIndex;
        yield { kind: "gap", index: seen };
        continue;
      }
      const next = this.#firstAfter(seen);
      if (next === undefined) {
        await this.#nextChange(signal);
        continue;
      }
      seen = next.index;
      const { inodes, names } = next.changes;
      yield { kind: "change", index: next.index, inodes, names };
    }
  }

  #firstAfter(index: number): Kept | undefined {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle).index > index) high = middle;
      else low = middle + 1;
    }
    return low < this.#length ? this.#at(low) : undefined;
  }

  #at(place: number): Kept {
    return this.#ring[(this.#head + place) % maxEntries]!;
  }

  #nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
