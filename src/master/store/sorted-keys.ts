/**
 * A set of keys that can be read in order. Writing without scanning costs nothing, and reading sorts what it reads alone:
 * keys lie in pieces that are in order among one another, and a large piece in the way of a reader is divided, as
 * quicksort does it, the side that he does not go into left as it is. So the first reader of n keys looks at each about
 * twice, not log n times, and those after him at what they read. Pure.
 *
 * Invariants
 * 1. A piece has the keys from its `low` on, below that of the next one. The first `low` is "".
 * 2. What was read comes from pieces that are sorted and have no key twice.
 */
const mostInLeaf = 512;
/** Of a piece, to find a key in its middle. */
const sampleLength = 31;
/** A division that leaves less than this part of a piece on one side is none: somebody chose the keys, or a few repeat. */
const leastPart = 1 / 16;

interface Piece {
  readonly low: string;
  keys: string[];
  isSorted: boolean;
}

export class SortedKeys {
  readonly #pieces: Piece[] = [{ low: "", keys: [], isSorted: true }];
  #added: string[] = [];

  /** A key may be added more than once. */
  add(key: string): void {
    this.#added.push(key);
  }

  /** Keys in [from, to), in order. Nothing is to be added or read elsewhere meanwhile. */
  *range(from: string, to: string): Generator<string> {
    this.#takeAdded();
    let c = this.#leafFrom(from);
    for (;;) {
      const { keys } = this.#pieces[c]!;
      for (let i = lowerBound(keys, from); i < keys.length; i++) {
        const key = keys[i]!;
        if (key >= to) return;
        yield key;
      }
      const next = this.#pieces[c + 1];
      if (next === undefined || next.low >= to) return;
      c = this.#leafFrom(next.low);
    }
  }

  /** Keys in [from, to), the last one first. Nothing is to be added or read elsewhere meanwhile. */
  *backwards(from: string, to: string): Generator<string> {
    this.#takeAdded();
    for (let before = to; before > from; ) {
      const { low, keys } = this.#pieces[this.#leafBefore(before)]!;
      for (let i = lowerBound(keys, before) - 1; i >= 0; i--) {
        const key = keys[i]!;
        if (key < from) return;
        yield key;
      }
      before = low;
    }
  }

  /** Brings the added keys into their pieces, as they are. */
  #takeAdded(): void {
    const added = this.#added;
    if (added.length === 0) return;
    this.#added = [];
    const pieces = this.#pieces;
    if (pieces.length === 1 && pieces[0]!.keys.length === 0) {
      pieces[0] = { low: "", keys: added, isSorted: false };
      return;
    }
    let c = 0;
    for (const key of added) {
      // Keys of one directory mostly follow one another.
      const next = pieces[c + 1];
      if (key < pieces[c]!.low || (next !== undefined && key >= next.low)) c = this.#pieceOf(key);
      const piece = pieces[c]!;
      piece.keys.push(key);
      piece.isSorted = false;
    }
  }

  /** The last piece that begins at `key` or before. */
  #pieceOf(key: string): number {
    const pieces = this.#pieces;
    let [low, high] = [0, pieces.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (pieces[middle]!.low <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The piece with the place of `key`, sorted. */
  #leafFrom(key: string): number {
    let c = this.#pieceOf(key);
    while (this.#divide(c)) if (this.#pieces[c + 1]!.low <= key) c++;
    return c;
  }

  /** The piece with the last place before `key`, which is not "", sorted. */
  #leafBefore(key: string): number {
    let c = this.#pieceOf(key);
    if (this.#pieces[c]!.low === key) c--;
    while (this.#divide(c)) if (this.#pieces[c + 1]!.low < key) c++;
    return c;
  }

  /** Divides a piece in two; false: it is short enough, and sorted from now on. */
  #divide(c: number): boolean {
    const piece = this.#pieces[c]!;
    if (piece.keys.length > mostInLeaf) {
      const halves = piece.isSorted ? cut(piece) : partition(piece);
      if (halves !== undefined) {
        this.#pieces.splice(c, 1, ...halves);
        return true;
      }
    }
    if (piece.isSorted) return false;
    piece.keys = distinct(piece.keys.sort());
    piece.isSorted = true;
    return piece.keys.length > mostInLeaf && this.#divide(c);
  }
}

/** Cuts a sorted piece in its middle. */
function cut({ low, keys }: Piece): [Piece, Piece] {
  const middle = keys.length >>> 1;
  return [
    { low, keys: keys.slice(0, middle), isSorted: true },
    { low: keys[middle]!, keys: keys.slice(middle), isSorted: true },
  ];
}

/** Divides an unsorted piece about in its middle; undefined: its keys evade that. */
function partition({ low, keys }: Piece): [Piece, Piece] | undefined {
  const sample: string[] = [];
  for (let i = 0; i < sampleLength; i++) {
    sample.push(keys[Math.floor((i * keys.length) / sampleLength)]!);
  }
  const pivot = sample.sort()[sampleLength >>> 1]!;
  const below: string[] = [];
  const others: string[] = [];
  for (const key of keys) (key < pivot ? below : others).push(key);
  if (Math.min(below.length, others.length) < keys.length * leastPart) return undefined;
  return [
    { low, keys: below, isSorted: false },
    { low: pivot, keys: others, isSorted: false },
  ];
}

/** Sorted keys, each once. */
function distinct(sorted: string[]): string[] {
  let count = 0;
  for (const key of sorted) {
    if (count === 0 || key !== sorted[count - 1]) sorted[count++] = key;
  }
  sorted.length = count;
  return sorted;
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
