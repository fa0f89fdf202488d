/**
 * A sum over all keys and values of the state, kept up with each change, so that masters at equal index can compare what
 * they hold at no cost. Pure.
 *
 * Each (key, value) is mixed to 64 bits, in two lanes of 32, and added modulo 2^32 per lane: the order of writes does
 * not matter, and what is overwritten is subtracted. Two states that differ by accident have equal sums with a
 * probability of about 2^-64. It finds bugs and rot; it is no defence against someone who builds values to collide.
 * (Sums of crc32 under two seeds would not do: crc32 is linear, the second lane would follow from the first.)
 */
export class StateHash {
  #low: number;
  #high: number;

  constructor(digest = "0000000000000000") {
    this.#high = Number.parseInt(digest.slice(0, 8), 16);
    this.#low = Number.parseInt(digest.slice(8), 16);
  }

  add(key: string, value: Uint8Array): void {
    hashRow(key, value, scratch);
    this.addRow(scratch);
  }

  remove(key: string, value: Uint8Array): void {
    hashRow(key, value, scratch);
    this.removeRow(scratch);
  }

  addRow(row: RowHash): void {
    this.#low = (this.#low + row.low) | 0;
    this.#high = (this.#high + row.high) | 0;
  }

  removeRow(row: RowHash): void {
    this.#low = (this.#low - row.low) | 0;
    this.#high = (this.#high - row.high) | 0;
  }

  /** 16 hex digits. */
  digest(): string {
    return hex(this.#high) + hex(this.#low);
  }
}

/** What one row adds to the sum; zeros for a row that is not there. */
export interface RowHash {
  low: number;
  high: number;
}

const scratch: RowHash = { low: 0, high: 0 };

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}

/** Mixes a row into `row`. */
export function hashRow(key: string, value: Uint8Array, row: RowHash): void {
  // The lengths come first: "ab" + "c" is not "a" + "bc".
  let low = Math.imul(key.length ^ 0x9e3779b9, 0x85ebca77);
  let high = Math.imul(value.length ^ 0x27d4eb2f, 0xc2b2ae3d);
  for (let i = 0; i < key.length; i++) {
    const char = key.charCodeAt(i);
    low = Math.imul(low ^ char, 0x01000193);
    high = Math.imul(high ^ char, 0x27d4eb2d) ^ (high >>> 15);
  }
  const whole = value.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    const word = value[i]! | (value[i + 1]! << 8) | (value[i + 2]! << 16) | (value[i + 3]! << 24);
    low = Math.imul((low << 13) | (low >>> 19), 5) ^ Math.imul(word, 0xcc9e2d51);
    high = Math.imul(high ^ word, 0x1b873593);
    high ^= high >>> 16;
  }
  for (let i = whole; i < value.length; i++) {
    low = Math.imul(low ^ value[i]!, 0x01000193);
    high = Math.imul(high ^ value[i]!, 0x27d4eb2d);
  }
  low = spread(low ^ high);
  high = spread(high ^ Math.imul(low, 0x9e3779b1));
  row.low = low;
  row.high = high;
}

/** Lets every bit of a word decide about every other. */
function spread(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
