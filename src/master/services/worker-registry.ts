/**
 * What this master has heard of the workers: soft state, kept by every master from the workers' heartbeats, so that a
 * new leader needs no registration. Also the long polls on which tasks leave.
 *
 * Invariants
 * 1. The locations of a worker are those of its reports since the last full one, without a gap; after a gap they stay
 *    as they are until the full report that was asked for begins.
 * 2. At most one poll of a worker is open; each is answered exactly once.
 * 3. Report n + 1 of a worker is made after it got the answer to report n. So report n + 1 tells of all that was at the
 *    worker when report n came in here.
 */
import type { Clock } from "../../lib/clock.ts";
import type { MountId, UfsOpId, WorkerId } from "../../lib/ids.ts";
import type { Infer } from "../../lib/schema.ts";
import type { heartbeat, Task, UnhealthyMount } from "../../rpc/tasks.ts";
import type { Locations } from "./locations.ts";

export type Heartbeat = Infer<typeof heartbeat>;

/** A heartbeat that waits for its reply. */
export interface Poll {
  readonly worker: WorkerId;
  readonly incarnation: string;
  /** Id of the connection on which it came. */
  readonly connection: number;
  /** Tasks that the worker can still take. */
  freeSlots: number;
  answer(tasks: readonly Task[]): void;
}

/** How far a worker's reports have come, of one that has told all it holds. */
export interface Standing {
  /** Counts full reports that began, of all workers: sequences of different ones are not to be compared. */
  readonly life: number;
  /** Sequence of the next report. */
  readonly nextSequence: number;
  /** Sequence of the last report after which nothing was left to tell. */
  readonly completeSequence: number;
}

type UnhealthyAt = Omit<UnhealthyMount, "mount"> & { readonly worker: WorkerId };

interface Heard {
  incarnation: string;
  /** Sequence of the next report; undefined after a gap, until a full report begins. */
  nextSequence: number | undefined;
  life: number;
  completeSequence: number | undefined;
  jobs: boolean;
  compacts: boolean;
  /** The term that the worker follows, and side effects of earlier ones that go on there; as far as it says. */
  term: number | undefined;
  ending: readonly UfsOpId[];
  /** Side effects that were said to go on in an answer, and how many reports may come that do not say so yet. */
  readonly goingOn: Map<UfsOpId, number>;
  /** Monotonic. */
  lastMs: number;
  usedBytes: readonly number[];
  unhealthy: readonly UnhealthyMount[];
  poll: Poll | undefined;
}

export class WorkerRegistry {
  readonly #clock: Clock;
  readonly #locations: Locations;
  readonly #heard = new Map<WorkerId, Heard>();
  readonly #pollListeners = new Set<(poll: Poll) => void>();
  readonly #reportListeners = new Set<(beat: Heartbeat) => void>();
  #lives = 0;

  constructor(options: { clock: Clock; locations: Locations }) {
    this.#clock = options.clock;
    this.#locations = options.locations;
  }

