/**
 * What a change of the members makes of a configuration, and why some are refused. Voters change by joint consensus
 * (section 4.3 of the dissertation): the configuration that is planned here has the old voters as `outgoing`, and the
 * leader leaves it by itself. Learners come and go in one step, since no decision depends on them; so do addresses.
 */
import type { Configuration, Member, NodeId } from "./types.ts";

/** Where a member listens, for masters and for clients. */
export type Place = Pick<Member, "host" | "raftPort" | "rpcPort">;

/** A member with the same data listens elsewhere. */
export interface Move {
  readonly nodeId: NodeId;
  readonly place: Place;
}

export type MemberChange =
  /** A new node that gets the log; with `promote` it becomes a voter once it has caught up. */
  | { readonly kind: "addLearner"; readonly member: Member }
  /** Makes a learner a voter. */
  | { readonly kind: "promote"; readonly nodeId: NodeId }
  | { readonly kind: "remove"; readonly nodeId: NodeId }
  /** In one step: the old node leaves, the new one joins as a learner that is promoted by itself. */
  | { readonly kind: "replace"; readonly nodeId: NodeId; readonly member: Member }
  /** All at once, so that members may exchange their places. */
  | { readonly kind: "move"; readonly moves: readonly Move[] };

/** The next configuration, or a sentence that says why there is none. */
export type Plan =
  | { readonly ok: true; readonly configuration: Configuration }
  | { readonly ok: false; readonly reason: string };

/** Plans a change of a configuration that is not joint. */
export function planChange(current: Configuration, change: MemberChange): Plan {
  switch (change.kind) {
    case "addLearner": {
      const taken = whyTaken(current, change.member, undefined);
      if (taken !== undefined) return refuse(`Cannot add "${change.member.name}"`, taken);
      return plan(current, {
        learners: [...current.learners, change.member.nodeId],
        members: [...(current.members ?? []), change.member],
      });
    }
    case "promote":
      return planPromotion(current, change.nodeId);
    case "remove": {
      const { nodeId } = change;
      const verb = `Cannot remove "${nameOf(current, nodeId)}"`;
      const missing = whyNotRemovable(current, nodeId);
      if (missing !== undefined) return refuse(verb, missing);
      return plan(current, without(current, nodeId));
    }
    case "replace": {
      const { nodeId, member } = change;
      const verb = `Cannot replace "${nameOf(current, nodeId)}"`;
      const missing = whyNotRemovable(current, nodeId) ?? whyTaken(current, member, nodeId);
      if (missing !== undefined) return refuse(verb, missing);
      const rest = without(current, nodeId);
      return plan(current, {
        ...rest,
        learners: [...rest.learners, member.nodeId],
        members: [...(current.members ?? []), { ...member, promote: true }],
      });
    }
    case "move":
      return planMoves(current, change.moves);
  }
}

/** The configuration after a joint one: the outgoing voters are gone, and those who are nothing else with them. */
export function leaveJoint(joint: Configuration): Configuration {
  const { voters, learners } = joint;
  return {
    voters,
    outgoing: [],
    learners,
    members: joint.members?.filter(
      ({ nodeId }) => voters.includes(nodeId) || learners.includes(nodeId),
    ),
  };
}

/** Name of a member where it is known, else its id. */
export function nameOf(configuration: Configuration, nodeId: NodeId): string {
  return configuration.members?.find((member) => member.nodeId === nodeId)?.name ?? nodeId;
}

function planPromotion(current: Configuration, nodeId: NodeId): Plan {
  const verb = `Cannot promote "${nameOf(current, nodeId)}"`;
  if (current.voters.includes(nodeId)) return refuse(verb, "it is a voter already");
  if (!current.learners.includes(nodeId)) return refuse(verb, "it is no member");
  return plan(current, {
    voters: [...current.voters, nodeId],
    learners: current.learners.filter((id) => id !== nodeId),
    members: current.members?.map((member) =>
      member.nodeId === nodeId ? { ...member, promote: false } : member,
    ),
  });
}

function planMoves(current: Configuration, moves: readonly Move[]): Plan {
  for (const move of moves) {
    const reason = whyNotMoved(current, move, moves);
    if (reason !== undefined) return { ok: false, reason };
  }
  return plan(current, {
    members: current.members?.map((member) => ({ ...member, ...placeIn(moves, member.nodeId) })),
  });
}

/** A sentence that says why a member cannot move while so do `all`, itself among them: no two may be found at one address. */
export function whyNotMoved(
  { members = [] }: Configuration,
  { nodeId, place }: Move,
  all: readonly Move[],
): string | undefined {
  const { host, raftPort, rpcPort } = place;
  const member = members.find((each) => each.nodeId === nodeId);
  const verb = `Cannot move "${member?.name ?? nodeId}" to "${host}:${raftPort}"`;
  if (member === undefined) return `${verb}: it is no member of which it is known where it is`;
  if (member.host === host && member.raftPort === raftPort && member.rpcPort === rpcPort) {
    return `${verb}: it is there already`;
  }
  for (const other of members) {
    if (other.nodeId === nodeId) continue;
    const next = placeIn(all, other.nodeId);
    const at = next ?? other;
    if (at.host !== host) continue;
    if (at.raftPort === raftPort) {
      const why = next === undefined ? `the log has "${other.name}"` : `"${other.name}" moves`;
      return `${verb}: ${why} there`;
    }
    if (at.rpcPort !== rpcPort || rpcPort === 0) continue;
    return `${verb}: clients find "${other.name}" at "${host}:${rpcPort}"`;
  }
  return undefined;
}

function placeIn(moves: readonly Move[], id: NodeId): Place | undefined {
  return moves.find(({ nodeId }) => nodeId === id)?.place;
}

function without(
  current: Configuration,
  nodeId: NodeId,
): Pick<Configuration, "voters" | "learners"> {
  return {
    voters: current.voters.filter((id) => id !== nodeId),
    learners: current.learners.filter((id) => id !== nodeId),
  };
}

/** Joint when the voters change; then those who leave stay known until it is left. */
function plan(current: Configuration, next: Partial<Configuration>): Plan {
  const merged = { ...current, ...next };
  const isJoint = merged.voters.join("\n") !== current.voters.join("\n");
  return {
    ok: true,
    configuration: isJoint ? { ...merged, outgoing: current.voters } : leaveJoint(merged),
  };
}

function whyNotRemovable(current: Configuration, nodeId: NodeId): string | undefined {
  if (current.learners.includes(nodeId)) return undefined;
  if (!current.voters.includes(nodeId)) return "it is no member";
  return current.voters.length === 1 ? "it is the last voter" : undefined;
}

/** `replaced` may give its name to the new one. */
function whyTaken(
  current: Configuration,
  member: Member,
  replaced: NodeId | undefined,
): string | undefined {
  const { voters, learners, members = [] } = current;
  if (voters.includes(member.nodeId) || learners.includes(member.nodeId)) {
    return `its node id "${member.nodeId}" is a member's already`;
  }
  const isNameTaken = members.some(
    ({ nodeId, name }) => name === member.name && nodeId !== replaced,
  );
  return isNameTaken ? `the name "${member.name}" is a member's already` : undefined;
}

function refuse(verb: string, why: string): Plan {
  return { ok: false, reason: `${verb}: ${why}` };
}
