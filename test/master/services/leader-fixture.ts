/** A leader's services on a real state machine in the heap, with workers that answer as a test tells them. */
import { setMaxListeners } from "node:events";
import { rootInodeId, type WorkerId } from "../../../src/lib/ids.ts";
import type { Reign } from "../../../src/master/services/leadership.ts";
import { Locations } from "../../../src/master/services/locations.ts";
import { TaskDispatcher } from "../../../src/master/services/task-dispatcher.ts";
import { WorkerRegistry } from "../../../src/master/services/worker-registry.ts";
import type { AppliedEntry } from "../../../src/master/state/machine.ts";
import { workerOf } from "../../../src/master/state/queries.ts";
import {
  type Command,
  type CommandResult,
  type EntryPayload,
  newestLevel,
} from "../../../src/rpc/commands.ts";
import type { Task, TaskResult } from "../../../src/rpc/tasks.ts";
import { bootstrapCommand, Machine, pageOf, requestOf } from "../state/machine-fixture.ts";
import { ManualClock } from "./manual-clock.ts";

/** A state machine whose entries are told to the services, as the master does. */
export class ObservedMachine extends Machine {
  onApplied: (applied: AppliedEntry) => void = () => undefined;

  /** A cluster; with `rootLoaded` as if its store were empty. */
  static start({ rootLoaded = true } = {}): ObservedMachine {
    const machine = new ObservedMachine();
    machine.done(bootstrapCommand);
    machine.done({ kind: "raiseLevel", level: newestLevel });
    if (rootLoaded) machine.done(pageOf(rootInodeId, [], { listedAtIndex: 1 }));
    return machine;
  }

  override applyEntry(entry: EntryPayload): AppliedEntry {
    const applied = super.applyEntry(entry);
    this.onApplied(applied);
    return applied;
  }
}

export class LeaderFixture {
  readonly machine: ObservedMachine;
  readonly clock = new ManualClock();
  readonly locations = new Locations();
  readonly registry = new WorkerRegistry({ clock: this.clock, locations: this.locations });
  readonly #reign = new AbortController();
  readonly reign: Reign = {
    term: 1,
    signal: this.#reign.signal,
    sinceMs: this.clock.monotonicMs(),
  };
  readonly dispatcher: TaskDispatcher;
  /** What the leader proposed, in order. */
  readonly proposed: Command[] = [];

  constructor(machine = ObservedMachine.start()) {
    setMaxListeners(0, this.#reign.signal);
    this.machine = machine;
    this.dispatcher = new TaskDispatcher({
      clock: this.clock,
      registry: this.registry,
      isLive: (worker) => workerOf(machine.state, worker)?.state === "live",
      reign: this.reign,
    });
  }

  readonly propose = async (commands: readonly Command[]): Promise<CommandResult[]> => {
    this.proposed.push(...commands);
    return this.machine.apply(requestOf(commands)).results.flat();
  };

  /** A worker that takes up to `slots` tasks at once and answers each with what `answer` says. */
  worker(
    uuid: string,
    answer: (task: Task) => TaskResult | Promise<TaskResult>,
    slots = 8,
  ): WorkerId {
    const worker = this.machine.worker(uuid);
    let free = slots;
    const poll = async () => {
      while (!this.reign.signal.aborted) {
        const beat = {
          worker,
          incarnation: uuid,
          sequence: 0,
          full: true,
          changed: [],
          removed: [],
          usedBytes: [],
          freeSlots: free,
          waitMs: 60_000_000,
          complete: undefined,
          jobs: undefined,
        };
        for (const task of await this.registry.poll(beat, worker, this.reign.signal)) {
          free--;
          void Promise.resolve(answer(task)).then((result) => {
            free++;
            this.dispatcher.results(worker, [result]);
          });
        }
      }
    };
    void poll();
    return worker;
  }

  end(): void {
    this.#reign.abort(new Error("the test is over"));
  }
}

/** What an obedient worker answers. */
export function obey(task: Task): TaskResult {
  const { taskId } = task;
  switch (task.kind) {
    case "listDirectory":
      return { kind: "listed", taskId, entries: [], last: true };
    case "ufsOp":
      return { kind: "ufsDone", taskId, op: task.op, fingerprint: `print ${String(task.op)}` };
    case "dropContainers":
      return { kind: "dropped", taskId };
    case "compact":
    case "runJob":
      return { kind: "failed", taskId, code: "NotSupported", message: "no jobs here" };
  }
}
