/**
 * How many different situations a simulation has been in. A situation is, of all members: role, term against the highest
 * one, log against what is committed (does its end hold it, how far is it behind or ahead, is it durable), and whether
 * it is up; with the kind of the leader's configuration. Which node is which does not matter.
 */
import type { Invariants } from "./invariants.ts";
import type { SimulatedNode } from "./simulated-node.ts";

const roles = { follower: 0, preCandidate: 1, candidate: 2, leader: 3 } as const;

export class Coverage {
  /** Hashes of the situations. */
  readonly seen = new Set<number>();

  observe(nodes: readonly SimulatedNode[], invariants: Invariants): void {
    let highest = 0;
    for (const { core } of nodes)
      if (core !== undefined && core.term > highest) highest = core.term;
    const last = invariants.lastCommitted;
    const lastTerm = invariants.committed[last]!.term;
    let sum = 0;
    for (const node of nodes) {
      if (node.isRetired) continue;
      // A sum does not depend on the order.
      sum = (sum + scrambled(signOf(node, highest, last, lastTerm))) >>> 0;
    }
    this.seen.add(sum);
  }
}

function signOf(node: SimulatedNode, highest: number, last: number, lastTerm: number): number {
  const { core } = node;
  if (core === undefined) return node.isLost ? 1 : node.isUp ? 2 : 3;
  const { outgoing, learners } = core.configuration;
  const kind = (outgoing.length > 0 ? 1 : 0) + (learners.length > 0 ? 2 : 0);
  const ahead = core.lastIndex - last;
  const holds = core.termAt(last) === lastTerm;
  let sign = 4 + roles[core.role];
  for (const [value, range] of [
    [Math.min(2, highest - core.term), 3],
    [ahead < -20 ? 0 : ahead < 0 ? 1 : ahead === 0 ? 2 : 3, 4],
    [holds ? 1 : 0, 2],
    [Math.min(2, last - core.commitIndex), 3],
    [kind, 4],
    [core.leader === undefined ? 0 : 1, 2],
    [node.isPaused ? 1 : 0, 2],
  ] as const) {
    sign = sign * range + value;
  }
  return sign;
}

function scrambled(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
