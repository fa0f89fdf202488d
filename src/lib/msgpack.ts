/**
 * msgpack straight between bytes and values, for the schemas: no plain value lies between. Both ends do only what nearly
 * every message needs; at anything else they throw `unfit`, and the schema goes the long way over msgpackr, whose bytes
 * these are exactly.
 */

/** Says: not this way. Thrown as a constant, it costs no stack trace. */
export const unfit = new Error("This message needs the general codec");

/** Whether each character is a byte, as in names of the namespace. */
export function isLatin1(value: string): boolean {
  return !/[\u0100-\uffff]/.test(value);
}

const chunkBytes = 64 * 1024;
/** No number and no header is longer. */
const slackBytes = 16;

/** Bytes [start, end) of a chunk that others share. */
export interface Span {
  chunk: Buffer | undefined;
  start: number;
  end: number;
}

/** Writes messages one after the other into chunks of memory; what was handed out is never written to again. */
export class Writer {
  #chunk: Buffer = Buffer.allocUnsafeSlow(chunkBytes);
  #limit = chunkBytes - slackBytes;
  #start = 0;
  #at = 0;

  /** Forgets what was written since the last `take`. */
  begin(): void {
    this.#at = this.#start;
  }

  /** The bytes since `begin`; they are the caller's. */
  take(): Buffer {
    const taken = this.#chunk.subarray(this.#start, this.#at);
    this.#start = this.#at;
    return taken;
  }

  /** As `take`, told as a place in a chunk: many small messages then cost no object each. */
  takeSpan(span: Span): void {
    span.chunk = this.#chunk;
    span.start = this.#start;
    span.end = this.#at;
    this.#start = this.#at;
  }

