/** What a step of the host's clock brings: elections, heartbeats, and the end of what took too long. */
import { isSoleVoter } from "./configuration.ts";
import { campaign } from "./election.ts";
import { tickMembership } from "./membership.ts";
import { tickReads } from "./reads.ts";
import { broadcastHeartbeat } from "./replication.ts";
import { becomeFollower } from "./roles.ts";
import type { State } from "./state.ts";

/** One tick; `hold`: the own disk stalls, so that this node could not lead. */
export function tick(state: State, hold: boolean): void {
  state.electionElapsed++;
  if (state.goneTicks > 0) state.goneTicks--;
  tickReads(state);
  if (state.role === "leader") tickLeader(state);
  else tickOthers(state, hold);
}

/** Nobody led for too long: campaigns. */
function tickOthers(state: State, hold: boolean): void {
  // Nobody else could lead: no need to listen for one first.
  const isAlone = state.role === "follower" && isSoleVoter(state.configuration, state.id);
  if (state.electionElapsed < state.electionTimeout && !isAlone) return;
  if (hold) becomeFollower(state, state.term, undefined);
  else campaign(state);
}

function tickLeader(state: State): void {
  const { electionTicks } = state;
  if (state.transferTarget !== undefined && ++state.transferElapsed >= electionTicks) {
    state.transferTarget = undefined;
  }
  for (const progress of state.progress.values()) {
    progress.tick(state.log.lastIndex, electionTicks);
  }
  if (state.electionElapsed >= electionTicks) {
    // Check-quorum: a leader that no quorum has answered for that long steps down (section 6.2 of the dissertation).
    state.electionElapsed = 0;
    if (!state.isAnsweredBy(state.configuration)) {
      becomeFollower(state, state.term, undefined);
      return;
    }
  }
  tickMembership(state);
  if (++state.heartbeatElapsed >= state.heartbeatTicks) broadcastHeartbeat(state);
}
