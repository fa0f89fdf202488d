/**
 * The replicated state in LevelDB under a write-behind overlay. Writes go to the active generation of the overlay; when it
 * is old or large enough it is sealed, and a new one takes what follows. Sealed ones are written in the background, each
 * as one synced batch. Nobody waits for that: the log is the durability of what is not flushed yet.
 *
 * Invariants
 * 1. Reads go active → sealed → cache → LevelDB, and find the newest value at every moment: a generation leaves the
 *    overlay in the same turn in which the cache learns of its values.
 * 2. A generation begins and ends between two entries, so every batch is the state at exactly one applied index.
 * 3. One batch is in flight at a time. One that fails is not retried: the store refuses from then on (`full`, `flush`
 *    rejects) and the process is to exit, since LevelDB's log may end anywhere.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join, resolve as resolvePath } from "node:path";
import type { Clock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { currentDatabase, nextDatabase, pointTo } from "./current.ts";
import { type Cursor, Database, isOwnKey, type Place } from "./database.ts";
import { type Change, changesIn, Merge, Overlay } from "./overlay.ts";
import { PinnedRanges } from "./pinned-ranges.ts";
import { ReadCache } from "./read-cache.ts";
import { StateHash } from "./state-hash.ts";
import type { KeyRange, KeyValue, StateStore, StoreSnapshot } from "./types.ts";

const chunkBytes = 512 * 1024;
/** Every key of the state: `put` takes no other. */
const everything: KeyRange = { from: "", to: "\xff" };

export interface StateStoreOptions {
  /** Made with its parents when it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once when a flush failed: the process is to exit. */
  readonly onFailure?: (error: WeirError) => void;
  /** Shortest time between the starts of two flushes. */
  readonly flushIntervalMs?: number;
  /** Bytes in the active generation that start a flush before that. */
  readonly flushBytes?: number;
  /** Bytes in the overlay from which on the store is `full`. */
  readonly maxOverlayBytes?: number;
  /** Bound of the cache of values; LevelDB's own cache of blocks gets as much. */
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
  const { cacheBytes = 64 * 1024 * 1024 } = options;
  const database = await Database.open(join(directory, name), { cacheBytes });
  options.logger.info({ index: database.place.index, database: name }, "state opened");
  return new LevelStore({ ...options, directory, cacheBytes }, name, database);
}

/** Undo of a write within a savepoint: what the active generation held before. */
type Undo = readonly [key: string, before: Uint8Array | null | undefined];

