/** A cluster in the heap for side effects: the state machine, leaders one after another, workers, and one store. */
import { setMaxListeners } from "node:events";
import type { Random } from "../../../src/lib/clock.ts";
import { WeirError } from "../../../src/lib/errors.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import type { WorkerId } from "../../../src/lib/ids.ts";
import { endingElsewhere } from "../../../src/master/services/effect-fence.ts";
import { Layouts } from "../../../src/master/services/layouts.ts";
import { Locations } from "../../../src/master/services/locations.ts";
import { PendingMoves } from "../../../src/master/services/pending-moves.ts";
import { TaskDispatcher } from "../../../src/master/services/task-dispatcher.ts";
import { UfsOpQueue } from "../../../src/master/services/ufs-op-queue.ts";
import { WorkerRegistry } from "../../../src/master/services/worker-registry.ts";
import { workerOf } from "../../../src/master/state/queries.ts";
import type { Command, CommandResult } from "../../../src/rpc/commands.ts";
import type { FileLayout } from "../../../src/rpc/namespace.ts";
import { effectLeasePart, type TaskResult } from "../../../src/rpc/tasks.ts";
import { TaskExecutor } from "../../../src/worker/task-executor.ts";
import { WorkerTasks } from "../../../src/worker/worker-tasks.ts";
import { MemoryStore } from "../../lib/memory-store.ts";
import { requestOf } from "../state/machine-fixture.ts";
import { ObservedMachine } from "./leader-fixture.ts";
import { ManualClock } from "./manual-clock.ts";

export const workerTimeoutMs = 10_000;
const beatMs = 1000;
/** Longest that a call is in flight: less than the rest of the time after which another worker may be asked. */
const longestFlightMs = 3000;

/** What is on its way, and goes on in an order by chance. */
class Steps {
  readonly #waiting: (() => void)[] = [];

  get size(): number {
    return this.#waiting.length;
  }

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  runOne(random: Random): void {
    this.#waiting.splice(random.below(this.#waiting.length), 1)[0]?.();
  }
}

/** What a persist writes: tells file and version. */
export function contentOf(inode: number, version: number, size: number): string {
  return `${String(inode)}.${String(version)}.`.padEnd(size).slice(0, size);
}

class Leader {
  readonly #controller = new AbortController();
  readonly registry: WorkerRegistry;
  readonly dispatcher: TaskDispatcher;
  readonly queue: UfsOpQueue;
  readonly term: number;

  constructor(world: World, term: number) {
    const { machine, clock, moves } = world;
    setMaxListeners(0, this.#controller.signal);
    this.term = term;
    const locations = new Locations();
    const reign = { term, signal: this.#controller.signal, sinceMs: clock.monotonicMs() };
    const registry = new WorkerRegistry({ clock, locations });
    this.registry = registry;
    const isLive = (worker: WorkerId) => workerOf(machine.state, worker)?.state === "live";
    this.dispatcher = new TaskDispatcher({ clock, registry, isLive, reign });
    const layouts = new Layouts({
      reader: machine.state,
      locations,
      pendingRenames: (file) => moves.renamesOf(file.mountId),
      silentMs: (worker) => registry.silentMs(worker),
    });
    this.queue = new UfsOpQueue({
      reader: machine.state,
      dispatcher: this.dispatcher,
      propose: (commands) => world.propose(this, commands),
      layoutOf: async ({ action }) =>
        action.kind === "persist" && machine.inode(action.inode) !== undefined
          ? layouts.layoutOf(action.inode)
          : undefined,
      endingElsewhere: () =>
        endingElsewhere({ reader: machine.state, registry, reign, clock, workerTimeoutMs }),
      clusterTimeMs: () => machine.clusterTimeMs,
      clock,
      logger: silentLogger,
      reign,
    });
  }

  end(): void {
    this.#controller.abort(new WeirError("NotLeader", "The reign is over"));
  }
}

/** One process of a worker. */
class WorkerProcess {
  readonly worker: WorkerId;
  readonly incarnation: string;
  readonly tasks: WorkerTasks;
  isDead = false;
  isCutOff = false;

  constructor(world: World, worker: WorkerId, incarnation: string) {
    this.worker = worker;
    this.incarnation = incarnation;
    const executor = new TaskExecutor({
      mounts: { use: () => world.store, useOnce: () => Promise.reject(new Error("not used")) },
      readFile: bytesOf,
      jobs: false,
      jobSlots: 0,
      logger: silentLogger,
    } as unknown as ConstructorParameters<typeof TaskExecutor>[0]);
    this.tasks = new WorkerTasks({
      execute: (task, attempt) =>
        executor.execute(task, {
          ...attempt,
          permit: () => {
            if (this.isDead) throw new WeirError("Cancelled", "The process is dead");
            attempt.permit();
          },
        }),
      onResult: () => void this.#deliver(world),
      clock: world.clock,
    });
    void this.#report(world);
  }

  async #report(world: World): Promise<void> {
    for (let sequence = 0; !this.isDead; sequence++) {
      await world.steps.next();
      const { leader } = world;
      if (this.isDead) return;
      if (this.isCutOff) continue;
      const sentMs = world.clock.monotonicMs();
      const beat = {
        ...{ worker: this.worker, incarnation: this.incarnation, sequence, full: sequence === 0 },
        ...{ changed: [], removed: [], usedBytes: [], freeSlots: 8, waitMs: beatMs },
        ...{ complete: true, jobs: false, unhealthy: undefined },
        ...{ term: this.tasks.term, ending: this.tasks.ending },
      };
      await world.steps.next();
      leader.registry.report(beat);
      world.registered(this.worker);
      const isNews = beat.term < leader.term;
      const signal = AbortSignal.any([]);
      const tasks = isNews ? [] : await leader.registry.poll(beat, sequence, signal);
      const cancelled = leader.dispatcher.cancelledOf(this.worker);
      await world.steps.next();
      // An answer that is lost: what it handed over is handed over again.
      if (this.isDead || this.isCutOff || world.loses()) continue;
      const effectLeaseMs = workerTimeoutMs * effectLeasePart;
      this.tasks.take({ term: leader.term, tasks, cancelled, effectLeaseMs }, sentMs);
    }
  }

  async #deliver(world: World): Promise<void> {
    while (!this.isDead) {
      const results: TaskResult[] = this.tasks.results(64);
      if (results.length === 0) return;
      await world.steps.next();
      if (this.isDead) return;
      if (this.isCutOff) continue;
      world.leader.dispatcher.results(this.worker, results);
      // The answer to it may be lost as well.
      if (!world.loses()) this.tasks.delivered(results);
    }
  }
}

