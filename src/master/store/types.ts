/**
 * The replicated state as sorted keys and values. Keys are latin1 strings, one character per byte, so that comparing
 * strings is comparing bytes.
 *
 * Invariants of an implementation
 * 1. What was put is seen by every later `get`, `scan` and `iterate`, flushed or not.
 * 2. What is on disk is the state at exactly one applied index, which is stored in the same batch.
 * 3. `hash` depends on keys and values alone, not on the order in which they were written.
 */
import type { Schema } from "../../lib/schema.ts";

export interface KeyRange {
  /** Inclusive. */
  readonly from: string;
  /** Exclusive. */
  readonly to: string;
}

/** A range, and what may reach into it from before. */
export interface ReachingRange extends KeyRange {
  /** With the last row in [since, from) besides. */
  readonly since?: string | undefined;
}

/** What apply asks for: a range, or the part of it that a command needs whatever the range holds. */
export interface ScanRange extends ReachingRange {
  /** At most so many rows from `from` on, the first ones. */
  readonly limit?: number | undefined;
}

/** Every key of the state: `put` takes no other. */
export const everything: KeyRange = { from: "", to: "\xff" };

/** The range of all keys that begin with `prefix` (whose last character is below 0xff). */
export function prefixRange(prefix: string): KeyRange {
  const last = prefix.charCodeAt(prefix.length - 1);
  return { from: prefix, to: prefix.slice(0, -1) + String.fromCharCode(last + 1) };
}

export type KeyValue = readonly [key: string, value: Uint8Array];

/** Point reads, synchronous: overlay, then cache, then LevelDB. */
export interface PointReader {
  get(key: string): Uint8Array | undefined;
  /** The record under a key; a value that many share, not to be changed. */
  read<T>(schema: Schema<T>, key: string): T | undefined;
}

export interface StateReader extends PointReader {
  /**
   * Keys of a range in order, `limit` at most (a row before it besides), as of the moment of the call, whatever is applied
   * while the promise is pending.
   */
  iterate(range: ReachingRange, limit: number): Promise<readonly KeyValue[]>;
}

/** What apply() works on. Records and bytes belong to the store from then on: nobody changes them. */
export interface StateWriter extends PointReader {
  put(key: string, value: Uint8Array): void;
  write<T>(schema: Schema<T>, key: string, value: T): void;
  /** `write` under a key that no row ever had, as the caller knows (a new id): nothing is looked up. */
  add<T>(schema: Schema<T>, key: string, value: T): void;
  delete(key: string): void;
  /**
   * Keys of a range in order. It must have been handed to `load` before this entry is applied, or lie within a range that
   * was, without `since` and `limit`.
   */
  scan(range: ScanRange): readonly KeyValue[];
}

export interface StateStore extends StateReader, StateWriter {
  /** Log position on disk, as it moves; 0 for an empty store. */
  readonly flushedIndex: number;
  readonly flushedTerm: number;
  /** `hash()` as it was at `flushedIndex`; known without computing anything. */
  readonly flushedHash: string;
  readonly appliedIndex: number;
  /**
   * Makes `scan` of these ranges possible until `release` is called with the same list. One with `since` or `limit` is good
   * for one scan, before the entry changes a row of it: another command that needs the rows needs the whole range.
   */
  load(ranges: readonly ScanRange[]): Promise<void>;
  release(ranges: readonly ScanRange[]): void;
  /** Starts an undo log; `rollback` takes back all puts and deletes since, `commit` forgets the undo log. */
  savepoint(): { rollback(): void; commit(): void };
  /** All writes since the call before belong to the entry (index, term); flushes run in the background. */
  applied(index: number, term: number): void;
  /** True while the overlay is too full: proposals are to be refused with `Busy`. */
  readonly full: boolean;
  /** 16 hex digits over all keys and values; computes the part of all that is not flushed in this turn. */
  hash(): string;
  /** Waits until everything applied so far is on disk; resolves with that index. */
  flush(): Promise<{ index: number; term: number }>;
  /** The whole state at one flushed index, in chunks. */
  snapshot(): Promise<StoreSnapshot>;
  /**
   * Replaces everything by a snapshot; the store on disk changes over atomically. Rejects with `Corrupt`, the state
   * unchanged, where the rows do not sum to `hash`, if that is given.
   */
  install(
    index: number,
    term: number,
    chunks: AsyncIterable<readonly KeyValue[]>,
    hash?: string,
  ): Promise<void>;
  close(): Promise<void>;
}

export interface StoreSnapshot {
  readonly index: number;
  readonly term: number;
  /** `hash()` as of the index: what the rows must sum up to. */
  readonly hash: string;
  chunks(): AsyncIterable<readonly KeyValue[]>;
  /** The rows of a range in order, in pages. Several may be read at once. */
  rows(range: KeyRange): AsyncIterable<readonly KeyValue[]>;
  /** To be called exactly once; the store does not close before. */
  close(): Promise<void>;
}
