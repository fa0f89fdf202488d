/**
 * Has workers execute the side effects on stores that the state has queued, and proposes that they are done. Lives as
 * long as one reign: the queue itself is in the state.
 *
 * Invariants
 * 1. Of one mount, an operation starts only when no earlier one on an equal, higher or lower path is left.
 * 2. At most `lookAhead` operations of a mount are in memory, whatever the state holds.
 */
import type { Clock } from "../../lib/clock.ts";
import { type ErrorCode, toWeirError } from "../../lib/errors.ts";
import type { MountId, UfsOpId, WorkerId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { type FileLayout, replacedSource } from "../../rpc/namespace.ts";
import type { UfsAction } from "../../rpc/tasks.ts";
import { ufsOpKey } from "../state/keys.ts";
import { type Mount, type UfsOp, ufsOp } from "../state/model.ts";
import type { StateEvent } from "../state/context.ts";
import { inodeOf, isMoot, mountOf, mountsOf, mountTargetOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { failureOf } from "./directory-loader.ts";
import type { Reign } from "./leadership.ts";
import { pendingUfsOpsPage } from "./listings.ts";
import { PathClaims } from "./path-claims.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

const lookAhead = 256;
/** Operations of one mount that are handed to the dispatcher at once. */
const underWayPerMount = 64;
/** Into a reign: clients wait for the leader, and what it starts here takes its time from them. Stores can wait. */
const restMs = 100;
const firstPauseMs = 1000;
const longestPauseMs = 60_000;
/** Attempts before an operation is given up that the store refuses for what it is. */
const hopelessAttempts = 5;
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
  /** Monotonic. */
  notBeforeMs: number;
}

interface MountQueue {
  /** In the order of their ids. */
  readonly pending: Map<UfsOpId, Pending>;
  /** False: the state may have operations behind the last one here. */
  complete: boolean;
  refilling: boolean;
}

export class UfsOpQueue {
  readonly #options: {
    readonly reader: StateReader;
    readonly dispatcher: TaskDispatcher;
    readonly propose: (
      commands: readonly Command[],
      signal: AbortSignal,
    ) => Promise<CommandResult[]>;
    readonly layoutOf: (op: UfsOp) => Promise<FileLayout | undefined>;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly reign: Reign;
  };
  readonly #queues = new Map<MountId, MountQueue>();
  /** True while the rest lasts, as if a round were planned. */
  #roundPlanned = true;
  #cancelTimer: (() => void) | undefined;

  constructor(options: {
    reader: StateReader;
    dispatcher: TaskDispatcher;
    propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
    /** Layout of the file that a persist is about; undefined when it is gone. */
    layoutOf: (op: UfsOp) => Promise<FileLayout | undefined>;
    clock: Clock;
    logger: Logger;
    reign: Reign;
  }) {
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

  #queued(mount: MountId, id: UfsOpId): void {
    const queue = this.#queueOf(mount);
    if (!queue.complete || queue.pending.size >= lookAhead) {
      queue.complete = false;
    } else {
      const op = this.#options.reader.read(ufsOp, ufsOpKey(mount, id));
      if (op !== undefined) this.#add(queue, op);
    }
    this.#planRound();
  }

  #queueOf(mount: MountId): MountQueue {
    let queue = this.#queues.get(mount);
    if (queue === undefined) {
      queue = { pending: new Map(), complete: false, refilling: false };
      this.#queues.set(mount, queue);
    }
    return queue;
  }

  #add(queue: MountQueue, op: UfsOp): void {
    if (queue.pending.has(op.id)) return;
    queue.pending.set(op.id, { op, phase: "waiting", attempts: 0, notBeforeMs: 0 });
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
    const now = this.#options.clock.monotonicMs();
    let nextMs = Infinity;
    for (const [mount, queue] of this.#queues) {
      if (!queue.complete && queue.pending.size <= lookAhead / 2) void this.#refill(mount, queue);
      const claims = new PathClaims();
      let underWay = 0;
      for (const pending of queue.pending.values()) if (pending.phase !== "waiting") underWay++;
      for (const pending of queue.pending.values()) {
        const paths = pathsOf(pending.op);
        if (pending.phase === "waiting" && underWay < underWayPerMount && !claims.conflict(paths)) {
          if (pending.notBeforeMs <= now) {
            pending.phase = "underWay";
            underWay++;
            void this.#execute(pending);
          } else {
            nextMs = Math.min(nextMs, pending.notBeforeMs);
          }
        }
        claims.claim(paths);
      }
    }
    this.#cancelTimer?.();
    this.#cancelTimer =
      nextMs === Infinity
        ? undefined
        : this.#options.clock.after(nextMs - now, () => this.#planRound());
  }

  async #refill(mount: MountId, queue: MountQueue): Promise<void> {
    if (queue.refilling) return;
    queue.refilling = true;
    queue.complete = true;
    try {
      const after = [...queue.pending.keys()].at(-1);
      const limit = lookAhead - queue.pending.size;
      const page = await pendingUfsOpsPage(this.#options.reader, mount, { after, limit });
      if (page.length >= limit) queue.complete = false;
      for (const op of page) {
        // What was done while the page was being read is gone from the state.
        if (this.#options.reader.read(ufsOp, ufsOpKey(mount, op.id)) !== undefined) {
          this.#add(queue, op);
        }
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
    const { reader, dispatcher, logger, clock, reign } = this.#options;
    try {
      const work = isMoot(reader, op) ? undefined : await this.#workOf(op);
      const mount = mountOf(reader, op.mountId);
      let fingerprint: string | undefined;
      if (work !== undefined && mount !== undefined) {
        const result = await dispatcher.run(
          { kind: "ufsOp", op: op.id, mount: mountTargetOf(mount), action: work.action },
          { prefer: work.prefer, urgent: false },
          reign.signal,
        );
        if (result.kind !== "ufsDone") {
          throw failureOf(result, `Cannot ${op.action.kind} "${pathsOf(op)[0] ?? ""}"`);
        }
        fingerprint = result.fingerprint;
      }
      await this.#done(pending, fingerprint, undefined);
      if (work !== undefined && mount !== undefined) this.#forgetReplaced(op, mount, work);
    } catch (thrown) {
      if (reign.signal.aborted) return;
      const error = toWeirError(thrown, `Cannot ${op.action.kind} in a store`);
      pending.attempts++;
      if (hopeless.has(error.code) && pending.attempts >= hopelessAttempts) {
        logger.error({ op: op.id, error: error.message }, "a side effect on a store is given up");
        await this.#done(pending, undefined, error.message).catch(() => this.#pause(pending));
        return;
      }
      logger.warn(
        { op: op.id, attempts: pending.attempts, error: error.message },
        "a side effect on a store failed; it will be tried again",
      );
      pending.notBeforeMs =
        clock.monotonicMs() +
        Math.min(firstPauseMs * 2 ** Math.min(pending.attempts - 1, 10), longestPauseMs);
      this.#pause(pending);
    }
  }

  /** A worker clears up; what it does not get to is cleared up with the next write of the object, or by its age. */
  #forgetReplaced(op: UfsOp, mount: Mount, { action }: { readonly action: UfsAction }): void {
    if (action.kind !== "persist") return;
    const { path, layout } = action;
    const fingerprint = replacedSource(layout, path);
    if (fingerprint === undefined) return;
    const { dispatcher, logger, reign } = this.#options;
    const forget = { kind: "forgetReplaced" as const, path, fingerprint };
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

  /** Proposes the end; the operation leaves the queue when that is applied. */
  async #done(
    pending: Pending,
    fingerprint: string | undefined,
    error: string | undefined,
  ): Promise<void> {
    pending.phase = "done";
    const { propose, reign } = this.#options;
    await propose([{ kind: "ufsDone", op: pending.op.id, fingerprint, error }], reign.signal);
    this.#queues.get(pending.op.mountId)?.pending.delete(pending.op.id);
    this.#planRound();
  }

  /** The action as of now, and who has its data; undefined when its file is gone. */
  async #workOf(op: UfsOp): Promise<{ action: UfsAction; prefer: WorkerId[] } | undefined> {
    const { action } = op;
    switch (action.kind) {
      case "persist": {
        const layout = await this.#options.layoutOf(op);
        const file = inodeOf(this.#options.reader, action.inode);
        if (layout === undefined || file === undefined) return undefined;
        if (layout.status.version !== action.version) return undefined;
        const { mode, uid, gid, mtime } = file;
        return {
          action: { kind: "persist", path: action.path, layout, mode, uid, gid, mtime },
          prefer: holdersOf(layout),
        };
      }
      case "delete":
        return { action: { kind: "delete", path: action.path }, prefer: [] };
      case "rename":
        return { action: { kind: "rename", from: action.from, to: action.to }, prefer: [] };
      case "mkdir": {
        const { path, mode, uid, gid } = action;
        return { action: { kind: "mkdir", path, mode, uid, gid }, prefer: [] };
      }
      case "symlink": {
        const { path, target } = action;
        return { action: { kind: "symlink", path, target }, prefer: [] };
      }
      case "setAttributes": {
        const { path, mode, uid, gid, mtime } = action;
        return { action: { kind: "setAttributes", path, mode, uid, gid, mtime }, prefer: [] };
      }
    }
  }
}

function pathsOf({ action }: UfsOp): readonly string[] {
  return action.kind === "rename" ? [action.from, action.to] : [action.path];
}

/** Workers that have bytes of the file, in the layout's order of preference. */
function holdersOf(layout: FileLayout): WorkerId[] {
  return [...new Set(layout.segments.flatMap((segment) => segment.locations))];
}
