/**
 * Brings the names of a store's directory into the state, when somebody asks below it for the first time: a worker lists
 * it page by page, the leader proposes each page.
 *
 * Invariant: one load per directory is under way at a time, however many wait for it; each waits with its own deadline.
 */
import { sleep } from "../../lib/clock.ts";
import { type ErrorCode, errorCodes, WeirError } from "../../lib/errors.ts";
import type { InodeId, MountId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { TaskResult } from "../../rpc/tasks.ts";
import { inodeOf, mountOf, mountTargetOf, ufsPathOf, workersOf } from "../state/queries.ts";
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
  readonly #underWay = new Map<InodeId, Promise<void>>();

  constructor(options: {
    reader: StateReader;
    appliedIndex: () => number;
    dispatcher: TaskDispatcher;
    propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
    /** Whether the store still has to see a move or removal that would change what lies at the path. */
    isMoving: (mount: MountId, path: string) => boolean;
    reign: Reign;
  }) {
    this.#reader = options.reader;
    this.#appliedIndex = options.appliedIndex;
    this.#dispatcher = options.dispatcher;
    this.#propose = options.propose;
    this.#isMoving = options.isMoving;
    this.#reign = options.reign;
  }

  /**
   * Resolves when every name of the directory is known.
   * @throws WeirError what the store answered; `Unavailable` when no worker is there to ask; the reason of `signal`
   */
  async load(directory: InodeId, signal: AbortSignal): Promise<void> {
    let load = this.#underWay.get(directory);
    if (load === undefined) {
      const limit = AbortSignal.any([this.#reign.signal, AbortSignal.timeout(loadLimitMs)]);
      load = this.#loadAll(directory, limit).finally(() => this.#underWay.delete(directory));
      // Whoever waits sees the failure; when nobody does any more, it is no unhandled one.
      load.catch(() => undefined);
      this.#underWay.set(directory, load);
    }
    await abortable(load, signal, "Cannot wait for a directory to be loaded");
  }

  async #loadAll(directory: InodeId, signal: AbortSignal): Promise<void> {
    let after: string | undefined;
    let repeats = 0;
    for (;;) {
      const found = inodeOf(this.#reader, directory);
      if (found === undefined || found.kind !== "directory" || found.loaded) return;
      const mount = mountOf(this.#reader, found.mountId);
      const path = ufsPathOf(this.#reader, found);
      if (mount === undefined || path === undefined) return;
      this.#checkWorkers();
      while (this.#isMoving(mount.id, path)) await sleep(movePauseMs, signal);
      const listedAtIndex = this.#appliedIndex();
      const result = await this.#dispatcher.run(
        { kind: "listDirectory", mount: mountTargetOf(mount), path, after, limit: pageLength },
        { urgent: true },
        signal,
      );
      if (result.kind !== "listed") throw failureOf(result, `Cannot list "${mount.uri}/${path}"`);
      const { entries, last } = result;
      const [loaded] = await this.#propose(
        [{ kind: "loadPage", directory, entries, listedAtIndex, last }],
        signal,
      );
      if (loaded?.ok === true) {
        repeats = 0;
        if (last || entries.length === 0) return;
        after = entries[entries.length - 1]!.name;
      } else if (loaded?.code === "Stale" && repeats++ < staleRepeats) {
        await sleep(Math.min(10 * 2 ** repeats, 1000), signal);
      } else {
        throw new WeirError(
          loaded?.code ?? "Internal",
          `Cannot load "${mount.uri}/${path}": ${loaded?.detail ?? "no answer"}`,
        );
      }
    }
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
  const code = errorCodes.has(result.code) ? (result.code as ErrorCode) : "Internal";
  return new WeirError(code, `${doing}: ${result.message}`);
}
