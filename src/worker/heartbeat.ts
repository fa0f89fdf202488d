/**
 * The worker's line to the masters: it registers with the leader, reports what it holds to all of them (also to those that
 * joined since, as the others say), takes tasks of the leader, and sends back results.
 *
 * Invariants
 * 1. A master is told of every change after the last report that it answered, in order; one that asks for it is told
 *    everything anew.
 * 2. A result is sent until a leader took it or its term is over.
 *
 * What becomes of tasks here is in worker-tasks.ts.
 */
import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { sleep, systemClock } from "../lib/clock.ts";
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import type { RpcClient } from "../rpc/client.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import type { TierUsage } from "../rpc/namespace.ts";
import type {
  ContainerReport,
  HeartbeatReply,
  Task,
  TaskResult,
  UnhealthyMount,
} from "../rpc/tasks.ts";
import type { BlockStore } from "./block-store.ts";
import type { Attempt } from "./task-executor.ts";
import { WorkerTasks } from "./worker-tasks.ts";

export interface HeartbeatOptions {
  readonly masters: MasterConnection;
  readonly store: BlockStore;
  readonly identity: {
    readonly uuid: string;
    readonly host: string;
    readonly address: string;
    readonly tiers: readonly Pick<TierUsage, "medium" | "quotaBytes">[];
  };
  readonly heartbeatMs: number;
  readonly execute: (task: Task, attempt: Attempt) => Promise<TaskResult>;
  /** Tasks at once. */
  readonly slots: number;
  /** Whether jobs may run here. */
  readonly jobs: boolean;
  /** Mounts whose stores do not answer here. */
  readonly unhealthy: () => readonly UnhealthyMount[];
  readonly blockSizeBytes: number;
  readonly logger: Logger;
  /** The masters do not know this worker as it knows itself: it cannot go on. */
  readonly onFatal: (error: WeirError) => void;
}

export interface Registration {
  readonly worker: WorkerId;
  readonly clusterId: string;
  /** Size of all blocks of the cluster. */
  readonly blockSizeBytes: number | undefined;
}

/** Containers in one report. */
const pageSize = 5000;
/** Kept containers that are reported again with each heartbeat, in turn, to learn which may go. */
const keptPerBeat = 500;
const retryMs = 200;
const resultsPerCall = 64;

interface Reporting {
  readonly ending: AbortController;
  /** The master's address by its own word. */
  knownAs: string;
}

export class WorkerHeartbeat {
  readonly #options: HeartbeatOptions;
  readonly #incarnation = randomBytes(8).toString("hex");
  readonly #stopping = new AbortController();
  readonly #tasks: WorkerTasks;
  readonly #loops: Promise<void>[] = [];
  /** Masters that are reported to, by the address of the connection. */
  readonly #reporting = new Map<string, Reporting>();
  #registration: Registration | undefined;
  #registering: Promise<void> | undefined;
  #wakeResults: (() => void) | undefined;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    const { execute } = options;
    const onResult = () => this.#wakeResults?.();
    this.#tasks = new WorkerTasks({ execute, onResult, clock: systemClock });
    setMaxListeners(0, this.#stopping.signal);
  }

  /**
   * Registers; waits for a leader as long as it takes. Rejects when the worker is stopped.
   * @throws WeirError `ConfigInvalid` when the cluster cannot have this worker, `PermissionDenied` when it has another secret
   */
  async register(): Promise<Registration> {
    await this.#register();
    return this.#registration!;
  }

