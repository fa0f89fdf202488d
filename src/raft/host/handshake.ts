/**
 * Who is at the other end. Both sides of every connection say which cluster, which name and which data they are, and a
 * connection that does not fit is refused with a reason, before anything else is said.
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
import type { NodeId } from "../types.ts";

export const protocolVersion = 1;

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
  readonly members: readonly Member[] | undefined;
}

/** A configured name and the data that it is bound to. */
export interface Member {
  readonly name: string;
  readonly nodeId: NodeId;
}

/** First frame, by the one who connects. */
export const hello = struct({
  version: unsigned(),
  purpose: word("messages", "snapshot", "formation"),
  clusterName: text,
  clusterId: optional(text),
  nodeId: optional(text),
  name: text,
  /** Whom it believes to have reached. */
  to: text,
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
  },
  /** `permanent`: waiting will not help, a person has to look. */
  refused: { reason: text, permanent: boolean },
});
export type HelloReply = Infer<typeof helloReply>;
export type Accepted = Extract<HelloReply, { kind: "accepted" }>;

/** What is agreed on when a cluster begins. */
export const formation = struct({
  clusterId: text,
  members: list(struct({ name: text, nodeId: text })),
});
export type Formation = Infer<typeof formation>;

/** Who the state machine's snapshot is from, and what it stands for. */
export const snapshotHeader = struct({
  term: unsigned(),
  index: unsigned(),
  indexTerm: unsigned(),
});

export function helloOf(self: Identity, purpose: Hello["purpose"], to: string): Hello {
  const { clusterName, clusterId, nodeId, name } = self;
  return { version: protocolVersion, purpose, clusterName, clusterId, nodeId, name, to };
}

/** The answer to a caller, given who we are and the names in our configuration. */
export function answerHello(self: Identity, names: readonly string[], caller: Hello): HelloReply {
  const refuse = (reason: string, permanent = true): HelloReply => ({
    kind: "refused",
    reason,
    permanent,
  });
  if (caller.version !== protocolVersion) {
    return refuse(`it speaks version ${caller.version}, wanted ${protocolVersion}`);
  }
  if (caller.clusterName !== self.clusterName) {
    return refuse(`it belongs to cluster "${caller.clusterName}", wanted "${self.clusterName}"`);
  }
  if (caller.to !== self.name) {
    return refuse(`it wanted "${caller.to}", but here is "${self.name}"`);
  }
  if (!names.includes(caller.name) || caller.name === self.name) {
    return refuse(`"${caller.name}" is no other master of the configuration`);
  }
  const boundTo = self.members?.find((member) => member.name === caller.name)?.nodeId;
  if (caller.clusterId !== undefined && self.clusterId !== undefined) {
    if (caller.clusterId !== self.clusterId) {
      return refuse(`its data is of cluster ${caller.clusterId}, wanted ${self.clusterId}`);
    }
    if (caller.nodeId !== boundTo) {
      return refuse(`"${caller.name}" is bound to node ${boundTo}, not to ${caller.nodeId}`);
    }
  }
  if (caller.purpose !== "formation" && self.stage !== "member") {
    return refuse("the cluster is not formed yet", false);
  }
  if (caller.purpose !== "formation" && caller.clusterId === undefined) {
    return refuse("it has no data", true);
  }
  const { stage, clusterId, nodeId } = self;
  return { kind: "accepted", stage, clusterId, nodeId, boundTo };
}