class LevelStore implements StateStore {
  readonly #options: Required<Omit<StateStoreOptions, "onFailure">>;
  readonly #onFailure: ((error: WeirError) => void) | undefined;
  #name: string;
  #database: Database;
  #active = new Overlay();
  /** Oldest first; the first one is being written while `#inFlight` is there. */
  readonly #sealed: { readonly overlay: Overlay; readonly place: Place }[] = [];
  readonly #cache: ReadCache;
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
      flushIntervalMs: 50,
      flushBytes: 4 * 1024 * 1024,
      maxOverlayBytes: 64 * 1024 * 1024,
      ...options,
    };
    this.#onFailure = options.onFailure;
    this.#name = name;
    this.#database = database;
    this.#cache = new ReadCache(options.cacheBytes);
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
    let { bytes } = this.#active;
    for (const { overlay } of this.#sealed) bytes += overlay.bytes;
    return bytes >= this.#options.maxOverlayBytes || this.#failure !== undefined;
  }

  hash(): string {
    return this.#hash.digest();
  }

  get(key: string): Uint8Array | undefined {
    return this.#lookUp(key) ?? undefined;
  }

  #lookUp(key: string): Uint8Array | null {
    const changed = this.#active.get(key);
    if (changed !== undefined) return changed;
    for (let i = this.#sealed.length - 1; i >= 0; i--) {
      const sealed = this.#sealed[i]!.overlay.get(key);
      if (sealed !== undefined) return sealed;
    }
    const cached = this.#cache.get(key);
    if (cached !== undefined) return cached;
    const stored = this.#database.get(key) ?? null;
    this.#cache.set(key, stored);
    return stored;
  }

  put(key: string, value: Uint8Array): void {
    if (isOwnKey(key) || key < "\x01" || key >= everything.to) assert.fail(`"${key}" is no key`);
    this.#write(key, value);
  }

  delete(key: string): void {
    this.#write(key, null);
  }

  #write(key: string, value: Uint8Array | null): void {
    this.#isWithinEntry = true;
    const before = this.get(key);
    if (before === undefined && value === null) return;
    if (before !== undefined) this.#hash.remove(key, before);
    if (value !== null) this.#hash.add(key, value);
    if (this.#savepoints > 0) this.#undo.push([key, this.#active.get(key)]);
    this.#active.set(key, value);
  }

  savepoint(): { rollback(): void; commit(): void } {
    const mark = this.#undo.length;
    const digest = this.#hash.digest();
    this.#savepoints++;
    const end = () => {
      this.#savepoints--;
      if (this.#savepoints === 0) this.#undo = [];
    };
    return {
      commit: end,
      rollback: () => {
        for (const [key, before] of this.#undo.splice(mark).reverse())
          this.#active.set(key, before);
        this.#hash = new StateHash(digest);
        end();
      },
    };
  }

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
    return this.#pins.scan(range, this.#layers());
  }

  /** Generations of the overlay, oldest first. */
  #layers(): Overlay[] {
    return [...this.#sealed.map(({ overlay }) => overlay), this.#active];
  }

  async iterate(range: KeyRange, limit: number): Promise<readonly KeyValue[]> {
    this.#assertOpen();
    if (limit <= 0 || range.from >= range.to) return [];
    // Both are taken in this turn. Each change hides one row at most, and two rows may be the store's own.
    const changes = changesIn(this.#layers(), range, limit);
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
    const sealedIndex = this.#sealed[this.#sealed.length - 1]?.place.index ?? this.#flushedIndex;
    if (this.#appliedIndex > sealedIndex && !this.#isWithinEntry) {
      const isWanted = this.#waiters.length > 0 && this.#inFlight === undefined;
      if (isWanted || this.#active.bytes >= this.#options.flushBytes) this.#seal();
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
    const place = {
      index: this.#appliedIndex,
      term: this.#appliedTerm,
      hash: this.#hash.digest(),
    };
    this.#sealed.push({ overlay: this.#active, place });
    this.#active = new Overlay();
  }

  #writeFirst(): void {
    this.#lastFlushMs = this.#options.clock.monotonicMs();
    const { overlay, place } = this.#sealed[0]!;
    this.#inFlight = this.#database.write(overlay.changes(), place).then(
      () => this.#flushed(overlay, place),
      (thrown: unknown) => this.#fail(thrown),
    );
  }

  #flushed(overlay: Overlay, place: Place): void {
    for (const [key, value] of overlay.changes()) this.#cache.set(key, value);
    this.#pins.flushed(overlay);
    this.#sealed.shift();
    this.#inFlight = undefined;
    this.#flushedIndex = place.index;
    this.#flushedTerm = place.term;
    const reached = this.#waiters.filter((waiter) => waiter.index <= place.index);
    this.#waiters = this.#waiters.filter((waiter) => waiter.index > place.index);
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
      chunks: () => chunksOf(snapshot.open(everything)),
      close: () => snapshot.close(),
    };
  }

  async install(
    index: number,
    term: number,
    chunks: AsyncIterable<readonly KeyValue[]>,
  ): Promise<void> {
    this.#assertOpen();
    assert(this.#installing === undefined, "two snapshots are being installed");
    this.#installing = this.#install({ index, term }, chunks).finally(() => {
      this.#installing = undefined;
      this.#schedule();
    });
    await this.#installing;
  }

  async #install(
    { index, term }: { index: number; term: number },
    chunks: AsyncIterable<readonly KeyValue[]>,
  ): Promise<void> {
    await this.#inFlight;
    const name = nextDatabase(this.#name);
    const path = join(this.#options.directory, name);
    await rm(path, { recursive: true, force: true });
    const fresh = await Database.open(path, { cacheBytes: this.#options.cacheBytes });
    let hash: StateHash;
    try {
      hash = await fill(fresh, chunks);
      await fresh.write([], { index, term, hash: hash.digest() });
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
    this.#active = new Overlay();
    this.#sealed.length = 0;
    this.#cache.clear();
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

async function* chunksOf(cursor: Cursor): AsyncGenerator<readonly KeyValue[]> {
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

/** Writes all chunks to a fresh database; the sum over them. */
async function fill(
  fresh: Database,
  chunks: AsyncIterable<readonly KeyValue[]>,
): Promise<StateHash> {
  const hash = new StateHash();
  let gathered: Change[] = [];
  let bytes = 0;
  const write = async () => {
    await fresh.write(gathered, { index: 0, term: 0, hash: hash.digest() });
    gathered = [];
    bytes = 0;
  };
  for await (const chunk of chunks) {
    for (const [key, value] of chunk) {
      hash.add(key, value);
      gathered.push([key, value]);
      bytes += key.length + value.length;
    }
    if (bytes >= chunkBytes) await write();
  }
  await write();
  return hash;
}
