/**
 * Linearizable reads, from the request to the answer: a leader has a quorum confirm that it still leads (read-index.ts has
 * the rounds), others ask their leader (forwarded-reads.ts has the requests).
 */
import { quorumValue } from "./configuration.ts";
import type { State } from "./state.ts";
import type { Message } from "./types.ts";

/** Election timeouts for which a leader's own read waits to be asked for. */
const ownReadTimeouts = 10;

/** This node's own read; refused where no leader is known. */
export function read(state: State, id: number): void {
  if (state.role === "leader") state.reads.add({ from: undefined, id });
  else if (state.leader === undefined) state.readResults.push({ id, index: undefined });
  else state.forwardedReads.add(id);
}

/** One tick: reads that have waited for too long are refused. */
export function tickReads(state: State): void {
  const { heartbeatTicks, electionTicks } = state;
  const late = [
    ...state.forwardedReads.tick(heartbeatTicks, electionTicks),
    ...state.reads.tick(ownReadTimeouts * electionTicks, electionTicks),
  ];
  for (const id of late) state.readResults.push({ id, index: undefined });
}

/** Once per turn of a node that follows: asks for what has come up since. */
export function sendReadRequests(state: State): void {
  if (state.leader === undefined) return;
  for (const request of state.forwardedReads.takeRequests(state.leader)) {
    state.sendNow(state.leader, { kind: "readRequest", request });
  }
}

/** A follower asks on behalf of its reads. */
export function onReadRequest(
  state: State,
  message: Extract<Message, { kind: "readRequest" }>,
): void {
  if (state.role === "leader") state.reads.addRequest(message.from, message.request);
}

/** A leader's answer: whoever it was, its index was current after the request. */
export function onReadReply(state: State, message: Extract<Message, { kind: "readReply" }>): void {
  for (const id of state.forwardedReads.takeAnswered(message.request)) {
    state.readResults.push({ id, index: message.index });
  }
}

/** Answers the reads whose round a quorum has confirmed. */
export function confirmReads(state: State): void {
  if (!state.reads.isUnderWay) return;
  const token = quorumValue(state.configuration, (id) =>
    id === state.id ? state.reads.token : (state.progress.get(id)?.readToken ?? 0),
  );
  for (const { reader, index } of state.reads.confirm(token)) {
    const { from, id } = reader;
    if (from === undefined) state.readResults.push({ id, index });
    else state.sendNow(from, { kind: "readReply", request: id, index });
  }
}
