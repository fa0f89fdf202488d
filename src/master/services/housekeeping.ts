/**
 * What the leader does by itself, a bounded step at a time: ends expired sessions and silent workers, takes the duty from
 * keepers that lost their copies, reclaims garbage and trash, and tells workers to drop containers that nothing names. Lives as long as one reign.
 *
 * Invariants
 * 1. State changes by explicit commands alone; each step looks at the state afresh.
 * 2. A worker is declared lost only after silence of `workerTimeoutMs` during this reign.
 * 3. A container is dropped at a worker only when the applied state names it nowhere and has applied its write id.
 */
import type { Clock } from "../../lib/clock.ts";
import { hasCode, toWeirError } from "../../lib/errors.ts";
import {
  indexOfPosition,
  type InodeId,
  type SessionId,
  type WorkerId,
  type WriteId,
} from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { trashInodeId } from "../state/model.ts";
import { containerUse, inodeOf, workerOf, workersOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { KeeperCheck } from "./keeper-check.ts";
import type { Leadership, Reign } from "./leadership.ts";
import {
  clearingsPage,
  garbageBefore,
  namesBelow,
  recalledPage,
  sessionsPage,
} from "./listings.ts";
import type { Locations } from "./locations.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";
import type { WorkerRegistry } from "./worker-registry.ts";

const everyMs = 500;
/** Most things that one step of one kind takes on. */
const stepLimit = 500;
/** How long the holder of a recalled lease has to publish what it wrote, in cluster time. */
const recallGraceMs = 5000;
/** Most commands in a row that take extents away; garbage and trash have their turn then. */
const clearingSteps = 200;
/** Inodes whose containers are compared with the state in one step. */
const sweepLimit = 2000;

export interface HousekeepingOptions {
  readonly reader: StateReader;
  readonly appliedIndex: () => number;
  readonly locations: Locations;
  readonly registry: WorkerRegistry;
  readonly dispatcher: TaskDispatcher;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  readonly leadership: Pick<Leadership, "clusterTimeMs">;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly workerTimeoutMs: number;
  readonly retiredGraceMs: number;
}

export class Housekeeping {
  readonly #options: HousekeepingOptions;
  readonly #keepers: KeeperCheck;
  #cancel: () => void = () => undefined;
  #sweep: Iterator<InodeId> | undefined;
  /** Workers that have not answered the last request to drop orphans. */
  readonly #dropping = new Set<WorkerId>();

  constructor(options: HousekeepingOptions) {
    this.#options = options;
    this.#keepers = new KeeperCheck({ ...options, propose: (commands) => this.#propose(commands) });
    options.reign.signal.addEventListener("abort", () => this.#cancel());
    this.#plan();
  }

  #plan(): void {
    const { reign, clock, logger } = this.#options;
    if (reign.signal.aborted) return;
    this.#cancel = clock.after(everyMs, () => {
      void this.#step()
        .catch((thrown: unknown) => {
          if (reign.signal.aborted || hasCode(thrown, "Busy", "NotLeader", "DiskFull")) return;
          const { message } = toWeirError(thrown, "Cannot keep house");
          logger.warn({ error: message }, "housekeeping failed; it goes on");
        })
        .finally(() => this.#plan());
    });
  }

  async #step(): Promise<void> {
    await this.#declareLostWorkers();
    await this.#keepers.step();
    await this.#closeExpiredSessions();
    await this.#fenceLeases();
    await this.#clearExtents();
    await this.#reapGarbage();
    await this.#reapTrash();
    this.#dropOrphans();
  }

  async #declareLostWorkers(): Promise<void> {
    const { reader, registry, clock, reign, workerTimeoutMs, logger } = this.#options;
    const now = clock.monotonicMs();
    const silent = workersOf(reader).filter(({ id, state }) => {
      const since = Math.max(registry.lastHeardMs(id) ?? 0, reign.sinceMs);
      return state === "live" && now - since > workerTimeoutMs;
    });
    if (silent.length === 0) return;
    logger.warn({ workers: silent.map(({ id }) => id) }, "workers are lost");
    await this.#propose(silent.map(({ id }) => ({ kind: "workerLost", worker: id })));
  }

  async #closeExpiredSessions(): Promise<void> {
    const now = this.#options.leadership.clusterTimeMs();
    let after: SessionId | undefined;
    for (;;) {
      const page = await sessionsPage(this.#options.reader, { after, limit: stepLimit });
      const expired = page
        .filter(({ session }) => session.closing || session.expiresAtMs <= now)
        .map(({ id }) => ({ kind: "closeSession" as const, session: id }));
      if (expired.length > 0) await this.#propose(expired);
      if (page.length < stepLimit) return;
      after = page[page.length - 1]!.id;
    }
  }

  async #reapGarbage(): Promise<void> {
    const { reader, leadership, retiredGraceMs } = this.#options;
    const before = leadership.clusterTimeMs() - retiredGraceMs;
    if (before < 0) return;
    const keys = await garbageBefore(reader, before, stepLimit);
    if (keys.length > 0) await this.#propose([{ kind: "reapGarbage", keys }]);
  }

  /** Ends leases whose holders were asked to let go and did not. */
  async #fenceLeases(): Promise<void> {
    const { reader, leadership, logger } = this.#options;
    const now = leadership.clusterTimeMs();
    const commands: Command[] = [];
    for (const inode of await recalledPage(reader, stepLimit)) {
      const lease = inodeOf(reader, inode)?.lease;
      if (lease?.recalledAtMs === undefined || lease.recalledAtMs + recallGraceMs > now) continue;
      logger.info({ inode, session: lease.session }, "a recalled lease was not let go");
      commands.push({ kind: "fenceLease", inode, writeId: lease.writeId });
    }
    if (commands.length > 0) await this.#propose(commands);
  }

  /** Takes extents away that count no more: one small command at a time, so that others get in between. */
  async #clearExtents(): Promise<void> {
    for (let steps = 0; steps < clearingSteps; ) {
      const waiting = await clearingsPage(this.#options.reader, stepLimit);
      if (waiting.length === 0) return;
      for (const each of waiting) {
        await this.#propose([{ kind: "clearExtents", ...each }]);
        if (++steps === clearingSteps) return;
      }
    }
  }

  /** Takes names out of the trash; a directory there is emptied first. */
  async #reapTrash(): Promise<void> {
    const { reader } = this.#options;
    const inTrash = await namesBelow(reader, trashInodeId, stepLimit);
    if (inTrash.length === 0) return;
    const commands: Command[] = [];
    const empty: string[] = [];
    let left = stepLimit;
    for (const { name, child, kind } of inTrash) {
      const below = kind === "directory" ? await namesBelow(reader, child, left) : [];
      if (below.length === 0) {
        empty.push(name);
        continue;
      }
      left -= below.length;
      commands.push({ kind: "reapTrash", directory: child, names: below.map((each) => each.name) });
      if (left <= 0) break;
    }
    if (empty.length > 0)
      commands.push({ kind: "reapTrash", directory: trashInodeId, names: empty });
    await this.#propose(commands);
  }

  /** Goes on with the walk over all containers that workers reported. */
  #dropOrphans(): void {
    const { reader, locations, dispatcher, reign, logger } = this.#options;
    const appliedIndex = this.#options.appliedIndex();
    this.#sweep ??= locations.inodes();
    const orphans = new Map<WorkerId, { inode: InodeId; writeId: WriteId }[]>();
    for (let i = 0; i < sweepLimit; i++) {
      const next = this.#sweep.next();
      if (next.done === true) {
        this.#sweep = undefined;
        break;
      }
      for (const { worker, writeId } of locations.containersOf(next.value)) {
        const container = { inode: next.value, writeId };
        if (indexOfPosition(writeId) > appliedIndex) continue;
        if (containerUse(reader, container) !== "unknown") continue;
        const known = orphans.get(worker);
        if (known === undefined) orphans.set(worker, [container]);
        else known.push(container);
      }
    }
    for (const [worker, containers] of orphans) {
      if (this.#dropping.has(worker) || workerOf(reader, worker)?.state !== "live") continue;
      this.#dropping.add(worker);
      logger.debug({ worker, containers: containers.length }, "dropping orphans");
      dispatcher
        .run(
          { kind: "dropContainers", containers, kept: true },
          { only: worker, urgent: true },
          AbortSignal.any([reign.signal, AbortSignal.timeout(30_000)]),
        )
        // They are found again by the next walk.
        .catch(() => undefined)
        .finally(() => this.#dropping.delete(worker));
    }
  }

  #propose(commands: readonly Command[]): Promise<CommandResult[]> {
    return this.#options.propose(commands, this.#options.reign.signal);
  }
}
