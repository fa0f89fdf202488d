/** What a master's consensus is given, and what it tells of itself. */
import type { Clock, Random } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { Stage, Versions } from "./host/handshake.ts";
import type { Peer } from "./host/link.ts";
import type { Journal } from "./journal.ts";
import type { Entry, Index, NodeId, Role, Term } from "./types.ts";

/** The replicated state machine, as the host drives it. Calls of `apply` and `install` never overlap. */
export interface StateMachineHost {
  /** Where the state stands, durably when the node starts; the term is that of this entry. */
  readonly appliedIndex: number;
  readonly appliedTerm: number;
  /** Committed entries of all kinds, in order; the next call comes only after this one resolved. Rejecting is fatal. */
  apply(entries: readonly Entry[]): Promise<void>;
  /** The whole state as of one index that is durable. */
  snapshot(): Promise<{
    /** `hash`: a sum over the state, for who installs it to compare. */
    readonly meta: { readonly index: number; readonly term: number; readonly hash?: string };
    chunks(): AsyncIterable<Uint8Array>;
    close(): Promise<void>;
  }>;
  /** Replaces the state, durably when it resolves. Rejects, the state unchanged, when `chunks` throws. */
  install(
    meta: { index: number; term: number; hash?: string | undefined },
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void>;
  /** What is durable: the log may be compacted behind it. */
  flushedIndex(): { index: number; term: number };
  /** Index and payload of the last entry of kind `configuration` that the state has seen, itself or in a snapshot. */
  configuration(): { readonly index: number; readonly payload: Uint8Array } | undefined;
}

export interface RaftStatus {
  /** Empty until the cluster is formed. */
  readonly nodeId: NodeId;
  /** `joining`: empty, and to be added to a cluster that is there. */
  readonly stage: Stage | "joining";
  readonly role: Role;
  readonly term: Term;
  /** Name of the leader, as far as known. */
  readonly leaderName: string | undefined;
  /** `host:port` where the leader listens for clients; right after a transfer, where the one does that is to lead. */
  readonly leaderRpcAddress: string | undefined;
  readonly commitIndex: Index;
  readonly lastIndex: Index;
  readonly appliedIndex: Index;
}

export interface RaftNodeOptions {
  readonly name: string;
  readonly clusterName: string;
  /**
   * The masters of the configuration file, this one included: who begins a cluster, and where they are until the log says
   * otherwise.
   */
  readonly peers: readonly Peer[];
  readonly listen: { readonly host: string; readonly port: number };
  /** Open; stays the caller's to close, after `stop`. */
  readonly journal: Journal;
  readonly machine: StateMachineHost;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tickMs: number;
  readonly heartbeatTicks: number;
  readonly electionTicks: number;
  /** Kept behind the flushed index for slow followers, whichever is less: so many entries, and bytes of payload. */
  readonly retainedEntries: number;
  readonly retainedBytes: number;
  /** For the file in which a snapshot comes in; made when it is missing. */
  readonly snapshotDirectory: string;
  /** What it speaks with others, for tests; by default all that it knows. */
  readonly versions?: Versions;
  /** Called when role, term or leader changed. */
  onStatus(status: RaftStatus): void;
  /** Called once at most: this node can take part no more. */
  onFatal(error: Error): void;
}
