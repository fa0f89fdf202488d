/**
 * The replicated state machine: applies one committed entry to the state. Deterministic, and never throws for what a
 * client sent: a command that cannot be done has a result that says so.
 *
 * Invariants
 * 1. Equal states and equal entries make equal states, results and changes.
 * 2. A refused command leaves the state as it was; of an atomic request, all its commands do. A command that decides
 *    against its caller and still has to change something returns its refusal instead of throwing it, or says what is to be
 *    done after the refusal (`afterwards`).
 * 3. Neither cluster time nor wall time ever goes back.
 */
import { maxCommandsPerEntry, type Position, positionOf } from "../../lib/ids.ts";
import {
  type Command,
  type CommandResult,
  type EntryPayload,
  levelOf,
  type Request,
} from "../../rpc/commands.ts";
import { isLater } from "../../rpc/relatime.ts";
import {
  commit,
  lease,
  persist,
  release,
  releaseLease,
  truncate,
  retain,
} from "./content-commands.ts";
import { clearExtentsStep } from "./clearing.ts";
import { compactContent, endCompaction, startCompaction } from "./compaction.ts";
import { fenceLease } from "./leases.ts";
import {
  ChangeNotes,
  type Changes,
  type Context,
  Refusal,
  type StateEvent,
  type TransactionalState,
} from "./context.ts";
import { deleteDataPolicy, runDataPolicy, setDataPolicy } from "./data-policies.ts";
import { clockKey } from "./keys.ts";
import {
  commitAttempt,
  deleteLineage,
  failAttempt,
  recordLineage,
  resetLineage,
  startAttempt,
} from "./lineage-commands.ts";
import { loadPage } from "./load-commands.ts";
import { type StateClock, stateClock } from "./model.ts";
import { bootstrap, mount, refuseMount, unmount, updateMount } from "./mount-commands.ts";
import {
  create,
  deleteTree,
  link,
  rename,
  rmdir,
  setAttributes,
  unlink,
} from "./namespace-commands.ts";
import { NewNames } from "./new-names.ts";
import { raiseLevel } from "./level-commands.ts";
import { clockOf, clusterOf, levelOfState } from "./queries.ts";
import { reapGarbage, reapTrash } from "./reap-commands.ts";
import { closeSession, openSession, touchSessions } from "./session-commands.ts";
import { admit, remember } from "./session-table.ts";
import { cancelTreeOp, startTreeOp, stepTreeOp } from "./tree-op-commands.ts";
import { discardEffect, retryEffect, ufsDone, ufsFailed } from "./ufsop-ends.ts";
import { countUsage } from "./usage-commands.ts";
import { clearPathPolicy, setPathPolicy } from "./policy-commands.ts";
import { limitedCommands, needQuotas } from "./quotas.ts";
import { expire, setTtlClock } from "./ttl-commands.ts";
import { UsageLedger } from "./usage-ledger.ts";
import { touchAtimes } from "./times.ts";
import { keeperGone, registerWorker, workerLost } from "./worker-commands.ts";
import { removeXattr, setXattr } from "./xattr-commands.ts";

export type { StateEvent, TransactionalState } from "./context.ts";
export { rangesOf } from "./ranges.ts";

/** What an entry did. The lists of requests are in the order of the entry. */
export interface AppliedEntry {
  /** Per request, per command. */
  readonly results: readonly (readonly CommandResult[])[];
  /** Per request: the position that its answer reflects; of a replayed one that of the first execution. */
  readonly positions: readonly Position[];
  /** Per request: true if it was executed before and is answered again. */
  readonly replayed: readonly boolean[];
  /** For the change feed. */
  readonly changes: Changes;
  readonly events: readonly StateEvent[];
}

/**
 * Applies the entry at log index `index`. The ranges of `rangesOf` must be loaded. `newNames` is what was learned from the
 * entries before, all of them applied to this state.
 */
export function applyEntry(
  state: TransactionalState,
  index: number,
  entry: EntryPayload,
  newNames = new NewNames(),
): AppliedEntry {
  const clock = advanceClock(state, entry);
  const notes = new ChangeNotes();
  const usage = new UsageLedger(state);
  const answers: Answer[] = [];
  let place = 0;
  for (const request of entry.requests) {
    answers.push(serve({ state, index, clock, notes, newNames, usage, place }, request));
    place += request.commands.length;
  }
  usage.write();
  return {
    results: answers.map((answer) => answer.results),
    positions: answers.map((answer) => answer.position),
    replayed: answers.map((answer) => answer.replayed),
    changes: notes.changes,
    events: notes.events,
  };
}

function advanceClock(state: TransactionalState, entry: EntryPayload): StateClock {
  const before = clockOf(state);
  const clock = {
    clusterTimeMs: Math.max(before.clusterTimeMs, entry.clusterTimeMs),
    wallTime: isLater(entry.wallTime, before.wallTime) ? entry.wallTime : before.wallTime,
  };
  state.write(stateClock, clockKey, clock);
  return clock;
}

