/**
 * Who decides. Every question of the form "do enough nodes agree?" is asked here, so that joint consensus (section 4.3
 * of the dissertation) holds everywhere at once: with `outgoing` not empty, a majority of both halves is needed.
 */
import type { Configuration, NodeId } from "./types.ts";

/** Every node that gets the log, in the order voters, outgoing, learners, each once. */
export function membersOf(configuration: Configuration): readonly NodeId[] {
  const { voters, outgoing, learners } = configuration;
  return [...new Set([...voters, ...outgoing, ...learners])];
}

/** True when the node's vote counts. */
export function isVoter(configuration: Configuration, id: NodeId): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id);
}

/** True when nobody else is needed for a decision. */
export function isSoleVoter(configuration: Configuration, id: NodeId): boolean {
  const { voters, outgoing } = configuration;
  return voters.length === 1 && voters[0] === id && outgoing.every((each) => each === id);
}

/** The largest value that a quorum has reached: its members' `valueOf` are all at least that. */
export function quorumValue(configuration: Configuration, valueOf: (id: NodeId) => number): number {
  const incoming = majorityValue(configuration.voters, valueOf);
  return configuration.outgoing.length === 0
    ? incoming
    : Math.min(incoming, majorityValue(configuration.outgoing, valueOf));
}

function majorityValue(ids: readonly NodeId[], valueOf: (id: NodeId) => number): number {
  if (ids.length === 1) return valueOf(ids[0]!);
  const values = ids.map(valueOf).sort((a, b) => a - b);
  // Of n sorted upwards, place ⌈n/2⌉ - 1 has a majority at or above it.
  return values[Math.ceil(values.length / 2) - 1]!;
}

/** True when a quorum fulfils the predicate. */
export function hasQuorum(configuration: Configuration, agrees: (id: NodeId) => boolean): boolean {
  return quorumValue(configuration, (id) => (agrees(id) ? 1 : 0)) === 1;
}

/** How an election stands, given the votes that have come in so far. */
export function outcomeOf(
  configuration: Configuration,
  votes: ReadonlyMap<NodeId, boolean>,
): "won" | "lost" | "open" {
  if (hasQuorum(configuration, (id) => votes.get(id) === true)) return "won";
  // Lost when those that have not refused are no quorum any more.
  return hasQuorum(configuration, (id) => votes.get(id) !== false) ? "open" : "lost";
}
