/**
 * Leadership transfer (section 3.10 of the dissertation): the leader takes no more commands, brings the target up to its
 * own last entry, and tells it to campaign at once. Nobody but the target's election ends the old reign: until then reads
 * are confirmed by a quorum as ever, and after an election timeout the leader goes on as if nothing had been.
 */
import type { Progress } from "./progress.ts";
import { becomeFollower } from "./roles.ts";
import type { State } from "./state.ts";
import type { NodeId } from "./types.ts";

/** Whom the leadership goes to, or why to nobody. */
export type TransferStarted =
  | { readonly ok: true; readonly target: NodeId }
  | {
      readonly ok: false;
      readonly code: "NotLeader" | "Busy" | "InvalidArgument";
      readonly reason: string;
    };

/** Begins a transfer to `target`, or to the voter that answers and holds most of the log. */
export function startTransfer(state: State, target: NodeId | undefined): TransferStarted {
  if (state.role !== "leader") {
    return refuse("NotLeader", "Cannot hand over the leadership: this node does not lead");
  }
  if (state.transferTarget !== undefined) {
    if (target === undefined || target === state.transferTarget) {
      return { ok: true, target: state.transferTarget };
    }
    return refuse("Busy", "Cannot hand over the leadership: it is being handed to another node");
  }
  if (target !== undefined && !state.configuration.voters.includes(target)) {
    return refuse("InvalidArgument", "Cannot hand over the leadership: the target is no voter");
  }
  if (target === state.id) {
    return refuse("InvalidArgument", "Cannot hand over the leadership: the target leads already");
  }
  const heir = target === undefined ? bestHeir(state) : state.progress.get(target);
  if (heir === undefined) {
    return refuse("Busy", "Cannot hand over the leadership: no other voter answers");
  }
  state.transferTarget = heir.id;
  state.transferElapsed = 0;
  handOver(state, heir);
  return { ok: true, target: heir.id };
}

/** Tells the target to campaign, once it holds the whole log; repeated as long as it answers. */
export function handOver(state: State, progress: Progress): void {
  if (progress.match === state.log.lastIndex) state.sendNow(progress.id, { kind: "timeoutNow" });
}

/** The voter that would be elected soonest: of those that answer the one that holds most of the log. */
function bestHeir(state: State): Progress | undefined {
  let best: Progress | undefined;
  for (const id of state.configuration.voters) {
    const progress = state.progress.get(id);
    if (progress === undefined || !progress.isActive(state.electionTicks)) continue;
    if (best === undefined || progress.match > best.match) best = progress;
  }
  return best;
}

/** Goes without waiting for anything; the best of the others may follow at once. */
export function resign(state: State): void {
  if (state.role !== "leader") return;
  const heir = bestHeir(state);
  if (heir !== undefined) state.sendNow(heir.id, { kind: "timeoutNow" });
  becomeFollower(state, state.term, undefined);
}

function refuse(code: "NotLeader" | "Busy" | "InvalidArgument", reason: string): TransferStarted {
  return { ok: false, code, reason };
}