interface Answer {
  readonly results: readonly CommandResult[];
  readonly position: Position;
  readonly replayed: boolean;
}

/** Where a request stands: in the log, in its entry, in time. */
interface Place {
  readonly state: TransactionalState;
  readonly index: number;
  readonly clock: StateClock;
  readonly notes: ChangeNotes;
  readonly newNames: NewNames;
  readonly usage: UsageLedger;
  /** Of its first command in the entry. */
  readonly place: number;
}

/** Executes a request, or answers it as before, or refuses it. */
function serve(at: Place, request: Request): Answer {
  const { commands } = request;
  if (at.place + commands.length > maxCommandsPerEntry) {
    const detail = `the entry has more than ${maxCommandsPerEntry} commands`;
    const position = positionOf(at.index, maxCommandsPerEntry - 1);
    return {
      results: forAll(commands, { ok: false, code: "Busy", detail }),
      position,
      replayed: false,
    };
  }
  const position = positionOf(at.index, at.place);
  const admission = admit(at.state, request, at.clock.clusterTimeMs);
  switch (admission.kind) {
    case "refuse":
      return { results: forAll(commands, admission.result), position, replayed: false };
    case "replay":
      return { results: admission.results, position: admission.position, replayed: true };
    case "execute": {
      const results = request.atomic ? executeAtomic(at, request) : executeEach(at, request);
      remember(at.state, request, { position, results });
      return { results, position, replayed: false };
    }
  }
}

function forAll(commands: readonly Command[], result: CommandResult): CommandResult[] {
  return commands.map(() => result);
}

/** Each command by itself: one that is refused leaves the others alone. */
function executeEach(at: Place, request: Request): CommandResult[] {
  return request.commands.map((command, i) => {
    const savepoint = at.state.savepoint();
    const mark = at.notes.mark();
    const charged = at.usage.mark();
    const context = contextOf(at, request, i);
    const { result, undo, afterwards } = execute(context, command);
    if (undo) {
      savepoint.rollback();
      at.notes.undo(mark);
      at.usage.undo(charged);
      afterwards?.(context);
    } else {
      savepoint.commit();
    }
    return result;
  });
}

/** All commands or none. */
function executeAtomic(at: Place, request: Request): CommandResult[] {
  const savepoint = at.state.savepoint();
  const mark = at.notes.mark();
  const charged = at.usage.mark();
  const results: CommandResult[] = [];
  for (const [i, command] of request.commands.entries()) {
    const context = contextOf(at, request, i);
    const { result, afterwards } = execute(context, command);
    if (!result.ok) {
      savepoint.rollback();
      at.notes.undo(mark);
      at.usage.undo(charged);
      afterwards?.(context);
      const detail = `command ${i} of the same request was refused: ${result.detail}`;
      const cancelled = forAll(request.commands, { ok: false, code: "Cancelled", detail });
      cancelled[i] = result;
      return cancelled;
    }
    results.push(result);
  }
  savepoint.commit();
  return results;
}

function contextOf(at: Place, request: Request, i: number): Context {
  return {
    state: at.state,
    index: at.index,
    position: positionOf(at.index, at.place + i),
    session: request.session,
    caller: request.caller,
    level: levelOfState(at.state),
    clusterTimeMs: at.clock.clusterTimeMs,
    wallTime: at.clock.wallTime,
    blockSizeBytes: clusterOf(at.state)?.blockSizeBytes ?? 0,
    notes: at.notes,
    newNames: at.newNames,
    usage: at.usage,
  };
}

const maxDetailLength = 1000;

/** Executes one command. `undo`: it was refused on the way, its writes are to be taken back. */
function execute(
  context: Context,
  command: Command,
): { readonly result: CommandResult; readonly undo: boolean } & Pick<
  Partial<Refusal>,
  "afterwards"
> {
  try {
    if (context.blockSizeBytes === 0 && command.kind !== "bootstrap") {
      throw new Refusal("Unavailable", "the cluster has not been made yet");
    }
    if (context.session !== 0 && leaderOnly.has(command.kind)) {
      throw new Refusal("NotPermitted", `only the leader proposes ${command.kind}`);
    }
    if (levelOf(command) > context.level) {
      throw new Refusal("Unavailable", `the masters do not all know ${command.kind} yet`);
    }
    const isLimited = context.usage.hasQuotas && limitedCommands.has(command.kind);
    const before = isLimited ? context.usage.mark() : undefined;
    const result = dispatch(context, command);
    if (before !== undefined) needQuotas(context, before);
    return { result: result.ok ? result : refused(result), undo: false };
  } catch (thrown) {
    if (!(thrown instanceof Refusal)) throw thrown;
    return { result: refused(thrown), undo: true, afterwards: thrown.afterwards };
  }
}

