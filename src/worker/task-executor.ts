/** Executes what a leader asks of this worker. Every task ends in a result; none throws. */
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { type FileLayout, replacedSource } from "../rpc/namespace.ts";
import { type Task, type TaskResult, type UfsAction, unmountedId } from "../rpc/tasks.ts";
import { UnionFileSystem } from "../ufs/union.ts";
import type { UnderFileSystem } from "../ufs/types.ts";
import { compact, type CompactOptions } from "./compact-task.ts";
import { type JobOptions, runJob, type RunJobTask } from "./job-task.ts";
import type { UfsMounts } from "./ufs-mounts.ts";

export interface TaskOptions extends JobOptions, CompactOptions {
  readonly mounts: Pick<UfsMounts, "use" | "useOnce">;
  /** Whether jobs may run here, and how many at once. */
  readonly jobs: boolean;
  readonly jobSlots: number;
  readonly logger: Logger;
}

/** An attempt of a task: whether it may go on, and what goes on behind its end. */
export interface Attempt {
  readonly signal: AbortSignal;
  /** Asked before each step on a store that others see; throws when the step must not be taken. */
  readonly permit: () => void;
  readonly outlives: (ended: Promise<unknown>) => void;
}

export class TaskExecutor {
  readonly #options: TaskOptions;
  readonly #waitingJobs: (() => void)[] = [];
  #runningJobs = 0;
  #jobsRun = 0;

  constructor(options: TaskOptions) {
    this.#options = options;
  }

  get jobsRun(): number {
    return this.#jobsRun;
  }

