/**
 * Rebuilds lost files by running recorded jobs again, on workers. Lives on the leader, from the start of its term to its
 * end; what must outlive it (attempts, failures, who runs what) is in the replicated state.
 *
 * Invariants
 * 1. At most one flight per lineage at a time, however many readers wait for it; a job is not started again because
 *    somebody asks again.
 * 2. A job starts only when all its inputs are there; when a parent failed, its children never start, and those who wait
 *    for them are told at once.
 * 3. Every attempt that this leader starts is ended by it: committed, failed, or left to the next leader, which fails it
 *    as nobody's fault and starts anew under another epoch. What the earlier one still writes goes to other containers,
 *    and its late result is refused by the state machine.
 */
import type { Clock } from "../../lib/clock.ts";
import { hasCode, toWeirError, WeirError } from "../../lib/errors.ts";
import type { InodeId, LineageId, WorkerId, WriteId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { buildGraph, type LineageNode } from "../../lineage/graph.ts";
import { type Plan, type PlanStep, planRecovery } from "../../lineage/plan.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { FileLayout, Job, LineageOutput } from "../../rpc/namespace.ts";
import type { TaskResult } from "../../rpc/tasks.ts";
import type { Lineage } from "../state/model.ts";
import { inodeOf, isUnmade, lineageOf, pathOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { type Fault, judge, shownPath } from "./attempt-verdict.ts";

/** One attempt, as a worker is asked to run it. */
export interface JobAssignment {
  readonly lineage: LineageId;
  readonly epoch: WriteId;
  readonly job: Job;
  readonly inputs: readonly { readonly path: string; readonly layout: FileLayout }[];
  readonly outputs: readonly LineageOutput[];
  readonly worker: WorkerId;
}

export interface RecoveryOptions {
  readonly reader: StateReader;
  /** Resolves with a result per command when they are applied; rejects `NotLeader` or `Busy`. */
  propose(commands: Command[]): Promise<readonly CommandResult[]>;
  /** Resolves with what the worker reports; rejects `Unavailable` when it goes silent, `NotLeader` when this leader ends. */
  runJob(assignment: JobAssignment, signal: AbortSignal): Promise<TaskResult>;
  /** A worker that can run a job now, one of `preferred` (best first) if possible. */
  pickWorker(preferred: WorkerId[]): WorkerId | undefined;
  layoutOf(inode: InodeId): Promise<FileLayout>;
  /** Whether bytes of the file's content are nowhere: with no live keeper, in no cache, in no store. */
  isMissing(inode: InodeId): Promise<boolean>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Failures of a job in a row, by its own fault, after which its lineage is failed. */
  readonly jobAttempts: number;
}

/** What a flight came to. `inputsGone`: an input was lost meanwhile, so there is more to rebuild first. */
type FlightResult = "done" | "inputsGone";

/** Plans in a row for one request: copies may get lost while others are being made. */
const maxPlans = 8;
/** Attempts in a row that ended by no fault of the job. */
const maxBlameless = 10;
/** How long a job waits for a worker before those who wait for it are told. */
const workerWaitMs = 30_000;
const firstPauseMs = 200;
const longestPauseMs = 5000;

export class RecoveryService {
  readonly #options: RecoveryOptions;
  readonly #flights = new Map<LineageId, Promise<FlightResult>>();
  readonly #stopping = new AbortController();

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /**
   * Makes a file whole again, at once if it is. `jobs` is the number of jobs that had to run.
   * @throws WeirError `Lost` when it cannot be rebuilt, with the reason; `JobFailed` with the exit code and the end of the
   * job's standard error; `Unavailable` when no worker could run it; `DeadlineExceeded` or `Cancelled` after the signal,
   * while the jobs go on
   */
  recover(inode: InodeId, signal: AbortSignal): Promise<{ jobs: number }> {
    return this.#restore([inode], signal);
  }

  /**
   * Makes the outputs of a lineage that are not there, with what they need first; lets a failed lineage try again.
   * @throws WeirError as `recover`; `NotFound` when the lineage, or all of its outputs, were deleted
   */
  async run(id: LineageId, signal: AbortSignal): Promise<{ jobs: number }> {
    const { reader } = this.#options;
    const record = this.#lineage(id);
    const outputs = record.outputs
      .map((output) => output.inode)
      .filter((inode) => inodeOf(reader, inode)?.lineageId === id);
    if (outputs.length === 0) {
      throw new WeirError(
        "NotFound",
        `Cannot run lineage ${id}: its outputs were deleted or overwritten`,
      );
    }
    if (record.state === "failed") await this.#propose({ kind: "resetLineage", lineage: id });
    return this.#restore(outputs, signal);
  }

  /** What `recover` would run now. */
  async plan(inode: InodeId): Promise<Plan> {
    return (await this.#plan([inode])).plan;
  }

  /** Ends all flights (`Cancelled` to those who wait) and resolves when none is left. */
  async stop(): Promise<void> {
    this.#stopping.abort(new WeirError("Cancelled", "Cannot go on: this master stops recovering"));
    await Promise.allSettled(this.#flights.values());
  }

  async #restore(wanted: readonly InodeId[], signal: AbortSignal): Promise<{ jobs: number }> {
    let jobs = 0;
    for (let round = 0; round < maxPlans; round++) {
      this.#stopping.signal.throwIfAborted();
      const { plan, why } = await this.#plan(wanted);
      if (!plan.ok) throw this.#cannotRebuild(plan, why);
      if (plan.steps.length === 0) return { jobs };
      const results = await withSignal(Promise.all(this.#fly(plan.steps)), signal, () =>
        this.#shownFile(wanted[0]!),
      );
      jobs += results.filter((result) => result === "done").length;
    }
    throw new WeirError(
      "Unavailable",
      `Cannot rebuild ${this.#shownFile(wanted[0]!)}: its inputs are lost as fast as they are made`,
    );
  }

  /** The flights of all steps, new or under way. */
  #fly(steps: readonly PlanStep[]): Promise<FlightResult>[] {
    return steps.map(({ lineage, after }) => {
      const present = this.#flights.get(lineage);
      if (present !== undefined) return present;
      // Steps come in topological order: the flights of parents are there.
      const parents = after.flatMap((parent) => this.#flights.get(parent) ?? []);
      const flight = this.#flight(lineage, parents).finally(() => this.#flights.delete(lineage));
      // Whoever waits gets the error from the flight itself; nobody may be waiting any more.
      flight.catch((thrown: unknown) => {
        const { message } = toWeirError(thrown, `Cannot run lineage ${lineage}`);
        this.#options.logger.warn({ lineage, reason: message }, "a lineage could not be run");
      });
      this.#flights.set(lineage, flight);
      return flight;
    });
  }

  async #flight(id: LineageId, parents: readonly Promise<FlightResult>[]): Promise<FlightResult> {
    const made = await this.#whenMade(id, parents);
    if (made === "inputsGone") return made;
    let blameless = 0;
    let unlucky: WorkerId | undefined;
    const startedMs = this.#options.clock.monotonicMs();
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
      const record = this.#lineage(id);
      if (record.state === "failed") throw this.#failedBefore(record);
      const inputs = await this.#inputsOf(record);
      if (inputs === undefined) return "inputsGone";
      if (record.running !== undefined) await this.#endForeign(id, record.running);
      const preferred = holdersOf(inputs).filter((worker) => worker !== unlucky);
      const worker = this.#options.pickWorker(preferred);
      if (worker === undefined) {
        if (this.#options.clock.monotonicMs() - startedMs > workerWaitMs) {
          throw new WeirError(
            "Unavailable",
            `Cannot rebuild ${shownOutputs(record)}: no live worker takes jobs`,
          );
        }
        await this.#pause(pauseMs);
        continue;
      }
      const outcome = await this.#attempt({ id, record, inputs, worker });
      if (outcome === "committed") return "done";
      unlucky = worker;
      if (outcome === "blameless" && ++blameless >= maxBlameless) {
        throw new WeirError(
          "Unavailable",
          `Cannot rebuild ${shownOutputs(record)}: ${maxBlameless} attempts were cut short, wanted a worker that stays`,
        );
      }
      const after = this.#lineage(id);
      // Told at once: no pause before the reader learns of it.
      if (after.state === "failed") throw this.#failedBefore(after);
      await this.#pause(pauseMs);
    }
  }

  /** Waits for the parents; their failure becomes the child's, with the reason. */
  async #whenMade(id: LineageId, parents: readonly Promise<FlightResult>[]): Promise<FlightResult> {
    try {
      return (await Promise.all(parents)).includes("inputsGone") ? "inputsGone" : "done";
    } catch (thrown) {
      const cause = toWeirError(thrown, "Cannot run a job");
      throw new WeirError(
        cause.code,
        `Cannot rebuild ${shownOutputs(this.#lineage(id))}: an input could not be made: ${cause.message}`,
        { cause },
      );
    }
  }

  async #attempt(of: {
    id: LineageId;
    record: Lineage;
    inputs: JobAssignment["inputs"];
    worker: WorkerId;
  }): Promise<"committed" | "failed" | "blameless"> {
    const { id, record, inputs, worker } = of;
    const { clock, logger } = this.#options;
    const started = await this.#propose({ kind: "startAttempt", lineage: id, worker });
    if (!started.ok) {
      logger.warn({ lineage: id, ...started }, "an attempt was not started");
      return "blameless";
    }
    const epoch = started.writeId!;
    const startedMs = clock.monotonicMs();
    logger.info({ lineage: id, epoch, worker }, "attempt started");
    let fault: Fault;
    try {
      const { job, outputs } = record;
      const assignment = { lineage: id, epoch, job, inputs, outputs, worker };
      const result = await this.#options.runJob(assignment, this.#stopping.signal);
      const judged = judge(result, record);
      if (judged.ok) {
        const { outputs: made, durationMs } = judged;
        const committed = await this.#propose({
          kind: "commitAttempt",
          lineage: id,
          epoch,
          worker,
          outputs: made,
          durationMs,
        });
        if (committed.ok) {
          logger.info({ lineage: id, epoch, worker, durationMs }, "attempt committed");
          return "committed";
        }
        if (committed.code === "Corrupt") return "failed";
        // Ended by somebody else meanwhile: nothing is left to fail.
        if (this.#lineage(id).running?.epoch !== epoch) return "blameless";
        fault = { error: committed.detail, exitCode: 0, blameless: false, durationMs };
      } else {
        fault = judged.fault;
      }
    } catch (thrown) {
      const error = toWeirError(thrown, `Cannot run lineage ${id} on worker ${worker}`);
      // Without the lead there is nothing to propose: the next leader finds the attempt and ends it.
      if (error.code === "NotLeader" || this.#stopping.signal.aborted) throw error;
      fault = { error: error.message, exitCode: undefined, blameless: true, durationMs: undefined };
    }
    const final = !fault.blameless && record.failures + 1 >= this.#options.jobAttempts;
    logger.warn({ lineage: id, epoch, worker, ...fault, final }, "attempt failed");
    await this.#propose({
      kind: "failAttempt",
      lineage: id,
      epoch,
      exitCode: fault.exitCode,
      error: fault.error,
      durationMs: fault.durationMs ?? Math.round(clock.monotonicMs() - startedMs),
      blameless: fault.blameless,
      final,
    });
    return fault.blameless ? "blameless" : "failed";
  }

  /** Ends an attempt that this flight did not start: of an earlier leader, or one whose end could not be proposed. */
  async #endForeign(
    id: LineageId,
    running: { readonly epoch: WriteId; readonly worker: WorkerId },
  ): Promise<void> {
    const { epoch, worker } = running;
    this.#options.logger.info({ lineage: id, epoch, worker }, "an attempt of before is given up");
    await this.#propose({
      kind: "failAttempt",
      lineage: id,
      epoch,
      exitCode: undefined,
      error: "The leader that started the attempt is gone",
      durationMs: 0,
      blameless: true,
      final: false,
    });
  }

  /** Paths and layouts of the inputs, or undefined when one is not there. */
  async #inputsOf(record: Lineage): Promise<JobAssignment["inputs"] | undefined> {
    const inputs = await Promise.all(
      record.inputs.map(async ({ path, inode }) => {
        if (await this.#isMissing(inode)) return undefined;
        return { path, layout: await this.#options.layoutOf(inode) };
      }),
    );
    const there = inputs.filter((input) => input !== undefined);
    return there.length === inputs.length ? there : undefined;
  }

  async #isMissing(inode: InodeId): Promise<boolean> {
    const { reader } = this.#options;
    const found = inodeOf(reader, inode);
    if (found === undefined || isUnmade(reader, found)) return true;
    return this.#options.isMissing(inode);
  }

  /** Walks back from `wanted` through what is missing, and plans on what it found. `why` is said of files without maker. */
  async #plan(
    wanted: readonly InodeId[],
  ): Promise<{ plan: Plan; why: ReadonlyMap<InodeId, string> }> {
    const { reader } = this.#options;
    const missing = new Set<InodeId>();
    const why = new Map<InodeId, string>();
    const nodes = new Map<LineageId, LineageNode>();
    const seen = new Set<InodeId>();
    const open: InodeId[] = [...wanted];
    for (let inode = open.shift(); inode !== undefined; inode = open.shift()) {
      if (seen.has(inode)) continue;
      seen.add(inode);
      if (!(await this.#isMissing(inode))) continue;
      missing.add(inode);
      const id = inodeOf(reader, inode)?.lineageId;
      const record = id === undefined ? undefined : lineageOf(reader, id);
      if (id === undefined || record === undefined) {
        why.set(inode, this.#whyGone(inode));
        continue;
      }
      if (nodes.has(id)) continue;
      nodes.set(
        id,
        nodeOf(id, record, (output) => inodeOf(reader, output)?.lineageId === id),
      );
      for (const input of record.inputs) {
        const found = inodeOf(reader, input.inode);
        // What a lineage makes has equal bytes whenever it is made; of other files only the recorded version will do.
        if (
          found !== undefined &&
          found.lineageId === undefined &&
          found.version !== input.version
        ) {
          missing.add(input.inode);
          seen.add(input.inode);
          why.set(
            input.inode,
            `its content is of version ${found.version}, the job was recorded with version ${input.version}`,
          );
        }
        open.push(input.inode);
      }
    }
    const plan = planRecovery(buildGraph(nodes.values()), wanted, (inode) => missing.has(inode));
    return { plan, why };
  }

  #whyGone(inode: InodeId): string {
    return inodeOf(this.#options.reader, inode) === undefined
      ? "it was deleted"
      : "every worker that kept it is lost, it is in no store, and no job is recorded that makes it";
  }

  #cannotRebuild(plan: Extract<Plan, { ok: false }>, why: ReadonlyMap<InodeId, string>): WeirError {
    const wanted = this.#shownFile(plan.chain[0]!);
    if (plan.reason === "cycle") {
      return new WeirError(
        "Lost",
        `Cannot rebuild ${wanted}: making it would need the file itself`,
      );
    }
    const reason = why.get(plan.inode) ?? "it cannot be made";
    const through =
      plan.chain.length === 1 ? "" : `its job needs ${this.#shownFile(plan.inode)}, and `;
    return new WeirError("Lost", `Cannot rebuild ${wanted}: ${through}${reason}`);
  }

  #failedBefore(record: Lineage): WeirError {
    const last = record.attempts.findLast((attempt) => attempt.error !== undefined);
    return new WeirError(
      "JobFailed",
      `Cannot rebuild ${shownOutputs(record)}: its job failed ${record.failures} times, the last time: ${last?.error ?? "without a reason"}`,
    );
  }

  #lineage(id: LineageId): Lineage {
    const record = lineageOf(this.#options.reader, id);
    if (record !== undefined) return record;
    throw new WeirError("NotFound", `Cannot run lineage ${id}: there is no such lineage`);
  }

  #shownFile(inode: InodeId): string {
    const path = pathOf(this.#options.reader, inode);
    return path === undefined ? `file ${inode}` : shownPath(path);
  }

  /** One command; a leader that is too busy is asked again. */
  async #propose(command: Command): Promise<CommandResult> {
    for (let pauseMs = 50; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
      try {
        return (await this.#options.propose([command]))[0]!;
      } catch (thrown) {
        if (!hasCode(thrown, "Busy")) throw thrown;
      }
      await this.#pause(pauseMs);
    }
  }

  #pause(delayMs: number): Promise<void> {
    const { signal } = this.#stopping;
    return new Promise((resolve, reject) => {
      const stop = () => {
        cancel();
        reject(signal.reason as Error);
      };
      const cancel = this.#options.clock.after(delayMs, () => {
        signal.removeEventListener("abort", stop);
        resolve();
      });
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop, { once: true });
    });
  }
}

