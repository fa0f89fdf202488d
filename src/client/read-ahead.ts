/**
 * Bytes of one version of a file on their way here: windows that are being filled, or were. Sequential readers get
 * windows that grow and are fetched ahead; random readers get small aligned ones.
 *
 * Invariants
 * 1. Windows of one reader never overlap, and at most `windowsPerReader` exist.
 * 2. What all readers hold is bounded by their budget: when it is used up, windows are of the smallest size.
 */
import { toWeirError, WeirError } from "../lib/errors.ts";

const smallestWindowBytes = 128 * 1024;
const firstSequentialBytes = 512 * 1024;
const largestWindowBytes = 4 * 1024 * 1024;
const windowsPerReader = 4;
/** Reads that are this close to the expected offset are sequential: the kernel sends them out of order. */
const jitterBytes = 2 * 1024 * 1024;

/** Fetches [offset, offset + length) in order; ends after exactly `length` bytes or rejects. */
export type Fetch = (
  offset: number,
  length: number,
  signal: AbortSignal,
) => AsyncIterable<Uint8Array>;

/** Bytes that the read-ahead of all files of a client may hold. */
export class ReadBudget {
  readonly #limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes = 128 * 1024 * 1024) {
    this.#limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The size to use for a window of `wanted` bytes, given what is left. */
  affordable(wanted: number): number {
    const left = this.#limitBytes - this.#usedBytes;
    return Math.min(wanted, Math.max(smallestWindowBytes, Math.floor(left / 8)));
  }

  take(bytes: number): void {
    this.#usedBytes += bytes;
  }

  giveBack(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}

class Window {
  readonly start: number;
  readonly end: number;
  readonly #bytes: Buffer;
  readonly #abort = new AbortController();
  #filled = 0;
  #failure: WeirError | undefined;
  #settled = false;
  #waiters: (() => void)[] = [];
  /** Reads that wait for, or copy from, this window. */
  readers = 0;

  constructor(start: number, end: number, fetch: Fetch) {
    this.start = start;
    this.end = end;
    this.#bytes = Buffer.allocUnsafeSlow(end - start);
    void this.#fill(fetch);
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** Copies the bytes from `position` on as soon as they are here. */
  async copy(target: Uint8Array, position: number): Promise<void> {
    const from = position - this.start;
    const to = from + target.length;
    this.readers++;
    try {
      while (this.#filled < to) {
        if (this.#failure !== undefined) throw this.#failure;
        await new Promise<void>((resolve) => this.#waiters.push(resolve));
      }
    } finally {
      this.readers--;
    }
    target.set(this.#bytes.subarray(from, to));
  }

  drop(): void {
    if (!this.#settled) this.#abort.abort();
  }

  async #fill(fetch: Fetch): Promise<void> {
    const length = this.end - this.start;
    try {
      for await (const chunk of fetch(this.start, length, this.#abort.signal)) {
        this.#bytes.set(chunk, this.#filled);
        this.#filled += chunk.length;
        this.#wake();
      }
      if (this.#filled < length) {
        throw new WeirError(
          "Corrupt",
          `Cannot read ${String(length)} bytes: the source ended after ${String(this.#filled)}`,
        );
      }
    } catch (error) {
      this.#failure = this.#abort.signal.aborted
        ? new WeirError("Stale", "Cannot read on: the reader went to another version", {
            cause: error,
          })
        : toWeirError(error, "Cannot read ahead");
    }
    this.#settled = true;
    this.#wake();
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }
}

export class ReadAhead {
  readonly #fetch: Fetch;
  readonly #budget: ReadBudget;
  /** In the order of last use. */
  #windows: Window[] = [];
  /** Where the next read of a sequential reader starts. */
  #expected = 0;
  /** Sequential reads in a row. */
  #streak = 0;

  constructor(fetch: Fetch, budget: ReadBudget) {
    this.#fetch = fetch;
    this.#budget = budget;
  }

  /** Fills `target` with the bytes from `offset`, all of which lie before `limit`, where the file (or its part) ends. */
  async read(target: Uint8Array, offset: number, limit: number): Promise<void> {
    const sequential = Math.abs(offset - this.#expected) <= jitterBytes;
    this.#streak = sequential ? this.#streak + 1 : 0;
    const end = offset + target.length;
    this.#expected = sequential ? Math.max(this.#expected, end) : end;
    let done = 0;
    while (done < target.length) {
      const position = offset + done;
      const window = this.#windowAt(position, target.length - done, limit);
      const length = Math.min(target.length - done, window.end - position);
      // First of all the window gets its reader: the one ahead of it must not push it out.
      const copied = window.copy(target.subarray(done, done + length), position);
      if (this.#streak > 1 && position + length > (window.start + window.end) / 2) {
        if (window.end < limit && !this.#holds(window.end)) this.#windowAt(window.end, 1, limit);
      }
      await copied;
      done += length;
    }
  }

  /** Stops what is under way, whose readers get `Stale`, and forgets everything. */
  clear(): void {
    for (const window of this.#windows) this.#release(window);
    this.#windows = [];
    this.#streak = 0;
  }

  #holds(position: number): boolean {
    return this.#windows.some((window) => window.start <= position && position < window.end);
  }

  #windowAt(position: number, wanted: number, limit: number): Window {
    const index = this.#windows.findIndex(
      (window) => window.start <= position && position < window.end,
    );
    const found = this.#windows[index];
    if (found !== undefined) {
      this.#windows.splice(index, 1);
      if (!found.failed) {
        this.#windows.push(found);
        return found;
      }
      this.#release(found);
    }
    const window = this.#start(position, wanted, limit);
    this.#windows.push(window);
    while (this.#windows.length > windowsPerReader) {
      const idle = this.#windows.findIndex((each) => each.readers === 0 && each !== window);
      if (idle < 0) break;
      this.#release(this.#windows[idle]!);
      this.#windows.splice(idle, 1);
    }
    return window;
  }

  #start(position: number, wanted: number, limit: number): Window {
    let start = position;
    let size: number;
    if (this.#streak === 0) {
      start = position - (position % smallestWindowBytes);
      size = Math.max(smallestWindowBytes, position - start + wanted);
    } else {
      const grown = firstSequentialBytes * 2 ** Math.min(this.#streak, 8);
      size = Math.max(wanted, this.#budget.affordable(Math.min(grown, largestWindowBytes)));
    }
    let end = Math.min(start + size, limit);
    for (const other of this.#windows) {
      if (other.start > position) end = Math.min(end, other.start);
      else if (other.end <= position) start = Math.max(start, other.end);
    }
    this.#budget.take(end - start);
    return new Window(start, end, this.#fetch);
  }

  #release(window: Window): void {
    window.drop();
    this.#budget.giveBack(window.end - window.start);
  }
}
