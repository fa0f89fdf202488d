/**
 * One row as the store holds it in the heap: a record as a value, encoded only when it is written to disk. Records are
 * values, nobody changes one in place, so to keep an old reference is to keep the old row. Pure.
 *
 * Invariants
 * 1. `value` is the newest there is: null where there is no row, bytes where `schema` is undefined.
 * 2. `low`, `high` and `isStored` are of the row as far as the store's hash has counted it: of what is on disk, or of the
 *    generation that is being written there.
 */
import { decode, encode, type Schema } from "../../lib/schema.ts";
import { hashRow } from "./state-hash.ts";

/** Rough cost of a row in the heap beyond its key and value: the cell, its places in maps and lists. */
const cellBytes = 250;
/** A decoded record takes about so many times its bytes. */
const decodedFactor = 4;

export class Cell {
  readonly key: string;
  schema: Schema<unknown> | undefined = undefined;
  value: unknown = null;
  low = 0;
  high = 0;
  isStored = false;
  /** The generation that changed it last, if that is not on disk yet; else 0. */
  generation = 0;
  /** The last generation that has a copy of it. */
  copiedIn = 0;
  /** Bytes in the heap, roughly. */
  weight: number;

  constructor(key: string) {
    this.key = key;
    this.weight = cellBytes + key.length;
  }

  /** The row as it was found on disk; undefined: there is none. */
  static stored(key: string, bytes: Uint8Array | undefined): Cell {
    const cell = new Cell(key);
    if (bytes === undefined) return cell;
    cell.value = bytes;
    cell.isStored = true;
    cell.weight += bytes.length * decodedFactor;
    hashRow(key, bytes, cell);
    return cell;
  }

  set(schema: Schema<unknown> | undefined, value: unknown): void {
    this.schema = schema;
    this.value = value;
    this.weight = cellBytes + this.key.length + weightOf(schema, value);
  }

  /** The record, or undefined where there is none. */
  read<T>(schema: Schema<T>): T | undefined {
    if (this.value === null) return undefined;
    if (this.schema === schema) return this.value as T;
    const value = decode(schema, this.bytes()!, this.key);
    // What is still to be written has to stay the bytes that were put.
    if (this.schema === undefined && this.generation === 0) {
      this.schema = schema as Schema<unknown>;
      this.value = value;
    }
    return value;
  }

  bytes(): Uint8Array | null {
    return bytesOf(this.schema, this.value);
  }
}

function weightOf(schema: Schema<unknown> | undefined, value: unknown): number {
  if (value === null) return 0;
  return schema === undefined ? (value as Uint8Array).length : schema.weigh(value);
}

/** The stored form of a row's value; null where there is none. */
export function bytesOf(schema: Schema<unknown> | undefined, value: unknown): Uint8Array | null {
  return schema === undefined || value === null
    ? (value as Uint8Array | null)
    : encode(schema, value);
}