  #grow(wanted: number): void {
    const length = this.#at - this.#start;
    const fresh = Buffer.allocUnsafeSlow(Math.max(chunkBytes, 2 * (length + wanted) + slackBytes));
    this.#chunk.copy(fresh, 0, this.#start, this.#at);
    this.#chunk = fresh;
    this.#limit = fresh.length - slackBytes;
    this.#start = 0;
    this.#at = length;
  }

  nil(): void {
    if (this.#at > this.#limit) this.#grow(0);
    this.#chunk[this.#at++] = 0xc0;
  }

  /** Types may lie here: what is neither is not for this codec. */
  boolean(value: unknown): void {
    if (this.#at > this.#limit) this.#grow(0);
    if (value === true) this.#chunk[this.#at++] = 0xc3;
    else if (value === false) this.#chunk[this.#at++] = 0xc2;
    else throw unfit;
  }

  /** The header of a list of `length` values. */
  list(length: number): void {
    if (this.#at > this.#limit) this.#grow(0);
    const chunk = this.#chunk;
    if (length < 16) {
      chunk[this.#at++] = 0x90 | length;
    } else if (length < 0x10000) {
      chunk[this.#at] = 0xdc;
      chunk[this.#at + 1] = length >> 8;
      chunk[this.#at + 2] = length;
      this.#at += 3;
    } else {
      throw unfit;
    }
  }

  /** An integer of at most 53 bits; those of 32 in their shortest form. */
  number(value: number): void {
    if (this.#at > this.#limit) this.#grow(0);
    if (value >>> 0 !== value) {
      this.#otherNumber(value);
      return;
    }
    const chunk = this.#chunk;
    if (value < 0x80) {
      chunk[this.#at++] = value;
    } else if (value < 0x100) {
      chunk[this.#at++] = 0xcc;
      chunk[this.#at++] = value;
    } else if (value < 0x10000) {
      chunk[this.#at] = 0xcd;
      chunk[this.#at + 1] = value >> 8;
      chunk[this.#at + 2] = value;
      this.#at += 3;
    } else {
      chunk[this.#at] = 0xce;
      chunk[this.#at + 1] = value >>> 24;
      chunk[this.#at + 2] = value >> 16;
      chunk[this.#at + 3] = value >> 8;
      chunk[this.#at + 4] = value;
      this.#at += 5;
    }
  }

  #otherNumber(value: number): void {
    // Negative numbers may be wrong where they stand; what is no integer is, and nobody could read it again.
    if (!Number.isSafeInteger(value) || value < 0) throw unfit;
    this.#double(value);
  }

  /** Any number. */
  float(value: number): void {
    if (this.#at > this.#limit) this.#grow(0);
    if (value >>> 0 === value) this.number(value);
    // Small negative integers have forms of their own.
    else if (typeof value !== "number" || value >> 0 === value) throw unfit;
    else this.#double(value);
  }

  #double(value: number): void {
    this.#chunk[this.#at] = 0xcb;
    this.#chunk.writeDoubleBE(value, this.#at + 1);
    this.#at += 9;
  }

  /** Text of ASCII. */
  text(value: string): void {
    if (typeof value !== "string") throw unfit;
    const { length } = value;
    if (this.#at + length > this.#limit) this.#grow(length);
    const chunk = this.#chunk;
    let at = this.#at;
    if (length < 0x20) {
      chunk[at++] = 0xa0 | length;
    } else if (length < 0x100) {
      chunk[at++] = 0xd9;
      chunk[at++] = length;
    } else if (length < 0x10000) {
      chunk[at++] = 0xda;
      chunk[at++] = length >> 8;
      chunk[at++] = length;
    } else {
      throw unfit;
    }
    for (let i = 0; i < length; i++) {
      const char = value.charCodeAt(i);
      if (char > 0x7f) throw unfit;
      chunk[at + i] = char;
    }
    this.#at = at + length;
  }

  /** A latin1 string as bytes, one per character: cut to a byte, any other character would make it another name. */
  name(value: string): void {
    if (typeof value !== "string") throw unfit;
    const { length } = value;
    this.#bytesHeader(length);
    if (length < 32) {
      const chunk = this.#chunk;
      const at = this.#at;
      let all = 0;
      for (let i = 0; i < length; i++) {
        const char = value.charCodeAt(i);
        all |= char;
        chunk[at + i] = char;
      }
      if (all > 0xff) throw unfit;
    } else {
      if (!isLatin1(value)) throw unfit;
      this.#chunk.write(value, this.#at, length, "latin1");
    }
    this.#at += length;
  }

  bytes(value: Uint8Array): void {
    if (!(value instanceof Uint8Array)) throw unfit;
    this.#bytesHeader(value.length);
    this.#chunk.set(value, this.#at);
    this.#at += value.length;
  }

  #bytesHeader(length: number): void {
    if (this.#at + length > this.#limit) this.#grow(length);
    const chunk = this.#chunk;
    if (length < 0x100) {
      chunk[this.#at++] = 0xc4;
      chunk[this.#at++] = length;
    } else if (length < 0x10000) {
      chunk[this.#at++] = 0xc5;
      chunk[this.#at++] = length >> 8;
      chunk[this.#at++] = length;
    } else {
      chunk[this.#at++] = 0xc6;
      chunk[this.#at++] = length >>> 24;
      chunk[this.#at++] = length >> 16;
      chunk[this.#at++] = length >> 8;
      chunk[this.#at++] = length;
    }
  }
}

/** Reads one message from its start. Past its end every method throws `unfit`. */
export class Reader {
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  begin(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.#bytes = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = start;
    this.#end = end;
  }

  /** Keeps no message alive. */
  end(): void {
    this.#bytes = nothing;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#end;
  }

  /** Takes a nil, if one is next. */
  nil(): boolean {
    if (this.#bytes[this.#at] !== 0xc0) return false;
    this.#at++;
    return true;
  }

  boolean(): boolean {
    const head = this.#bytes[this.#at++];
    if (head === 0xc3) return true;
    if (head === 0xc2) return false;
    throw unfit;
  }

  /** The length of the list that is next. */
  list(): number {
    const bytes = this.#bytes;
    const head = bytes[this.#at++]!;
    if (head >= 0x90 && head < 0xa0) return head & 0x0f;
    if (head !== 0xdc) throw unfit;
    const length = (bytes[this.#at]! << 8) | bytes[this.#at + 1]!;
    this.#at += 2;
    // Each value has a byte at least: hostile lengths allocate nothing.
    if (this.#at + length > this.#end) throw unfit;
    return length;
  }

  /** An integer from 0 to 2^53 - 1. */
  unsigned(): number {
    const head = this.#bytes[this.#at]!;
    if (head < 0x80) {
      this.#at++;
      return head;
    }
    const value = this.#longNumber(head);
    if (value >= 0 && Number.isSafeInteger(value)) return value;
    throw unfit;
  }

  /** An integer of at most 53 bits. */
  signed(): number {
    const head = this.#bytes[this.#at]!;
    if (head < 0x80) {
      this.#at++;
      return head;
    }
    const value = this.#longNumber(head);
    if (Number.isSafeInteger(value)) return value;
    throw unfit;
  }

  /** Any finite number. */
  float(): number {
    const head = this.#bytes[this.#at]!;
    if (head < 0x80) {
      this.#at++;
      return head;
    }
    const value = this.#longNumber(head);
    if (Number.isFinite(value)) return value;
    throw unfit;
  }

  #longNumber(head: number): number {
    const bytes = this.#bytes;
    const at = this.#at + 1;
    let value: number;
    if (head === 0xce) {
      this.#at = at + 4;
      value =
        bytes[at]! * 0x1000000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
    } else if (head === 0xcd) {
      this.#at = at + 2;
      value = (bytes[at]! << 8) | bytes[at + 1]!;
    } else if (head === 0xcc) {
      this.#at = at + 1;
      value = bytes[at]!;
    } else if (head === 0xcb && at + 8 <= this.#end) {
      this.#at = at + 8;
      value = bytes.readDoubleBE(at);
    } else {
      throw unfit;
    }
    if (this.#at > this.#end) throw unfit;
    return value;
  }

  /** Text of ASCII. */
  text(): string {
    const length = this.#textLength();
    const at = this.#at;
    const bytes = this.#bytes;
    const end = at + length;
    if (end > this.#end) throw unfit;
    for (let i = at; i < end; i++) if (bytes[i]! > 0x7f) throw unfit;
    this.#at = end;
    return bytes.toString("latin1", at, end);
  }

  get isText(): boolean {
    const head = this.#bytes[this.#at]!;
    return (head >= 0xa0 && head < 0xc0) || (head >= 0xd9 && head <= 0xdb);
  }

  #textLength(): number {
    const bytes = this.#bytes;
    const head = bytes[this.#at++]!;
    if (head >= 0xa0 && head < 0xc0) return head & 0x1f;
    if (head === 0xd9) return bytes[this.#at++]!;
    if (head !== 0xda) throw unfit;
    this.#at += 2;
    return (bytes[this.#at - 2]! << 8) | bytes[this.#at - 1]!;
  }

  /** Bytes as a latin1 string. */
  name(): string {
    const length = this.#bytesLength();
    const at = this.#at;
    this.#at = at + length;
    return this.#bytes.toString("latin1", at, at + length);
  }

  /** A view of the message. */
  bytes(): Uint8Array {
    const length = this.#bytesLength();
    const at = this.#at;
    this.#at = at + length;
    return this.#bytes.subarray(at, at + length);
  }

  #bytesLength(): number {
    const bytes = this.#bytes;
    const head = bytes[this.#at++];
    let length: number;
    if (head === 0xc4) {
      length = bytes[this.#at++]!;
    } else if (head === 0xc5) {
      length = (bytes[this.#at]! << 8) | bytes[this.#at + 1]!;
      this.#at += 2;
    } else if (head === 0xc6) {
      length =
        bytes[this.#at]! * 0x1000000 +
        ((bytes[this.#at + 1]! << 16) | (bytes[this.#at + 2]! << 8) | bytes[this.#at + 3]!);
      this.#at += 4;
    } else {
      throw unfit;
    }
    // Also refuses what is no number, past the end.
    if (!(this.#at + length <= this.#end)) throw unfit;
    return length;
  }

  /** The place in its list of the word that is next, without making a string of it. */
  word(words: Words): number {
    const length = this.#textLength();
    const found = words.find(this.#bytes, this.#at, length);
    if (found < 0) throw unfit;
    this.#at += length;
    return found;
  }
}

const nothing = Buffer.alloc(0);

/** A closed list of words, found by their bytes. */
export class Words {
  readonly #encoded: readonly Buffer[];
  readonly #places: number[][] = Array.from({ length: 256 }, () => []);

  constructor(words: readonly string[]) {
    this.#encoded = words.map((word) => Buffer.from(word));
    for (const [place, word] of this.#encoded.entries()) {
      this.#places[slotOf(word, 0, word.length)]!.push(place);
    }
  }

  /** The place of the word in `bytes[at, at + length)`, or -1. */
  find(bytes: Uint8Array, at: number, length: number): number {
    for (const place of this.#places[slotOf(bytes, at, length)]!) {
      const word = this.#encoded[place]!;
      if (word.length === length && isAt(word, bytes, at)) return place;
    }
    return -1;
  }
}

function slotOf(bytes: Uint8Array, at: number, length: number): number {
  return (length + 7 * bytes[at]! + 31 * bytes[at + length - 1]!) & 0xff;
}

function isAt(word: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < word.length; i++) if (bytes[at + i] !== word[i]) return false;
  return true;
}
