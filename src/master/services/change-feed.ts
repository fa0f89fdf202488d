/**
 * The last changes that were applied, for clients that follow them: it is how their caches are invalidated.
 *
 * Invariants
 * 1. A subscriber gets every change after the index that it named, in order, or a gap in place of what is forgotten.
 * 2. A slow subscriber costs no memory of its own: it reads from the one ring, and falls into a gap.
 * 3. Items are as large as a subscriber is behind: one that takes few of them a second is not behind for ever.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Changes } from "../state/context.ts";

export interface Change {
  readonly index: number;
  readonly inodes: readonly InodeId[];
  readonly names: readonly (readonly [InodeId, string])[];
  readonly recalled?: readonly InodeId[] | undefined;
}

export type FeedItem = ({ readonly kind: "change" } & Change) | { kind: "gap"; index: number };

/** Entries that are kept, unless their notes are too many: those take up to about 50 bytes each. */
const maxEntries = 8192;
const maxNotes = 256 * 1024;
/** Entries whose notes are more than that have an item of their own. */
const maxItemNotes = 4096;

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
  #lastTold: number;
  readonly #waiting = new Set<() => void>();

  /** Follows on state that stands at `appliedIndex`. */
  constructor(appliedIndex: number) {
    this.#knownAfter = appliedIndex;
    this.#lastIndex = appliedIndex;
    this.#lastTold = appliedIndex;
  }

  /** What subscribers are told reaches up to this index; what was applied after it they do not see. */
  get lastTold(): number {
    return this.#lastTold;
  }

  /** Takes the changes of the entry just applied. Entries that change nothing that clients see may be left out. */
  publish(index: number, changes: Changes): void {
    this.#lastIndex = index;
    if (changes.size === 0) return;
    this.#lastTold = index;
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
    this.#lastTold = index;
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
      const change = this.#changeFrom(this.#firstAfter(seen));
      if (change === undefined) {
        await this.#nextChange(signal);
        continue;
      }
      seen = change.index;
      yield { kind: "change", ...change };
    }
  }

  /** The changes of the entry at a place of the ring, and of as many behind it as there is room for. */
  #changeFrom(place: number): Change | undefined {
    if (place === this.#length) return undefined;
    let { index, changes } = this.#at(place);
    const inodes = [...changes.inodes];
    const names = [...changes.names];
    const recalled = [...(changes.recalled ?? [])];
    let notes = changes.size;
    while (++place < this.#length) {
      const next = this.#at(place);
      notes += next.changes.size;
      if (notes > maxItemNotes) break;
      ({ index, changes } = next);
      inodes.push(...changes.inodes);
      names.push(...changes.names);
      recalled.push(...(changes.recalled ?? []));
    }
    return recalled.length === 0 ? { index, inodes, names } : { index, inodes, names, recalled };
  }

  /** The place in the ring of the first entry behind `index`, or that behind the last one. */
  #firstAfter(index: number): number {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle).index > index) high = middle;
      else low = middle + 1;
    }
    return low;
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
