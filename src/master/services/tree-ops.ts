/**
 * Goes on with the operations on trees that the state has: reads the names of their directories, a page at a time, and
 * proposes the steps. Lives as long as one reign; where it stands is in the state.
 *
 * Invariants
 * 1. One proposal is under way at a time, of at most `namesPerTurn` names, and it rests as long as that took: what clients
 *    ask for comes first.
 * 2. It waits while a store is far behind with the changes that it is to get.
 */
import { type Clock, sleep } from "../../lib/clock.ts";
import { compileGlob } from "../../lib/glob.ts";
import { toWeirError } from "../../lib/errors.ts";
import type { InodeId, TreeOpId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { type Command, type CommandResult, maxTreeStep } from "../../rpc/commands.ts";
import type { StateEvent } from "../state/context.ts";
import { fitsMigration, isLeft, mayMigrate } from "../state/migrations.ts";
import type { TreeOp } from "../state/model.ts";
import { firstLinkOf, inodeOf, mountOf, treeOpOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";
import { type NameBelow, namesBelow, openTreeDirectories, treeOpsPage } from "./listings.ts";

const namesPerTurn = 400;
const directoriesPerTurn = 64;
/** Queued effects of one mount at which operations on trees wait, and how long. */
const fullQueue = 5000;
const queuePauseMs = 500;
const failurePauseMs = 1000;
const loadTimeoutMs = 60_000;

export interface TreeOpsOptions {
  readonly reader: StateReader;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  /** Loads the names of a directory from its store. */
  readonly load: (directory: InodeId, signal: AbortSignal) => Promise<void>;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

type Step = Extract<Command, { kind: "stepTreeOp" }>;

export class TreeOps {
  readonly #options: TreeOpsOptions;
  readonly #open = new Set<TreeOpId>();
  #isRunning = false;

  constructor(options: TreeOpsOptions) {
    this.#options = options;
    void this.#begin();
  }

  /** Takes what an entry did. */
  applied(events: readonly StateEvent[]): void {
    for (const event of events) {
      if (event.kind !== "treeOpStarted") continue;
      this.#open.add(event.treeOp);
      this.#start();
    }
  }

  async #begin(): Promise<void> {
    const { reader, reign, logger } = this.#options;
    try {
      for (const { id, of } of await treeOpsPage(reader)) {
        if (of.openDirectories > 0) this.#open.add(id);
      }
      this.#start();
    } catch (thrown) {
      if (reign.signal.aborted) return;
      logger.error({ error: String(thrown) }, "cannot read operations on trees");
    }
  }

  #start(): void {
    if (this.#isRunning || this.#open.size === 0) return;
    this.#isRunning = true;
    void this.#run().finally(() => {
      this.#isRunning = false;
      if (!this.#options.reign.signal.aborted) this.#start();
    });
  }

  /** Until all are done, each in its turn. */
  async #run(): Promise<void> {
    const { clock, reign, logger } = this.#options;
    while (this.#open.size > 0 && !reign.signal.aborted) {
      for (const id of [...this.#open]) {
        try {
          const beginMs = clock.monotonicMs();
          if (!(await this.#turn(id))) this.#open.delete(id);
          await this.#rest(clock.monotonicMs() - beginMs);
        } catch (thrown) {
          if (reign.signal.aborted) return;
          const { message } = toWeirError(thrown, "Cannot go on with an operation on a tree");
          logger.warn({ treeOp: id, error: message }, "an operation on a tree waits");
          await this.#rest(failurePauseMs);
        }
      }
    }
  }

  async #rest(ms: number): Promise<void> {
    await sleep(Math.min(Math.max(ms, 1), failurePauseMs), this.#options.reign.signal).catch(
      () => undefined,
    );
  }

  /** One proposal for an operation; false when it has no open directory any more. */
  async #turn(id: TreeOpId): Promise<boolean> {
    const { reader, propose, reign } = this.#options;
    const of = treeOpOf(reader, id);
    if (of === undefined || of.openDirectories === 0) return false;
    const directories = await openTreeDirectories(reader, id, directoriesPerTurn);
    const steps: Step[] = [];
    let left = namesPerTurn;
    for (const { directory, after } of directories) {
      if (left <= 0) break;
      if (of.state === "running" && this.#isStoreBehind(directory)) {
        if (steps.length > 0) break;
        await this.#rest(queuePauseMs);
        return true;
      }
      const step = await this.#stepOf(id, directory, after, Math.min(left, maxTreeStep));
      steps.push(step);
      left -= step.scanned + 1;
    }
    if (steps.length > 0) await propose(steps, reign.signal);
    return true;
  }

  #isStoreBehind(directory: InodeId): boolean {
    const { reader } = this.#options;
    const of = inodeOf(reader, directory);
    return of !== undefined && (mountOf(reader, of.mountId)?.pendingOps ?? 0) >= fullQueue;
  }

  async #stepOf(
    treeOp: TreeOpId,
    directory: InodeId,
    after: string | undefined,
    limit: number,
  ): Promise<Step> {
    const { reader, load, reign } = this.#options;
    const step = { kind: "stepTreeOp", treeOp, directory, after, error: undefined } as const;
    const nothing = { names: [], upTo: undefined, scanned: 0, last: true };
    const of = inodeOf(reader, directory);
    const operation = treeOpOf(reader, treeOp);
    if (of === undefined || operation?.state !== "running") return { ...step, ...nothing };
    if (!of.loaded) {
      try {
        const patience = AbortSignal.timeout(loadTimeoutMs);
        await load(directory, AbortSignal.any([reign.signal, patience]));
      } catch (thrown) {
        if (reign.signal.aborted) throw thrown;
        const { message: error } = toWeirError(thrown, "Cannot load a directory");
        return { ...step, ...nothing, error };
      }
    }
    const page = await namesBelow(reader, directory, limit + 1, after);
    const looked = page.slice(0, limit);
    const isWanted = wantedNames(reader, operation, directory);
    return {
      ...step,
      names: looked.filter(isWanted).map(({ name }) => name),
      upTo: looked.at(-1)?.name,
      scanned: looked.length,
      last: page.length <= limit,
    };
  }
}

/** Which names of a directory an operation does something with: all, or those that go by the policy and directories. */
function wantedNames(
  reader: StateReader,
  { root, work }: TreeOp,
  directory: InodeId,
): (below: NameBelow) => boolean {
  if (work.kind !== "migrate") return () => true;
  const { pattern } = work.migration;
  const fits = pattern === undefined ? () => true : compileGlob(pattern);
  const above = pattern === undefined ? "" : pathBetween(reader, root, directory);
  return ({ name, child, kind }) => {
    if (kind === "directory") return true;
    const file = inodeOf(reader, child);
    if (file === undefined) return false;
    const isFit = isLeft(file, work) || (mayMigrate(file) && fitsMigration(file, work));
    return isFit && fits(`${above}${name}`);
  };
}

/** The path of a directory as seen from one above it, with a slash at its end where it is not that one itself. */
function pathBetween(reader: StateReader, above: InodeId, directory: InodeId): string {
  let path = "";
  for (let at = directory; at !== above; ) {
    const link = firstLinkOf(reader, at);
    if (link === undefined) break;
    path = `${link.name}/${path}`;
    at = link.parent;
  }
  return path;
}
