/**
 * Reads LevelDB's tables while it is open, a few megabytes a second: new ones, so that the next start need not, and all
 * others from time to time, since a broken table may hide a row, and then an older one of its key shows.
 *
 * Invariant: a table is called damaged only when the manifest names it: before that it is being written.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, sleepOn } from "../../lib/clock.ts";
import type { Logger } from "../../lib/logger.ts";
import { at, liveTables } from "./leveldb-check.ts";
import { damageOf } from "./leveldb-table.ts";
import type { VerifiedTables } from "./verified-tables.ts";

/** About 3 % of a core while there is something to read: a second of it reads a GiB. */
const bytesPerMs = 32 * 1024;
/** From one look at the directory to the next, when all was read. */
const idleMs = 10_000;
/** A table that was read is read again after that. */
const againMs = 6 * 3600 * 1000;
/** Tables after which what was verified is saved. */
const tablesPerSave = 32;

export interface TableScrubOptions {
  readonly directory: string;
  readonly verified: VerifiedTables;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called with what is damaged, in words. */
  readonly onDamage: (damage: string) => void;
}

export class TableScrub {
  readonly #options: TableScrubOptions;
  readonly #stopping = new AbortController();
  /** When each was read by this process, on the monotonic clock. */
  readonly #readMs = new Map<string, number>();
  readonly #ended: Promise<void>;

  constructor(options: TableScrubOptions) {
    this.#options = options;
    this.#ended = this.#run().catch((thrown: unknown) => {
      if (this.#stopping.signal.aborted) return;
      // Nothing is known to be damaged: the next start reads what was not.
      options.logger.warn({ error: String(thrown) }, "cannot read the tables of the state");
    });
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#ended;
    await this.#options.verified.save().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { clock, verified } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let unsaved = 0;
      for (const name of await this.#due()) {
        if (signal.aborted) break;
        const bytes = await this.#read(name);
        if (++unsaved % tablesPerSave === 0) await verified.save();
        await sleepOn(clock, Math.ceil(bytes / bytesPerMs), signal);
      }
      if (unsaved > 0) await verified.save();
      await sleepOn(clock, idleMs, signal);
    }
  }

  /** Names of the tables that are to be read, those that nobody has verified first, in the order of their making. */
  async #due(): Promise<string[]> {
    const { directory, verified, clock } = this.#options;
    const names = (await readdir(directory)).filter((name) => /^\d+\.(ldb|sst)$/.test(name)).sort();
    verified.keepOnly(new Set(names));
    for (const name of this.#readMs.keys()) if (!names.includes(name)) this.#readMs.delete(name);
    const before = clock.monotonicMs() - againMs;
    const due: string[] = [];
    const old: string[] = [];
    for (const name of names) {
      const stats = await statOf(directory, name);
      if (stats === undefined) continue;
      if (!verified.has(name, stats)) due.push(name);
      else if ((this.#readMs.get(name) ?? Number.NEGATIVE_INFINITY) < before) old.push(name);
    }
    return [...due, ...old];
  }

  /** Reads a table; resolves with its length. */
  async #read(name: string): Promise<number> {
    const { directory, verified, clock } = this.#options;
    const stats = await statOf(directory, name);
    const table = await readFile(join(directory, name)).catch(() => undefined);
    // LevelDB has removed it meanwhile.
    if (stats === undefined || table === undefined) return 0;
    const damaged = damageOf(table);
    if (damaged === undefined) {
      verified.add(name, stats);
      this.#readMs.set(name, clock.monotonicMs());
    } else {
      await this.#judge(name, damaged);
    }
    return table.length;
  }

  async #judge(name: string, offset: number): Promise<void> {
    const { directory, onDamage } = this.#options;
    const live = await liveTables(directory);
    if (live?.has(Number.parseInt(name, 10)) !== true) return;
    // It may have been whole only since it was read.
    const table = await readFile(join(directory, name)).catch(() => undefined);
    const damaged = table === undefined ? undefined : damageOf(table);
    if (damaged !== undefined) onDamage(at(name, offset));
  }
}

function statOf(directory: string, name: string) {
  return stat(join(directory, name), { bigint: true }).catch(() => undefined);
}
