/**
 * What goes to this node's own disk, and what counts once it is there: its entries like those of any other node, and its
 * vote (invariant 2 of the state).
 */
import { onSelfVoteDurable } from "./election.ts";
import { advanceCommit } from "./replication.ts";
import type { Persist, State } from "./state.ts";

/** All that is to be written and was not handed out yet, as one write; undefined when there is nothing. */
export function takePersist(state: State): Persist | undefined {
  const { log } = state;
  const hasEntries = state.persistNext <= log.lastIndex;
  if (!state.hardStateChanged && !hasEntries && state.persistReset === undefined) return undefined;
  const persist: Persist = {
    sequence: ++state.persistSequence,
    hardState: state.hardStateChanged ? { term: state.term, vote: state.vote } : undefined,
    reset: state.persistReset,
    entries: hasEntries ? log.slice(state.persistNext, log.lastIndex + 1) : [],
  };
  state.pendingPersists.push({
    sequence: persist.sequence,
    hardState: persist.hardState,
    lastIndex: log.lastIndex,
  });
  state.hardStateChanged = false;
  state.persistReset = undefined;
  state.persistNext = log.lastIndex + 1;
  return persist;
}

/** All writes up to this one are durable. */
export function persisted(state: State, sequence: number): void {
  while (state.pendingPersists.length > 0 && state.pendingPersists[0]!.sequence <= sequence) {
    const { hardState, lastIndex } = state.pendingPersists.shift()!;
    if (hardState !== undefined) state.durableHardState = hardState;
    state.durableIndex = Math.max(state.durableIndex, lastIndex);
  }
  countSelfVote(state);
  if (state.role === "leader") advanceCommit(state);
}

/** Of all writes up to this one, term and vote are durable. */
export function hardStatePersisted(state: State, sequence: number): void {
  for (const pending of state.pendingPersists) {
    if (pending.sequence > sequence) break;
    if (pending.hardState !== undefined) state.durableHardState = pending.hardState;
  }
  countSelfVote(state);
}

function countSelfVote(state: State): void {
  const { term, vote } = state.durableHardState;
  if (term === state.term && vote === state.id) onSelfVoteDurable(state);
}
