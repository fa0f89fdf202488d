/**
 * Which names a directory certainly never had: asked before the state is, it spares most creates a search for what is not
 * there, in the rows of the heap and in those on disk, on every master. Pure.
 *
 * It knows directories from their making on, and for each name that they were given since, a hash of 32 bits. What it does
 * not know it has no opinion on, so it may forget at any time; it decides nothing that the state would decide otherwise.
 *
 * Invariants
 * 1. Every name that a known directory has, or ever had, was entered.
 * 2. It belongs to one state, of which it saw each change since the first directory that it knows; it is begun anew when
 *    the state is replaced. What is taken back stays entered.
 */
import type { InodeId } from "../../lib/ids.ts";

/** 3/4 of them names: 8 MiB. */
const mostSlots = 2 ** 21;
const fewestSlots = 2 ** 10;
const mostDirectories = 2 ** 16;

export class NewNames {
  readonly #seed: number;
  readonly #directories = new Set<InodeId>();
  /** The directory of the last question, most often that of the next: whether it is known. */
  #last = 0;
  #lastIsKnown = false;
  /** Hashes, each at the first free place from its own on; 0 is free. */
  #slots = new Uint32Array(0);
  #count = 0;

  /** `seed`: any 32 bits, random ones where strangers choose names: nobody can prepare some that fall on one another. */
  constructor(seed = 0) {
    this.#seed = seed;
  }

  /** A directory was made: nothing was ever in it. */
  begin(directory: InodeId): void {
    if (this.#directories.size >= mostDirectories) this.#forget();
    this.#directories.add(directory);
    this.#last = 0;
  }

  /** Whether the directory certainly never had the name. */
  isNew(directory: InodeId, name: string): boolean {
    return this.#knows(directory) && !this.#has(hashOf(directory, name, this.#seed));
  }

  /** The directory gets the name now; returns what `isNew` said before. */
  enter(directory: InodeId, name: string): boolean {
    if (!this.#knows(directory)) return false;
    const hash = hashOf(directory, name, this.#seed);
    if (this.#has(hash)) return false;
    if ((this.#count + 1) * 4 > this.#slots.length * 3 && !this.#grow()) return false;
    this.#place(hash);
    this.#count++;
    return true;
  }

  #knows(directory: InodeId): boolean {
    if (directory !== this.#last) {
      this.#last = directory;
      this.#lastIsKnown = this.#directories.has(directory);
    }
    return this.#lastIsKnown;
  }

  #has(hash: number): boolean {
    const slots = this.#slots;
    const { length } = slots;
    if (length === 0) return false;
    const mask = length - 1;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const found = slots[at]!;
      if (found === 0) return false;
      if (found === hash) return true;
    }
  }

  #place(hash: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = hash & mask;
    while (slots[at] !== 0) at = (at + 1) & mask;
    slots[at] = hash;
  }

  /** False: there is no more room, all was forgotten. */
  #grow(): boolean {
    const before = this.#slots;
    if (before.length >= mostSlots) {
      this.#forget();
      return false;
    }
    this.#slots = new Uint32Array(Math.max(fewestSlots, before.length * 2));
    for (const hash of before) if (hash !== 0) this.#place(hash);
    return true;
  }

  #forget(): void {
    this.#directories.clear();
    this.#last = 0;
    this.#slots = new Uint32Array(0);
    this.#count = 0;
  }
}

/** 1 to 2^32 - 1. */
function hashOf(directory: InodeId, name: string, seed: number): number {
  let hash =
    Math.imul(directory ^ Math.floor(directory / 2 ** 32), 0x9e3779b1) ^ name.length ^ seed;
  for (let i = 0; i < name.length; i++) {
    hash = Math.imul(hash ^ name.charCodeAt(i), 0x5bd1e995);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0 || 1;
}
