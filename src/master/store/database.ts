/**
 * One LevelDB directory: keys as latin1 strings, rows with their sums, batches that carry the log position of what they
 * hold, and a count of those who read.
 *
 * Invariants
 * 1. Every batch is synced and contains `meta/applied` and `meta/hash`, so any LevelDB snapshot is the state at exactly
 *    the index that it says.
 * 2. LevelDB is not closed under an open cursor or snapshot (that crashes the process): `close` waits for all.
 * 3. No row is handed out that was not written under its key: a wrong sum is `Corrupt`, and `onDamage` is told.
 */
import assert from "node:assert/strict";
import { Level } from "level";
import type { Clock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { findDamage } from "./leveldb-check.ts";
import { hashRow, type RowHash, type StateHash } from "./state-hash.ts";
import { checkedValue, summedRow } from "./summed-row.ts";
import { TableScrub } from "./table-scrub.ts";
import type { KeyRange, KeyValue } from "./types.ts";
import { currentBoot, VerifiedTables } from "./verified-tables.ts";

const appliedKey = "meta/applied";
const hashKey = "meta/hash";
const appliedBytes = 13;
const hashDigits = 16;
/** The version of all rows, first byte of `meta/applied`. In version 1 rows had no sums. */
const rowVersion = 2;
const versionWithoutSums = 1;

/** Rows that are taken over from LevelDB, summed up and handed on in one turn of the event loop: about a millisecond. */
const rowsPerTurn = 300;

/** What a batch brings the state to. */
export interface Place {
  readonly index: number;
  readonly term: number;
  /** Digest of `StateHash`. */
  readonly hash: string;
}

/** Changes that reach the disk together. */
export interface Batch {
  /** `hash` is that of the row. */
  put(key: string, value: Uint8Array, hash: RowHash): void;
  delete(key: string): void;
  /** With the place that they lead to; resolves when all is on disk. */
  write(place: Place): Promise<void>;
}

/** Rows of a range as of the moment when it was opened. */
export interface Cursor {
  /** The next rows in order; empty at the end. */
  next(): Promise<KeyValue[]>;
  /** To be called exactly once. */
  close(): Promise<void>;
}

/** The state as of the moment when it was opened. */
export interface DatabaseSnapshot extends Place {
  /** All rows that it gives are added to `sum`. */
  open(range: KeyRange, sum?: StateHash): Cursor;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  /** Of blocks of tables. */
  readonly cacheBytes: number;
  readonly logger: Logger;
  /** Undefined: tables are not read while it is open. */
  readonly scrubClock: Clock | undefined;
}

type Ldb = Level<Uint8Array, Uint8Array>;
type LdbSnapshot = ReturnType<Ldb["snapshot"]>;

/** True for the store's own keys, which are no part of the state. */
export function isOwnKey(key: string): boolean {
  return key === appliedKey || key === hashKey;
}

function bytesOf(key: string): Buffer {
  return Buffer.from(key, "latin1");
}

const keyScratch = Buffer.allocUnsafeSlow(1024);
/** Views of the scratch by length. */
const keyViews: Buffer[] = [];

/** The bytes of a key until the next call: for calls into LevelDB that copy them at once. */
function keyBytes(key: string): Buffer {
  const { length } = key;
  if (length > keyScratch.length) return bytesOf(key);
  for (let i = 0; i < length; i++) keyScratch[i] = key.charCodeAt(i);
  return (keyViews[length] ??= keyScratch.subarray(0, length));
}

const scratchHash: RowHash = { low: 0, high: 0 };

/** A key for people: ids in it are bytes. */
function shownKey(key: string): string {
  return key.replace(/[^!-~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function stringOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString("latin1");
}

export class Database {
  readonly path: string;
  /** Where the state stood when it was opened. */
  readonly place: Place;
  /** False: an earlier version wrote it. Only its snapshots can be read then, to write it anew. */
  readonly hasSums: boolean;
  /** Called when what is read is not what was written: the process is to exit. */
  onDamage: ((error: WeirError) => void) | undefined;
  readonly #level: Ldb;
  #scrub: TableScrub | undefined;
  #users = 0;
  #onIdle: (() => void) | undefined;

  private constructor(path: string, level: Ldb) {
    this.path = path;
    this.#level = level;
    this.hasSums = level.getSync(bytesOf(appliedKey))?.[0] !== versionWithoutSums;
    this.place = this.#placeIn(undefined);
  }

  /**
   * @throws WeirError `Busy`: another process has it open
   * @throws WeirError `Corrupt`: LevelDB cannot read it
   */
  static async open(path: string, options: DatabaseOptions): Promise<Database> {
    const verified = await VerifiedTables.load(path, await currentBoot());
    await assertSound(path, verified);
    const level: Ldb = new Level(path, {
      keyEncoding: "view",
      valueEncoding: "view",
      cacheSize: options.cacheBytes,
      writeBufferSize: 16 * 1024 * 1024,
    });
    try {
      await level.open();
    } catch (thrown) {
      const cause = thrown instanceof Error && thrown.cause !== undefined ? thrown.cause : thrown;
      throw openingError(path, cause);
    }
    try {
      const database = new Database(path, level);
      await database.#assertWhole();
      await verified.save();
      const { scrubClock: clock, logger } = options;
      if (clock !== undefined) {
        const onDamage = (found: string) => database.#damage(found);
        database.#scrub = new TableScrub({ directory: path, verified, clock, logger, onDamage });
      }
      return database;
    } catch (thrown) {
      await level.close();
      throw thrown;
    }
  }

  /** Every batch says where it leads to: rows without that are what is left of a loss. */
  async #assertWhole(): Promise<void> {
    if (this.#level.getSync(bytesOf(appliedKey)) !== undefined) return;
    const [first] = await this.#level.keys({ limit: 1 }).all();
    if (first !== undefined) throw this.#damage(`its "${appliedKey}" is missing`);
  }

  #placeIn(snapshot: LdbSnapshot | undefined): Place {
    const options = snapshot === undefined ? {} : { snapshot };
    const applied = this.#level.getSync(bytesOf(appliedKey), options);
    if (applied === undefined) return { index: 0, term: 0, hash: "0".repeat(hashDigits) };
    const hash = this.#level.getSync(bytesOf(hashKey), options);
    const bytes = Buffer.from(this.#checked(appliedKey, applied, scratchHash));
    const digits = hash && Buffer.from(this.#checked(hashKey, hash, scratchHash));
    const version = this.hasSums ? rowVersion : versionWithoutSums;
    if (bytes.length !== appliedBytes || bytes[0] !== version || digits?.length !== hashDigits) {
      throw this.#damage(`its "${appliedKey}" or "${hashKey}" is none of this version`);
    }
    return {
      index: bytes.readUIntBE(1, 6),
      term: bytes.readUIntBE(7, 6),
      hash: digits.toString("latin1"),
    };
  }

  /** The value under a key, with the hash of the row in `hash`. */
  get(key: string, hash: RowHash): Uint8Array | undefined {
    let row: Uint8Array | undefined;
    try {
      row = this.#level.getSync(keyBytes(key));
    } catch (thrown) {
      throw this.#damage(String(thrown), thrown);
    }
    return row === undefined ? undefined : this.#checked(key, row, hash);
  }

  #checked(key: string, row: Uint8Array, hash: RowHash): Uint8Array {
    if (!this.hasSums) {
      hashRow(key, row, hash);
      return row;
    }
    const value = checkedValue(key, row, hash);
    if (value === undefined)
      throw this.#damage(`the row "${shownKey(key)}" is not what was written`);
    return value;
  }

  #damage(reason: string, cause?: unknown): WeirError {
    const error = damage(this.path, reason, cause);
    this.onDamage?.(error);
    return error;
  }

  /** Begins a batch of changes; nobody waits for one that is given up. */
  batch(): Batch {
    const batch = this.#level.batch();
    const putOwn = (key: string, value: Uint8Array) => {
      hashRow(key, value, scratchHash);
      batch.put(keyBytes(key), summedRow(value, scratchHash));
    };
    return {
      put: (key, value, hash) => {
        batch.put(keyBytes(key), summedRow(value, hash));
      },
      delete: (key) => {
        batch.del(keyBytes(key));
      },
      write: async (place) => {
        const applied = Buffer.alloc(appliedBytes);
        applied[0] = rowVersion;
        applied.writeUIntBE(place.index, 1, 6);
        applied.writeUIntBE(place.term, 7, 6);
        putOwn(appliedKey, applied);
        putOwn(hashKey, bytesOf(place.hash));
        this.#enter();
        try {
          await batch.write({ sync: true });
        } finally {
          this.#leave();
        }
      },
    };
  }

  /** The rows of a range as they are now; at most `limit`. */
  open(range: KeyRange, limit: number): Cursor {
    return this.#cursor(range, { limit: Math.min(limit, 2 ** 31 - 1), highWaterMarkBytes: 65_536 });
  }

  /** The rows of a range as they are now, the last one first, for who needs few of them. */
  openBackwards(range: KeyRange): Cursor {
    return this.#cursor(range, { reverse: true, highWaterMarkBytes: 1024 });
  }

  snapshot(): DatabaseSnapshot {
    this.#enter();
    const snapshot = this.#level.snapshot();
    const place = this.#placeIn(snapshot);
    return {
      ...place,
      open: (range, sum) =>
        this.#cursor(range, { snapshot, fillCache: false, highWaterMarkBytes: 512 * 1024 }, sum),
      close: async () => {
        await snapshot.close();
        this.#leave();
      },
    };
  }

  #cursor(
    { from, to }: KeyRange,
    options: {
      limit?: number;
      reverse?: boolean;
      snapshot?: LdbSnapshot;
      fillCache?: boolean;
      highWaterMarkBytes: number;
    },
    sum?: StateHash,
  ): Cursor {
    this.#enter();
    const iterator = this.#level.iterator({ gte: bytesOf(from), lt: bytesOf(to), ...options });
    return {
      next: async () => {
        for (;;) {
          const found = await iterator.nextv(rowsPerTurn).catch((thrown: unknown) => {
            throw this.#damage(String(thrown), thrown);
          });
          const rows: KeyValue[] = [];
          for (const [bytes, row] of found) {
            const key = stringOf(bytes);
            if (isOwnKey(key)) continue;
            rows.push([key, this.#checked(key, row, scratchHash)]);
            sum?.addRow(scratchHash);
          }
          if (rows.length > 0 || found.length === 0) return rows;
        }
      },
      close: async () => {
        await iterator.close();
        this.#leave();
      },
    };
  }

  #enter(): void {
    // A snapshot that is still open may be read to its end.
    assert(this.#onIdle === undefined || this.#users > 0, "the database is closed");
    this.#users++;
  }

  #leave(): void {
    this.#users--;
    if (this.#users === 0) this.#onIdle?.();
  }

  /** Waits for cursors, snapshots and writes, then closes; nothing new may be begun. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      if (this.#users === 0) resolve();
    });
    await this.#scrub?.close();
    await this.#level.close();
  }
}

/** LevelDB would not find all damage, and some of it would end the process. */
async function assertSound(path: string, verified: VerifiedTables): Promise<void> {
  const found = await findDamage(path, verified).catch((thrown: unknown) => {
    if (thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT") return undefined;
    throw toWeirError(thrown, `Cannot read "${path}"`);
  });
  if (found !== undefined) throw damage(path, found);
}

function openingError(path: string, cause: unknown): WeirError {
  const code = (cause as { code?: unknown }).code;
  if (code === "LEVEL_LOCKED") {
    return new WeirError("Busy", `Cannot open "${path}": another process has it open`, { cause });
  }
  if (code === "LEVEL_CORRUPTION") return damage(path, String(cause), cause);
  return toWeirError(cause, `Cannot open "${path}"`);
}

function damage(path: string, reason: string, cause?: unknown): WeirError {
  return new WeirError(
    "Corrupt",
    `Cannot read the metadata store "${path}": ${reason}. Two ways back: ` +
      "start this master with an empty data directory and let it join anew as a learner (weir cluster replace NAME); " +
      "or, when no majority has the data any more, restore a backup into a new cluster (weir backup restore FILE)",
    { cause },
  );
}