function nodeOf(
  id: LineageId,
  record: Lineage,
  isLinked: (output: InodeId) => boolean,
): LineageNode {
  return {
    id,
    inputs: record.inputs.map((input) => input.inode),
    outputs: record.outputs.map((output) => output.inode).filter(isLinked),
  };
}

/** Workers that hold bytes of the inputs, those with most bytes first. */
function holdersOf(inputs: JobAssignment["inputs"]): WorkerId[] {
  const held = new Map<WorkerId, number>();
  for (const { layout } of inputs) {
    for (const { length, locations } of layout.segments) {
      for (const worker of locations) held.set(worker, (held.get(worker) ?? 0) + length);
    }
  }
  return [...held.keys()].sort((a, b) => held.get(b)! - held.get(a)! || a - b);
}

const noop = () => undefined;

/** The promise, or the signal's end if that comes first; what was waited for goes on. */
async function withSignal<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  what: () => string,
): Promise<T> {
  let onAbort: () => void = noop;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      const cause: unknown = signal.reason;
      const late = cause instanceof Error && cause.name === "TimeoutError";
      reject(
        cause instanceof WeirError
          ? cause
          : new WeirError(
              late ? "DeadlineExceeded" : "Cancelled",
              `Cannot wait for the recovery of ${what()} any longer: it goes on`,
              { cause },
            ),
      );
    };
  });
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    // Whichever lost the race may still reject, with nobody listening.
    promise.catch(() => undefined);
  }
}

function shownOutputs(record: Lineage): string {
  const [first, ...others] = record.outputs;
  const shown = first === undefined ? "a lineage" : shownPath(first.path);
  return others.length === 0 ? shown : `${shown} and ${others.length} more`;
}
