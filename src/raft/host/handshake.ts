/**
 * Who is at the other end. Both sides of every connection say which versions they speak, which cluster, which name and
 * which data they are, and a connection that does not fit is refused with a reason, before anything else is said.
 *
 * Invariants
 * 1. Who is of the same cluster is heard, even if this node's configuration does not name it: that configuration may be
 *    an old one, and the caller its leader (section 4.1 of the dissertation).
 * 2. A caller is called removed only when a configuration that is committed here, and newer than the one that it knows
 *    itself a member of, leaves it out. Ids are never used again, so that is final.
 * 3. Once the log has said who the members are, nothing is spoken with a node of the first version: it would let such
 *    entries pass, and go on deciding by the members of the beginning.
 */
import {
  boolean,
  type Infer,
  list,
  optional,
  struct,
  text,
  union,
  unsigned,
  word,
} from "../../lib/schema.ts";
import type { Place } from "../member-change.ts";
import type { NodeId } from "../types.ts";

/** The versions of the protocol between masters that a node speaks, both included. */
export interface Versions {
  readonly oldest: number;
  readonly newest: number;
}

/**
 * 1: the first. 2: answers may come back on the caller's connection; snapshots resume; followers ask for read indexes;
 * configurations change. 3 and 4: no other messages; entries may have the commands that `sinceVersion` of src/rpc/commands.ts names.
 */
export const spokenVersions: Versions = { oldest: 1, newest: 4 };

/** The first version whose nodes know that members change. */
export const oldestOfChanges = 2;

/** A node's way into its cluster: no data yet; members agreed on and written; taking part. */
export type Stage = "empty" | "forming" | "member";

/** What a node is, by its configuration and its journal. */
export interface Identity {
  readonly name: string;
  readonly clusterName: string;
  readonly stage: Stage;
  /** All undefined while `stage` is "empty". */
  readonly nodeId: NodeId | undefined;
  readonly clusterId: string | undefined;
  readonly members: readonly Binding[] | undefined;
}

/** A configured name and the data that it is bound to. */
export interface Binding {
  readonly name: string;
  readonly nodeId: NodeId;
}

/** What a node knows of the members when it judges a caller. */
export interface Roster {
  /** Data that a name is bound to. */
  boundTo(name: string): NodeId | undefined;
  /** True when a committed configuration newer than `knownAt` leaves the node out (invariant 2). */
  wasRemoved(nodeId: NodeId, knownAt: number | undefined): boolean;
  /** Index of the newest committed configuration that has this node itself; undefined when it knows of none. */
  readonly knownAt: number | undefined;
  /** True once the log of this node says who the members are, whether committed or not. */
  readonly isChanged: boolean;
}

/** First frame, by the one who connects. */
export const hello = struct({
  /** The oldest version that the caller speaks; one of the first version speaks only that one. */
  version: unsigned(),
  /** `address`: only to see who is here. */
  purpose: word("messages", "snapshot", "formation", "admission", "address"),
  clusterName: text,
  clusterId: optional(text),
  nodeId: optional(text),
  name: text,
  /** Whom it believes to have reached. */
  to: text,
  /** The newest version that the caller speaks. */
  newest: optional(unsigned()),
  /** See `Roster.knownAt`. */
  knownAt: optional(unsigned()),
  /** Where the caller listens, by its own configuration file. */
  place: optional(struct({ host: text, raftPort: unsigned(), rpcPort: unsigned() })),
});
export type Hello = Infer<typeof hello>;

/** Second frame, by the other. */
export const helloReply = union({
  accepted: {
    stage: word("empty", "forming", "member"),
    clusterId: optional(text),
    nodeId: optional(text),
    /** The data that the caller's name is bound to here. */
    boundTo: optional(text),
    /** What is spoken from here on; absent: the first one. */
    version: optional(unsigned()),
  },
  /** `permanent`: waiting will not help, a person has to look. `removed`: the caller is no member any more. */
  refused: {
    reason: text,
    permanent: boolean,
    removed: optional(boolean),
    /** The data of the one that refuses, if it has any. */
    nodeId: optional(text),
  },
});
export type HelloReply = Infer<typeof helloReply>;
export type Accepted = Extract<HelloReply, { kind: "accepted" }>;

/** What is agreed on when a cluster begins, and what an empty master is told when it is admitted to one. */
export const formation = struct({
  clusterId: text,
  members: list(struct({ name: text, nodeId: text })),
  /** Admission: the end of the leader's log. */
  lastIndex: optional(unsigned()),
});
export type Formation = Infer<typeof formation>;

