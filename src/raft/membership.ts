/**
 * How a leader changes the members (chapter 4 of the dissertation), from the request to the end.
 *
 * Invariants
 * 1. A configuration is active from the moment it is in the log. One change at a time is under way: none begins before
 *    the last one is committed and joint consensus is left, nor before the leader has committed an entry of its own term
 *    (two leaders could else decide by majorities that do not overlap).
 * 2. Whoever leads leaves joint consensus, whoever began it.
 * 3. A leader that is no voter any more counts for nothing in decisions, takes no new commands, and steps down as soon as
 *    its removal is committed and told to the others.
 */
import { membersOf } from "./configuration.ts";
import { encodeConfiguration } from "./configuration-codec.ts";
import { leaveJoint, type MemberChange, nameOf, planChange } from "./member-change.ts";
import { Progress } from "./progress.ts";
import type { State } from "./state.ts";
import { resign } from "./transfer.ts";
import type { Configuration, Index, Term } from "./types.ts";

/** Where the entry of a change was put in the log, or why there is none; `Busy` may pass by itself. */
export type MembersChanged =
  | { readonly ok: true; readonly index: Index; readonly term: Term }
  | {
      readonly ok: false;
      readonly code: "NotLeader" | "Busy" | "InvalidArgument";
      readonly reason: string;
    };

/** Begins a change on the leader. */
export function changeMembers(state: State, change: MemberChange): MembersChanged {
  if (state.role !== "leader") {
    return refuse("NotLeader", "Cannot change the members: this node does not lead");
  }
  const hindrance = whatHinders(state);
  if (hindrance !== undefined) return refuse("Busy", `Cannot change the members: ${hindrance}`);
  const planned = planChange(state.configuration, change);
  if (!planned.ok) return refuse("InvalidArgument", planned.reason);
  const { configuration } = planned;
  if (change.kind === "promote" && !isKeepingUp(state, change.nodeId)) {
    const name = nameOf(state.configuration, change.nodeId);
    return refuse("Busy", `Cannot promote "${name}": it does not keep up with the log yet`);
  }
  const isVoterChange = configuration.outgoing.length > 0;
  if (isVoterChange && !state.isAnsweredBy(configuration)) {
    // Else nothing could ever be decided again.
    return refuse("Busy", "Cannot change the members: too few of those to decide then answer now");
  }
  const index = appendConfiguration(state, configuration);
  return { ok: true, index, term: state.term };
}

/** True while a change is not committed, or joint consensus is not left. */
export function isChanging({ configurations, commitIndex }: State): boolean {
  return configurations.activeIndex > commitIndex || configurations.active.outgoing.length > 0;
}

/** Once per turn of a leader: leaves joint consensus when it is committed. */
export function finishJoint(state: State): void {
  const { configurations, commitIndex } = state;
  if (
    configurations.active.outgoing.length > 0 &&
    commitIndex >= configurations.activeIndex &&
    commitIndex >= state.termStart
  ) {
    appendConfiguration(state, leaveJoint(configurations.active));
  }
}

/**
 * Once per turn of a leader, when this turn's messages are there: one that is no voter any more goes once that is
 * committed. The best of the others, which learns of the commit by an earlier message, may follow at once.
 */
export function resignIfRemoved(state: State): void {
  const { configurations, commitIndex } = state;
  if (state.isVoter || commitIndex < configurations.activeIndex) return;
  resign(state);
}

/** One tick of a leader: promotes learners that wait for it, forgets those who have left. */
export function tickMembership(state: State): void {
  const { configurations, commitIndex, progress } = state;
  if (commitIndex >= configurations.activeIndex) {
    for (const each of progress.values()) {
      if (each.leavingTicks !== undefined && --each.leavingTicks <= 0) progress.delete(each.id);
    }
  }
  for (const { nodeId, promote } of configurations.active.members ?? []) {
    if (!promote || !configurations.active.learners.includes(nodeId)) continue;
    const steadyTicks = progress.get(nodeId)?.steadyTicks ?? 0;
    if (steadyTicks < state.electionTicks) continue;
    if (changeMembers(state, { kind: "promote", nodeId }).ok) return;
  }
}

function whatHinders(state: State): string | undefined {
  if (state.transferTarget !== undefined) return "the leadership is being handed over";
  if (state.commitIndex < state.termStart) {
    return "the leader has not committed an entry of its term yet";
  }
  if (isChanging(state)) return "another change is under way";
  return undefined;
}

/** True when what goes to the node is taken as it comes, so that its vote would not hold up the others. */
function isKeepingUp(state: State, nodeId: string): boolean {
  const progress = state.progress.get(nodeId);
  return progress?.state === "replicate" && progress.isActive(state.electionTicks);
}

function appendConfiguration(state: State, configuration: Configuration): Index {
  const index = (state.log.lastIndex + 1) as Index;
  const payload = encodeConfiguration(configuration);
  state.unappliedBytes += payload.length;
  state.appendToLog({ index, term: state.term, kind: "configuration", payload });
  followMembers(state);
  return index;
}

/** Gives every member its progress; who is none any more hears of that for a while, and is then forgotten. */
function followMembers(state: State): void {
  const { progress } = state;
  const members = new Set(membersOf(state.configuration));
  const next = (state.log.lastIndex + 1) as Index;
  for (const id of members) {
    const known = progress.get(id);
    if (known !== undefined) known.leavingTicks = undefined;
    else if (id !== state.id) progress.set(id, new Progress(id, next));
  }
  for (const each of progress.values()) {
    if (!members.has(each.id)) each.leavingTicks ??= 2 * state.electionTicks;
  }
}

function refuse(code: "NotLeader" | "Busy" | "InvalidArgument", reason: string): MembersChanged {
  return { ok: false, code, reason };
}
