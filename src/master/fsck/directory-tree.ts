/**
 * Which directories are reached from the root, by the parent of each: 17 bytes a directory, none for files. Pure.
 *
 * Invariant: directories are added in the order of their ids.
 */
import type { InodeId } from "../../lib/ids.ts";

const fewest = 1024;
const unknown = 0;
const pending = 1;
const reached = 2;
const unreached = 3;
/** Directories that are looked at in one go. */
const sliceLength = 20_000;

export class DirectoryTree {
  #ids = new Float64Array(fewest);
  #parents = new Float64Array(fewest);
  #count = 0;

  /** `parent` 0: it is a root of its own. */
  add(id: InodeId, parent: InodeId | 0): void {
    if (this.#count === this.#ids.length) {
      this.#ids = grown(this.#ids);
      this.#parents = grown(this.#parents);
    }
    this.#ids[this.#count] = id;
    this.#parents[this.#count++] = parent;
  }

  has(id: InodeId): boolean {
    return this.#placeOf(id) >= 0;
  }

  /** The parent of a directory; undefined of a root and of what is no directory. */
  parentOf(id: InodeId): InodeId | undefined {
    const place = this.#placeOf(id);
    const parent = place < 0 ? 0 : this.#parents[place]!;
    return parent === 0 ? undefined : (parent as InodeId);
  }

  /** Directories from which no root is reached: their parents lead in a circle, or to what is no directory. In slices. */
  *unreached(): Generator<InodeId | undefined, void> {
    const states = new Uint8Array(this.#count);
    const way: number[] = [];
    for (let start = 0; start < this.#count; start++) {
      if (start % sliceLength === sliceLength - 1) yield undefined;
      let at = start;
      let end = unknown;
      while (end === unknown) {
        if (at < 0 || states[at] === pending) end = unreached;
        else if (states[at] !== unknown) end = states[at]!;
        else {
          way.push(at);
          states[at] = pending;
          const parent = this.#parents[at]!;
          if (parent === 0) end = reached;
          else at = this.#placeOf(parent as InodeId);
        }
      }
      for (const place of way) states[place] = end;
      way.length = 0;
      if (states[start] === unreached) yield this.#ids[start] as InodeId;
    }
  }

  /** -1: not there. */
  #placeOf(id: InodeId): number {
    let [low, high] = [0, this.#count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ids[middle]! < id) low = middle + 1;
      else high = middle;
    }
    return low < this.#count && this.#ids[low] === id ? low : -1;
  }
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * array.length);
  larger.set(array);
  return larger;
}
