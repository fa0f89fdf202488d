/**
 * A set of facts by 64 bits of their hashes, 12 to 24 bytes each: what is in it is found, and what is not is taken for
 * something that is with a chance of about 2^-40 in a set of millions. Pure.
 */
import { hashRow, type RowHash } from "../store/state-hash.ts";

const fewestSlots = 1024;
const noBytes = new Uint8Array();

export class FactSet {
  /** Two words each, at the first free place from that of the second one on; two zeros are free. */
  #words = new Int32Array(2 * fewestSlots);
  #count = 0;
  readonly #hash: RowHash = { low: 0, high: 0 };

  add(fact: string): void {
    const slots = this.#words.length / 2;
    if ((this.#count + 1) * 3 > slots * 2) this.#grow();
    this.#place(fact);
    const at = this.#find();
    if (this.#isAt(at)) return;
    this.#put(at, this.#hash.low, this.#hash.high);
    this.#count++;
  }

  has(fact: string): boolean {
    this.#place(fact);
    return this.#isAt(this.#find());
  }

  #place(fact: string): void {
    hashRow(fact, noBytes, this.#hash);
    if (this.#hash.low === 0) this.#hash.low = 1;
  }

  /** The slot of the hash, or the free one where it would be. */
  #find(): number {
    const mask = this.#words.length / 2 - 1;
    let at = this.#hash.high & mask;
    while (this.#words[2 * at] !== 0 && !this.#isAt(at)) at = (at + 1) & mask;
    return at;
  }

  #isAt(at: number): boolean {
    return this.#words[2 * at] === this.#hash.low && this.#words[2 * at + 1] === this.#hash.high;
  }

  #put(at: number, low: number, high: number): void {
    this.#words[2 * at] = low;
    this.#words[2 * at + 1] = high;
  }

  #grow(): void {
    const before = this.#words;
    this.#words = new Int32Array(before.length * 2);
    for (let i = 0; i < before.length; i += 2) {
      if (before[i] === 0) continue;
      this.#hash.low = before[i]!;
      this.#hash.high = before[i + 1]!;
      this.#put(this.#find(), this.#hash.low, this.#hash.high);
    }
  }
}
