/**
 * Has workers execute the side effects on stores that the state has queued, and proposes how they ended. Lives as long as
 * one reign: the queue itself is in the state.
 *
 * Invariants
 * 1. Of one mount, an operation starts only when no earlier one on an equal, higher or lower path is left. One that was
 *    given up holds up others only if it moves or removes something: what it was to make is not there.
 * 2. An operation starts only when no earlier attempt of it goes on, here or for an earlier leader.
 * 3. Of a mount at most `lookAhead` operations that may run are in memory, and at most `mostHeld` in all: beyond those that
 *    wait for a store, others on other paths go on.
 */
import type { Clock } from "../../lib/clock.ts";
import { type ErrorCode, toWeirError, type WeirError } from "../../lib/errors.ts";
import type { MountId, UfsOpId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { type FileLayout, replacedSource } from "../../rpc/namespace.ts";
import type { UfsAction } from "../../rpc/tasks.ts";
import { ufsOpKey } from "../state/keys.ts";
import { type Mount, type UfsOp, ufsOp } from "../state/model.ts";
import type { StateEvent } from "../state/context.ts";
import {
  inodeOf,
  isMoot,
  levelOfState,
  mountOf,
  mountsOf,
  mountTargetOf,
  touchesPath,
} from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { type EffectWork, workOf } from "./effect-work.ts";
import { failureOf } from "./store-lister.ts";
import type { Reign } from "./leadership.ts";
import { pendingUfsOpsPage } from "./listings.ts";
import { PathClaims } from "./path-claims.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

const lookAhead = 256;
const mostHeld = 4096;
/** Operations of one mount that are handed to the dispatcher at once. */
const underWayPerMount = 64;
/** The same, of a store whose last answer was that it does not answer: others must not wait behind it at the workers. */
const underWayUnanswered = 4;
/** Into a reign: clients wait for the leader, and what it starts here takes its time from them. Stores can wait. */
const restMs = 100;
/** How often it is looked whether what goes on for earlier leaders has ended. */
const fencePauseMs = 50;
/**
 * From the loss of the last name until the object is removed of a store that puts nothing aside for free: who has the
 * file open has said so by then.
 */
const holdsToldMs = 2000;
const firstPauseMs = 1000;
const longestPauseMs = 60_000;
/** Attempts before an operation is given up that the store refuses for what it is. */
const hopelessAttempts = 5;
/** A file that does not come to another layer is left to the next run of its policy. */
const migrationAttempts = 3;
const hopeless: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "InvalidArgument",
  "NotSupported",
  "NameTooLong",
  "ReadOnly",
]);

interface Pending {
  readonly op: UfsOp;
  /** `waiting` for its turn or for its pause to end, `underWay`, or `done` but for the entry that says so. */
  phase: "waiting" | "underWay" | "done";
  attempts: number;
  error: string | undefined;
  /** Monotonic. */
  notBeforeMs: number;
  /** Ends the attempt under way. */
  cancel: AbortController | undefined;
}

/** How far a leader has come with an operation. */
export interface EffectProgress {
  readonly isUnderWay: boolean;
  /** That failed, in this reign. */
  readonly attempts: number;
  readonly error: string | undefined;
}

interface MountQueue {
  /** In the order of their ids. */
  readonly pending: Map<UfsOpId, Pending>;
  /** False: the state may have operations behind the last one here. */
  complete: boolean;
  refilling: boolean;
  /** How many of `pending` could not start in the last round, since others or pauses hold them up. */
  heldUp: number;
  isUnanswered: boolean;
}

export interface UfsOpQueueOptions {
  readonly reader: StateReader;
  readonly dispatcher: TaskDispatcher;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  /** Layout of the file that a persist is about; undefined when it is gone. */
  readonly layoutOf: (op: UfsOp) => Promise<FileLayout | undefined>;
  /** Operations that go on for earlier leaders; undefined while that is not known. */
  readonly endingElsewhere: () => ReadonlySet<UfsOpId> | undefined;
  readonly clusterTimeMs: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly reign: Reign;
}

export class UfsOpQueue {
  readonly #options: UfsOpQueueOptions;
  readonly #queues = new Map<MountId, MountQueue>();
  /** True while the rest lasts, as if a round were planned. */
  #roundPlanned = true;
  #cancelTimer: (() => void) | undefined;