/** A refusal of a bounded length: it may quote what its caller sent, and is kept once for each command of a request. */
function refused({ code, detail }: Pick<Refusal, "code" | "detail">): CommandResult {
  if (detail.length <= maxDetailLength) return { ok: false, code, detail };
  // A pair of surrogates that was cut in half would be another text when it is read again.
  const cut = detail.slice(0, maxDetailLength).replace(/\p{Surrogate}$/u, "");
  return { ok: false, code, detail: `${cut}…` };
}

const leaderOnly: ReadonlySet<Command["kind"]> = new Set([
  "openSession",
  "touchSessions",
  "closeSession",
  "registerWorker",
  "workerLost",
  "keeperGone",
  "loadPage",
  "ufsDone",
  "ufsFailed",
  "startAttempt",
  "commitAttempt",
  "failAttempt",
  "resetLineage",
  "fenceLease",
  "reapGarbage",
  "clearExtents",
  "startCompaction",
  "compactContent",
  "endCompaction",
  "reapTrash",
  "stepTreeOp",
  "countUsage",
  "expire",
  "bootstrap",
  "raiseLevel",
]);

function dispatch(context: Context, command: Command): CommandResult {
  switch (command.kind) {
    // Names
    case "create":
      return create(context, command);
    case "link":
      return link(context, command);
    case "unlink":
      return unlink(context, command);
    case "rmdir":
      return rmdir(context, command);
    case "deleteTree":
      return deleteTree(context, command);
    case "rename":
      return rename(context, command);

    // Attributes
    case "setAttributes":
      return setAttributes(context, command);
    case "startTreeOp":
      return startTreeOp(context, command);
    case "cancelTreeOp":
      return cancelTreeOp(context, command);
    case "touchAtimes":
      return touchAtimes(context, command);
    case "setXattr":
      return setXattr(context, command);
    case "removeXattr":
      return removeXattr(context, command);

    // Policies
    case "setPathPolicy":
      return setPathPolicy(context, command);
    case "clearPathPolicy":
      return clearPathPolicy(context, command);
    case "setTtlClock":
      return setTtlClock(context, command);

    // Content
    case "truncate":
      return truncate(context, command);
    case "lease":
      return lease(context, command);
    case "commit":
      return commit(context, command);
    case "releaseLease":
      return releaseLease(context, command);
    case "retain":
      return retain(context, command);
    case "release":
      return release(context, command);
    case "persist":
      return persist(context, command);

    // Side effects on stores
    case "retryEffect":
      return retryEffect(context, command);
    case "discardEffect":
      return discardEffect(context, command);

    // Mounts
    case "mount":
      return mount(context, command);
    case "unmount":
      return unmount(context, command);
    case "updateMount":
      return updateMount(context, command);
    case "setDataPolicy":
      return setDataPolicy(context, command);
    case "deleteDataPolicy":
      return deleteDataPolicy(context, command);
    case "runDataPolicy":
      return runDataPolicy(context, command);

    // Lineage
    case "recordLineage":
      return recordLineage(context, command);
    case "deleteLineage":
      return deleteLineage(context, command);

    // Sessions
    case "openSession":
      return openSession(context, command);
    case "touchSessions":
      return touchSessions(context, command);
    case "closeSession":
      return closeSession(context, command);

    // Workers
    case "registerWorker":
      return registerWorker(context, command);
    case "workerLost":
      return workerLost(context, command);
    case "keeperGone":
      return keeperGone(context, command);

    // Stores
    case "loadPage":
      return loadPage(context, command);
    case "ufsDone":
      return ufsDone(context, command);
    case "ufsFailed":
      return ufsFailed(context, command);

    // Lineage, by the leader
    case "startAttempt":
      return startAttempt(context, command);
    case "commitAttempt":
      return commitAttempt(context, command);
    case "failAttempt":
      return failAttempt(context, command);
    case "resetLineage":
      return resetLineage(context, command);

    // Mounts, by the leader
    case "refuseMount":
      return refuseMount(command);

    // Background
    case "fenceLease":
      return fenceLease(context, command);
    case "reapGarbage":
      return reapGarbage(context, command);
    case "clearExtents":
      return clearExtentsStep(context, command);
    case "startCompaction":
      return startCompaction(context, command);
    case "compactContent":
      return compactContent(context, command);
    case "endCompaction":
      return endCompaction(context, command);
    case "reapTrash":
      return reapTrash(context, command);
    case "stepTreeOp":
      return stepTreeOp(context, command);
    case "countUsage":
      return countUsage(context, command);
    case "expire":
      return expire(context, command);

    // Cluster
    case "bootstrap":
      return bootstrap(context, command);
    case "raiseLevel":
      return raiseLevel(context, command);
  }
}
