/**
 * Brings what the state has of a directory in line with its store: a worker lists it page by page, each page is compared
 * with the names that the state has in the same range, and the leader proposes what differs.
 *
 * Invariants
 * 1. Pages are taken in the order of the names, each whole before the next: once a page is applied, all names up to its
 *    last one are known.
 * 2. What is proposed is no more than a page. A directory that is gone is emptied from below first, a page at a time: none
 *    is taken away with names in it.
 * 3. What the state refuses as stale, since something was changed from here meanwhile, is listed again.
 */
import { sleep } from "../../lib/clock.ts";
import { isEscaped } from "../../lib/escaped-names.ts";
import { knownCode, WeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import type { Command, CommandResult, UfsEntry } from "../../rpc/commands.ts";
import { isRefreshable, isSameKind, staysWithout } from "../state/load-commands.ts";
import { edgeOf, inodeOf, levelOfState, mountOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { namesBelow } from "./listings.ts";
import { type Listing, pageLength, type StoreLister } from "./store-lister.ts";

/** A page that the state refuses as stale is listed again so often. */
const staleRepeats = 20;

/** What was done to the names of a directory. */
export interface SyncCounts {
  /** Names that the store has. */
  names: number;
  added: number;
  changed: number;
  removed: number;
  /** Names that the store does not have and that stay, for what would be lost with them. */
  kept: number;
}

export function noCounts(): SyncCounts {
  return { names: 0, added: 0, changed: 0, removed: 0, kept: 0 };
}

/** A directory on its way. */
export interface SyncRun {
  readonly directory: InodeId;
  /** Cluster time at which it began. */
  readonly startedAtMs: number;
  readonly counts: SyncCounts;
  /** All names up to this one were taken in by a run that was ended before its time. */
  readonly after?: string | undefined;
  /** Called when all names up to this one are known. False ends the run. */
  onPage(upTo: string): boolean;
}

/** How a run ended: with all names, before all of them, or since the store has no such directory. */
export type SyncEnd = "whole" | "partial" | "gone";

interface DirectorySyncOptions {
  readonly reader: StateReader;
  readonly lister: StoreLister;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
}

/** A name that the state has. */
interface Known {
  readonly name: string;
  readonly child: InodeId;
}

/** What a listing changes. */
interface Difference {
  readonly entries: UfsEntry[];
  readonly missing: { name: string; inode: InodeId }[];
}

export class DirectorySync {
  readonly #options: DirectorySyncOptions;

  constructor(options: DirectorySyncOptions) {
    this.#options = options;
  }

  /** @throws WeirError what the store answered; `Stale` when it changes too fast from here; the reason of `signal` */
  async run(run: SyncRun, signal: AbortSignal): Promise<SyncEnd> {
    const { directory } = run;
    let { after } = run;
    let repeats = 0;
    for (;;) {
      const listing = await this.#options.lister.list(directory, { after }, signal);
      if (listing === undefined) return "gone";
      const { upTo } = listing;
      const isStale = await this.#take(run, listing, after, signal);
      if (isStale) {
        await this.#beforeRepeat(directory, repeats++, signal);
        continue;
      }
      run.counts.names += listing.entries.length;
      if (upTo === undefined) return listing.isGone ? "gone" : "whole";
      if (!run.onPage(upTo)) return "partial";
      repeats = 0;
      after = upTo;
    }
  }

  /**
   * One name alone. False: the worker that was asked is of an earlier version and cannot tell.
   * @throws WeirError as `run`
   */
  async one(run: SyncRun, name: string, signal: AbortSignal): Promise<boolean> {
    for (let repeats = 0; ; repeats++) {
      const listing = await this.#options.lister.list(run.directory, { only: name }, signal);
      if (listing === undefined) return true;
      if (!listing.isOfOne) return false;
      const known = this.#known(run.directory, name);
      const listed = entriesByName(listing);
      const difference = await this.#compare(run, known, listed, signal);
      difference.entries.push(...listed.values());
      const isStale = await this.#propose(run, listing, difference, { isLast: false }, signal);
      if (!isStale) return true;
      await this.#beforeRepeat(run.directory, repeats, signal);
    }
  }

  #known(directory: InodeId, name: string): Known[] {
    const edge = edgeOf(this.#options.reader, directory, name);
    return edge === undefined ? [] : [{ name, child: edge.child }];
  }

  async #beforeRepeat(directory: InodeId, repeats: number, signal: AbortSignal): Promise<void> {
    if (repeats >= staleRepeats) {
      throw new WeirError(
        "Stale",
        `Cannot load directory ${String(directory)}: its store changes faster from here than it is listed`,
      );
    }
    await sleep(Math.min(20 * 2 ** repeats, 1000), signal);
  }

  /** Proposes what differs in the range that the listing tells of; whether it was found to be stale. */
  async #take(
    run: SyncRun,
    listing: Listing,
    after: string | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { reader } = this.#options;
    const { upTo } = listing;
    const listed = entriesByName(listing);
    let from = after;
    for (;;) {
      const page = await namesBelow(reader, run.directory, pageLength, from);
      const inRange = upTo === undefined ? page : page.filter(({ name }) => name <= upTo);
      const difference = await this.#compare(run, inRange, listed, signal);
      const isEnd = page.length < pageLength || inRange.length < page.length;
      if (isEnd) {
        // Escaped names come where their keys sort.
        const known = [...listed.keys()].flatMap((name) => this.#known(run.directory, name));
        const further = await this.#compare(run, known, listed, signal);
        const whole = {
          entries: [...difference.entries, ...further.entries, ...listed.values()],
          missing: [...difference.missing, ...further.missing],
        };
        return this.#propose(run, listing, whole, { isLast: upTo === undefined }, signal);
      }
      if (await this.#propose(run, listing, difference, { isLast: false }, signal)) return true;
      from = page[page.length - 1]!.name;
    }
  }

  /** What differs among the known names; what is listed of them leaves `listed`. */
  async #compare(
    run: SyncRun,
    known: readonly Known[],
    listed: Map<string, UfsEntry>,
    signal: AbortSignal,
  ): Promise<Difference> {
    const { reader } = this.#options;
    const difference: Difference = { entries: [], missing: [] };
    for (const { name, child } of known) {
      const entry = listed.get(name) ?? (await this.#elsewhere(run.directory, name, signal));
      listed.delete(name);
      const of = inodeOf(reader, child);
      if (of === undefined) continue;
      if (entry !== undefined && isSameKind(of, entry)) {
        const isChanged = isRefreshable(of) && of.source?.fingerprint !== entry.fingerprint;
        if (isChanged) difference.entries.push(entry);
        continue;
      }
      const mount = mountOf(reader, of.mountId);
      if (mount === undefined || staysWithout(of, mount)) {
        if (entry === undefined && !of.mountPoint) run.counts.kept++;
        continue;
      }
      // It has lost its place in the store with all that is below: that goes first.
      if (of.childCount > 0) await this.#runBelow(run, child, signal);
      if (entry !== undefined) difference.entries.push(entry);
      else difference.missing.push({ name, inode: child });
    }
    return difference;
  }

  /** What the store has of a name that need not be in the page where it would stand. */
  async #elsewhere(
    directory: InodeId,
    name: string,
    signal: AbortSignal,
  ): Promise<UfsEntry | undefined> {
    if (!isEscaped(name)) return undefined;
    const alone = await this.#options.lister.list(directory, { only: name }, signal);
    return alone?.entries.find((entry) => entry.name === name);
  }

  async #runBelow(above: SyncRun, directory: InodeId, signal: AbortSignal): Promise<void> {
    const { startedAtMs, counts } = above;
    const names = counts.names;
    await this.run({ directory, startedAtMs, counts, onPage: () => true }, signal);
    counts.names = names;
  }

  /** Whether the listing was found to be stale. */
  async #propose(
    run: SyncRun,
    listing: Listing,
    { entries, missing }: Difference,
    { isLast }: { readonly isLast: boolean },
    signal: AbortSignal,
  ): Promise<boolean> {
    if (entries.length === 0 && missing.length === 0 && !isLast) return false;
    const { reader, propose } = this.#options;
    const { directory, startedAtMs, counts } = run;
    const isBefore = (name: string) => edgeOf(reader, directory, name) !== undefined;
    const present = entries.filter(({ name }) => isBefore(name)).length;
    const command: Command = {
      kind: "loadPage",
      directory,
      entries,
      listedAtIndex: listing.listedAtIndex,
      last: isLast,
      // Masters of an earlier version know of neither.
      ...(levelOfState(reader) < 2 ? {} : { missing, startedAtMs }),
    };
    const [result] = await propose([command], signal);
    if (result?.ok === true) {
      const kept = missing.filter(({ name }) => isBefore(name)).length;
      counts.added += entries.length - present;
      counts.changed += present;
      counts.removed += missing.length - kept;
      counts.kept += kept;
      return false;
    }
    if (result?.code === "Stale") return true;
    throw new WeirError(
      knownCode(result?.code ?? "Internal"),
      `Cannot load directory ${String(directory)}: ${result?.detail ?? "no answer"}`,
    );
  }
}

function entriesByName(listing: Listing): Map<string, UfsEntry> {
  return new Map(listing.entries.map((entry) => [entry.name, entry]));
}
