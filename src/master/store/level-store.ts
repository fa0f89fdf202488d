/**
 * The replicated state in LevelDB under a write-behind overlay. Writes go to the active generation of the overlay; when it
 * is old or large enough it is sealed, and a new one takes what follows. Sealed ones are written in the background, each
 * as one synced batch. Nobody waits for that: the log is the durability of what is not flushed yet.
 *
 * Records stay values until their generation is written: what changes a thousand times between two flushes is encoded
 * and hashed once, and what came and went between them never.
 *
 * Invariants
 * 1. Reads go to the table of rows, then to LevelDB. The table has one cell for a key, with the newest contents, and all
 *    that is not on disk.
 * 2. A generation begins and ends between two entries, so every batch is the state at exactly one applied index.
 * 3. The running hash is that of LevelDB and of what of a sealed generation was counted; each cell knows its own part in
 *    it. The hash of the newest state follows from that and the overlay.
 * 4. One batch is in flight at a time. One that fails is not retried: the store refuses from then on (`full`, `flush`
 *    rejects) and the process is to exit, since LevelDB's log may end anywhere.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join, resolve as resolvePath } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { Writer } from "../../lib/msgpack.ts";
import type { Schema } from "../../lib/schema.ts";
import { bytesOf, Cell, type Contents } from "./cell.ts";
import { currentDatabase, nextDatabase, pointTo } from "./current.ts";
import { type Batch, type Cursor, Database, type DatabaseSnapshot, isOwnKey } from "./database.ts";
import { Generation } from "./generation.ts";
import { changesIn, Merge } from "./merge.ts";
import { PinnedRanges } from "./pinned-ranges.ts";
import { RowTable } from "./row-table.ts";
import { hashRow, StateHash } from "./state-hash.ts";
import type { KeyRange, KeyValue, StateStore, StoreSnapshot } from "./types.ts";

const chunkBytes = 512 * 1024;
/** Rows of a generation that are encoded in one turn of the event loop: about a millisecond. */
const rowsPerTurn = 500;
/** Every key of the state: `put` takes no other. */
const everything: KeyRange = { from: "", to: "\xff" };

export interface StateStoreOptions {
  /** Made with its parents when it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once when a flush failed: the process is to exit. */
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
  const name = await currentDatabase(directory);
  const { cacheBytes = 128 * 1024 * 1024 } = options;
  const database = await Database.open(join(directory, name), { cacheBytes: cacheBytes / 2 });
  options.logger.info({ index: database.place.index, database: name }, "state opened");
  return new LevelStore({ ...options, directory, cacheBytes }, name, database);
}

/** What a cell was before a write within a savepoint. */
interface Undo extends Contents {
  readonly cell: Cell;
  readonly generation: number;
}

interface Sealed {
  readonly generation: Generation;
  readonly index: number;
  readonly term: number;
}

/** Takes back what was written since it was made. */
class Savepoint {
  readonly #undo: Undo[];
  readonly #active: Generation;
  readonly #mark: number;
  readonly #weight: number;
  readonly #end: () => void;

  constructor(undo: Undo[], active: Generation, end: () => void) {
    this.#undo = undo;
    this.#active = active;
    this.#mark = undo.length;
    this.#weight = active.weight;
    this.#end = end;
  }

  commit(): void {
    this.#end();
  }

  rollback(): void {
    for (let i = this.#undo.length - 1; i >= this.#mark; i--) {
      const before = this.#undo[i]!;
      before.cell.restore(before);
      before.cell.generation = before.generation;
    }
    this.#undo.length = this.#mark;
    this.#active.weight = this.#weight;
    this.#end();
  }
}

