/**
 * One row as the store holds it in the heap: a record as a value, encoded only when it is written to disk; or bytes among
 * others in a chunk, for rows that are made and seldom read soon. Records are values, nobody changes one in place, so to
 * keep an old reference is to keep the old row. Pure.
 *
 * Invariants
 * 1. The contents are the newest there are: bytes in `chunk` where that is there; else `value`, which is null where there
 *    is no row, and bytes where `schema` is undefined.
 * 2. `low`, `high` and `isStored` are of the row as far as the store's hash has counted it: of what is on disk, or of the
 *    generation that is being written there.
 */
import type { Span, Writer } from "../../lib/msgpack.ts";
import { decode, decodeSpan, encode, encodeSpan, type Schema } from "../../lib/schema.ts";

/** Rough cost of a row in the heap beyond its key and value: the cell, its places in maps and lists. */
const cellBytes = 250;
/** A decoded record takes about so many times its bytes. */
const decodedFactor = 4;

/** What a row says: immutable, so a copy of these fields is a copy of the row. */
export interface Contents {
  readonly schema: Schema<unknown> | undefined;
  readonly value: unknown;
  readonly chunk: Buffer | undefined;
  readonly start: number;
  readonly end: number;
  /** Bytes in the heap, roughly. */
  readonly weight: number;
}

export class Cell implements Contents, Span {
  readonly key: string;
  schema: Schema<unknown> | undefined = undefined;
  value: unknown = null;
  chunk: Buffer | undefined = undefined;
  start = 0;
  end = 0;
  weight: number;
  low = 0;
  high = 0;
  isStored = false;
  /** The generation that changed it last, if that is not on disk yet; else 0. */
  generation = 0;
  /** Where the table of rows has it. */
  epoch = 0;

  constructor(key: string) {
    this.key = key;
    this.weight = cellBytes + key.length;
  }

  /** Makes a new cell the row that was found on disk, whose hash it has already. */
  setStored(bytes: Uint8Array): void {
    this.value = bytes;
    this.isStored = true;
    this.weight += bytes.length * decodedFactor;
  }

  get isAbsent(): boolean {
    return this.value === null && this.chunk === undefined;
  }

  set(schema: Schema<unknown> | undefined, value: unknown): void {
    this.schema = schema;
    this.value = value;
    this.chunk = undefined;
    this.weight = cellBytes + this.key.length + weightOf(schema, value);
  }

  /** Sets a record as bytes that `writer` has room for. */
  setEncoded(writer: Writer, schema: Schema<unknown>, value: unknown): void {
    encodeSpan(writer, schema, value, this);
    this.schema = undefined;
    this.value = null;
    this.weight = cellBytes + this.key.length + 2 * (this.end - this.start);
  }

  restore(contents: Contents): void {
    this.schema = contents.schema;
    this.value = contents.value;
    this.chunk = contents.chunk;
    this.start = contents.start;
    this.end = contents.end;
    this.weight = contents.weight;
  }

  /** The record, or undefined where there is none. */
  read<T>(schema: Schema<T>): T | undefined {
    if (this.schema === schema) return this.value as T;
    const { chunk } = this;
    if (chunk !== undefined) {
      const { start, end } = this;
      return this.#decoded(schema, decodeSpan(schema, { chunk, start, end }, this.key));
    }
    if (this.value === null) return undefined;
    const value = decode(schema, bytesOf(this)!, this.key);
    // What is still to be written has to stay the bytes that were put.
    return this.schema === undefined && this.generation === 0
      ? this.#decoded(schema, value)
      : value;
  }

  #decoded<T>(schema: Schema<T>, value: T): T {
    this.schema = schema;
    this.value = value;
    this.chunk = undefined;
    return value;
  }
}

function weightOf(schema: Schema<unknown> | undefined, value: unknown): number {
  if (value === null) return 0;
  return schema === undefined ? (value as Uint8Array).length : schema.weigh(value);
}

/** The stored form of a row; null where there is none. */
export function bytesOf({ chunk, start, end, schema, value }: Contents): Uint8Array | null {
  if (chunk !== undefined) return chunk.subarray(start, end);
  return schema === undefined || value === null
    ? (value as Uint8Array | null)
    : encode(schema, value);
}
