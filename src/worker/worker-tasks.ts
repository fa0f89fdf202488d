/**
 * The tasks that leaders gave this worker: those under way, and the results that no leader has taken yet.
 *
 * Invariants
 * 1. Tasks of a term that is over are refused, and those under way are ended: a later leader may have asked another
 *    worker for the opposite.
 * 2. A side effect on a store is under way once at a time, and goes on only while the leader that asked for it is heard of
 *    (effect-lease.ts). What leaders must wait for, since it cannot be called back, is in `ending`: what an earlier one
 *    asked for, and what hangs in a store that does not answer.
 * 3. A side effect that is handed over again after it was answered is not done again, but answered again: the hand-over and
 *    the answer may have crossed.
 */
import type { Clock } from "../lib/clock.ts";
import { WeirError } from "../lib/errors.ts";
import type { UfsOpId } from "../lib/ids.ts";
import type { HeartbeatReply, Task, TaskResult } from "../rpc/tasks.ts";
import { EffectLease } from "./effect-lease.ts";
import type { Attempt } from "./task-executor.ts";

interface Running {
  readonly term: number;
  readonly abort: AbortController;
  /** Set when it is done and not delivered. */
  result: TaskResult | undefined;
}

/** Answers about side effects that are kept for when their tasks are handed over again. */
const keptAnswers = 1000;

/** The latest attempt of a side effect that has not ended. */
interface Effect {
  readonly running: Running;
  /** Resolves when nothing goes on any more, in the store neither. */
  readonly ended: Promise<unknown>;
  /** It was answered, and goes on. */
  hangs: boolean;
}

/** What a leader says of tasks. */
export type Orders = Pick<HeartbeatReply, "term" | "tasks" | "cancelled" | "effectLeaseMs">;

export class WorkerTasks {
  readonly #execute: (task: Task, attempt: Attempt) => Promise<TaskResult>;
  readonly #onResult: () => void;
  readonly #running = new Map<number, Running>();
  readonly #effects = new Map<UfsOpId, Effect>();
  /** Of this term, delivered ones. */
  readonly #answered = new Map<number, TaskResult>();
  readonly #lease: EffectLease;
  #term = 0;

  constructor(options: {
    execute: (task: Task, attempt: Attempt) => Promise<TaskResult>;
    /** There are results to deliver. */
    onResult: () => void;
    clock: Clock;
  }) {
    this.#execute = options.execute;
    this.#onResult = options.onResult;
    this.#lease = new EffectLease(options.clock, (error) => {
      for (const { running } of this.#effects.values()) running.abort.abort(error);
    });
  }

  /** The latest term of a leader that was heard of. */
  get term(): number {
    return this.#term;
  }

  /** Tasks under way, and those with results to deliver. */
  get size(): number {
    return this.#running.size;
  }

  /** Side effects that go on here though nobody waits for their results. */
  get ending(): UfsOpId[] {
    return [...this.#effects]
      .filter(([, { running, hangs }]) => hangs || running.term < this.#term)
      .map(([op]) => op);
  }

  /** Takes what a leader answered to a request that was sent at `sentMs` (monotonic). False: its term is over. */
  take(orders: Orders, sentMs: number): boolean {
    if (orders.term < this.#term) return false;
    if (orders.term > this.#term) this.#supersede(orders.term);
    this.#lease.extend(sentMs, orders.effectLeaseMs);
    for (const taskId of orders.cancelled ?? []) {
      const error = new WeirError("Cancelled", "It is not wanted any more");
      this.#running.get(taskId)?.abort.abort(error);
    }
    for (const task of orders.tasks) this.#start(task);
    return true;
  }

  /** The first `limit` results that no leader has taken. */
  results(limit: number): TaskResult[] {
    const done: TaskResult[] = [];
    for (const { result } of this.#running.values()) {
      if (result !== undefined && done.push(result) >= limit) break;
    }
    return done;
  }

  /** A leader took these results. */
  delivered(results: readonly TaskResult[]): void {
    for (const result of results) {
      if (this.#running.get(result.taskId)?.result !== result) continue;
      this.#running.delete(result.taskId);
      if (result.kind !== "ufsDone" && result.kind !== "failed") continue;
      this.#answered.set(result.taskId, result);
      if (this.#answered.size > keptAnswers) {
        this.#answered.delete(this.#answered.keys().next().value!);
      }
    }
  }

  /** Ends what is under way. */
  stop(error: WeirError): void {
    for (const { abort } of this.#running.values()) abort.abort(error);
    this.#lease.close();
  }

  #supersede(term: number): void {
    this.#term = term;
    this.#lease.restart();
    this.#answered.clear();
    for (const [taskId, running] of this.#running) {
      running.abort.abort(new WeirError("Cancelled", `Term ${running.term} is over`));
      this.#running.delete(taskId);
    }
  }

  #start(task: Task): void {
    // The leader may hand over a task twice; the one under way answers for both.
    if (this.#running.has(task.taskId)) return;
    const running: Running = { term: this.#term, abort: new AbortController(), result: undefined };
    this.#running.set(task.taskId, running);
    const answered = task.kind === "ufsOp" ? this.#answered.get(task.taskId) : undefined;
    if (answered !== undefined) {
      running.result = answered;
      this.#onResult();
      return;
    }
    const result = task.kind === "ufsOp" ? this.#affect(task, running) : this.#run(task, running);
    void result.then((answer) => {
      running.result = answer;
      this.#onResult();
    });
  }

  #run(
    task: Task,
    running: Running,
    outlives: Attempt["outlives"] = () => undefined,
  ): Promise<TaskResult> {
    const permit = () => this.#permit(running);
    return this.#execute(task, { signal: running.abort.signal, permit, outlives });
  }

  /** Starts a side effect when the attempt before it has ended, in the store as well. */
  #affect(task: Extract<Task, { kind: "ufsOp" }>, running: Running): Promise<TaskResult> {
    const before = this.#effects.get(task.op)?.ended ?? Promise.resolve();
    const hanging: Promise<unknown>[] = [];
    const result = before.then(() =>
      this.#run(task, running, (ended) => {
        hanging.push(ended);
      }),
    );
    const ended = result.then(() => Promise.allSettled(hanging));
    const effect: Effect = { running, ended, hangs: false };
    this.#effects.set(task.op, effect);
    void ended.then(() => {
      if (this.#effects.get(task.op) === effect) this.#effects.delete(task.op);
    });
    return result.then((answer) => {
      effect.hangs = hanging.length > 0;
      return answer.kind === "failed" && effect.hangs ? { ...answer, goesOn: true } : answer;
    });
  }

  #permit({ term, abort }: Running): void {
    abort.signal.throwIfAborted();
    if (term !== this.#term) throw new WeirError("Cancelled", `Term ${term} is over`);
    this.#lease.check();
  }
}