  /** Starts to report and to take tasks; to be called when the worker can serve. */
  start(): void {
    for (const master of this.#options.masters.each) this.#startReporting(master);
    this.#loops.push(this.#deliver());
  }

  /** Ends tasks under way. */
  async stop(): Promise<void> {
    const error = new WeirError("Unavailable", "The worker stops");
    this.#stopping.abort(error);
    this.#tasks.stop(error);
    this.#wakeResults?.();
    await Promise.allSettled(this.#loops);
  }

  async #register(): Promise<void> {
    const { masters, identity, logger, onFatal } = this.#options;
    const { signal } = this.#stopping;
    for (let complained = false; ; complained = true) {
      signal.throwIfAborted();
      try {
        const answer = await masters.call(
          masterApi.registerWorker,
          {
            ...identity,
            tiers: identity.tiers.map(({ medium, quotaBytes }) => ({ medium, quotaBytes })),
            blockSizeBytes: this.#options.blockSizeBytes,
          },
          { deadlineMs: 10_000, signal, idempotent: true },
        );
        const known = this.#registration;
        if (known !== undefined && known.worker !== answer.worker) {
          onFatal(
            new WeirError(
              "Stale",
              `Cannot go on as worker ${known.worker}: the masters now call it ${answer.worker}`,
            ),
          );
        }
        this.#registration ??= answer;
        logger.info(answer, "registered");
        return;
      } catch (err) {
        signal.throwIfAborted();
        // One that was let in before waits for the secret of the masters to be its own again.
        const isBarred = this.#registration === undefined && hasCode(err, "PermissionDenied");
        if (isBarred || hasCode(err, "ConfigInvalid")) {
          // Asking again does not help.
          onFatal(toWeirError(err, "Cannot register the worker"));
          throw err;
        }
        if (!complained) logger.warn({ err }, "no leader to register with; will keep trying");
        await sleep(retryMs, signal);
      }
    }
  }

  #startReporting(master: RpcClient): void {
    const ending = new AbortController();
    const reporting = { ending, knownAs: master.address };
    this.#reporting.set(master.address, reporting);
    const signal = AbortSignal.any([this.#stopping.signal, ending.signal]);
    setMaxListeners(0, signal);
    this.#loops.push(this.#reportTo(master, reporting, signal));
  }

  /** Reports to masters that joined, and no more to those that are gone, if the leader says so and no file lists them. */
  #follow({ masters: addresses, ownAddress, leader }: HeartbeatReply, by: Reporting): void {
    const { masters, logger } = this.#options;
    if (addresses === undefined) return;
    by.knownAs = ownAddress ?? by.knownAs;
    const isListed = (address: string) => masters.each.some((each) => each.address === address);
    const known = new Set([...this.#reporting.values()].map(({ knownAs }) => knownAs));
    for (const address of addresses) {
      const master = known.has(address) ? undefined : masters.at(address);
      if (master === undefined || this.#reporting.has(address)) continue;
      logger.info({ master: address }, "reports to a master that joined");
      this.#startReporting(master);
    }
    for (const [address, reporting] of this.#reporting) {
      if (isListed(address)) continue;
      const isGone = leader && !addresses.includes(address);
      // The one that answers, under another name of its host: two lines of reports would contradict each other.
      const isTwice = reporting !== by && reporting.knownAs === by.knownAs;
      if (!isGone && !isTwice) continue;
      this.#reporting.delete(address);
      reporting.ending.abort(
        new WeirError("Cancelled", `Cannot report to "${address}": it is no master any more`),
      );
    }
  }

  async #reportTo(master: RpcClient, reporting: Reporting, signal: AbortSignal): Promise<void> {
    const { store, heartbeatMs, logger } = this.#options;
    const reporter = new Reporter(store);
    let silent = false;
    while (!signal.aborted) {
      const report = reporter.next();
      const startedMs = performance.now();
      try {
        const waitMs = report.more ? 0 : heartbeatMs;
        const reply = await master.call(
          masterApi.heartbeat,
          {
            worker: this.#registration!.worker,
            incarnation: this.#incarnation,
            sequence: report.sequence,
            full: report.full,
            changed: report.changed,
            removed: report.removed,
            usedBytes: store.usage.map(({ usedBytes }) => usedBytes),
            freeSlots: Math.max(0, this.#options.slots - this.#tasks.size),
            waitMs,
            complete: !report.more,
            jobs: this.#options.jobs,
            compacts: true,
            unhealthy: this.#options.unhealthy(),
            term: this.#tasks.term,
            ending: this.#tasks.ending,
          },
          { deadlineMs: waitMs + 5000, signal },
        );
        silent = false;
        if (reply.resync) reporter.reset();
        else reporter.acknowledged();
        if (reply.term >= this.#tasks.term) this.#follow(reply, reporting);
        await this.#take(reply, startedMs);
        // A reply that came at once for no reason must not make a tight loop.
        const tookMs = performance.now() - startedMs;
        if (!report.more && reply.tasks.length === 0 && tookMs < 20) await sleep(20, signal);
      } catch (err) {
        if (signal.aborted) return;
        if (!silent) {
          const level = hasCode(err, "PermissionDenied") ? "warn" : "debug";
          logger[level]({ err, master: master.address }, "a master does not answer");
        }
        silent = true;
        await sleep(Math.min(retryMs, heartbeatMs), signal).catch(() => undefined);
      }
    }
  }

  async #take(reply: HeartbeatReply, sentMs: number): Promise<void> {
    if (reply.register) {
      this.#registering ??= this.#register().finally(() => {
        this.#registering = undefined;
      });
      await this.#registering;
    }
    if (!reply.leader || !this.#tasks.take(reply, sentMs)) return;
    for (const container of reply.released ?? []) {
      await this.#options.store.release(container).catch((err: unknown) => {
        this.#options.logger.warn({ err, container }, "a container stays kept");
      });
    }
  }

  async #deliver(): Promise<void> {
    const { masters, logger } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const results = this.#tasks.results(resultsPerCall);
      if (results.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wakeResults = resolve;
        });
        this.#wakeResults = undefined;
        continue;
      }
      try {
        const { worker } = this.#registration!;
        const options = { deadlineMs: 5000, signal, idempotent: true };
        await masters.call(masterApi.taskResults, { worker, results }, options);
        this.#tasks.delivered(results);
      } catch (thrown) {
        if (signal.aborted) return;
        const err = toWeirError(thrown, "Cannot deliver results");
        logger.warn({ err, results: results.length }, "results wait for a leader");
        await sleep(retryMs, signal).catch(() => undefined);
      }
    }
  }
}