  /** Takes a report; false when reports before it are missing and a full one is needed. */
  report(beat: Heartbeat): boolean {
    const heard = this.#heard.get(beat.worker) ?? this.#firstOf(beat);
    heard.lastMs = this.#clock.monotonicMs();
    heard.usedBytes = beat.usedBytes;
    heard.unhealthy = beat.unhealthy ?? [];
    heard.jobs = beat.jobs !== false;
    heard.compacts = beat.compacts === true;
    heard.term = beat.term;
    heard.ending = beat.ending ?? [];
    for (const [op, reports] of heard.goingOn) {
      if (reports === 0 || heard.ending.includes(op)) heard.goingOn.delete(op);
      else heard.goingOn.set(op, reports - 1);
    }
    const isNew = heard.incarnation !== beat.incarnation;
    const repeats = beat.sequence + 1 === heard.nextSequence;
    const follows = beat.sequence === heard.nextSequence;
    const begins = beat.full && (beat.sequence === 0 || heard.nextSequence === undefined || isNew);
    if (begins && !(repeats && !isNew)) {
      this.#locations.removeWorker(beat.worker);
      heard.life = ++this.#lives;
      heard.completeSequence = undefined;
    } else if (isNew || !(follows || repeats)) {
      heard.incarnation = beat.incarnation;
      heard.nextSequence = undefined;
      return false;
    }
    heard.incarnation = beat.incarnation;
    heard.nextSequence = beat.sequence + 1;
    if (beat.complete === true) heard.completeSequence = beat.sequence;
    for (const { inode, writeId, blocks, length } of beat.changed) {
      this.#locations.put(beat.worker, inode, writeId, blocks, length);
    }
    for (const { inode, writeId } of beat.removed) {
      this.#locations.remove(beat.worker, inode, writeId);
    }
    for (const listener of this.#reportListeners) listener(beat);
    return true;
  }

  /**
   * Holds a heartbeat back until there are tasks for it, `waitMs` are over, or a newer one of the worker comes.
   * Resolves with the tasks; with none when `signal` is aborted.
   */
  poll(beat: Heartbeat, connection: number, signal: AbortSignal): Promise<readonly Task[]> {
    const heard = this.#heard.get(beat.worker) ?? this.#firstOf(beat);
    heard.poll?.answer([]);
    return new Promise((resolve) => {
      const poll: Poll = {
        worker: beat.worker,
        incarnation: beat.incarnation,
        connection,
        freeSlots: beat.freeSlots,
        answer: (tasks) => {
          if (heard.poll !== poll) return;
          heard.poll = undefined;
          cancelTimer();
          signal.removeEventListener("abort", giveUp);
          resolve(tasks);
        },
      };
      const giveUp = () => poll.answer([]);
      heard.poll = poll;
      const cancelTimer = this.#clock.after(beat.waitMs, giveUp);
      signal.addEventListener("abort", giveUp, { once: true });
      for (const listener of this.#pollListeners) listener(poll);
    });
  }

  /** Calls `listener` with every poll that opens; the returned function ends that. */
  onPoll(listener: (poll: Poll) => void): () => void {
    this.#pollListeners.add(listener);
    return () => this.#pollListeners.delete(listener);
  }

  /** Calls `listener` with every report that was taken; the returned function ends that. */
  onReport(listener: (beat: Heartbeat) => void): () => void {
    this.#reportListeners.add(listener);
    return () => this.#reportListeners.delete(listener);
  }

  /** Undefined while it is not known all that the worker holds. */
  standingOf(worker: WorkerId): Standing | undefined {
    const { life, nextSequence, completeSequence } = this.#heard.get(worker) ?? {};
    if (life === undefined || nextSequence === undefined || completeSequence === undefined) {
      return undefined;
    }
    return { life, nextSequence, completeSequence };
  }

  /** False when the worker said that it runs no jobs. */
  takesJobs(worker: WorkerId): boolean {
    return this.#heard.get(worker)?.jobs !== false;
  }

  /** Whether the worker knows the task `compact`. */
  compacts(worker: WorkerId): boolean {
    return this.#heard.get(worker)?.compacts === true;
  }

  /**
   * Side effects that go on at the worker though nobody waits for them, as it said when it followed `term`; undefined while it has
   * not said so. A worker of an earlier version never says: then nothing is known to go on.
   */
  endingAt(worker: WorkerId, term: number): readonly UfsOpId[] | undefined {
    const heard = this.#heard.get(worker);
    if (heard === undefined || (heard.term !== undefined && heard.term < term)) return undefined;
    return heard.goingOn.size === 0 ? heard.ending : [...heard.ending, ...heard.goingOn.keys()];
  }

  /** A worker answered that a side effect goes on. One report may be on its way that was made before (invariant 3). */
  goesOn(worker: WorkerId, op: UfsOpId): void {
    this.#heard.get(worker)?.goingOn.set(op, 1);
  }

  pollOf(worker: WorkerId): Poll | undefined {
    return this.#heard.get(worker)?.poll;
  }

  openPolls(): Poll[] {
    return [...this.#heard.values()].flatMap(({ poll }) => (poll === undefined ? [] : [poll]));
  }

  /** Answers all polls with nothing, so that the workers hear at once of a change of leader. */
  releasePolls(): void {
    for (const poll of this.openPolls()) poll.answer([]);
  }

  /** Monotonic time of the last heartbeat, or undefined when there was none. */
  lastHeardMs(worker: WorkerId): number | undefined {
    return this.#heard.get(worker)?.lastMs;
  }

  /** Milliseconds since the last heartbeat; 2^32 when there was none. */
  silentMs(worker: WorkerId): number {
    const last = this.lastHeardMs(worker);
    return last === undefined ? 2 ** 32 : Math.floor(this.#clock.monotonicMs() - last);
  }

  /** Bytes in use per tier, as last reported. */
  usedBytes(worker: WorkerId): readonly number[] {
    return this.#heard.get(worker)?.usedBytes ?? [];
  }

  /** Whether the mount's store answers the worker, as far as it said. */
  reaches(worker: WorkerId, mount: MountId): boolean {
    const unhealthy = this.#heard.get(worker)?.unhealthy ?? [];
    return !unhealthy.some((each) => each.mount === mount && each.layer === undefined);
  }

  /** What workers that were heard of within `withinMs` say of a mount that has a store which does not answer them. */
  unhealthyAt(mount: MountId, withinMs: number): UnhealthyAt[] {
    return [...this.#heard].flatMap(([worker, { unhealthy }]) => {
      const silentMs = this.silentMs(worker);
      if (silentMs > withinMs) return [];
      return unhealthy
        .filter((each) => each.mount === mount)
        .map(({ forMs, reason, layer }) => ({
          ...{ worker, forMs: forMs + silentMs, reason },
          ...(layer === undefined ? {} : { layer }),
        }));
    });
  }

  #firstOf(beat: Heartbeat): Heard {
    const heard: Heard = {
      incarnation: beat.incarnation,
      nextSequence: undefined,
      life: 0,
      completeSequence: undefined,
      jobs: beat.jobs !== false,
      compacts: beat.compacts === true,
      term: beat.term,
      ending: beat.ending ?? [],
      goingOn: new Map(),
      lastMs: this.#clock.monotonicMs(),
      usedBytes: beat.usedBytes,
      unhealthy: beat.unhealthy ?? [],
      poll: undefined,
    };
    this.#heard.set(beat.worker, heard);
    return heard;
  }
}
