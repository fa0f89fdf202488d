/**
 * What a message's term says, before anything else in it counts (section 5.1): a higher one is followed, where the message
 * is a reason to; a lower one is answered, where the sender acts on it. What is of this term goes to the rules of its kind.
 */
import { onRequestVote, onTimeoutNow, onVoteReply } from "./election.ts";
import { onReadReply, onReadRequest } from "./reads.ts";
import {
  onAppend,
  onAppendReply,
  onCommitNotice,
  onHeartbeat,
  onHeartbeatReply,
  onSnapshotDone,
} from "./replication.ts";
import { becomeFollower } from "./roles.ts";
import type { State } from "./state.ts";
import type { Index, Message, Term } from "./types.ts";

/** What only the leader of a term sends. */
const leaderKinds: readonly Message["kind"][] = ["append", "heartbeat", "commitNotice"];

/** Takes a message that has arrived; what is not for this node is dropped. */
export function receive(state: State, message: Message): void {
  if (message.to !== state.id) return;
  if (message.term > state.term && !adoptTerm(state, message)) return;
  if (message.term < state.term) {
    answerOldTerm(state, message);
    return;
  }
  switch (message.kind) {
    case "requestVote":
      onRequestVote(state, message);
      return;
    case "voteReply":
      onVoteReply(state, message);
      return;
    case "append":
      onAppend(state, message);
      return;
    case "heartbeat":
      onHeartbeat(state, message);
      return;
    case "commitNotice":
      onCommitNotice(state, message);
      return;
    case "timeoutNow":
      onTimeoutNow(state, message.from);
      return;
    case "appendReply":
      if (state.role === "leader") onAppendReply(state, message);
      return;
    case "heartbeatReply":
      if (state.role === "leader") onHeartbeatReply(state, message);
      return;
    case "snapshotDone":
      if (state.role === "leader") onSnapshotDone(state, message.from, message);
      return;
    case "readRequest":
      onReadRequest(state, message);
      return;
    case "readReply":
      onReadReply(state, message);
  }
}

/** Follows a higher term where the message is a reason to; returns whether the message is to be looked at further. */
function adoptTerm(state: State, message: Message): boolean {
  if (message.kind === "requestVote") {
    // Stickiness: who hears a leader neither votes nor raises its term, so that a node that was cut off disturbs nobody.
    if (state.hearsLeader && !message.transfer) {
      if (message.preVote) state.unansweredPreVote = message;
      return false;
    }
    if (message.preVote) return true;
  }
  // A granted pre-vote echoes the term that was asked for, which nobody has entered yet.
  if (message.kind === "voteReply" && message.preVote && message.granted) return true;
  const isFromLeader = leaderKinds.includes(message.kind);
  becomeFollower(state, message.term, isFromLeader ? message.from : undefined);
  return true;
}

/** Somebody is behind: tell those who act on their term; replies of the past say nothing. */
function answerOldTerm(state: State, message: Message): void {
  switch (message.kind) {
    case "append":
    case "heartbeat":
    case "commitNotice":
      // A leader of the past, or one that this node left behind by campaigning: either way it must learn the term.
      state.sendWhenTermDurable(message.from, {
        kind: "appendReply",
        ok: false,
        index: 0 as Index,
        hintIndex: 0 as Index,
        hintTerm: 0 as Term,
      });
      return;
    case "requestVote":
      state.sendWhenTermDurable(message.from, {
        kind: "voteReply",
        preVote: message.preVote,
        granted: false,
      });
      return;
    case "voteReply":
    case "appendReply":
    case "heartbeatReply":
    case "snapshotDone":
    case "timeoutNow":
    case "readRequest":
    case "readReply":
  }
}
