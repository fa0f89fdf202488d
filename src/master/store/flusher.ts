/**
 * Writes the overlay to the database in the background, one sealed generation after the other, each as one synced batch;
 * and keeps the sum over what it wrote.
 *
 * Invariants
 * 1. One batch is in flight at a time. One that fails is not retried: nothing is written from then on (`flush` rejects)
 *    and the process is to exit, since LevelDB's log may end anywhere.
 * 2. The running hash is that of the database and of what of a sealed generation was counted; each cell knows its own part
 *    in it. The hash of the newest state follows from that and the overlay.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { bytesOf, type Cell } from "./cell.ts";
import type { Batch, Database } from "./database.ts";
import type { Generation } from "./generation.ts";
import type { Overlay, Sealed } from "./overlay.ts";
import { hashRow, StateHash } from "./state-hash.ts";

/**
 * Bytes in the heap of the rows that are encoded in one turn of the event loop: about 500 small ones, or a few large ones,
 * in about a millisecond.
 */
const bytesPerTurn = 256 * 1024;

export interface FlusherOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once: the process is to exit. */
  readonly onFailure: ((error: WeirError) => void) | undefined;
  /** Called in the turn in which a generation leaves the overlay, with the keys of rows that are no more. */
  readonly onFlushed: (generation: Generation, gone: readonly string[]) => void;
  readonly flushIntervalMs: number;
  readonly flushBytes: number;
}

export class Flusher {
  readonly #options: FlusherOptions;
  readonly #overlay: Overlay;
  #database: Database;
  #hash: StateHash;
  #index: number;
  #term: number;
  #digest: string;
  #lastFlushMs = Number.NEGATIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;
  #inFlight: Promise<void> | undefined;
  #waiters: { readonly index: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  #isHeld = false;
  #failure: WeirError | undefined;

  constructor(options: FlusherOptions, overlay: Overlay, database: Database) {
    this.#options = options;
    this.#overlay = overlay;
    this.#database = database;
    const { index, term, hash } = database.place;
    this.#hash = new StateHash(hash);
    this.#index = index;
    this.#term = term;
    this.#digest = hash;
  }

  /** Log position of what is on disk. */
  get index(): number {
    return this.#index;
  }

  get term(): number {
    return this.#term;
  }

  /** The sum over what is on disk. */
  get digest(): string {
    return this.#digest;
  }

  get failure(): WeirError | undefined {
    return this.#failure;
  }

  /** The sum over the newest state. */
  hash(): string {
    const hash = new StateHash(this.#hash.digest());
    for (const cell of new Set(this.#overlay.cells())) {
      hash.removeRow(cell);
      const bytes = bytesOf(cell);
      if (bytes !== null) hash.add(cell.key, bytes);
    }
    return hash.digest();
  }

  /** To be called when an entry was applied: seals the active generation and writes it now, or when the timer says so. */
  wake(): void {
    if (this.#failure !== undefined || this.#isHeld) return;
    if (this.#overlay.canSeal) {
      const isWanted = this.#waiters.length > 0 && this.#inFlight === undefined;
      if (isWanted || this.#overlay.activeWeight >= this.#options.flushBytes) this.#seal();
      else this.#startTimer();
    }
    if (this.#inFlight === undefined) this.#writeFirst();
  }

  #startTimer(): void {
    const { clock, flushIntervalMs } = this.#options;
    const dueInMs = this.#lastFlushMs + flushIntervalMs - clock.monotonicMs();
    this.#cancelTimer ??= clock.after(Math.max(0, dueInMs), () => {
      this.#cancelTimer = undefined;
      // In flight: its end wakes what follows. Within an entry: the entry's end does.
      if (this.#inFlight !== undefined || !this.#overlay.canSeal) return;
      if (this.#failure !== undefined || this.#isHeld) return;
      this.#seal();
      this.#writeFirst();
    });
  }

  #seal(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#overlay.seal();
  }

  #writeFirst(): void {
    const { first } = this.#overlay;
    if (first === undefined) return;
    this.#lastFlushMs = this.#options.clock.monotonicMs();
    this.#inFlight = this.#write(first).then(
      (digest) => {
        this.#written(first, digest);
      },
      (thrown: unknown) => {
        this.#inFlight = undefined;
        this.fail(toWeirError(thrown, `Cannot write the state to "${this.#database.path}"`));
      },
    );
  }

  /** Resolves with the sum over what is on disk then. */
  async #write({ generation, index, term }: Sealed): Promise<string> {
    const batch = this.#database.batch();
    let bytes = 0;
    for (const cell of generation.cells) {
      if (bytes >= bytesPerTurn) {
        await nextTurn();
        bytes = 0;
      }
      const contents = generation.contentsOf(cell);
      if (contents === undefined) continue;
      this.#count(cell, bytesOf(contents), batch);
      bytes += contents.weight;
    }
    const hash = this.#hash.digest();
    await batch.write({ index, term, hash });
    return hash;
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
    cell.isStored = true;
    hashRow(cell.key, bytes, cell);
    batch.put(cell.key, bytes, cell);
    this.#hash.addRow(cell);
  }

  #written({ generation, index, term }: Sealed, digest: string): void {
    this.#options.onFlushed(generation, this.#overlay.removeFirst());
    this.#inFlight = undefined;
    this.#index = index;
    this.#term = term;
    this.#digest = digest;
    const reached = this.#waiters.filter((waiter) => waiter.index <= index);
    this.#waiters = this.#waiters.filter((waiter) => waiter.index > index);
    for (const waiter of reached) waiter.resolve();
    this.wake();
  }

  /** Nothing is written any more; `onFailure` hears of the first error. */
  fail(error: WeirError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#options.logger.error({ error: String(error) }, "the metadata store failed");
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
    this.#options.onFailure?.(error);
  }

  /** Resolves when all that was applied before the call is on disk. */
  async flush(): Promise<void> {
    const index = this.#overlay.appliedIndex;
    if (this.#index >= index) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiters.push({ index, resolve, reject });
      this.wake();
    });
  }

  /** Waits for the batch in flight; none begins until `resume`. */
  async hold(): Promise<void> {
    this.#isHeld = true;
    await this.#inFlight;
  }

  resume(): void {
    this.#isHeld = false;
    this.wake();
  }

  /** Goes over to another database, when it is held: the overlay has begun anew above it. */
  changeOver(fresh: Database, place: { index: number; term: number; hash: StateHash }): void {
    this.#database = fresh;
    this.#hash = place.hash;
    this.#index = place.index;
    this.#term = place.term;
    this.#digest = place.hash.digest();
    for (const waiter of this.#waiters.splice(0)) waiter.resolve();
  }

  /** Nothing begins any more; resolves when nothing is in flight. Who waits for more is told that it does not come. */
  async close(): Promise<void> {
    this.#isHeld = true;
    this.#cancelTimer?.();
    await this.#inFlight;
    const closed = new WeirError("Unavailable", "Cannot flush the metadata store: it is closed");
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closed);
  }
}
