/** Elections (section 5.2), with pre-vote and vote stickiness (sections 9.6 and 4.2.3 of the dissertation). */
import { isVoter, outcomeOf } from "./configuration.ts";
import { becomeCandidate, becomeFollower, becomeLeader, becomePreCandidate } from "./roles.ts";
import type { State } from "./state.ts";
import type { Message, NodeId, Term } from "./types.ts";

type RequestVote = Extract<Message, { kind: "requestVote" }>;
type VoteReply = Extract<Message, { kind: "voteReply" }>;

/** The election timeout is over: asks first, campaigns when a quorum would vote for it. */
export function campaign(state: State): void {
  if (!state.mayCampaign) {
    // The leader is forgotten all the same: who is asked for a vote would refuse it as long as it thinks that it has one.
    becomeFollower(state, state.term, undefined);
    return;
  }
  becomePreCandidate(state);
  requestVotes(state, true, (state.term + 1) as Term);
  concludeElection(state);
}

/** Campaigns at once; `transfer`: on behalf of the leader, so that voters need not have lost it. */
function campaignForReal(state: State, transfer: boolean): void {
  becomeCandidate(state);
  state.campaignsForTransfer = transfer;
  requestVotes(state, false, state.term);
}

function requestVotes(state: State, preVote: boolean, term: Term): void {
  const { lastIndex, lastTerm } = state.log;
  for (const to of state.others) {
    // Learners that are asked do vote: a voter may not know yet that it is one. They are not asked, for they do not count.
    if (!isVoter(state.configuration, to)) continue;
    const body = {
      kind: "requestVote",
      preVote,
      lastIndex,
      lastTerm,
      transfer: state.campaignsForTransfer,
    } as const;
    // A real request tells of the own vote, which must be durable first. A pre-vote tells of nothing.
    if (preVote) state.sendNow(to, body, term);
    else state.sendWhenDurable(to, body, term);
  }
}

/** The own vote of this term has reached the disk: from now on it counts. */
export function onSelfVoteDurable(state: State): void {
  if (state.role !== "candidate" || state.votes.has(state.id)) return;
  state.votes.set(state.id, true);
  concludeElection(state);
}

/** Called for a request whose term is at least ours, or for any pre-vote. */
export function onRequestVote(state: State, message: RequestVote): void {
  const { from, preVote, term } = message;
  const isFree =
    state.vote === from ||
    (state.vote === undefined && state.leader === undefined) ||
    (preVote && term > state.term);
  const granted =
    isFree && term >= state.term && state.log.isUpToDate(message.lastIndex, message.lastTerm);
  if (!granted) {
    // Who asks cannot win against this log, and says that the leader is missed there, too: it has had its turn in vain.
    // An election of this node's own goes on.
    if (preVote && term > state.term && state.goneTicks > 0 && state.role === "follower") {
      hurry(state, 1 + state.turnWithout(from) * state.heartbeatTicks);
    }
    // A refusal carries the own term, so that a candidate that is behind learns of it.
    state.sendWhenTermDurable(from, { kind: "voteReply", preVote, granted });
  } else if (preVote) {
    // The term that was asked for: nothing was promised, and ours may be lower.
    state.sendWhenTermDurable(from, { kind: "voteReply", preVote, granted }, term);
  } else {
    state.setHardState(state.term, from);
    state.awaitElection();
    state.sendWhenDurable(from, { kind: "voteReply", preVote, granted });
  }
}

/** Called for a reply of our term, or for a granted pre-vote of the term that we would campaign in. */
export function onVoteReply(state: State, message: VoteReply): void {
  const awaited = message.preVote ? "preCandidate" : "candidate";
  if (state.role !== awaited) return;
  if (message.preVote && message.granted && message.term !== state.term + 1) return;
  if (!state.votes.has(message.from)) state.votes.set(message.from, message.granted);
  concludeElection(state);
}

function concludeElection(state: State): void {
  switch (outcomeOf(state.configuration, state.votes)) {
    case "won":
      if (state.role === "preCandidate") campaignForReal(state, false);
      else becomeLeader(state);
      return;
    case "lost":
      becomeFollower(state, state.term, undefined);
      return;
    case "open":
  }
}

/**
 * The leader's process has ended, so that there is no use in waiting for the rest of the timeout. The members campaign one
 * after the other, a heartbeat interval apart, so that they do not split the vote, and soon again if that failed. Who
 * has asked this node before it noticed is answered now, and need not ask again. Only for a while, since chance alone ends
 * every split. If the host is wrong, those who hear the leader refuse the pre-vote, and nothing has changed.
 */
export function onGone(state: State, node: NodeId): void {
  if (state.role !== "follower" || state.leader !== node) return;
  state.leader = undefined;
  state.gone = node;
  state.goneTicks = 2 * state.electionTicks;
  const asked = state.unansweredPreVote;
  state.unansweredPreVote = undefined;
  if (asked === undefined) {
    hurry(state, 1 + state.turn * state.heartbeatTicks);
    return;
  }
  // Another one had its turn already. It may ask no more: a pre-vote promises nothing, and is not counted then.
  state.drawElectionTimeout();
  onRequestVote(state, asked);
}

/** Campaigns after so many ticks, if not before. */
function hurry(state: State, ticks: number): void {
  state.electionTimeout = Math.min(state.electionTimeout, state.electionElapsed + ticks);
}

/** The leader hands over: campaign without asking first. */
export function onTimeoutNow(state: State, from: NodeId): void {
  if (state.role !== "follower" || state.leader !== from || !state.mayCampaign) return;
  campaignForReal(state, true);
}
