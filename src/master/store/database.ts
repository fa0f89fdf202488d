/**
 * One LevelDB directory: keys as latin1 strings, batches that carry the log position of what they hold, and a count of
 * those who read.
 *
 * Invariants
 * 1. Every batch is synced and contains `meta/applied` and `meta/hash`, so any LevelDB snapshot is the state at exactly
 *    the index that it says.
 * 2. LevelDB is not closed under an open cursor or snapshot (that crashes the process): `close` waits for all.
 */
import assert from "node:assert/strict";
import { Level } from "level";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { KeyRange, KeyValue } from "./types.ts";

const appliedKey = "meta/applied";
const hashKey = "meta/hash";
const appliedVersion = 1;

/** What a batch brings the state to. */
export interface Place {
  readonly index: number;
  readonly term: number;
  /** Digest of `StateHash`. */
  readonly hash: string;
}

/** Changes that reach the disk together. */
export interface Batch {
  put(key: string, value: Uint8Array): void;
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
  open(range: KeyRange): Cursor;
  close(): Promise<void>;
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

function stringOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString("latin1");
}

export class Database {
  readonly path: string;
  /** Where the state stood when it was opened. */
  readonly place: Place;
  readonly #level: Ldb;
  #users = 0;
  #onIdle: (() => void) | undefined;

  private constructor(path: string, level: Ldb) {
    this.path = path;
    this.#level = level;
    this.place = this.#placeIn(undefined);
  }

  /**
   * @throws WeirError `Busy`: another process has it open
   * @throws WeirError `Corrupt`: LevelDB cannot read it
   */
  static async open(path: string, options: { cacheBytes: number }): Promise<Database> {
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
      return new Database(path, level);
    } catch (thrown) {
      await level.close();
      throw thrown;
    }
  }

  #placeIn(snapshot: LdbSnapshot | undefined): Place {
    const options = snapshot === undefined ? {} : { snapshot };
    const applied = this.#level.getSync(bytesOf(appliedKey), options);
    if (applied === undefined) return { index: 0, term: 0, hash: "0".repeat(16) };
    const bytes = Buffer.from(applied);
    const hash = this.#level.getSync(bytesOf(hashKey), options);
    if (bytes.length !== 13 || bytes[0] !== appliedVersion || hash === undefined) {
      throw damage(this.path, `its "${appliedKey}" or "${hashKey}" is none of this version`);
    }
    return {
      index: bytes.readUIntBE(1, 6),
      term: bytes.readUIntBE(7, 6),
      hash: Buffer.from(hash).toString("latin1"),
    };
  }

  get(key: string): Uint8Array | undefined {
    try {
      return this.#level.getSync(keyBytes(key));
    } catch (thrown) {
      throw damage(this.path, String(thrown), thrown);
    }
  }

  /** Begins a batch of changes; nobody waits for one that is given up. */
  batch(): Batch {
    const batch = this.#level.batch();
    return {
      put: (key, value) => {
        batch.put(keyBytes(key), value);
      },
      delete: (key) => {
        batch.del(keyBytes(key));
      },
      write: async (place) => {
        const applied = Buffer.alloc(13);
        applied[0] = appliedVersion;
        applied.writeUIntBE(place.index, 1, 6);
        applied.writeUIntBE(place.term, 7, 6);
        batch.put(keyBytes(appliedKey), applied).put(keyBytes(hashKey), bytesOf(place.hash));
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

  snapshot(): DatabaseSnapshot {
    this.#enter();
    const snapshot = this.#level.snapshot();
    const place = this.#placeIn(snapshot);
    return {
      ...place,
      open: (range) =>
        this.#cursor(range, { snapshot, fillCache: false, highWaterMarkBytes: 512 * 1024 }),
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
      snapshot?: LdbSnapshot;
      fillCache?: boolean;
      highWaterMarkBytes: number;
    },
  ): Cursor {
    this.#enter();
    const iterator = this.#level.iterator({ gte: bytesOf(from), lt: bytesOf(to), ...options });
    return {
      next: async () => {
        for (;;) {
          const found = await iterator.nextv(1000);
          const rows: KeyValue[] = [];
          for (const [bytes, value] of found) {
            const key = stringOf(bytes);
            if (!isOwnKey(key)) rows.push([key, value]);
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
    await this.#level.close();
  }
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
