/**
 * A set of keys that can be read in order. Keys that were added are sorted in only when somebody reads, so that writing
 * without scanning costs nothing. Pure.
 */
const chunkLength = 256;

export class SortedKeys {
  /** Sorted chunks in order, none empty, without duplicates. */
  #chunks: string[][] = [];
  #size = 0;
  #added: string[] = [];

  /** A key may be added more than once. */
  add(key: string): void {
    this.#added.push(key);
  }

  /** Keys in [from, to), in order. Adding while reading is not allowed. */
  *range(from: string, to: string): Generator<string> {
    this.#sortIn();
    for (let c = this.#chunkOf(from); c < this.#chunks.length; c++) {
      const chunk = this.#chunks[c]!;
      for (let i = lowerBound(chunk, from); i < chunk.length; i++) {
        const key = chunk[i]!;
        if (key >= to) return;
        yield key;
      }
    }
  }

  /** Keys in [from, to), the last one first. Adding while reading is not allowed. */
  *backwards(from: string, to: string): Generator<string> {
    this.#sortIn();
    for (let c = Math.min(this.#chunkOf(to), this.#chunks.length - 1); c >= 0; c--) {
      const chunk = this.#chunks[c]!;
      for (let i = lowerBound(chunk, to) - 1; i >= 0; i--) {
        const key = chunk[i]!;
        if (key < from) return;
        yield key;
      }
    }
  }

  #sortIn(): void {
    const added = this.#added;
    if (added.length === 0) return;
    this.#added = [];
    if (added.length * 8 < this.#size) for (const key of added) this.#insert(key);
    else this.#rebuild(added);
  }

  #rebuild(added: readonly string[]): void {
    const all = [...new Set([...this.#chunks.flat(), ...added])].sort();
    this.#chunks = [];
    this.#size = all.length;
    for (let i = 0; i < all.length; i += chunkLength) {
      this.#chunks.push(all.slice(i, i + chunkLength));
    }
  }

  #insert(key: string): void {
    const c = Math.min(this.#chunkOf(key), this.#chunks.length - 1);
    const chunk = this.#chunks[c]!;
    const at = lowerBound(chunk, key);
    if (chunk[at] === key) return;
    chunk.splice(at, 0, key);
    this.#size++;
    if (chunk.length > 2 * chunkLength) this.#chunks.splice(c + 1, 0, chunk.splice(chunkLength));
  }

  /** First chunk whose last key is not below `key`; the number of chunks when there is none. */
  #chunkOf(key: string): number {
    let [low, high] = [0, this.#chunks.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const chunk = this.#chunks[middle]!;
      if (chunk[chunk.length - 1]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Place of the first key that is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