class LevelStore implements StateStore {
  readonly #options: Required<Omit<StateStoreOptions, "onFailure">>;
  readonly #onFailure: ((error: WeirError) => void) | undefined;
  #name: string;
  #database: Database;
  #active = new Generation(1);
  /** Oldest first; the first one is being written while `#inFlight` is there. */
  readonly #sealed: Sealed[] = [];
  readonly #rows: RowTable;
  /** For rows that are kept as bytes. */
  readonly #writer = new Writer();
  readonly #pins = new PinnedRanges();
  #hash: StateHash;
  #appliedIndex: number;
  #appliedTerm: number;
  #flushedIndex: number;
  #flushedTerm: number;
  /** Writes since the last `applied`: no generation may end now. */
  #isWithinEntry = false;
  #undo: Undo[] = [];
  #savepoints = 0;
  #lastFlushMs = Number.NEGATIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;
  #inFlight: Promise<void> | undefined;
  #waiters: { readonly index: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  /** While a snapshot is being installed nothing is applied or flushed. */
  #installing: Promise<void> | undefined;
  #failure: WeirError | undefined;
  #isClosed = false;
  /** Replaced databases that wait for their readers. */
  readonly #retiring = new Set<Promise<void>>();

  constructor(
    options: StateStoreOptions & { cacheBytes: number },
    name: string,
    database: Database,
  ) {
    this.#options = {
      flushIntervalMs: 500,
      flushBytes: 16 * 1024 * 1024,
      maxOverlayBytes: 64 * 1024 * 1024,
      ...options,
    };
    this.#onFailure = options.onFailure;
    this.#name = name;
    this.#database = database;
    this.#rows = new RowTable(options.cacheBytes, () => this.#unflushed());
    const { index, term, hash } = database.place;
    this.#hash = new StateHash(hash);
    this.#appliedIndex = this.#flushedIndex = index;
    this.#appliedTerm = this.#flushedTerm = term;
  }

  get flushedIndex(): number {
    return this.#flushedIndex;
  }

  get flushedTerm(): number {
    return this.#flushedTerm;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get full(): boolean {
    let { weight } = this.#active;
    for (const { generation } of this.#sealed) weight += generation.weight;
    return weight >= this.#options.maxOverlayBytes || this.#failure !== undefined;
  }

  hash(): string {
    const hash = new StateHash(this.#hash.digest());
    for (const cell of new Set(this.#unflushed())) {
      hash.removeRow(cell);
      const bytes = bytesOf(cell);
      if (bytes !== null) hash.add(cell.key, bytes);
    }
    return hash.digest();
  }

  /** Cells that are not on disk as they are, each at least once. */
  *#unflushed(): Generator<Cell> {
    for (const { cells } of this.#generations()) {
      for (const cell of cells) if (cell.generation !== 0) yield cell;
    }
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
    const cell = Cell.stored(key, this.#database.get(key));
    this.#rows.set(cell);
    return cell;
  }

  put(key: string, value: Uint8Array): void {
    const cell = this.#cellOf(key);
    const { weight } = cell;
    this.#begin(cell);
    cell.set(undefined, value);
    this.#active.weight += cell.weight - weight;
    if (cell.weight > weight) this.#rows.grew(cell.weight - weight);
  }

  write<T>(schema: Schema<T>, key: string, value: T): void {
    const cell = this.#cellOf(key);
    const { weight } = cell;
    this.#begin(cell);
    cell.set(schema, value);
    this.#active.weight += cell.weight - weight;
    if (cell.weight > weight) this.#rows.grew(cell.weight - weight);
  }

  add<T>(schema: Schema<T>, key: string, value: T): void {
    // What the table may have under the key says that there is no row: the new cell does so too.
    checkKey(key);
    const cell = new Cell(key);
    const { weight } = cell;
    this.#begin(cell);
    cell.setEncoded(this.#writer, schema, value);
    this.#active.weight += cell.weight - weight;
    this.#rows.set(cell);
  }

  delete(key: string): void {
    const cell = this.#cellOf(key);
    if (cell.isAbsent) return;
    const { weight } = cell;
    this.#begin(cell);
    cell.set(undefined, null);
    this.#active.weight += cell.weight - weight;
  }

  /** Makes a cell one of the active generation's, with its weight; what it was can be had back. */
  #begin(cell: Cell): void {
    this.#isWithinEntry = true;
    const { generation } = cell;
    const active = this.#active;
    if (this.#savepoints > 0) {
      const { schema, value, chunk, start, end, weight } = cell;
      this.#undo.push({ cell, schema, value, chunk, start, end, weight, generation });
    }
    if (generation === active.number) return;
    if (generation !== 0) this.#sealedOf(generation)?.keep(cell);
    cell.generation = active.number;
    active.cells.push(cell);
    active.weight += cell.weight;
  }

  #sealedOf(number: number): Generation | undefined {
    return this.#sealed.find(({ generation }) => generation.number === number)?.generation;
  }

  savepoint(): { rollback(): void; commit(): void } {
    this.#savepoints++;
    return new Savepoint(this.#undo, this.#active, this.#endSavepoint);
  }

  readonly #endSavepoint = (): void => {
    this.#savepoints--;
    if (this.#savepoints === 0) this.#undo.length = 0;
  };

  async load(ranges: readonly KeyRange[]): Promise<void> {
    this.#assertOpen();
    await Promise.all(
      ranges.map((range) =>
        this.#pins.pin(range, () => {
          const cursor = this.#database.open(range, Number.MAX_SAFE_INTEGER);
          return readAll(cursor, new Merge([], Number.MAX_SAFE_INTEGER));
        }),
      ),
    );
  }

  release(ranges: readonly KeyRange[]): void {
    for (const range of ranges) this.#pins.unpin(range);
  }

  scan(range: KeyRange): readonly KeyValue[] {
    return this.#pins.scan(range, this.#generations(), this.#newest);
  }

  /** Oldest first. */
  #generations(): Generation[] {
    return [...this.#sealed.map(({ generation }) => generation), this.#active];
  }

  /** The value of a key that a generation has changed; undefined: it is on disk as it is. */
  readonly #newest = (key: string): Uint8Array | null | undefined => {
    const cell = this.#rows.get(key);
    return cell === undefined || cell.generation === 0 ? undefined : bytesOf(cell);
  };

  async iterate(range: KeyRange, limit: number): Promise<readonly KeyValue[]> {
    this.#assertOpen();
    if (limit <= 0 || range.from >= range.to) return [];
    // Both are taken in this turn. Each change hides one row at most, and two rows may be the store's own.
    const changes = changesIn(this.#generations(), this.#newest, range, limit);
    const cursor = this.#database.open(range, limit + changes.length + 2);
    return readAll(cursor, new Merge(changes, limit));
  }

  applied(index: number, term: number): void {
    assert(index > this.#appliedIndex, `entry ${index} applied after ${this.#appliedIndex}`);
    assert(
      this.#savepoints === 0 && this.#installing === undefined,
      "applied within a savepoint or install",
    );
    this.#appliedIndex = index;
    this.#appliedTerm = term;
    this.#isWithinEntry = false;
    this.#schedule();
  }

  /** Seals the active generation and writes it: now, or when the timer says so. */
  #schedule(): void {
    if (this.#failure !== undefined || this.#installing !== undefined) return;
    const sealedIndex = this.#sealed[this.#sealed.length - 1]?.index ?? this.#flushedIndex;
    if (this.#appliedIndex > sealedIndex && !this.#isWithinEntry) {
      const isWanted = this.#waiters.length > 0 && this.#inFlight === undefined;
      if (isWanted || this.#active.weight >= this.#options.flushBytes) this.#seal();
      else this.#startTimer();
    }
    if (this.#inFlight === undefined && this.#sealed.length > 0) this.#writeFirst();
  }

  #startTimer(): void {
    const { clock, flushIntervalMs } = this.#options;
    const dueInMs = this.#lastFlushMs + flushIntervalMs - clock.monotonicMs();
    this.#cancelTimer ??= clock.after(Math.max(0, dueInMs), () => {
      this.#cancelTimer = undefined;
      // In flight: its end schedules what follows. Within an entry: the entry's end does.
      if (this.#inFlight !== undefined || this.#isWithinEntry || this.#isClosed) return;
      if (this.#failure !== undefined || this.#installing !== undefined) return;
      this.#seal();
      this.#writeFirst();
    });
  }

  #seal(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const generation = this.#active;
    this.#sealed.push({ generation, index: this.#appliedIndex, term: this.#appliedTerm });
    this.#active = new Generation(generation.number + 1);
  }

  #writeFirst(): void {
    this.#lastFlushMs = this.#options.clock.monotonicMs();
    const sealed = this.#sealed[0]!;
    this.#inFlight = this.#write(sealed).then(
      () => this.#flushed(sealed),
      (thrown: unknown) => this.#fail(thrown),
    );
  }

  async #write({ generation, index, term }: Sealed): Promise<void> {
    const batch = this.#database.batch();
    const { cells } = generation;
    for (let place = 0; place < cells.length; place++) {
      if (place % rowsPerTurn === rowsPerTurn - 1) await nextTurn();
      const cell = cells[place]!;
      const contents = generation.contentsOf(cell);
      if (contents !== undefined) this.#count(cell, bytesOf(contents), batch);
    }
    await batch.write({ index, term, hash: this.#hash.digest() });
  }

  /** Takes a row into the running hash and into a batch. */
  #count(cell: Cell, bytes: Uint8Array | null, batch: Batch): void {
    this.#hash.removeRow(cell);
    if (bytes === null) {
      if (cell.isStored) batch.delete(cell.key);
      cell.low = cell.high = 0;
      cell.isStored = false;
      return;
    }
    batch.put(cell.key, bytes);
    cell.isStored = true;
    hashRow(cell.key, bytes, cell);
    this.#hash.addRow(cell);
  }

  #flushed({ generation, index, term }: Sealed): void {
    for (const cell of generation.cells) {
      if (cell.generation !== generation.number) continue;
      cell.generation = 0;
      // Of what is gone nothing needs to be known.
      if (cell.isAbsent) this.#rows.delete(cell.key);
    }
    this.#pins.flushed(generation);
    this.#sealed.shift();
    this.#inFlight = undefined;
    this.#flushedIndex = index;
    this.#flushedTerm = term;
    const reached = this.#waiters.filter((waiter) => waiter.index <= index);
    this.#waiters = this.#waiters.filter((waiter) => waiter.index > index);
    for (const waiter of reached) waiter.resolve();
    this.#schedule();
  }

  #fail(thrown: unknown): void {
    this.#inFlight = undefined;
    this.#failure = toWeirError(thrown, `Cannot write the state to "${this.#database.path}"`);
    this.#options.logger.error({ error: String(thrown) }, "the metadata store failed");
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#failure);
    this.#onFailure?.(this.#failure);
  }

  async flush(): Promise<{ index: number; term: number }> {
    this.#assertOpen();
    const index = this.#appliedIndex;
    if (this.#flushedIndex < index) {
      await new Promise<void>((resolve, reject) => {
        this.#waiters.push({ index, resolve, reject });
        this.#schedule();
      });
    }
    return { index: this.#flushedIndex, term: this.#flushedTerm };
  }

  async snapshot(): Promise<StoreSnapshot> {
    await this.flush();
    // A batch that is in flight by now is in it or is not: the snapshot itself says where it stands.
    const snapshot = this.#database.snapshot();
    return {
      index: snapshot.index,
      term: snapshot.term,
      hash: snapshot.hash,
      chunks: () => checkedChunks(snapshot, this.#options.directory),
      close: () => snapshot.close(),
    };
  }

  async install(
    index: number,
    term: number,
    chunks: AsyncIterable<readonly KeyValue[]>,
    wantedHash?: string,
  ): Promise<void> {
    this.#assertOpen();
    assert(this.#installing === undefined, "two snapshots are being installed");
    this.#installing = this.#install({ index, term, wantedHash }, chunks).finally(() => {
      this.#installing = undefined;
      this.#schedule();
    });
    await this.#installing;
  }

  async #install(
    { index, term, wantedHash }: { index: number; term: number; wantedHash: string | undefined },
    chunks: AsyncIterable<readonly KeyValue[]>,
  ): Promise<void> {
    await this.#inFlight;
    const name = nextDatabase(this.#name);
    const path = join(this.#options.directory, name);
    await rm(path, { recursive: true, force: true });
    const fresh = await Database.open(path, { cacheBytes: this.#options.cacheBytes / 2 });
    let hash: StateHash;
    try {
      hash = await fill(fresh, chunks);
      const digest = hash.digest();
      if (wantedHash !== undefined && digest !== wantedHash) {
        const detail = `its rows sum to ${digest}, wanted ${wantedHash}`;
        throw new WeirError("Corrupt", `Cannot install a snapshot of index ${index}: ${detail}`);
      }
      await fresh.batch().write({ index, term, hash: hash.digest() });
      await pointTo(this.#options.directory, name);
    } catch (thrown) {
      await fresh.close();
      await rm(path, { recursive: true, force: true });
      throw thrown;
    }
    this.#changeOver(name, fresh, { index, term, hash });
  }

  #changeOver(
    name: string,
    fresh: Database,
    place: { index: number; term: number; hash: StateHash },
  ): void {
    const replaced = this.#database;
    this.#name = name;
    this.#database = fresh;
    this.#rows.clear();
    this.#active = new Generation(this.#active.number + 1);
    this.#sealed.length = 0;
    this.#pins.clear();
    this.#hash = place.hash;
    this.#isWithinEntry = false;
    this.#appliedIndex = this.#flushedIndex = place.index;
    this.#appliedTerm = this.#flushedTerm = place.term;
    for (const waiter of this.#waiters.splice(0)) waiter.resolve();
    const gone = replaced
      .close()
      .then(() => rm(replaced.path, { recursive: true, force: true }))
      .catch((thrown: unknown) => {
        this.#options.logger.warn({ error: String(thrown) }, "cannot remove the replaced state");
      })
      .finally(() => this.#retiring.delete(gone));
    this.#retiring.add(gone);
  }

  #assertOpen(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#isClosed) {
      throw new WeirError("Unavailable", "Cannot read the metadata store: it is closed");
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    await this.#installing?.catch(() => undefined);
    // An entry that was begun and not ended cannot be flushed; the log has it.
    if (this.#failure === undefined && !this.#isWithinEntry) await this.flush();
    this.#isClosed = true;
    this.#cancelTimer?.();
    await this.#inFlight;
    await Promise.all(this.#retiring);
    await this.#database.close();
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

/** All rows of a snapshot; ends with `Corrupt` instead of the end when they are not those that were written. */
async function* checkedChunks(
  snapshot: DatabaseSnapshot,
  directory: string,
): AsyncGenerator<readonly KeyValue[]> {
  const sum = new StateHash();
  const cursor = snapshot.open(everything);
  try {
    for (;;) {
      const rows = await cursor.next();
      if (rows.length === 0) break;
      for (const [key, value] of rows) sum.add(key, value);
      yield* pieces(rows);
    }
  } finally {
    await cursor.close();
  }
  if (sum.digest() === snapshot.hash) return;
  throw new WeirError(
    "Corrupt",
    `Cannot hand out the state in "${directory}": its rows sum to ${sum.digest()}, wanted ${snapshot.hash}; what ` +
      "the disk holds is not what was written. Replace this master: weir cluster replace NAME",
  );
}

/** The rows in pieces of about `chunkBytes`; a larger row is a piece of its own. */
function* pieces(rows: readonly KeyValue[]): Generator<readonly KeyValue[]> {
  let first = 0;
  let bytes = 0;
  for (const [i, [key, value]] of rows.entries()) {
    const weight = key.length + value.length;
    if (i > first && bytes + weight > chunkBytes) {
      yield rows.slice(first, i);
      first = i;
      bytes = 0;
    }
    bytes += weight;
  }
  yield first === 0 ? rows : rows.slice(first);
}

/** Writes all chunks to a fresh database; the sum over them. */
async function fill(
  fresh: Database,
  chunks: AsyncIterable<readonly KeyValue[]>,
): Promise<StateHash> {
  const hash = new StateHash();
  let batch = fresh.batch();
  let bytes = 0;
  const write = async () => {
    await batch.write({ index: 0, term: 0, hash: hash.digest() });
    batch = fresh.batch();
    bytes = 0;
  };
  for await (const chunk of chunks) {
    for (const [key, value] of chunk) {
      hash.add(key, value);
      batch.put(key, value);
      bytes += key.length + value.length;
    }
    if (bytes >= chunkBytes) await write();
  }
  await write();
  return hash;
}

function checkKey(key: string): void {
  const first = key.charCodeAt(0);
  // Only own keys begin like "meta/", among those within the range.
  if (first > 0 && first < 0xff && first !== 0x6d) return;
  if (isOwnKey(key) || key < "\x01" || key >= everything.to) assert.fail(`"${key}" is no key`);
}