  constructor(options: UfsOpQueueOptions) {
    this.#options = options;
    for (const mount of mountsOf(options.reader)) this.#queueOf(mount.id);
    options.reign.signal.addEventListener("abort", () => this.#cancelTimer?.());
    this.#cancelTimer = options.clock.after(restMs, () => {
      this.#roundPlanned = false;
      this.#planRound();
    });
  }

  /** Takes what an entry did. */
  applied(events: readonly StateEvent[]): void {
    for (const event of events) {
      if (event.kind === "ufsOpQueued") {
        this.#queued(event.mount, event.op);
      } else if (event.kind === "ufsOpChanged") {
        this.#changed(event.mount, event.op);
      } else if (event.kind === "ufsOpDone") {
        this.#queues.get(event.mount)?.pending.delete(event.op);
        this.#planRound();
      } else if (event.kind === "mountUpdated") {
        // What the store refused with the former options may go well now.
        for (const pending of this.#queues.get(event.mount)?.pending.values() ?? []) {
          pending.notBeforeMs = 0;
        }
        this.#planRound();
      } else if (event.kind === "unmounted") {
        this.#queues.delete(event.mount);
      }
    }
  }

  /** Undefined for what was not tried yet. */
  progressOf(mount: MountId, op: UfsOpId): EffectProgress | undefined {
    const pending = this.#queues.get(mount)?.pending.get(op);
    if (pending === undefined) return undefined;
    const { phase, attempts, error } = pending;
    return { isUnderWay: phase === "underWay", attempts, error };
  }

  #queued(mount: MountId, id: UfsOpId): void {
    const queue = this.#queueOf(mount);
    const op = this.#options.reader.read(ufsOp, ufsOpKey(mount, id));
    if (op !== undefined) this.#cancelMoot(queue, op);
    if (!queue.complete || this.#isFull(queue)) queue.complete = false;
    else if (op !== undefined) this.#add(queue, op);
    this.#planRound();
  }

  /** An operation was given up, or is to be tried again: at the place where it is. */
  #changed(mount: MountId, id: UfsOpId): void {
    const pending = this.#queueOf(mount).pending;
    const op = this.#options.reader.read(ufsOp, ufsOpKey(mount, id));
    if (op !== undefined && pending.has(id)) pending.set(id, this.#pendingOf(op));
    this.#planRound();
  }

  /** A persist under way may have become moot with what was queued for the same path. */
  #cancelMoot(queue: MountQueue, later: UfsOp): void {
    for (const { op, cancel } of queue.pending.values()) {
      if (cancel === undefined || op.action.kind !== "persist") continue;
      if (!touchesPath(later, op.action.path)) continue;
      if (isMoot(this.#options.reader, op)) cancel.abort();
    }
  }

  #queueOf(mount: MountId): MountQueue {
    let queue = this.#queues.get(mount);
    if (queue === undefined) {
      queue = {
        pending: new Map(),
        complete: false,
        refilling: false,
        heldUp: 0,
        isUnanswered: false,
      };
      this.#queues.set(mount, queue);
    }
    return queue;
  }

  /** Whether enough is in memory: of what may run, or of all. */
  #isFull({ pending, heldUp }: MountQueue): boolean {
    return pending.size - heldUp >= lookAhead || pending.size >= mostHeld;
  }

  #add(queue: MountQueue, op: UfsOp): void {
    if (!queue.pending.has(op.id)) queue.pending.set(op.id, this.#pendingOf(op));
  }

  #pendingOf(op: UfsOp): Pending {
    return {
      op,
      phase: "waiting",
      attempts: 0,
      error: undefined,
      notBeforeMs: this.#notBeforeMs(op),
      cancel: undefined,
    };
  }

  #notBeforeMs({ action, queuedMs, mountId }: UfsOp): number {
    const { reader, clock, clusterTimeMs } = this.#options;
    const takesObject =
      (action.kind === "delete" && action.inode !== undefined) ||
      (action.kind === "rename" && action.replaces !== undefined);
    if (!takesObject || queuedMs === undefined) return 0;
    // A local store puts the file aside whoever holds it.
    if (mountOf(reader, mountId)?.uri.startsWith("file:") === true) return 0;
    return clock.monotonicMs() + Math.max(0, queuedMs + holdsToldMs - clusterTimeMs());
  }

  #planRound(): void {
    if (this.#roundPlanned || this.#options.reign.signal.aborted) return;
    this.#roundPlanned = true;
    setImmediate(() => {
      this.#roundPlanned = false;
      if (!this.#options.reign.signal.aborted) this.#round();
    });
  }

  #round(): void {
    const { clock, endingElsewhere } = this.#options;
    const now = clock.monotonicMs();
    const ending = endingElsewhere();
    // What ends elsewhere tells nobody of it: it is looked for.
    let nextMs = ending === undefined || ending.size > 0 ? now + fencePauseMs : Infinity;
    for (const [mount, queue] of this.#queues) {
      nextMs = Math.min(nextMs, this.#start(queue, now, ending));
      if (!queue.complete && queue.pending.size - queue.heldUp <= lookAhead / 2) {
        void this.#refill(mount, queue);
      }
    }
    this.#cancelTimer?.();
    this.#cancelTimer =
      nextMs === Infinity ? undefined : clock.after(nextMs - now, () => this.#planRound());
  }

  /** Starts what may start; returns when the next pause of what could start ends. */
  #start(queue: MountQueue, now: number, ending: ReadonlySet<UfsOpId> | undefined): number {
    const claims = new PathClaims();
    const most = queue.isUnanswered ? underWayUnanswered : underWayPerMount;
    let nextMs = Infinity;
    let underWay = 0;
    queue.heldUp = 0;
    for (const pending of queue.pending.values()) if (pending.phase !== "waiting") underWay++;
    for (const pending of queue.pending.values()) {
      const { op } = pending;
      const isFailed = op.failed !== undefined;
      if (isFailed && !holdsUpOthers(op)) {
        queue.heldUp++;
        if (pending.phase === "waiting" && isMoot(this.#options.reader, op)) this.#begin(pending);
        continue;
      }
      const paths = pathsOf(op);
      if (pending.phase === "waiting") {
        const isFree = !isFailed && !claims.conflict(paths);
        const isPaused = pending.notBeforeMs > now;
        if (isFree && isPaused) nextMs = Math.min(nextMs, pending.notBeforeMs);
        if (!isFree || isPaused) queue.heldUp++;
        else if (underWay < most && ending !== undefined && !ending.has(op.id)) {
          underWay++;
          this.#begin(pending);
        }
      }
      claims.claim(paths);
    }
    return nextMs;
  }

  #begin(pending: Pending): void {
    pending.phase = "underWay";
    void this.#execute(pending);
  }

  async #refill(mount: MountId, queue: MountQueue): Promise<void> {
    if (queue.refilling || queue.pending.size >= mostHeld) return;
    queue.refilling = true;
    queue.complete = true;
    try {
      const after = [...queue.pending.keys()].at(-1);
      const limit = Math.min(lookAhead, mostHeld - queue.pending.size);
      const page = await pendingUfsOpsPage(this.#options.reader, mount, { after, limit });
      if (page.length >= limit) queue.complete = false;
      for (const op of page) {
        // What was done or changed while the page was being read is not as it says.
        const now = this.#options.reader.read(ufsOp, ufsOpKey(mount, op.id));
        if (now !== undefined) this.#add(queue, now);
      }
    } catch (thrown) {
      queue.complete = false;
      this.#options.logger.error({ mount, error: String(thrown) }, "cannot read queued operations");
    } finally {
      queue.refilling = false;
    }
    if (queue.pending.size > 0) this.#planRound();
  }

  async #execute(pending: Pending): Promise<void> {
    const { op } = pending;
    const { reader, dispatcher, reign, layoutOf } = this.#options;
    const cancel = new AbortController();
    pending.cancel = cancel;
    try {
      const work = isMoot(reader, op) ? undefined : await workOf(reader, op, () => layoutOf(op));
      const mount = mountOf(reader, op.mountId);
      if (work === undefined || mount === undefined) {
        await this.#propose(pending, done(op, {}));
        return;
      }
      const result = await dispatcher.run(
        { kind: "ufsOp", op: op.id, mount: mountTargetOf(mount), action: work.action },
        { prefer: work.prefer, urgent: false, cancel: cancel.signal },
        reign.signal,
      );
      if (result.kind !== "ufsDone") {
        throw failureOf(result, `Cannot ${op.action.kind} "${pathsOf(op)[0] ?? ""}"`);
      }
      this.#answered(op, true);
      await this.#propose(pending, done(op, result));
      this.#forgetReplaced(op, mount, work);
    } catch (thrown) {
      if (reign.signal.aborted) return;
      this.#failed(pending, toWeirError(thrown, `Cannot ${op.action.kind} in a store`));
    } finally {
      pending.cancel = undefined;
    }
  }

  /** A store that does not answer gets few operations at once, until it does again. */
  #answered({ mountId }: UfsOp, answers: boolean): void {
    const queue = this.#queues.get(mountId);
    if (queue !== undefined) queue.isUnanswered = !answers;
  }

  #failed(pending: Pending, error: WeirError): void {
    const { op } = pending;
    const { reader, logger, clock } = this.#options;
    if (error.code === "Unavailable" || error.code === "DeadlineExceeded") {
      this.#answered(op, false);
    }
    if (isMoot(reader, op)) {
      this.#pause(pending);
      return;
    }
    if (error.code === "NotFound" && (this.#wasNeverStored(op) || this.#isMadeLater(op))) {
      this.#propose(pending, done(op, {})).catch(() => this.#pause(pending));
      return;
    }
    pending.attempts++;
    pending.error = error.message;
    const { attempts } = pending;
    const pauseMs = Math.min(firstPauseMs * 2 ** Math.min(attempts - 1, 10), longestPauseMs);
    pending.notBeforeMs = clock.monotonicMs() + pauseMs;
    if (op.action.kind === "migrate" && attempts >= migrationAttempts) {
      const { message } = error;
      this.#propose(pending, done(op, { error: message })).catch(() => this.#pause(pending));
      return;
    }
    const isGivenUp = isHopeless(op, error.code) && attempts >= hopelessAttempts;
    if (isGivenUp && levelOfState(reader) >= 2) {
      logger.error({ op: op.id, error: error.message }, "a side effect on a store is given up");
      const failed = { kind: "ufsFailed" as const, op: op.id, error: error.message, attempts };
      this.#propose(pending, failed).catch(() => this.#pause(pending));
      return;
    }
    logger.warn(
      { op: op.id, attempts, error: error.message },
      "a side effect on a store failed; it will be tried again",
    );
    this.#pause(pending);
  }

  /** A file that was written again before its first persist has nothing in the store yet that moves or has attributes. */
  #wasNeverStored({ action }: UfsOp): boolean {
    if (action.kind !== "rename" && action.kind !== "setAttributes") return false;
    const of = inodeOf(this.#options.reader, action.inode);
    return of === undefined || (of.kind === "file" && of.persistedVersion === 0);
  }

  /**
   * A further name of a file has nothing in the store yet where its persist was moot: the version that made it so is
   * persisted under the name that it has by then, or the name is taken by something else.
   */
  #isMadeLater({ id, mountId, action }: UfsOp): boolean {
    if (action.kind !== "rename" || action.of === "directory") return false;
    let path = action.to;
    for (const { op: later } of this.#queues.get(mountId)?.pending.values() ?? []) {
      if (later.id <= id || later.failed !== undefined) continue;
      const { action: next } = later;
      if (next.kind !== "rename") {
        const isEnd = next.kind === "persist" || next.kind === "delete";
        if (isEnd && (path === next.path || path.startsWith(`${next.path}/`))) return true;
      } else if (next.to === path) {
        return true;
      } else if (path === next.from || path.startsWith(`${next.from}/`)) {
        path = next.to + path.slice(next.from.length);
      }
    }
    return false;
  }

  /** A worker clears up; what it does not get to is cleared up with the next write of the object, or by its age. */
  #forgetReplaced(op: UfsOp, mount: Mount, { action }: EffectWork): void {
    if (action.kind !== "persist") return;
    const { path, layout } = action;
    const fingerprint = replacedSource(layout, path);
    if (fingerprint === undefined) return;
    const { dispatcher, logger, reign } = this.#options;
    const forget: UfsAction = { kind: "forgetReplaced", path, fingerprint };
    dispatcher
      .run(
        { kind: "ufsOp", op: op.id, mount: mountTargetOf(mount), action: forget },
        { urgent: false },
        reign.signal,
      )
      .catch((thrown: unknown) => {
        logger.debug(
          { op: op.id, error: String(thrown) },
          "what was replaced is left in the store",
        );
      });
  }

  #pause(pending: Pending): void {
    pending.phase = "waiting";
    this.#planRound();
  }

  /** Proposes the end; the operation leaves the queue, or changes there, when that is applied. */
  async #propose(pending: Pending, command: Command): Promise<void> {
    pending.phase = "done";
    const { propose, reign, reader } = this.#options;
    const { id, mountId } = pending.op;
    await propose([command], reign.signal);
    if (reader.read(ufsOp, ufsOpKey(mountId, id)) === undefined) {
      this.#queues.get(mountId)?.pending.delete(id);
    }
    this.#planRound();
  }
}

function done(
  { id }: UfsOp,
  result: {
    readonly fingerprint?: string | undefined;
    readonly aside?: boolean | undefined;
    readonly error?: string | undefined;
  },
): Command {
  const { fingerprint, aside, error } = result;
  // `false` says no more than nothing, and a state of level 1 takes it from nobody.
  const isAside = aside === true ? { aside } : {};
  return { kind: "ufsDone", op: id, fingerprint, error, ...isAside };
}

/** Nothing moves what is not there; who took it from the store knows whether it comes back. */
function isHopeless({ action }: UfsOp, code: ErrorCode): boolean {
  if (hopeless.has(code)) return true;
  return code === "NotFound" && (action.kind === "rename" || action.kind === "setAttributes");
}

/** Whether what was queued later for its paths must wait for an operation that was given up. */
function holdsUpOthers({ action }: UfsOp): boolean {
  return action.kind === "delete" || action.kind === "rename";
}

function pathsOf({ action }: UfsOp): readonly string[] {
  return action.kind === "rename" ? [action.from, action.to] : [action.path];
}