async function* bytesOf({ status }: FileLayout): AsyncIterable<Uint8Array> {
  yield await Promise.resolve(
    Buffer.from(contentOf(status.inode, status.version, status.size), "latin1"),
  );
}

export class World {
  readonly machine = ObservedMachine.start();
  readonly clock = new ManualClock();
  readonly steps = new Steps();
  readonly store = new MemoryStore();
  /** Calls that a store will execute, whatever becomes of who sent them. */
  #calls: { readonly sinceMs: number; readonly land: () => void }[] = [];
  readonly moves = new PendingMoves(this.machine.state);
  readonly session = this.machine.openSession(2 ** 40);
  readonly workers: WorkerProcess[] = [];
  leader: Leader;
  /** Whether things go wrong by themselves. */
  isCalm = false;
  readonly #random: Random;
  #incarnations = 0;

  constructor(random: Random) {
    this.#random = random;
    this.machine.isChecked = false;
    this.store.beforeStep = () => this.#storeStep("it could not be reached");
    this.store.inFlight = () =>
      new Promise((land) => {
        this.#calls.push({ sinceMs: this.clock.monotonicMs(), land });
      });
    this.store.afterStep = () => this.#storeStep("its answer was lost");
    this.leader = new Leader(this, 1);
    this.machine.onApplied = ({ events }) => {
      this.moves.applied(events);
      this.leader.queue.applied(events);
      for (const event of events) {
        if (event.kind === "workerLost") this.leader.dispatcher.workerLost(event.worker);
      }
    };
    for (const uuid of ["one", "two"]) this.#start(this.machine.worker(uuid));
  }

  /** Lets calls arrive that are in flight since then. */
  land(sinceMs = Infinity): void {
    const landing = this.#calls.filter((call) => call.sinceMs <= sinceMs);
    this.#calls = this.#calls.filter((call) => call.sinceMs > sinceMs);
    for (const { land } of landing) land();
  }

  /** One call arrives, and others that were sent before may come later. */
  landOne(): void {
    if (this.#calls.length === 0) return;
    this.#calls.splice(this.#random.below(this.#calls.length), 1)[0]?.land();
  }

  loses(): boolean {
    return !this.isCalm && this.#random.below(12) === 0;
  }

  async propose(by: Leader, commands: readonly Command[]): Promise<CommandResult[]> {
    await this.steps.next();
    if (by !== this.leader) throw new WeirError("NotLeader", "Another one leads");
    const results = this.machine.apply(requestOf(commands)).results.flat();
    await this.steps.next();
    if (by !== this.leader) throw new WeirError("NotLeader", "Another one leads");
    return results;
  }

  /** The worker reports to the leader: one that was lost is live again. */
  registered(worker: WorkerId): void {
    const of = workerOf(this.machine.state, worker)!;
    if (of.state === "lost") this.machine.worker(of.uuid);
  }

  newLeader(): void {
    this.leader.end();
    this.leader = new Leader(this, this.leader.term + 1);
  }

  /** Kills the process of a worker; another one takes its place. */
  restart(place: number): void {
    const process = this.workers[place]!;
    // A call that outlives its process is done before the next one begins.
    this.land();
    process.isDead = true;
    process.tasks.stop(new WeirError("Cancelled", "The process is dead"));
    this.workers.splice(place, 1);
    this.#start(process.worker);
  }

  cutOff(place: number, isCutOff: boolean): void {
    this.workers[place]!.isCutOff = isCutOff;
  }

  /** Time goes on; who was silent for too long is lost. */
  pass(ms: number): void {
    this.land(this.clock.monotonicMs() + ms - longestFlightMs);
    this.clock.advance(ms);
    this.machine.clusterTimeMs += ms;
    for (const { worker } of this.workers) {
      const heardMs = this.leader.registry.lastHeardMs(worker);
      if (heardMs === undefined || this.clock.monotonicMs() - heardMs <= workerTimeoutMs) continue;
      if (workerOf(this.machine.state, worker)?.state !== "live") continue;
      this.machine.apply(requestOf([{ kind: "workerLost", worker }]));
    }
  }

  end(): void {
    this.leader.end();
    for (const process of this.workers) {
      process.isDead = true;
      process.tasks.stop(new WeirError("Cancelled", "The test is over"));
    }
  }

  #start(worker: WorkerId): void {
    this.workers.push(new WorkerProcess(this, worker, `process ${String(++this.#incarnations)}`));
  }

  async #storeStep(why: string): Promise<void> {
    await this.steps.next();
    if (this.loses()) throw new WeirError("Unavailable", `Cannot use the store: ${why}`);
  }
}
