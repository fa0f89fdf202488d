/**
 * The values that go into and come out of the consensus core, and what goes over its wires and into its journal.
 *
 * Ranges are [from, to). The first log index is 1; index 0 with term 0 stands before it.
 */

declare const brand: unique symbol;
/** A leader's reign (section 5.1 of the Raft paper); 0 before the first election. */
export type Term = number & { readonly [brand]: "Term" };
/** Place of an entry in the log, from 1. */
export type Index = number & { readonly [brand]: "Index" };
/** Random identity of a node's data, written in its first record: a wiped node is another node. */
export type NodeId = string;

export const zeroTerm = 0 as Term;
export const zeroIndex = 0 as Index;

/** What an entry is for: `command` for the state machine, `noop` of a new leader, `configuration` for the core. */
export type EntryKind = "command" | "noop" | "configuration";

export interface Entry {
  readonly index: Index;
  readonly term: Term;
  readonly kind: EntryKind;
  /** Opaque to the core; of a configuration its encoded form; of a noop empty. Never changed after creation. */
  readonly payload: Uint8Array;
}

/** What must be durable before any message that depends on it leaves; one atomic record. */
export interface HardState {
  readonly term: Term;
  /** The candidate that got this node's vote in `term`. */
  readonly vote: NodeId | undefined;
}

/** A master as the configuration names it; nothing of it but the id matters to the core. */
export interface Member {
  readonly nodeId: NodeId;
  readonly name: string;
  readonly host: string;
  readonly raftPort: number;
  readonly rpcPort: number;
  /** Of a learner: becomes a voter by itself as soon as it has caught up. */
  readonly promote: boolean;
}

/**
 * Voters decide; `outgoing` is not empty during joint consensus (then both majorities decide); learners only follow.
 * A configuration is active from the moment it is appended, and rolled back if its entry is truncated.
 */
export interface Configuration {
  readonly voters: readonly NodeId[];
  readonly outgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Where each of them is. Absent where only ids are known. */
  readonly members?: readonly Member[] | undefined;
}

/** State machine up to and with `index`, with the configuration that was active there. */
export interface SnapshotMeta {
  readonly index: Index;
  readonly term: Term;
  readonly configuration: Configuration;
}

/** Between nodes. `term` is the sender's, but a pre-vote request carries the term that it would campaign in. */
export type Message = {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: Term;
} & MessageBody;

export type MessageBody =
  | {
      readonly kind: "requestVote";
      readonly preVote: boolean;
      readonly lastIndex: Index;
      readonly lastTerm: Term;
      /** A leadership transfer asks to pass vote stickiness. */
      readonly transfer: boolean;
    }
  | { readonly kind: "voteReply"; readonly preVote: boolean; readonly granted: boolean }
  | {
      readonly kind: "append";
      readonly prevIndex: Index;
      readonly prevTerm: Term;
      readonly entries: readonly Entry[];
      readonly commit: Index;
    }
  | {
      readonly kind: "appendReply";
      readonly ok: boolean;
      /** ok: the follower's log agrees with the leader's up to here. Not ok: the refused `prevIndex`. */
      readonly index: Index;
      /** Not ok: where to look next, and the term there (fast backtrack). */
      readonly hintIndex: Index;
      readonly hintTerm: Term;
    }
  | { readonly kind: "heartbeat"; readonly commit: Index; readonly readToken: number }
  | { readonly kind: "heartbeatReply"; readonly readToken: number }
  /** To a follower that gets no entries now: up to here all is committed. It need not answer. */
  | { readonly kind: "commitNotice"; readonly commit: Index }
  /** The snapshot itself travels on a connection of its own; this tells of its arrival or failure. */
  | { readonly kind: "snapshotDone"; readonly ok: boolean; readonly index: Index }
  | { readonly kind: "timeoutNow" }
  /** A follower has reads that need the leader's read index; the number is its own, and of no use to others. */
  | { readonly kind: "readRequest"; readonly request: number }
  /** Reads that were asked for with this request must be served from `index` or later. */
  | { readonly kind: "readReply"; readonly request: number; readonly index: Index };

export type Role = "follower" | "preCandidate" | "candidate" | "leader";
