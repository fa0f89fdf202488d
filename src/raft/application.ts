/** What goes to the state machine, and where that stands: entry by entry, or by a snapshot at once. */
import assert from "node:assert/strict";
import { becomeFollower } from "./roles.ts";
import type { State } from "./state.ts";
import type { Configuration, Entry, Index, NodeId, Term } from "./types.ts";

/** The state machine was replaced, durably: see the input of that name. */
export interface Installed {
  readonly index: Index;
  readonly term: Term;
  readonly from: NodeId | undefined;
  readonly configuration?: Configuration | undefined;
  readonly configurationIndex?: Index | undefined;
}

/** Entries that may be applied and were not handed out yet. */
export function takeApply(state: State): readonly Entry[] {
  // What is not on the own disk is not applied, even if a quorum has it: after a crash the state machine would be ahead
  // of the log.
  const end = Math.min(state.commitIndex, state.durableIndex);
  if (end <= state.applyCursor) return [];
  const entries = state.log.slice(state.applyCursor + 1, end + 1);
  for (const entry of entries) state.applyingBytes += entry.payload.length;
  state.applyCursor = end as Index;
  return entries;
}

/** The state machine has applied what it was given, up to `index`. */
export function applied(state: State, index: Index): void {
  assert(index <= state.applyCursor, "the state machine applied what it was not given");
  raiseApplied(state, index);
}

function raiseApplied(state: State, index: Index): void {
  if (index <= state.appliedIndex) return;
  let bytes = 0;
  const from = Math.max(state.appliedIndex, state.log.baseIndex) + 1;
  for (const entry of state.log.slice(from, index + 1)) bytes += entry.payload.length;
  if (state.role === "leader") state.unappliedBytes -= bytes;
  // What a snapshot brought need not have been handed out.
  state.applyingBytes = index >= state.applyCursor ? 0 : state.applyingBytes - bytes;
  state.appliedIndex = index;
}

/** Goes on behind a snapshot; the log goes, but for what follows the same entry. */
export function installed(state: State, input: Installed): void {
  const { index, term, from } = input;
  if (index > state.commitIndex) {
    // With the same entry there, what follows it may have been acknowledged: it stays. Else the log conflicts with what
    // is committed, or ends before it.
    if (state.log.termAt(index) !== term) {
      if (state.role !== "follower") becomeFollower(state, state.term, undefined);
      state.resetLog(index, term);
      const { configuration, configurationIndex = index } = input;
      state.configurations.reset(
        state.commitIndex,
        configuration && { configuration, index: configurationIndex },
      );
    }
    state.commitTo(index);
  }
  if (index > state.applyCursor) state.applyCursor = index;
  raiseApplied(state, index);
  if (from === undefined) return;
  state.sendWhenDurable(from, { kind: "snapshotDone", ok: true, index: state.commitIndex });
}
