/** Asks workers what a store has in a directory: a page of names, or one name alone. */
import { sleep } from "../../lib/clock.ts";
import { knownCode, WeirError } from "../../lib/errors.ts";
import type { InodeId, MountId } from "../../lib/ids.ts";
import type { UfsEntry } from "../../rpc/commands.ts";
import type { TaskResult } from "../../rpc/tasks.ts";
import type { Mount } from "../state/model.ts";
import { inodeOf, mountOf, mountTargetOf, ufsPathOf, workersOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

/** Names per page. */
export const pageLength = 1000;
/** How long a worker may take for one page. */
const pageLimitMs = 60_000;
const movePauseMs = 20;

/** What a worker said of a directory of a store, and since when of the state that counts. */
export interface Listing {
  readonly entries: readonly UfsEntry[];
  /** All names up to this one are told of, but for escaped ones; undefined: all names are. */
  readonly upTo: string | undefined;
  readonly listedAtIndex: number;
  /** Of an answer about one name: a worker of an earlier version may have listed instead. */
  readonly isOfOne: boolean;
  /** The store has no such directory: it is as if it were empty. */
  readonly isGone: boolean;
}

export interface StoreListerOptions {
  readonly reader: StateReader;
  readonly appliedIndex: () => number;
  readonly dispatcher: TaskDispatcher;
  /** Whether the store still has to see a move or removal that would change what lies at the path. */
  readonly isMoving: (mount: MountId, path: string) => boolean;
}

export class StoreLister {
  readonly #options: StoreListerOptions;

  constructor(options: StoreListerOptions) {
    this.#options = options;
  }

  /**
   * The names after `after`, or what there is of `only`. Undefined: the directory is in the namespace no more.
   * @throws WeirError what the store answered; `Unavailable` when no worker is there to ask; the reason of `signal`
   */
  async list(
    directory: InodeId,
    wanted: { readonly after?: string | undefined; readonly only?: string | undefined },
    signal: AbortSignal,
  ): Promise<Listing | undefined> {
    const { reader, appliedIndex, dispatcher, isMoving } = this.#options;
    const found = inodeOf(reader, directory);
    if (found?.kind !== "directory") return undefined;
    const mount = mountOf(reader, found.mountId);
    const path = ufsPathOf(reader, found);
    if (mount === undefined || path === undefined) return undefined;
    this.#checkWorkers();
    while (isMoving(mount.id, path)) await sleep(movePauseMs, signal);
    const listedAtIndex = appliedIndex();
    const result = await dispatcher.run(
      {
        kind: "listDirectory",
        mount: mountTargetOf(mount),
        path,
        after: wanted.after,
        limit: pageLength,
        only: wanted.only,
      },
      // Also ahead of the asker: who comes to wait for this must not wait for a free slot as well.
      { urgent: true },
      AbortSignal.any([signal, AbortSignal.timeout(pageLimitMs)]),
    );
    if (result.kind === "listed") {
      const { entries, last, only = false } = result;
      const upTo = last ? undefined : (result.after ?? entries.at(-1)?.name);
      return { entries, upTo, listedAtIndex, isOfOne: only, isGone: false };
    }
    if (path !== "" && isMissing(result)) {
      await this.#checkRoot(mount, signal);
      return { entries: [], upTo: undefined, listedAtIndex, isOfOne: true, isGone: true };
    }
    if (path === "" && isMissing(result)) throw noRoot(mount, result);
    throw failureOf(result, `Cannot list "${mount.uri}/${path}"`);
  }

  /** A root that is missing is a store that is not there, and no empty one. */
  async #checkRoot(mount: Mount, signal: AbortSignal): Promise<void> {
    const task = { kind: "listDirectory" as const, mount: mountTargetOf(mount), path: "" };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(pageLimitMs)]);
    const result = await this.#options.dispatcher.run(
      { ...task, after: undefined, limit: 1 },
      { urgent: true },
      limit,
    );
    if (result.kind !== "listed") throw noRoot(mount, result);
  }

  #checkWorkers(): void {
    if (workersOf(this.#options.reader).some((worker) => worker.state === "live")) return;
    throw new WeirError(
      "Unavailable",
      "Cannot list a directory of a store: no worker is registered: start one with: weir worker",
    );
  }
}

/** A root that is missing is no name that is missing: the store is not there. */
function noRoot(mount: Mount, result: TaskResult): WeirError {
  const { message } = failureOf(result, `Cannot list "${mount.uri}"`);
  return new WeirError("Unavailable", message);
}

function isMissing(result: TaskResult): boolean {
  return result.kind === "failed" && ["NotFound", "NotDirectory"].includes(result.code);
}

/** The error of a task that did not do what was asked. */
export function failureOf(result: TaskResult, doing: string): WeirError {
  if (result.kind !== "failed") {
    return new WeirError("Internal", `${doing}: the worker answered "${result.kind}"`);
  }
  return new WeirError(knownCode(result.code), `${doing}: ${result.message}`);
}
