/**
 * The replicated state in LevelDB under a write-behind overlay. Writes go to the active generation of the overlay; when it
 * is old or large enough it is sealed, and a new one takes what follows. Sealed ones are written in the background.
 * Nobody waits for that: the log is the durability of what is not flushed yet.
 *
 * Records stay values until their generation is written: what changes a thousand times between two flushes is encoded
 * and hashed once, and what came and went between them never.
 *
 * Invariant: reads go to the table of rows, then to LevelDB. The table has one cell for a key, with the newest contents,
 * and all that is not on disk.
 */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { rm } from "node:fs/promises";
import { resolve as resolvePath } from "node:path";
import type { Clock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { Writer } from "../../lib/msgpack.ts";
import type { Schema } from "../../lib/schema.ts";
import { bytesOf, Cell } from "./cell.ts";
import { type Cursor, type Database, type DatabaseOptions, isOwnKey } from "./database.ts";
import { Flusher } from "./flusher.ts";
import type { Generation } from "./generation.ts";
import { changesIn, lastLiving, Merge } from "./merge.ts";
import { Overlay } from "./overlay.ts";
import { PinnedRanges } from "./pinned-ranges.ts";
import { type Named, openCurrent, openNext, type Wanted } from "./replacement.ts";
import { RowTable } from "./row-table.ts";
import type { StateHash } from "./state-hash.ts";
import {
  everything,
  type KeyRange,
  type KeyValue,
  type ReachingRange,
  type ScanRange,
} from "./types.ts";
import type { StateStore, StoreSnapshot } from "./types.ts";
import { checkedChunks } from "./whole-state.ts";

export interface StateStoreOptions {
  /** Made with its parents when it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether LevelDB's tables are read in the background: what damages them shows, and the next start need not. */
  readonly scrubs?: boolean;
  /** Called once when a flush failed, or the disk gave back what was not written: the process is to exit. */
  readonly onFailure?: (error: WeirError) => void;
  /** Shortest time between the starts of two flushes: 500. Longer ones write fewer rows that soon change again. */
  readonly flushIntervalMs?: number;
  /** Bytes in the active generation (in the heap, roughly) that start a flush before that: 16 MiB. */
  readonly flushBytes?: number;
  /** Bytes in the overlay from which on the store is `full`: 64 MiB. */
  readonly maxOverlayBytes?: number;
  /** Bound of the rows in the heap that are on disk too: 128 MiB; LevelDB's own cache of blocks gets half as much. */
  readonly cacheBytes?: number;
}

/**
 * Opens the state in a directory.
 * @throws WeirError `Busy`: another process has it open
 * @throws WeirError `Corrupt`: it cannot be read; the message says the ways back
 */
export async function openStateStore(options: StateStoreOptions): Promise<StateStore> {
  const directory = resolvePath(options.directory);
  const { cacheBytes = 128 * 1024 * 1024, logger } = options;
  const databaseOptions = databaseOptionsOf({ ...options, cacheBytes });
  const { name, database } = await openCurrent(directory, databaseOptions);
  logger.info({ index: database.place.index, database: name }, "state opened");
  return new LevelStore({ ...options, directory, cacheBytes }, name, database);
}

function databaseOptionsOf(
  options: StateStoreOptions & { readonly cacheBytes: number },
): DatabaseOptions {
  const { cacheBytes, clock, logger, scrubs = false } = options;
  return { cacheBytes: cacheBytes / 2, logger, scrubClock: scrubs ? clock : undefined };
}

class LevelStore implements StateStore {
  readonly #directory: string;
  readonly #options: StateStoreOptions & { readonly cacheBytes: number };
  readonly #logger: Logger;
  readonly #maxOverlayBytes: number;
  #name: string;
  #database: Database;
  readonly #overlay: Overlay;
  readonly #flusher: Flusher;
  readonly #rows: RowTable;
  /** For rows that are kept as bytes. */
  readonly #writer = new Writer();
  readonly #pins = new PinnedRanges();
  /** While a snapshot is being installed nothing is applied or flushed. */
  #installing: Promise<void> | undefined;
  /** From its beginning on nothing new is begun. */
  #closing: Promise<void> | undefined;
  /** Replaced databases that wait for their readers. */
  readonly #retiring = new Set<Promise<void>>();

  constructor(
    options: StateStoreOptions & { cacheBytes: number },
    name: string,
    database: Database,
  ) {
    const { clock, logger, onFailure } = options;
    const { flushIntervalMs = 500, flushBytes = 16 * 1024 * 1024 } = options;
    this.#directory = options.directory;
    this.#options = options;
    this.#logger = logger;
    this.#maxOverlayBytes = options.maxOverlayBytes ?? 64 * 1024 * 1024;
    this.#name = name;
    this.#database = database;
    this.#overlay = new Overlay(database.place);
    const unflushed = () => this.#overlay.cells();
    this.#rows = new RowTable(options.cacheBytes, unflushed, randomInt(2 ** 32));
    const onFlushed = (generation: Generation, gone: readonly string[]) => {
      this.#flushed(generation, gone);
    };
    this.#flusher = new Flusher(
      { clock, logger, onFailure, onFlushed, flushIntervalMs, flushBytes },
      this.#overlay,
      database,
    );
    database.onDamage = this.#fail;
  }

  readonly #fail = (error: WeirError): void => {
    this.#flusher.fail(error);
  };

  get flushedIndex(): number {
    return this.#flusher.index;
  }

  get flushedTerm(): number {
    return this.#flusher.term;
  }

  get flushedHash(): string {
    return this.#flusher.digest;
  }

  get appliedIndex(): number {
    return this.#overlay.appliedIndex;
  }

  get full(): boolean {
    return this.#overlay.weight >= this.#maxOverlayBytes || this.#flusher.failure !== undefined;
  }

  hash(): string {
    return this.#flusher.hash();
  }

  get(key: string): Uint8Array | undefined {
    return bytesOf(this.#cellOf(key)) ?? undefined;
  }

  read<T>(schema: Schema<T>, key: string): T | undefined {
    return this.#cellOf(key).read(schema);
  }

  #cellOf(key: string): Cell {
    return this.#rows.get(key) ?? this.#storedCell(key);
  }

  #storedCell(key: string): Cell {
    checkKey(key);
    const cell = new Cell(key);
    const bytes = this.#database.get(key, cell);
    if (bytes !== undefined) cell.setStored(bytes);
    this.#rows.set(cell);
    return cell;
  }

  put(key: string, value: Uint8Array): void {
    const cell = this.#cellOf(key);
    const { weight } = cell;
    this.#overlay.begin(cell);
    cell.set(undefined, value);
    this.#changed(cell, weight);
  }

  write<T>(schema: Schema<T>, key: string, value: T): void {
    const cell = this.#cellOf(key);
    const { weight } = cell;
    this.#overlay.begin(cell);
    cell.set(schema, value);
    this.#changed(cell, weight);
  }

  /** A cell of the table was changed, which weighed so much before. */
  #changed(cell: Cell, weight: number): void {
    const grownBytes = cell.weight - weight;
    this.#overlay.grew(grownBytes);
    if (grownBytes > 0) this.#rows.grew(grownBytes);
  }

  add<T>(schema: Schema<T>, key: string, value: T): void {
    // What the table may have under the key says that there is no row: the new cell does so too.
    checkKey(key);
    const cell = new Cell(key);
    const { weight } = cell;
    this.#overlay.begin(cell);
    cell.setEncoded(this.#writer, schema, value);
    this.#overlay.grew(cell.weight - weight);
    this.#rows.set(cell);
  }

  delete(key: string): void {
    const cell = this.#cellOf(key);
    if (cell.isAbsent) return;
    const { weight } = cell;
    this.#overlay.begin(cell);
    cell.set(undefined, null);
    this.#changed(cell, weight);
  }

  savepoint(): { rollback(): void; commit(): void } {
    return this.#overlay.savepoint();
  }

  applied(index: number, term: number): void {
    assert(this.#installing === undefined, "applied within an install");
    this.#overlay.applied(index, term);
    this.#flusher.wake();
  }

  async load(ranges: readonly ScanRange[]): Promise<void> {
    this.#assertOpen();
    await Promise.all(
      ranges.map((range) =>
        this.#pins.pin(range, () => {
          if (range.since !== undefined) return this.#withTheRowBefore(range, range.since);
          if (range.limit !== undefined) return this.iterate(range, range.limit);
          const cursor = this.#database.open(range, Number.MAX_SAFE_INTEGER);
          return readAll(cursor, new Merge([], Number.MAX_SAFE_INTEGER));
        }),
      ),
    );
  }

  /** The rows of a range as they are on disk, from the last one in [since, from) that lives on. */
  async #withTheRowBefore({ from, to }: KeyRange, since: string): Promise<KeyValue[]> {
    // What hides rows on disk is looked at in the turn in which their reading begins.
    const generations = this.#overlay.generations();
    const last = lastLiving(generations, this.#newest, { from: since, to: from });
    const between = { from: last ?? since, to: from };
    const changes = changesIn(generations, this.#newest, between, Number.MAX_SAFE_INTEGER);
    const hidden = new Set(changes.map(([key]) => key));
    const cursor = this.#database.openBackwards({ from: between.from, to });
    const rows: KeyValue[] = [];
    try {
      for (;;) {
        const page = await cursor.next();
        for (const row of page) {
          if (row[0] >= from) rows.push(row);
          else if (!hidden.has(row[0])) return [...rows, row].reverse();
        }
        if (page.length === 0) break;
      }
    } finally {
      await cursor.close();
    }
    if (last !== undefined) rows.push([last, this.get(last)!]);
    return rows.reverse();
  }

  release(ranges: readonly ScanRange[]): void {
    for (const range of ranges) this.#pins.unpin(range);
  }

  scan(range: ScanRange): readonly KeyValue[] {
    return this.#pins.scan(range, this.#overlay.generations(), this.#newest);
  }

  /** The value of a key that a generation has changed; undefined: it is on disk as it is. */
  readonly #newest = (key: string): Uint8Array | null | undefined => {
    const cell = this.#rows.get(key);
    return cell === undefined || cell.generation === 0 ? undefined : bytesOf(cell);
  };

  async iterate(range: ReachingRange, limit: number): Promise<readonly KeyValue[]> {
    this.#assertOpen();
    if (range.since !== undefined) {
      const { since, from, to } = range;
      // Both begin in this turn.
      const before = this.#withTheRowBefore({ from, to: from }, since);
      const after = this.iterate({ from, to }, limit);
      return (await Promise.all([before, after])).flat();
    }
    if (limit <= 0 || range.from >= range.to) return [];
    // Both are taken in this turn. Each change hides one row at most, and two rows may be the store's own.
    const changes = changesIn(this.#overlay.generations(), this.#newest, range, limit);
    const cursor = this.#database.open(range, limit + changes.length + 2);
    return readAll(cursor, new Merge(changes, limit));
  }

  #flushed(generation: Generation, gone: readonly string[]): void {
    // Of what is gone nothing needs to be known.
    for (const key of gone) this.#rows.delete(key);
    this.#pins.flushed(generation);
  }

  async flush(): Promise<{ index: number; term: number }> {
    this.#assertOpen();
    await this.#flusher.flush();
    return { index: this.#flusher.index, term: this.#flusher.term };
  }

  async snapshot(): Promise<StoreSnapshot> {
    await this.flush();
    // It may be closing by now.
    this.#assertOpen();
    // A batch that is in flight by now is in it or is not: the snapshot itself says where it stands.
    const snapshot = this.#database.snapshot();
    return {
      index: snapshot.index,
      term: snapshot.term,
      hash: snapshot.hash,
      chunks: () => checkedChunks(snapshot, this.#directory),
      rows: (range) => pagesOf(snapshot.open(range)),
      close: () => snapshot.close(),
    };
  }

  async install(
    index: number,
    term: number,
    chunks: AsyncIterable<readonly KeyValue[]>,
    hash?: string,
  ): Promise<void> {
    this.#assertOpen();
    assert(this.#installing === undefined, "two snapshots are being installed");
    this.#installing = this.#install({ index, term, hash }, chunks).finally(() => {
      this.#installing = undefined;
      this.#flusher.resume();
    });
    await this.#installing;
  }

  async #install(wanted: Wanted, chunks: AsyncIterable<readonly KeyValue[]>): Promise<void> {
    await this.#flusher.hold();
    const options = databaseOptionsOf(this.#options);
    const next = await openNext(this.#directory, this.#name, options, { wanted, chunks });
    this.#changeOver(next, wanted);
  }

  #changeOver({ name, database, sum }: Named & { sum: StateHash }, { index, term }: Wanted): void {
    const replaced = this.#database;
    this.#name = name;
    this.#database = database;
    database.onDamage = this.#fail;
    this.#rows.clear();
    this.#pins.clear();
    this.#overlay.restart({ index, term });
    this.#flusher.changeOver(database, { index, term, hash: sum });
    const gone = replaced
      .close()
      .then(() => rm(replaced.path, { recursive: true, force: true }))
      .catch((thrown: unknown) => {
        this.#logger.warn({ error: String(thrown) }, "cannot remove the replaced state");
      })
      .finally(() => this.#retiring.delete(gone));
    this.#retiring.add(gone);
  }

  #assertOpen(): void {
    if (this.#flusher.failure !== undefined) throw this.#flusher.failure;
    if (this.#closing !== undefined) {
      throw new WeirError("Unavailable", "Cannot read the metadata store: it is closed");
    }
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    await this.#installing?.catch(() => undefined);
    try {
      // An entry that was begun and not ended cannot be flushed; the log has it.
      if (this.#flusher.failure === undefined && !this.#overlay.isWithinEntry) {
        await this.#flusher.flush();
      }
    } finally {
      await this.#flusher.close();
      await Promise.all(this.#retiring);
      await this.#database.close();
    }
  }
}

async function* pagesOf(cursor: Cursor): AsyncGenerator<readonly KeyValue[]> {
  try {
    for (;;) {
      const rows = await cursor.next();
      if (rows.length === 0) return;
      yield rows;
    }
  } finally {
    await cursor.close();
  }
}

async function readAll(cursor: Cursor, merge: Merge): Promise<KeyValue[]> {
  try {
    while (!merge.isFull) {
      const rows = await cursor.next();
      if (rows.length === 0) break;
      for (const row of rows) merge.add(row);
    }
    return merge.finish();
  } finally {
    await cursor.close();
  }
}

function checkKey(key: string): void {
  const first = key.charCodeAt(0);
  // Only own keys begin like "meta/", among those within the range.
  if (first > 0 && first < 0xff && first !== 0x6d) return;
  if (isOwnKey(key) || key < "\x01" || key >= everything.to) assert.fail(`"${key}" is no key`);
}
