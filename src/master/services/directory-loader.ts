/**
 * Brings the names of a store's directory into the state, when somebody asks below it for the first time: a worker lists
 * it page by page, the leader proposes each page. Who asks for one directory of a tree mostly goes on to those below, so
 * these are loaded ahead, breadth first, up to a budget.
 *
 * Invariants
 * 1. One load per directory is under way at a time, however many wait for it; each waits with its own deadline.
 * 2. One walk ahead is under way at a time; what it loads nobody waits for, and its failures nobody sees.
 */
import { sleep } from "../../lib/clock.ts";
import { knownCode, WeirError } from "../../lib/errors.ts";
import type { InodeId, MountId } from "../../lib/ids.ts";
import type { Command, CommandResult, UfsEntry } from "../../rpc/commands.ts";
import type { TaskResult } from "../../rpc/tasks.ts";
import { edgeOf, inodeOf, mountOf, mountTargetOf, ufsPathOf, workersOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";
import { abortable } from "./signals.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

/** Names per page. */
const pageLength = 1000;
/** How long a load may go on when all who waited for it are gone. */
const loadLimitMs = 120_000;
const movePauseMs = 20;
/** A page that the state refuses as stale is listed again so often. */
const staleRepeats = 20;
/** What one walk ahead may load: enough to hide the way to the store, little beside what a large tree costs. */
const defaultAhead = { directories: 256, names: 4096 };
/** Directories that a walk ahead loads at once: their pages share log entries. */
const aheadWidth = 8;

interface Loaded {
  readonly names: number;
  readonly directories: readonly InodeId[];
}
const nothingLoaded: Loaded = { names: 0, directories: [] };

export class DirectoryLoader {
  readonly #reader: StateReader;
  readonly #appliedIndex: () => number;
  readonly #dispatcher: TaskDispatcher;
  readonly #propose: (
    commands: readonly Command[],
    signal: AbortSignal,
  ) => Promise<CommandResult[]>;
  readonly #isMoving: (mount: MountId, path: string) => boolean;
  readonly #reign: Reign;
  readonly #ahead: { readonly directories: number; readonly names: number };
  readonly #underWay = new Map<InodeId, Promise<Loaded>>();
  #walking = false;

  constructor(options: {
    reader: StateReader;
    appliedIndex: () => number;
    dispatcher: TaskDispatcher;
    propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
    /** Whether the store still has to see a move or removal that would change what lies at the path. */
    isMoving: (mount: MountId, path: string) => boolean;
    reign: Reign;
    /** What one walk ahead may load. */
    ahead?: { readonly directories: number; readonly names: number };
  }) {
    this.#reader = options.reader;
    this.#appliedIndex = options.appliedIndex;
    this.#dispatcher = options.dispatcher;
    this.#propose = options.propose;
    this.#isMoving = options.isMoving;
    this.#reign = options.reign;
    this.#ahead = options.ahead ?? defaultAhead;
  }

  /**
   * Resolves when every name of the directory is known.
   * @throws WeirError what the store answered; `Unavailable` when no worker is there to ask; the reason of `signal`
   */
  async load(directory: InodeId, signal: AbortSignal): Promise<void> {
    const { directories } = await abortable(
      this.#once(directory),
      signal,
      "Cannot wait for a directory to be loaded",
    );
    if (directories.length > 0 && !this.#walking) {
      this.#walking = true;
      void this.#walkAhead([...directories]).finally(() => {
        this.#walking = false;
      });
    }
  }

  #once(directory: InodeId): Promise<Loaded> {
    const underWay = this.#underWay.get(directory);
    if (underWay !== undefined) return underWay;
    const limit = AbortSignal.any([this.#reign.signal, AbortSignal.timeout(loadLimitMs)]);
    const load = this.#loadAll(directory, limit).finally(() => this.#underWay.delete(directory));
    // Whoever waits sees the failure; when nobody does any more, it is no unhandled one.
    load.catch(() => undefined);
    this.#underWay.set(directory, load);
    return load;
  }

  /** Level by level, `aheadWidth` directories at a time. */
  async #walkAhead(top: readonly InodeId[]): Promise<void> {
    let { directories, names } = this.#ahead;
    let level = [...top];
    while (level.length > 0 && directories > 0 && names > 0 && !this.#reign.signal.aborted) {
      const below: InodeId[] = [];
      const lane = async () => {
        for (let next = level.shift(); next !== undefined; next = level.shift()) {
          if (directories === 0 || names <= 0 || this.#reign.signal.aborted) return;
          directories--;
          const loaded = await this.#once(next).catch(() => nothingLoaded);
          names -= loaded.names;
          below.push(...loaded.directories);
        }
      };
      await Promise.all(Array.from({ length: aheadWidth }, lane));
      level = below;
    }
  }

  async #loadAll(directory: InodeId, signal: AbortSignal): Promise<Loaded> {
    let after: string | undefined;
    let repeats = 0;
    let names = 0;
    const directories: InodeId[] = [];
    for (;;) {
      const loaded = { names, directories };
      const found = inodeOf(this.#reader, directory);
      if (found === undefined || found.kind !== "directory" || found.loaded) return loaded;
      const mount = mountOf(this.#reader, found.mountId);
      const path = ufsPathOf(this.#reader, found);
      if (mount === undefined || path === undefined) return loaded;
      this.#checkWorkers();
      while (this.#isMoving(mount.id, path)) await sleep(movePauseMs, signal);
      const listedAtIndex = this.#appliedIndex();
      const result = await this.#dispatcher.run(
        { kind: "listDirectory", mount: mountTargetOf(mount), path, after, limit: pageLength },
        // Also ahead of the asker: who comes to wait for this load must not wait for a free slot as well.
        { urgent: true },
        signal,
      );
      if (result.kind !== "listed") throw failureOf(result, `Cannot list "${mount.uri}/${path}"`);
      const { entries, last } = result;
      const [page] = await this.#propose(
        [{ kind: "loadPage", directory, entries, listedAtIndex, last }],
        signal,
      );
      if (page?.ok === true) {
        repeats = 0;
        names += entries.length;
        directories.push(...this.#unloadedOf(directory, entries));
        if (last || entries.length === 0) return { names, directories };
        after = entries[entries.length - 1]!.name;
      } else if (page?.code === "Stale" && repeats++ < staleRepeats) {
        await sleep(Math.min(10 * 2 ** repeats, 1000), signal);
      } else {
        throw new WeirError(
          knownCode(page?.code ?? "Internal"),
          `Cannot load "${mount.uri}/${path}": ${page?.detail ?? "no answer"}`,
        );
      }
    }
  }

  /** Directories of a page that can be loaded next. */
  #unloadedOf(parent: InodeId, entries: readonly UfsEntry[]): InodeId[] {
    return entries
      .filter((entry) => entry.kind === "directory")
      .slice(0, this.#ahead.directories)
      .flatMap((entry) => edgeOf(this.#reader, parent, entry.name)?.child ?? []);
  }

  #checkWorkers(): void {
    if (workersOf(this.#reader).some((worker) => worker.state === "live")) return;
    throw new WeirError(
      "Unavailable",
      "Cannot list a directory of a store: no worker is registered: start one with: weir worker",
    );
  }
}

/** The error of a task that did not do what was asked. */
export function failureOf(result: TaskResult, doing: string): WeirError {
  if (result.kind !== "failed") {
    return new WeirError("Internal", `${doing}: the worker answered "${result.kind}"`);
  }
  return new WeirError(knownCode(result.code), `${doing}: ${result.message}`);
}