  async execute(task: Task, attempt: Attempt): Promise<TaskResult> {
    try {
      return await this.#execute(task, attempt);
    } catch (thrown) {
      const error = toWeirError(thrown, `Cannot execute "${task.kind}"`);
      this.#options.logger.warn(
        { task: task.kind, taskId: task.taskId, err: error },
        "task failed",
      );
      return { kind: "failed", taskId: task.taskId, code: error.code, message: error.message };
    }
  }

  async #execute(task: Task, going: Attempt): Promise<TaskResult> {
    const { taskId } = task;
    const { signal } = going;
    switch (task.kind) {
      case "listDirectory": {
        const { mounts } = this.#options;
        const list = (ufs: UnderFileSystem) => listIn(ufs, task, signal);
        const listed =
          task.mount.id === unmountedId
            ? await mounts.useOnce(task.mount, list)
            : await list(mounts.use(task.mount));
        return { kind: "listed", taskId, ...listed };
      }
      case "ufsOp": {
        const ufs = this.#options.mounts.use(task.mount);
        const done = await perform(ufs, task.action, this.#options.readFile, going);
        return { kind: "ufsDone", taskId, op: task.op, ...done };
      }
      case "runJob":
        return this.#runJob(task, signal);
      case "dropContainers": {
        const { store } = this.#options;
        for (const id of task.containers) {
          const container = store.peek(id);
          if (container === undefined || (container.kept && !task.kept)) continue;
          store.drop(container);
        }
        return { kind: "dropped", taskId };
      }
      case "compact":
        return compact(task, this.#options, signal);
    }
  }

  async #runJob(task: RunJobTask, signal: AbortSignal): Promise<TaskResult> {
    const { jobs, jobSlots } = this.#options;
    if (!jobs) throw new WeirError("NotSupported", "This worker runs no jobs (worker.jobs)");
    if (this.#runningJobs >= jobSlots) {
      await new Promise<void>((resolve) => this.#waitingJobs.push(resolve));
    } else {
      this.#runningJobs += 1;
    }
    try {
      signal.throwIfAborted();
      this.#jobsRun += 1;
      return await runJob(task, this.#options, signal);
    } finally {
      const next = this.#waitingJobs.shift();
      if (next === undefined) this.#runningJobs -= 1;
      else next();
    }
  }
}

/**
 * The fingerprint that a file has under its new name, if that is another one: the status of a local file has changed with it,
 * and in a union it may have come to another layer, where it is told of only if it is what was `known` before.
 */
async function afterRename(
  ufs: UnderFileSystem,
  path: string,
  known: string | undefined,
): Promise<string | undefined> {
  if (ufs instanceof UnionFileSystem) {
    return known === undefined ? undefined : await ufs.presentOf(path, known);
  }
  if (!ufs.uri.startsWith("file:")) return undefined;
  const stat = await ufs.stat(path);
  return stat?.kind === "file" ? stat.fingerprint : undefined;
}

/** A page of a directory, or what is known of one name in it. */
async function listIn(
  ufs: UnderFileSystem,
  { path, after, limit, only }: Extract<Task, { kind: "listDirectory" }>,
  signal: AbortSignal,
): Promise<Pick<Extract<TaskResult, { kind: "listed" }>, "entries" | "last" | "only" | "after">> {
  if (only === undefined) return ufs.list(path, { after, limit, signal });
  const stat = await ufs.stat(path === "" ? only : `${path}/${only}`);
  return {
    entries: stat === undefined ? [] : [{ name: only, ...stat }],
    last: false,
    only: true,
  };
}

interface Performed {
  /** Of what was written, if anything was. */
  readonly fingerprint: string | undefined;
  readonly aside?: boolean;
}
const nothing: Performed = { fingerprint: undefined };

/** Carries out a side effect on a store. */
async function perform(
  ufs: UnderFileSystem,
  action: UfsAction,
  readFile: (layout: FileLayout, signal: AbortSignal) => AsyncIterable<Uint8Array>,
  going: Attempt,
): Promise<Performed> {
  going.signal.throwIfAborted();
  going.permit();
  switch (action.kind) {
    case "persist": {
      const { layout, path, mode, uid, gid, mtime } = action;
      const fingerprint = await ufs.write(path, readFile(layout, going.signal), {
        size: layout.status.size,
        attributes: { mode, uid, gid, mtime },
        keeps: replacedSource(layout, path),
        ...going,
      });
      return { fingerprint };
    }
    case "forgetReplaced":
      await ufs.forgetReplaced(action.path, action.fingerprint);
      return nothing;
    case "delete": {
      const { path, fingerprint, aside } = action;
      const of = action.of ?? (await kindToDelete(ufs, path));
      if (of !== "file") await ufs.delete(path, { of, ...going });
      else return { ...nothing, ...(await ufs.delete(path, { of, fingerprint, aside, ...going })) };
      return nothing;
    }
    case "rename": {
      const { from, to, aside, fingerprint: known } = action;
      const of = action.of ?? ((await ufs.stat(from))?.kind === "directory" ? "directory" : "file");
      const done = await ufs.rename(from, to, { of, aside, ...going });
      return { fingerprint: await afterRename(ufs, to, known), ...done };
    }
    case "mkdir": {
      const { mode, uid, gid } = action;
      await ufs.mkdir(action.path, { mode, uid, gid }, going);
      return nothing;
    }
    case "symlink":
      await ufs.symlink(action.path, action.target, going);
      return nothing;
    case "migrate": {
      const { path, from, to, keep, fingerprint } = action;
      if (!(ufs instanceof UnionFileSystem)) {
        throw new WeirError(
          "NotSupported",
          `Cannot move "${path}" in ${ufs.uri}: it has no layers`,
        );
      }
      return { fingerprint: await ufs.relocate(path, { from, to, keep, fingerprint, ...going }) };
    }
    case "setAttributes": {
      const { mode, uid, gid, mtime } = action;
      const fingerprint = await ufs.setAttributes(action.path, { mode, uid, gid, mtime }, going);
      return { fingerprint };
    }
  }
}

/** For a master of an earlier version, which does not say what it is. */
async function kindToDelete(ufs: UnderFileSystem, path: string): Promise<"file" | "tree"> {
  return (await ufs.stat(path))?.kind === "directory" ? "tree" : "file";
}
