/** What a master does only while it leads: made at the start of a reign, gone at its end. */
import type { Clock } from "../../lib/clock.ts";
import type { Config } from "../../lib/config.ts";
import type { WorkerId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { inodeOf, workerOf, workersOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { type Copy, dropCopies } from "./cached-copies.ts";
import { Compactor } from "./compactor.ts";
import { DirectoryLoader } from "./directory-loader.ts";
import { endingElsewhere } from "./effect-fence.ts";
import { Housekeeping } from "./housekeeping.ts";
import { Layouts } from "./layouts.ts";
import type { Leadership, Reign } from "./leadership.ts";
import { LevelRaiser } from "./level-raiser.ts";
import type { Locations } from "./locations.ts";
import type { AppliedEvent } from "./machine-host.ts";
import type { PendingMoves } from "./pending-moves.ts";
import { PolicySchedule } from "./policy-schedule.ts";
import type { Proposer } from "./proposer.ts";
import { RecoveryService } from "./recovery.ts";
import { SpareCopies } from "./spare-copies.ts";
import { TaskDispatcher } from "./task-dispatcher.ts";
import { TimeToLive } from "./time-to-live.ts";
import { TreeOps } from "./tree-ops.ts";
import { UfsOpQueue } from "./ufs-op-queue.ts";
import { countUsage } from "./usage-count.ts";
import type { WorkerRegistry } from "./worker-registry.ts";

/** How long workers have to drop copies. */
const dropTimeoutMs = 30_000;

export interface LeaderServicesOptions {
  readonly config: Config;
  readonly reader: StateReader;
  readonly appliedIndex: () => number;
  readonly oldestVersion: () => number;
  readonly proposer: Proposer;
  readonly leadership: Leadership;
  readonly locations: Locations;
  readonly registry: WorkerRegistry;
  readonly moves: PendingMoves;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class LeaderServices {
  readonly reign: Reign;
  readonly dispatcher: TaskDispatcher;
  readonly loader: DirectoryLoader;
  readonly layouts: Layouts;
  readonly recovery: RecoveryService;
  readonly effects: UfsOpQueue;
  readonly #treeOps: TreeOps;

  constructor(options: LeaderServicesOptions) {
    const { config, reader, appliedIndex, oldestVersion, reign, clock, logger } = options;
    const { proposer, leadership, locations, registry, moves } = options;
    const { workerTimeoutMs } = config.master;
    const propose = proposer.propose.bind(proposer);
    this.reign = reign;
    this.dispatcher = new TaskDispatcher({
      clock,
      registry,
      isLive: (worker) => workerOf(reader, worker)?.state === "live",
      reign,
    });
    const dispatcher = this.dispatcher;
    this.loader = new DirectoryLoader({
      reader,
      appliedIndex,
      dispatcher,
      propose,
      isMoving: (mount, path) => moves.isMoving(mount, path),
      reign,
      clock,
      clusterTimeMs: () => leadership.clusterTimeMs(),
      logger,
      syncWaitMs: config.master.syncWaitMs,
    });
    this.layouts = new Layouts({
      reader,
      locations,
      pendingRenames: (file) => moves.renamesOf(file.mountId),
      silentMs: (worker) => registry.silentMs(worker),
    });
    const layouts = this.layouts;
    this.recovery = new RecoveryService({
      reader,
      propose: (commands) => proposer.propose(commands, reign.signal),
      runJob: ({ worker, ...assignment }, signal) =>
        dispatcher.run({ kind: "runJob", ...assignment }, { only: worker, urgent: false }, signal),
      pickWorker: (preferred) => pickWorker(reader, registry, preferred),
      layoutOf: (inode) => layouts.layoutOf(inode),
      isMissing: (inode) => layouts.isMissing(inode),
      clock,
      logger,
      jobAttempts: config.master.jobAttempts,
    });
    this.effects = new UfsOpQueue({
      reader,
      dispatcher,
      propose,
      layoutOf: async ({ action }) =>
        action.kind === "persist" && inodeOf(reader, action.inode)?.kind === "file"
          ? layouts.layoutOf(action.inode)
          : undefined,
      endingElsewhere: () => endingElsewhere({ reader, registry, reign, clock, workerTimeoutMs }),
      clusterTimeMs: () => leadership.clusterTimeMs(),
      clock,
      logger,
      reign,
    });
    this.#treeOps = new TreeOps({
      reader,
      propose,
      load: (directory, signal) => this.loader.load(directory, signal),
      reign,
      clock,
      logger,
    });
    new PolicySchedule({ reader, propose, reign, clock, logger });
    new Compactor({
      reader,
      propose,
      layoutOf: (inode, offset, length) => layouts.layoutOf(inode, offset, length),
      run: (task, placement, signal) => dispatcher.run(task, placement, signal),
      workers: () =>
        workersOf(reader)
          .filter(({ id, state }) => state === "live" && registry.silentMs(id) < 3000)
          .map(({ id }) => ({ id, compacts: registry.compacts(id) })),
      reign,
      clock,
      logger,
    });
    new LevelRaiser({ reader, oldestVersion, propose, reign, clock, logger });
    const drop = (copies: readonly Copy[], signal: AbortSignal) => {
      const patience = AbortSignal.timeout(dropTimeoutMs);
      return dropCopies(dispatcher, locations, copies, AbortSignal.any([signal, patience]));
    };
    const now = () => {
      const wallMs = clock.wallMs();
      const wallTime = { sec: Math.floor(wallMs / 1000), nsec: 0 };
      return { clusterTimeMs: leadership.clusterTimeMs(), wallTime };
    };
    new TimeToLive({ reader, locations, propose, drop, now, reign, clock, logger });
    new SpareCopies({ reader, locations, drop, reign, clock, logger });
    void countUsage({ reader, propose, reign, clock, logger });
    new Housekeeping({
      reader,
      appliedIndex,
      locations,
      registry,
      dispatcher,
      propose,
      leadership,
      reign,
      clock,
      logger,
      workerTimeoutMs,
      retiredGraceMs: config.master.retiredGraceMs,
    });
    reign.signal.addEventListener("abort", () => {
      void this.recovery.stop();
    });
  }

  applied({ applied }: AppliedEvent): void {
    const events = applied?.events ?? [];
    if (events.length === 0) return;
    this.effects.applied(events);
    this.#treeOps.applied(events);
    for (const event of events) {
      if (event.kind === "workerLost") this.dispatcher.workerLost(event.worker);
    }
  }
}

/** The first of `preferred`, else the one with most free slots, among workers that are live, run jobs and were heard of lately. */
export function pickWorker(
  reader: StateReader,
  registry: WorkerRegistry,
  preferred: readonly WorkerId[],
): WorkerId | undefined {
  const able = workersOf(reader)
    .filter(({ id, state }) => {
      return state === "live" && registry.silentMs(id) < 3000 && registry.takesJobs(id);
    })
    .map(({ id }) => id);
  const slots = (id: WorkerId) => registry.pollOf(id)?.freeSlots ?? 0;
  return (
    preferred.find((id) => able.includes(id)) ??
    able.sort((a, b) => slots(b) - slots(a) || a - b)[0]
  );
}