/** What one master is to be told next. */
class Reporter {
  readonly #store: BlockStore;
  /** The last change that the master has. */
  #told = 0;
  #sequence = 0;
  #pending = { told: 0 };
  #keptCursor = 0;

  constructor(store: BlockStore) {
    this.#store = store;
  }

  next(): {
    sequence: number;
    full: boolean;
    /** There is more to tell at once. */
    more: boolean;
    changed: ContainerReport[];
    removed: { inode: ContainerReport["inode"]; writeId: ContainerReport["writeId"] }[];
  } {
    let changes = this.#store.changes.since(this.#told, pageSize);
    if (changes === undefined) {
      this.reset();
      changes = this.#store.changes.since(0, pageSize)!;
    }
    const full = this.#sequence === 0;
    const more = changes.length >= pageSize;
    const last = changes[changes.length - 1];
    // Without a next page the master has everything up to now.
    this.#pending = {
      told: more && last !== undefined ? last.sequence : this.#store.changes.sequence,
    };
    const changed = new Map<string, ContainerReport>();
    const removed: { inode: ContainerReport["inode"]; writeId: ContainerReport["writeId"] }[] = [];
    for (const { container } of changes) {
      const report = this.#store.report(container);
      if (report === undefined) removed.push(container);
      else changed.set(`${report.inode}.${report.writeId}`, report);
    }
    if (!more) {
      const kept = this.#store.keptAfter(this.#keptCursor, keptPerBeat);
      this.#keptCursor = kept.next;
      for (const report of kept.reports) changed.set(`${report.inode}.${report.writeId}`, report);
    }
    return { sequence: this.#sequence, full, more, changed: [...changed.values()], removed };
  }

  acknowledged(): void {
    this.#told = this.#pending.told;
    this.#sequence += 1;
  }

  reset(): void {
    this.#told = 0;
    this.#sequence = 0;
  }
}
