/**
 * Tasks of the leader on their way to workers and back: hands each to a live worker that has a slot, and gives the
 * result to whoever asked. Lives as long as one reign.
 *
 * Invariants
 * 1. A task ends with a result, or with an error when its worker is lost or restarted, its caller gives up, or the
 *    reign ends.
 * 2. A task whose hand-over may have been lost with a connection is handed over again: workers execute a task that
 *    they get twice once, or twice with the same effect.
 * 3. Tasks about one mount never take all the room of a worker.
 * 4. A side effect on a store is handed to no second worker: it is asked for again only as a new task, after this one
 *    ended. It ends with the worker's answer, or when the worker can do nothing any more: lost (it was silent for longer
 *    than it goes on by itself) or restarted. Who does not want it any more has it cancelled, and waits for that.
 */
import type { Clock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { MountId, WorkerId } from "../../lib/ids.ts";
import type { Task, TaskResult } from "../../rpc/tasks.ts";
import type { Reign } from "./leadership.ts";
import { abortError } from "./signals.ts";
import type { Poll, WorkerRegistry } from "./worker-registry.ts";

/** Most tasks in one reply. */
const tasksPerReply = 64;
/** Most tasks under way at one worker, however many slots it offers. */
const tasksPerWorker = 48;
/** Short tasks beyond a worker's slots: somebody waits for them. */
const urgentPerWorker = 8;
/** Of these, those about one mount: a store that hangs leaves room for the others. */
const perMount = { urgent: 4, others: 16 };
/** About a mount whose store does not answer the worker: it refuses them at once, and learns by itself when it answers. */
const perSilentMount = { urgent: 1, others: 1 };
/** How long a task waits for the workers that it prefers before any other will do. */
const preferenceMs = 1000;

export interface Placement {
  /** No other worker will do. */
  readonly only?: WorkerId | undefined;
  /** In order; others will do. */
  readonly prefer?: readonly WorkerId[];
  /** Short, and somebody waits: goes before others and needs no free slot. */
  readonly urgent: boolean;
  /** Aborted: the worker is asked to end the task, which ends with its answer; at once if no worker has it. */
  readonly cancel?: AbortSignal;
}

interface Queued {
  readonly task: Task;
  readonly placement: Placement;
  readonly queuedMs: number;
  resolve(result: TaskResult): void;
  reject(error: WeirError): void;
}

interface Assigned {
  readonly queued: Queued;
  readonly worker: WorkerId;
  readonly incarnation: string;
  readonly connection: number;
  /** A later heartbeat on the same connection shows that the worker has it. */
  confirmed: boolean;
  cancelled: boolean;
}

type WithoutId<T> = T extends Task ? Omit<T, "taskId"> : never;
export type NewTask = WithoutId<Task>;

export class TaskDispatcher {
  readonly #clock: Clock;
  readonly #registry: WorkerRegistry;
  readonly #isLive: (worker: WorkerId) => boolean;
  readonly #reign: Reign;
  #nextTaskId: number;
  #queue: Queued[] = [];
  readonly #assigned = new Map<number, Assigned>();
  #roundPlanned = false;
  #cancelRetry: (() => void) | undefined;

  constructor(options: {
    clock: Clock;
    registry: WorkerRegistry;
    /** Whether the state counts the worker as live. */
    isLive: (worker: WorkerId) => boolean;
    reign: Reign;
  }) {
    this.#clock = options.clock;
    this.#registry = options.registry;
    this.#isLive = options.isLive;
    this.#reign = options.reign;
    // Ids of different reigns differ, so that a late result is never taken for another's.
    this.#nextTaskId = (options.reign.term % 2 ** 20) * 2 ** 32 + 1;
    const stopListening = this.#registry.onPoll((poll) => this.#polled(poll));
    this.#reign.signal.addEventListener("abort", () => {
      stopListening();
      this.#cancelRetry?.();
      const error = abortError(this.#reign.signal, "Cannot wait for a task");
      const queued = this.#queue.splice(0);
      const assigned = [...this.#assigned.values()].map((each) => each.queued);
      this.#assigned.clear();
      for (const each of [...queued, ...assigned]) each.reject(error);
    });
  }

  /**
   * Has a worker execute a task; resolves with what it answered, `failed` included.
   * @throws WeirError `Unavailable` when the worker was lost or restarted before it answered, `NotLeader` when the
   *   reign ended, the reason of `signal`
   */
  run(task: NewTask, placement: Placement, signal: AbortSignal): Promise<TaskResult> {
    return new Promise((resolve, reject) => {
      const aborted = signal.aborted ? signal : this.#reign.signal;
      if (aborted.aborted) {
        reject(abortError(aborted, "Cannot start a task"));
        return;
      }
      const taskId = this.#nextTaskId++;
      const onAbort = () => {
        this.#queue = this.#queue.filter((each) => each !== queued);
        this.#assigned.delete(taskId);
        reject(abortError(signal, "Cannot wait for a task"));
      };
      const queued: Queued = {
        task: { ...task, taskId },
        placement,
        queuedMs: this.#clock.monotonicMs(),
        resolve: (result) => {
          signal.removeEventListener("abort", onAbort);
          resolve(result);
        },
        reject: (error) => {
          signal.removeEventListener("abort", onAbort);
          reject(error);
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#queue.push(queued);
      placement.cancel?.addEventListener("abort", () => this.#cancel(taskId), { once: true });
      this.#planRound();
    });
  }

  /** Tasks that the worker is to end. */
  cancelledOf(worker: WorkerId): number[] {
    return [...this.#assigned]
      .filter(([, assigned]) => assigned.worker === worker && assigned.cancelled)
      .map(([taskId]) => taskId);
  }

  #cancel(taskId: number): void {
    const queued = this.#queue.find((each) => each.task.taskId === taskId);
    if (queued !== undefined) {
      this.#queue = this.#queue.filter((each) => each !== queued);
      queued.reject(abortError(queued.placement.cancel!, "Cannot wait for a task"));
      return;
    }
    const assigned = this.#assigned.get(taskId);
    if (assigned === undefined) return;
    assigned.cancelled = true;
    this.#registry.pollOf(assigned.worker)?.answer([]);
  }

  /** Takes what a worker answered; results of tasks that nobody waits for are dropped. */
  results(worker: WorkerId, results: readonly TaskResult[]): void {
    const poll = this.#registry.pollOf(worker);
    for (const result of results) {
      const assigned = this.#assigned.get(result.taskId);
      if (assigned === undefined || assigned.worker !== worker) continue;
      this.#assigned.delete(result.taskId);
      const { task } = assigned.queued;
      if (result.kind === "failed" && result.goesOn === true && task.kind === "ufsOp") {
        this.#registry.goesOn(worker, task.op);
      }
      if (poll !== undefined && !assigned.queued.placement.urgent) poll.freeSlots++;
      assigned.queued.resolve(result);
    }
    if (this.#queue.length > 0) this.#planRound();
  }

  /** The state no longer counts the worker as live. */
  workerLost(worker: WorkerId): void {
    this.#failTasksOf(worker, () => true, "was lost");
    const waitsForIt = (each: Queued) => each.placement.only === worker;
    const stranded = this.#queue.filter(waitsForIt);
    this.#queue = this.#queue.filter((each) => !waitsForIt(each));
    for (const each of stranded) each.reject(gone(worker, "was lost"));
  }

  #polled(poll: Poll): void {
    this.#failTasksOf(
      poll.worker,
      (each) => each.incarnation !== poll.incarnation,
      "was restarted",
    );
    for (const [taskId, assigned] of [...this.#assigned]) {
      if (assigned.worker !== poll.worker || assigned.confirmed) continue;
      if (assigned.connection === poll.connection) {
        assigned.confirmed = true;
      } else {
        this.#assigned.delete(taskId);
        this.#queue.unshift(handedAgain(assigned));
      }
    }
    if (this.#queue.length > 0) this.#planRound();
  }

  #failTasksOf(worker: WorkerId, which: (assigned: Assigned) => boolean, why: string): void {
    for (const [taskId, assigned] of [...this.#assigned]) {
      if (assigned.worker !== worker || !which(assigned)) continue;
      this.#assigned.delete(taskId);
      assigned.queued.reject(gone(worker, why));
    }
  }

  #planRound(): void {
    if (this.#roundPlanned) return;
    this.#roundPlanned = true;
    setImmediate(() => {
      this.#roundPlanned = false;
      if (!this.#reign.signal.aborted) this.#round();
    });
  }

  #round(): void {
    const loads = new Map<WorkerId, Load>();
    for (const poll of this.#registry.openPolls()) {
      if (!this.#isLive(poll.worker)) continue;
      const slots = poll.freeSlots;
      loads.set(poll.worker, {
        poll,
        tasks: [],
        slots,
        urgent: urgentPerWorker,
        mounts: new Map(),
      });
    }
    const room = new Map<WorkerId, number>();
    for (const { worker, queued } of this.#assigned.values()) {
      const load = loads.get(worker);
      if (load === undefined) continue;
      countMount(load, queued);
      if (queued.placement.urgent) load.urgent--;
      else room.set(worker, (room.get(worker) ?? tasksPerWorker) - 1);
    }
    for (const [worker, left] of room) {
      const load = loads.get(worker)!;
      load.slots = Math.min(load.slots, left);
    }
    const now = this.#clock.monotonicMs();
    const left: Queued[] = [];
    const inOrder = [
      ...this.#queue.filter((each) => each.placement.urgent),
      ...this.#queue.filter((each) => !each.placement.urgent),
    ];
    for (const queued of inOrder) {
      const { urgent, only, prefer = [] } = queued.placement;
      const open = this.#reaching(queued, [...loads.values()]).filter(
        (load) =>
          load.tasks.length < tasksPerReply &&
          (urgent ? load.urgent > 0 : load.slots > 0) &&
          (only === undefined || load.poll.worker === only) &&
          this.#hasRoomForMount(load, queued),
      );
      const preferred = prefer
        .map((worker) => open.find((load) => load.poll.worker === worker))
        .find((load) => load !== undefined);
      const mayWait =
        preferred === undefined &&
        now - queued.queuedMs < preferenceMs &&
        prefer.some((worker) => this.#isLive(worker));
      const chosen = preferred ?? (mayWait ? undefined : mostSlots(open));
      if (chosen === undefined) {
        left.push(queued);
        continue;
      }
      if (urgent) chosen.urgent--;
      else chosen.slots--;
      countMount(chosen, queued);
      chosen.tasks.push(queued.task);
      this.#assigned.set(queued.task.taskId, {
        queued,
        worker: chosen.poll.worker,
        incarnation: chosen.poll.incarnation,
        connection: chosen.poll.connection,
        confirmed: false,
        cancelled: queued.placement.cancel?.aborted === true,
      });
    }
    this.#queue = left;
    for (const { poll, tasks } of loads.values()) {
      if (tasks.length > 0) poll.answer(tasks);
    }
    // Polls and results start the next round; only the end of a preference has no event of its own.
    this.#cancelRetry?.();
    this.#cancelRetry =
      left.length === 0 ? undefined : this.#clock.after(preferenceMs, () => this.#planRound());
  }

  #hasRoomForMount({ poll, mounts }: Load, { task, placement }: Queued): boolean {
    const mount = mountOfTask(task);
    if (mount === undefined) return true;
    const bound = this.#registry.reaches(poll.worker, mount) ? perMount : perSilentMount;
    const taken = mounts.get(mount) ?? { urgent: 0, others: 0 };
    return placement.urgent ? taken.urgent < bound.urgent : taken.others < bound.others;
  }

  /** Those whose worker gets answers of the store that the task is about; all of them if there is none. */
  #reaching({ task }: Queued, loads: readonly Load[]): readonly Load[] {
    const mount = mountOfTask(task);
    if (mount === undefined) return loads;
    const reaching = loads.filter(({ poll }) => this.#registry.reaches(poll.worker, mount));
    return reaching.length > 0 ? reaching : loads;
  }
}

/** What a worker has and gets in one round. */
interface Load {
  readonly poll: Poll;
  readonly tasks: Task[];
  slots: number;
  urgent: number;
  /** Tasks about each mount. */
  readonly mounts: Map<MountId, { urgent: number; others: number }>;
}

function mountOfTask(task: Task): MountId | undefined {
  return task.kind === "listDirectory" || task.kind === "ufsOp" ? task.mount.id : undefined;
}

function countMount({ mounts }: Load, { task, placement }: Queued): void {
  const mount = mountOfTask(task);
  if (mount === undefined) return;
  const taken = mounts.get(mount) ?? { urgent: 0, others: 0 };
  mounts.set(mount, taken);
  if (placement.urgent) taken.urgent++;
  else taken.others++;
}

function mostSlots<L extends { slots: number }>(loads: readonly L[]): L | undefined {
  let best: L | undefined;
  for (const load of loads) if (best === undefined || load.slots > best.slots) best = load;
  return best;
}

/** Another worker may be asked for what has no effects. */
function handedAgain({ queued, worker }: Assigned): Queued {
  if (queued.task.kind !== "ufsOp") return queued;
  return { ...queued, placement: { ...queued.placement, only: worker } };
}

function gone(worker: WorkerId, why: string): WeirError {
  return new WeirError("Unavailable", `Cannot finish a task: worker ${String(worker)} ${why}`, {
    outcome: "unknown",
  });
}
