/**
 * Knows the names of stores' directories when they are asked for: loads a directory when somebody asks below it for the
 * first time, and brings it in line with its store when what is known has become too old. Who asks for one directory of a
 * tree mostly goes on to those below, so these are loaded ahead, breadth first, up to a budget.
 *
 * Invariants
 * 1. One run per directory is under way at a time, however many wait for it; each waits with its own deadline.
 * 2. One walk ahead is under way at a time; what it loads nobody waits for, and its failures nobody sees.
 * 3. Of a directory with more names than a page, one name is looked up without all the others.
 * 4. A store that cannot be asked keeps nobody from what is known already.
 */
import type { Clock } from "../../lib/clock.ts";
import { toWeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { edgeOf, firstLinkOf, inodeOf } from "../state/queries.ts";
import { DirectorySync, noCounts, type SyncCounts, type SyncEnd } from "./directory-sync.ts";
import type { Reign } from "./leadership.ts";
import { namesBelow } from "./listings.ts";
import { Recent } from "./recent.ts";
import { abortable } from "./signals.ts";
import { pageLength, StoreLister, type StoreListerOptions } from "./store-lister.ts";

/** What one walk ahead may load: enough to hide the way to the store, little beside what a large tree costs. */
const defaultAhead = { directories: 256, names: 4096 };
/** Directories that a walk ahead loads at once: their pages share log entries. */
const aheadWidth = 8;
/** After a failure a directory is left alone for so long. */
const restMs = 2000;
/** Directories and names of which something is remembered. */
const remembered = 10_000;

const waitingToSync = "Cannot wait for a directory to be brought in line";
const waitingToLoad = "Cannot wait for a directory to be loaded";

/** A directory that is being brought in line. */
interface Flight {
  readonly startedAtMs: number;
  readonly counts: SyncCounts;
  /** Somebody wants all names, not only one. */
  isWhole: boolean;
  /** All names up to this one are known. */
  upTo: string | undefined;
  readonly ended: Promise<SyncEnd>;
  /** Called at each page and at the end. */
  readonly waiting: Set<() => void>;
  isEnded: boolean;
}

export interface DirectoryLoaderOptions extends StoreListerOptions {
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly clusterTimeMs: () => number;
  readonly logger: Logger;
  /** How long a reader waits for a directory to be brought in line, before it gets what was known. */
  readonly syncWaitMs: number;
  /** What one walk ahead may load. */
  readonly ahead?: { readonly directories: number; readonly names: number };
}

export class DirectoryLoader {
  readonly #options: DirectoryLoaderOptions;
  readonly #sync: DirectorySync;
  readonly #ahead: { readonly directories: number; readonly names: number };
  readonly #flights = new Map<InodeId, Flight>();
  /**
   * Directories with more names than a page that are not loaded, and how far they are known: one name of them is asked for
   * alone, and who wants all goes on from there.
   */
  readonly #large = new Recent<InodeId, { readonly startedAtMs: number; readonly upTo: string }>(
    remembered,
  );
  /** Names that were asked for alone, and since when they are known. */
  readonly #asked = new Recent<string, number>(remembered);
  readonly #askedNow = new Map<string, Promise<void>>();
  /** What was done to directories lately. */
  readonly #done = new Recent<InodeId, { startedAtMs: number; counts: SyncCounts }>(remembered);
  /** Directories that could not be brought in line, and until when they are left alone (monotonic). */
  readonly #resting = new Recent<InodeId, number>(remembered);
  #walking = false;

  constructor(options: DirectoryLoaderOptions) {
    const { reader, propose } = options;
    this.#options = options;
    this.#sync = new DirectorySync({ reader, lister: new StoreLister(options), propose });
    this.#ahead = options.ahead ?? defaultAhead;
  }

  /**
   * Resolves when every name of the directory is known.
   * @throws WeirError what the store answered; `Unavailable` when no worker is there to ask; the reason of `signal`
   */
  async load(directory: InodeId, signal: AbortSignal): Promise<void> {
    while (this.#isUnloaded(directory)) {
      const { ended } = this.#fly(directory, true);
      if ((await abortable(ended, signal, waitingToLoad)) === "gone") return;
    }
    this.#walkFrom(directory);
  }

  /**
   * Resolves when some names after `after` are known, or all there are: with the last name up to which they are, or
   * undefined.
   * @throws WeirError as `load`
   */
  async reach(
    directory: InodeId,
    after: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    while (this.#isUnloaded(directory)) {
      const flight = this.#fly(directory, true);
      const { upTo } = flight;
      if (upTo !== undefined && (after === undefined || upTo > after)) {
        const [next] = await namesBelow(this.#options.reader, directory, 1, after);
        if (next !== undefined && next.name <= upTo) return upTo;
      }
      if ((await this.#next(flight, signal)) === "gone") return undefined;
    }
    this.#walkFrom(directory);
    return undefined;
  }

  /**
   * Resolves when it is known whether the directory has the name: mostly with all its names.
   * @throws WeirError as `load`
   */
  async know(directory: InodeId, name: string, signal: AbortSignal): Promise<void> {
    const { reader } = this.#options;
    while (this.#isUnloaded(directory) && edgeOf(reader, directory, name) === undefined) {
      if (this.#large.get(directory) !== undefined) {
        if (await this.#ask(directory, name, signal)) return;
        await this.load(directory, signal);
        return;
      }
      const flight = this.#fly(directory, false);
      if (flight.upTo !== undefined && name <= flight.upTo) return;
      const { startedAtMs, upTo } = flight;
      if (upTo !== undefined) this.#large.set(directory, { startedAtMs, upTo });
      else if ((await this.#next(flight, signal)) === "gone") return;
    }
    this.#walkFrom(directory);
  }

  /**
   * Resolves when what is known of the directory, or of the name alone, is not older than `maxAgeMs`, or cannot be made
   * younger in good time.
   */
  async freshen(
    directory: InodeId,
    wanted: { readonly name?: string | undefined; readonly maxAgeMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, clusterTimeMs, logger, syncWaitMs } = this.#options;
    const since = clusterTimeMs() - wanted.maxAgeMs;
    const of = inodeOf(this.#options.reader, directory);
    if (of?.kind !== "directory" || !of.loaded || (of.syncedAtMs ?? -1) >= since) return;
    // The store does not have it yet.
    if (!of.mountPoint && of.persistence !== "persisted") return;
    if ((this.#resting.get(directory) ?? 0) > clock.monotonicMs()) return;
    const { name } = wanted;
    const isAlone = name !== undefined && of.childCount > pageLength;
    const work = isAlone
      ? this.#askSince(directory, name, since)
      : this.#runSince(directory, since).then(() => undefined);
    const settled = work.catch((thrown: unknown) => {
      if (this.#options.reign.signal.aborted) return;
      this.#resting.set(directory, clock.monotonicMs() + restMs);
      const { message } = toWeirError(thrown, "Cannot bring a directory in line");
      logger.warn({ directory, error: message }, "a directory is shown as it was known");
    });
    await this.#within(settled, syncWaitMs, signal);
  }

  /**
   * Brings the directory in line, unless that was begun at the cluster time `since` or later; what was done so far, and
   * whether that is all, after at most `waitMs`.
   * @throws WeirError as `load`
   */
  async sync(
    directory: InodeId,
    { since, waitMs }: { readonly since: number; readonly waitMs: number },
    signal: AbortSignal,
  ): Promise<{ counts: SyncCounts; isDone: boolean }> {
    const run = this.#runSince(directory, since);
    const counts = await this.#within(run, waitMs, signal);
    if (counts !== undefined) return { counts, isDone: true };
    return { counts: this.#flights.get(directory)?.counts ?? noCounts(), isDone: false };
  }

  /**
   * Brings one name in line.
   * @throws WeirError as `load`
   */
  async syncName(directory: InodeId, name: string, signal: AbortSignal): Promise<SyncCounts> {
    const counts = noCounts();
    const isKnown = await this.#ask(directory, name, signal, counts);
    if (isKnown) return counts;
    const whole = this.#runSince(directory, this.#options.clusterTimeMs());
    return abortable(whole, signal, waitingToSync);
  }

  /** What `work` comes to, or undefined after `waitMs`; it goes on all the same. */
  async #within<T>(work: Promise<T>, waitMs: number, signal: AbortSignal): Promise<T | undefined> {
    const patience = new AbortController();
    const cancel = this.#options.clock.after(waitMs, () => patience.abort());
    try {
      return await abortable(work, AbortSignal.any([signal, patience.signal]), waitingToSync);
    } catch (thrown) {
      if (!patience.signal.aborted || signal.aborted) throw thrown;
      return undefined;
    } finally {
      cancel();
    }
  }

  #isUnloaded(directory: InodeId): boolean {
    const of = inodeOf(this.#options.reader, directory);
    return of?.kind === "directory" && !of.loaded;
  }

  /** The run of the directory, begun if need be. */
  #fly(directory: InodeId, isWhole: boolean): Flight {
    const underWay = this.#flights.get(directory);
    if (underWay !== undefined) {
      underWay.isWhole ||= isWhole;
      return underWay;
    }
    const begun = this.#isUnloaded(directory) ? this.#large.get(directory) : undefined;
    const startedAtMs = begun?.startedAtMs ?? this.#options.clusterTimeMs();
    const counts = noCounts();
    const waiting = new Set<() => void>();
    const wake = () => {
      const all = [...waiting];
      waiting.clear();
      for (const each of all) each();
    };
    const run = this.#sync.run(
      {
        directory,
        startedAtMs,
        counts,
        after: begun?.upTo,
        onPage: (upTo) => {
          flight.upTo = upTo;
          wake();
          return flight.isWhole;
        },
      },
      this.#options.reign.signal,
    );
    const ended = run
      .then((end) => {
        const { upTo } = flight;
        if (end === "partial" && upTo !== undefined) {
          this.#large.set(directory, { startedAtMs, upTo });
        } else this.#done.set(directory, { startedAtMs, counts });
        return end;
      })
      .finally(() => {
        flight.isEnded = true;
        this.#flights.delete(directory);
        wake();
      });
    // Whoever waits sees the failure; when nobody does any more, it is no unhandled one.
    ended.catch(() => undefined);
    const flight: Flight = {
      startedAtMs,
      counts,
      isWhole,
      upTo: begun?.upTo,
      ended,
      waiting,
      isEnded: false,
    };
    this.#flights.set(directory, flight);
    return flight;
  }

  /** Resolves at the next page of a run, or as it ended. @throws WeirError what it failed with */
  async #next(flight: Flight, signal: AbortSignal): Promise<SyncEnd | undefined> {
    const paged = new Promise<void>((resolve) => flight.waiting.add(resolve));
    await abortable(paged, signal, waitingToLoad);
    return flight.isEnded ? flight.ended : undefined;
  }

  /** A whole run that began at `since` (cluster time) or later. */
  async #runSince(directory: InodeId, since: number): Promise<SyncCounts> {
    for (;;) {
      const { reader, reign } = this.#options;
      const done = this.#done.get(directory);
      if (done !== undefined && done.startedAtMs >= since) return done.counts;
      if ((inodeOf(reader, directory)?.syncedAtMs ?? -1) >= since) return noCounts();
      const flight = this.#fly(directory, true);
      const end = await flight.ended;
      if (end === "gone") {
        const link = firstLinkOf(reader, directory);
        if (link !== undefined) await this.#ask(link.parent, link.name, reign.signal);
      }
      if (flight.startedAtMs >= since && end !== "partial") return flight.counts;
    }
  }

  async #askSince(directory: InodeId, name: string, since: number): Promise<void> {
    const key = askedKey(directory, name);
    if ((this.#asked.get(key) ?? -1) >= since) return;
    const underWay = this.#askedNow.get(key);
    if (underWay !== undefined) await underWay.catch(() => undefined);
    if ((this.#asked.get(key) ?? -1) >= since) return;
    const { signal } = this.#options.reign;
    const asking = this.#ask(directory, name, signal).then(() => undefined);
    this.#askedNow.set(key, asking);
    try {
      await asking;
    } finally {
      if (this.#askedNow.get(key) === asking) this.#askedNow.delete(key);
    }
  }

  /** Asks the store for one name alone; false when that cannot be done. */
  async #ask(
    directory: InodeId,
    name: string,
    signal: AbortSignal,
    counts = noCounts(),
  ): Promise<boolean> {
    const startedAtMs = this.#options.clusterTimeMs();
    const run = { directory, startedAtMs, counts, onPage: () => true };
    const isKnown = await this.#sync.one(run, name, signal);
    if (isKnown) this.#asked.set(askedKey(directory, name), startedAtMs);
    return isKnown;
  }

  #walkFrom(directory: InodeId): void {
    if (this.#walking) return;
    this.#walking = true;
    void this.#walkAhead(directory)
      .catch(() => undefined)
      .finally(() => {
        this.#walking = false;
      });
  }

  /** Level by level, `aheadWidth` directories at a time. */
  async #walkAhead(top: InodeId): Promise<void> {
    const { signal } = this.#options.reign;
    let { directories, names } = this.#ahead;
    let level = await this.#unloadedBelow(top);
    while (level.length > 0 && directories > 0 && names > 0 && !signal.aborted) {
      const below: InodeId[] = [];
      const lane = async () => {
        for (let next = level.shift(); next !== undefined; next = level.shift()) {
          if (directories === 0 || names <= 0 || signal.aborted) return;
          directories--;
          const flight = this.#fly(next, false);
          await flight.ended.catch(() => undefined);
          names -= flight.counts.names;
          below.push(...(await this.#unloadedBelow(next)));
        }
      };
      await Promise.all(Array.from({ length: aheadWidth }, lane));
      level = below;
    }
  }

  /** Directories among the first names of one. */
  async #unloadedBelow(directory: InodeId): Promise<InodeId[]> {
    const page = await namesBelow(this.#options.reader, directory, pageLength);
    return page
      .filter(({ kind, child }) => kind === "directory" && this.#isUnloaded(child))
      .slice(0, this.#ahead.directories)
      .map(({ child }) => child);
  }
}

function askedKey(directory: InodeId, name: string): string {
  return `${String(directory)}/${name}`;
}