/** The answer of an admitted master: the id of its data, and whether that was a member's already. */
export const admitted = struct({ nodeId: text, wasMember: optional(boolean) });

/** The version to speak with somebody, the newest that both know; undefined when there is none. */
export function agreedVersion(own: Versions, other: Versions): number | undefined {
  const newest = Math.min(own.newest, other.newest);
  return newest >= Math.max(own.oldest, other.oldest) ? newest : undefined;
}

/** What a node speaks that knows these members (invariant 3). */
export function versionsWith(roster: Roster, own: Versions): Versions {
  if (!roster.isChanged) return own;
  return { oldest: Math.max(own.oldest, oldestOfChanges), newest: own.newest };
}

/** What a node says first. */
export function helloOf(
  self: Identity,
  purpose: Hello["purpose"],
  to: string,
  rest: { versions: Versions; knownAt: number | undefined; place?: Place | undefined },
): Hello {
  const { clusterName, clusterId, nodeId, name } = self;
  const { oldest: version, newest } = rest.versions;
  const { knownAt, place } = rest;
  return { version, purpose, clusterName, clusterId, nodeId, name, to, newest, knownAt, place };
}

/** The versions that a caller speaks. */
export function versionsOf({ version, newest }: Hello): Versions {
  return { oldest: version, newest: newest ?? version };
}

/** The answer to a caller, given who we are, whom the configuration file names, and the members that we know. */
export function answerHello(
  self: Identity,
  knowledge: { names: readonly string[]; roster: Roster; versions: Versions },
  caller: Hello,
): HelloReply {
  const { names, roster } = knowledge;
  const versions = versionsWith(roster, knowledge.versions);
  const refuse = (reason: string, permanent = true, removed = false): HelloReply => ({
    kind: "refused",
    reason,
    permanent,
    removed: removed || undefined,
    nodeId: self.nodeId,
  });
  const version = agreedVersion(versions, versionsOf(caller));
  if (version === undefined && (caller.newest ?? caller.version) < oldestOfChanges) {
    return refuse(
      `it speaks ${shown(versionsOf(caller))} of the protocol, which does not know that the members have changed: ` +
        "upgrade it first",
    );
  }
  if (version === undefined) {
    return refuse(
      `it speaks ${shown(versionsOf(caller))} of the protocol, here ${shown(versions)} is spoken: ` +
        "upgrade the older one, one release at a time",
    );
  }
  if (caller.clusterName !== self.clusterName) {
    return refuse(`it belongs to cluster "${caller.clusterName}", wanted "${self.clusterName}"`);
  }
  if (caller.to !== self.name) {
    // Waiting helps where a member has moved and the caller has yet to learn it.
    return refuse(`it wanted "${caller.to}", but here is "${self.name}"`, false);
  }
  if (
    caller.nodeId !== undefined &&
    caller.nodeId === self.nodeId &&
    caller.purpose !== "address"
  ) {
    return refuse(`its data is a copy of that of "${self.name}": no two masters may share it`);
  }
  if (
    caller.clusterId !== undefined &&
    self.clusterId !== undefined &&
    caller.clusterId !== self.clusterId
  ) {
    return refuse(
      `its data is of cluster ${caller.clusterId}, wanted ${self.clusterId}; ` +
        "to have it join this one, remove its data directory and add it",
    );
  }
  const accept = (): HelloReply => {
    const { stage, clusterId, nodeId } = self;
    const boundTo = roster.boundTo(caller.name);
    return { kind: "accepted", stage, clusterId, nodeId, boundTo, version };
  };
  switch (caller.purpose) {
    case "address":
      return accept();
    case "admission":
      return caller.clusterId === undefined ? refuse("it has no cluster to admit to") : accept();
    case "formation":
      if (caller.name === self.name) return refuse(`"${self.name}" is the name of another master`);
      // A master that is to be added later may come before the others have begun.
      if (self.stage !== "member" && !names.includes(caller.name)) {
        return refuse(`"${caller.name}" is no other master of the configuration`, false);
      }
      return accept();
    case "messages":
    case "snapshot":
      if (self.stage !== "member") return refuse("the cluster is not formed yet", false);
      if (caller.clusterId === undefined || caller.nodeId === undefined) {
        return refuse("it has no data");
      }
      if (roster.wasRemoved(caller.nodeId, caller.knownAt)) {
        return refuse(`node ${caller.nodeId} was removed from the cluster`, true, true);
      }
      return accept();
  }
}

function shown({ oldest, newest }: Versions): string {
  return oldest === newest ? `version ${oldest}` : `versions ${oldest} to ${newest}`;
}
