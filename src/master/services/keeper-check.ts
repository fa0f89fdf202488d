/**
 * Finds keepers that are there without their copies: a tmpfs is empty after a reboot while the worker's name lives on, a
 * damaged copy was put aside. Compares what the state wants kept with what the workers told, and proposes `keeperGone`.
 * Lives as long as one reign.
 *
 * Invariants
 * 1. A copy is gone only when it was wanted and not told of at some moment, and a complete report that the worker made
 *    after that moment does not tell of it either: bytes are at their keepers before a commit names these.
 * 2. Only content whose write is over is looked at: nobody puts its bytes anywhere again.
 * 3. All that live workers are to keep is looked at again and again, in bounded steps; what they say is gone, at once.
 */
import type { Clock } from "../../lib/clock.ts";
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { type Command, type CommandResult, maxKeeperGone } from "../../rpc/commands.ts";
import { clusterOf, containerOf, inodeOf, isKept, workersOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";
import { keptPage } from "./listings.ts";
import type { Locations } from "./locations.ts";
import type { Heartbeat, Standing, WorkerRegistry } from "./worker-registry.ts";

/** Kept containers that are looked at in one turn of the event loop, and pages of them in one step, by worker. */
const pageSize = 1000;
const pagesPerStep = 5;
/** Suspects of one worker; with more, no further ones are looked for. */
const maxSuspects = 10_000;
/** From the end of one walk over a worker's containers to the next. */
const walkEveryMs = 60_000;

interface ContainerName {
  readonly inode: InodeId;
  readonly writeId: WriteId;
}

/** What is known of one worker's copies since its last full report began. */
interface Check {
  readonly life: number;
  /** Where the walk goes on; undefined: at the start, not before `walkAtMs`. */
  after: ContainerName | undefined;
  walkAtMs: number;
  /** Missing copies by name, with the sequence of a report that the worker makes after they were found missing. */
  readonly suspects: Map<string, ContainerName & { readonly decidedBy: number }>;
}

export interface KeeperCheckOptions {
  readonly reader: StateReader;
  readonly locations: Locations;
  readonly registry: WorkerRegistry;
  readonly propose: (commands: readonly Command[]) => Promise<CommandResult[]>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly reign: Reign;
}

export class KeeperCheck {
  readonly #options: KeeperCheckOptions;
  readonly #checks = new Map<WorkerId, Check>();

  constructor(options: KeeperCheckOptions) {
    this.#options = options;
    const stopListening = options.registry.onReport((beat) => this.#reported(beat));
    options.reign.signal.addEventListener("abort", stopListening);
  }

  /** Goes on with the walks, and proposes what has turned out to be gone. */
  async step(): Promise<void> {
    const { reader, registry, propose, logger } = this.#options;
    for (const { id: worker, state } of workersOf(reader)) {
      const check = state === "live" ? this.#checkOf(worker) : undefined;
      if (check === undefined) continue;
      const gone = this.#goneOf(worker, check);
      for (let from = 0; from < gone.length; from += maxKeeperGone) {
        const containers = gone.slice(from, from + maxKeeperGone);
        const some = containers.slice(0, 10);
        logger.error({ worker, count: containers.length, some }, "a keeper has lost its copies");
        await propose([{ kind: "keeperGone", worker, containers }]);
      }
      await this.#walk(worker, check);
      // The next report decides: it is not to wait for its time.
      if (check.suspects.size > 0) registry.pollOf(worker)?.answer([]);
    }
  }

  /** The worker's check, anew when it began to report anew; undefined while it has not told all. */
  #checkOf(worker: WorkerId): Check | undefined {
    const standing = this.#options.registry.standingOf(worker);
    if (standing === undefined) return undefined;
    const known = this.#checks.get(worker);
    if (known?.life === standing.life) return known;
    const check: Check = {
      life: standing.life,
      after: undefined,
      walkAtMs: 0,
      suspects: new Map(),
    };
    this.#checks.set(worker, check);
    return check;
  }

  /** Takes those from the suspects that the reports have decided on; the result are those that are gone. */
  #goneOf(worker: WorkerId, check: Check): ContainerName[] {
    const standing = this.#options.registry.standingOf(worker);
    if (standing?.life !== check.life) return [];
    const gone: ContainerName[] = [];
    for (const [name, { inode, writeId, decidedBy }] of check.suspects) {
      if (standing.completeSequence < decidedBy) continue;
      check.suspects.delete(name);
      if (this.#isMissing(worker, { inode, writeId })) gone.push({ inode, writeId });
    }
    return gone;
  }

  async #walk(worker: WorkerId, check: Check): Promise<void> {
    const { reader, registry, clock } = this.#options;
    if (clock.monotonicMs() < check.walkAtMs) return;
    for (let pages = 0; pages < pagesPerStep && check.suspects.size < maxSuspects; pages++) {
      const page = await keptPage(reader, worker, { after: check.after, limit: pageSize });
      const standing = registry.standingOf(worker);
      if (standing?.life !== check.life) return;
      for (const container of page) this.#suspect(worker, container, check, standing);
      if (page.length < pageSize) {
        check.after = undefined;
        check.walkAtMs = clock.monotonicMs() + walkEveryMs;
        return;
      }
      check.after = page[page.length - 1];
    }
  }

  /** Looks at what a worker says has changed; what a full report leaves out, the walk finds. */
  #reported(beat: Heartbeat): void {
    const check = this.#checks.get(beat.worker);
    const standing = this.#options.registry.standingOf(beat.worker);
    if (beat.full || check === undefined || standing?.life !== check.life) return;
    for (const container of [...beat.removed, ...beat.changed]) {
      if (check.suspects.size >= maxSuspects) return;
      this.#suspect(beat.worker, container, check, standing);
    }
  }

  #suspect(worker: WorkerId, of: ContainerName, check: Check, standing: Standing): void {
    const { inode, writeId } = of;
    const name = `${inode}.${writeId}`;
    if (check.suspects.has(name) || !this.#isMissing(worker, of)) return;
    // The next report may be on its way already.
    check.suspects.set(name, { inode, writeId, decidedBy: standing.nextSequence + 1 });
  }

  /** Whether the worker is to keep the container, whose write is over, and has not told of all that was committed of it. */
  #isMissing(worker: WorkerId, { inode, writeId }: ContainerName): boolean {
    const { reader, locations } = this.#options;
    if (!isKept(reader, { worker, inode, writeId })) return false;
    const { size } = containerOf(reader, inode, writeId)!;
    if (locations.holds(worker, { inode, writeId }, size, clusterOf(reader)!.blockSizeBytes)) {
      return false;
    }
    return inodeOf(reader, inode)?.lease?.writeId !== writeId;
  }
}
