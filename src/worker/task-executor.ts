/** Executes what a leader asks of this worker. Every task ends in a result; none throws. */
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { type FileLayout, replacedSource } from "../rpc/namespace.ts";
import { type Task, type TaskResult, type UfsAction, unmountedId } from "../rpc/tasks.ts";
import type { UnderFileSystem } from "../ufs/types.ts";
import { type JobOptions, runJob, type RunJobTask } from "./job-task.ts";
import type { UfsMounts } from "./ufs-mounts.ts";

export interface TaskOptions extends JobOptions {
  readonly mounts: Pick<UfsMounts, "use" | "useOnce">;
  /** Whether jobs may run here, and how many at once. */
  readonly jobs: boolean;
  readonly jobSlots: number;
  readonly logger: Logger;
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

  async execute(task: Task, signal: AbortSignal): Promise<TaskResult> {
    try {
      return await this.#execute(task, signal);
    } catch (thrown) {
      const error = toWeirError(thrown, `Cannot execute "${task.kind}"`);
      this.#options.logger.warn(
        { task: task.kind, taskId: task.taskId, err: error },
        "task failed",
      );
      return { kind: "failed", taskId: task.taskId, code: error.code, message: error.message };
    }
  }

  async #execute(task: Task, signal: AbortSignal): Promise<TaskResult> {
    const { taskId } = task;
    switch (task.kind) {
      case "listDirectory": {
        const { mounts } = this.#options;
        const { after, limit } = task;
        const list = (ufs: UnderFileSystem) => ufs.list(task.path, { after, limit, signal });
        const { entries, last } =
          task.mount.id === unmountedId
            ? await mounts.useOnce(task.mount, list)
            : await list(mounts.use(task.mount));
        return { kind: "listed", taskId, entries, last };
      }
      case "ufsOp": {
        const ufs = this.#options.mounts.use(task.mount);
        const fingerprint = await perform(ufs, task.action, this.#options.readFile, signal);
        return { kind: "ufsDone", taskId, op: task.op, fingerprint };
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

/** Carries out a side effect on a store; the fingerprint of what was written, if anything was. */
async function perform(
  ufs: UnderFileSystem,
  action: UfsAction,
  readFile: (layout: FileLayout, signal: AbortSignal) => AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<string | undefined> {
  switch (action.kind) {
    case "persist": {
      const { layout, path, mode, uid, gid, mtime } = action;
      return ufs.write(path, readFile(layout, signal), {
        size: layout.status.size,
        attributes: { mode, uid, gid, mtime },
        keeps: replacedSource(layout, path),
        signal,
      });
    }
    case "forgetReplaced":
      await ufs.forgetReplaced(action.path, action.fingerprint);
      return undefined;
    case "delete":
      await ufs.delete(action.path);
      return undefined;
    case "rename":
      await ufs.rename(action.from, action.to);
      return undefined;
    case "mkdir": {
      const { mode, uid, gid } = action;
      await ufs.mkdir(action.path, { mode, uid, gid });
      return undefined;
    }
    case "symlink":
      await ufs.symlink(action.path, action.target);
      return undefined;
    case "setAttributes": {
      const { mode, uid, gid, mtime } = action;
      return await ufs.setAttributes(action.path, { mode, uid, gid, mtime });
    }
  }
}
