/**
 * The last changes that were applied, for clients that follow them: it is how their caches are invalidated.
 *
 * Invariants
 * 1. A subscriber gets every change after the index that it named, in order, or a gap in place of what is forgotten.
 * 2. A slow subscriber costs no memory of its own: it reads from the one ring, and falls into a gap.
 */
import type { InodeId } from "../../lib/ids.ts";

export interface Change {
  readonly index: number;
  readonly inodes: readonly InodeId[];
  readonly names: readonly (readonly [InodeId, string])[];
}

export type FeedItem = ({ readonly kind: "change" } & Change) | { kind: "gap"; index: number };

/** Changes that are kept. */
const capacity = 8192;

export class ChangeFeed {
  readonly #ring: Change[] = [];
  /** Place in the ring of the oldest change. */
  #head = 0;
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
  publish(change: Change): void {
    this.#lastIndex = change.index;
    if (change.inodes.length === 0 && change.names.length === 0) return;
    if (this.#ring.length < capacity) {
      this.#ring.push(change);
    } else {
      this.#knownAfter = this.#ring[this.#head]!.index;
      this.#ring[this.#head] = change;
      this.#head = (this.#head + 1) % capacity;
    }
    this.#wake();
  }

  /** The state was replaced: what changed up to `index` is not known. */
  reset(index: number): void {
    this.#ring.length = 0;
    this.#head = 0;
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
      yield { kind: "change", ...next };
    }
  }

  #firstAfter(index: number): Change | undefined {
    let low = 0;
    let high = this.#ring.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle).index > index) high = middle;
      else low = middle + 1;
    }
    return low < this.#ring.length ? this.#at(low) : undefined;
  }

  #at(place: number): Change {
    return this.#ring[(this.#head + place) % this.#ring.length]!;
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
