/** Changes of role: what each one forgets, and what it begins with. */
import assert from "node:assert/strict";
import { Progress } from "./progress.ts";
import type { State } from "./state.ts";
import type { Index, NodeId, Term } from "./types.ts";

/**
 * Follower of `leader`, where one is known. A higher term comes with an empty vote; in the same term the vote stays, or a
 * node could vote twice.
 */
export function becomeFollower(state: State, term: Term, leader: NodeId | undefined): void {
  assert(term >= state.term, "a term fell");
  if (term > state.term) state.setHardState(term, undefined);
  if (leader !== undefined) state.goneTicks = 0;
  leaveRole(state);
  state.role = "follower";
  state.leader = leader;
}

/** Asks whether an election could be won, without raising the term (section 9.6 of the dissertation). */
export function becomePreCandidate(state: State): void {
  leaveRole(state);
  state.role = "preCandidate";
  state.leader = undefined;
  state.votes.set(state.id, true);
}

/** Raises the term and votes for itself; the own vote counts when it is durable. */
export function becomeCandidate(state: State): void {
  leaveRole(state);
  state.awaitElection();
  state.role = "candidate";
  state.leader = undefined;
  state.setHardState((state.term + 1) as Term, state.id);
}

/** Leader of the current term; appends the no-op whose commit makes all before it committed (section 5.4.2). */
export function becomeLeader(state: State): void {
  assert.equal(state.role, "candidate", "only a candidate becomes leader");
  state.goneTicks = 0;
  const { votes, electionElapsed } = state;
  leaveRole(state);
  state.role = "leader";
  state.leader = state.id;
  state.heartbeatElapsed = 0;
  const next = (state.log.lastIndex + 1) as Index;
  for (const id of state.others) {
    const progress = new Progress(id, next);
    // Who has voted is there: it was heard since it was asked.
    if (votes.has(id)) progress.heard(electionElapsed + 1);
    state.progress.set(id, progress);
  }
  state.termStart = next;
  for (const id of state.forwardedReads.takeAll()) state.reads.add({ from: undefined, id });
  state.unappliedBytes = 0;
  if (state.appliedIndex < state.log.lastIndex) {
    for (const entry of state.log.slice(state.appliedIndex + 1, next)) {
      state.unappliedBytes += entry.payload.length;
    }
  }
  state.appendToLog({
    index: next,
    term: state.term,
    kind: "noop",
    payload: new Uint8Array(0),
  });
}

function leaveRole(state: State): void {
  state.drawElectionTimeout();
  state.votes = new Map();
  state.campaignsForTransfer = false;
  state.progress.clear();
  state.transferTarget = undefined;
  if (state.role !== "leader") return;
  for (const { from, id } of state.reads.takeAll()) {
    // Others ask the next leader by themselves.
    if (from === undefined) state.readResults.push({ id, index: undefined });
  }
}
