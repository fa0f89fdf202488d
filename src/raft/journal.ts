/** What the consensus host needs of a journal: `src/journal/` implements it on files, tests in memory. */
import type { Entry, HardState, Index, NodeId, Term } from "./types.ts";

/** Who a node's data belongs to: written once, as the first record. */
export interface JournalIdentity {
  readonly nodeId: NodeId;
  readonly clusterId: string;
  /** The members that the cluster was started with, where this node took part in that. */
  readonly members?: readonly { readonly name: string; readonly nodeId: NodeId }[] | undefined;
  /** The end of the leader's log when it admitted this node, where it came to a cluster that was there. */
  readonly admittedAt?: number | undefined;
}

/** What one fsync makes durable. A first entry at or below the journal's last index replaces the suffix from there. */
export interface JournalBatch {
  readonly hardState?: HardState | undefined;
  readonly entries: readonly Entry[];
}

/** What a journal held when it was opened. */
export interface JournalState {
  /** Undefined for an empty journal. */
  readonly nodeId: NodeId | undefined;
  readonly clusterId: string | undefined;
  readonly members?: JournalIdentity["members"];
  readonly admittedAt?: JournalIdentity["admittedAt"];
  readonly hardState: HardState;
  /** All entries that are kept, without gaps. */
  readonly entries: readonly Entry[];
  /** The entry before the first kept one: (0, 0), or where the log was compacted. */
  readonly baseIndex: Index;
  readonly baseTerm: Term;
}

export interface Journal {
  /** What was found at opening, but for what `initialize` wrote and what `compact` and `reset` forgot since. */
  readonly state: JournalState;
  /** True while less than the reserve is free: entries are refused, hard states pass. */
  readonly diskFull: boolean;
  /** Writes the identity as the first record of an empty journal. */
  initialize(identity: JournalIdentity): Promise<void>;
  /**
   * Appends in order; resolves when this batch and all before it are on disk. A failed write or fsync is never retried:
   * the returned promise rejects, and so does every later call (the process is to exit).
   * @throws WeirError `DiskFull` before anything is written when less than the reserve is free (hardState alone is let through)
   */
  append(batch: JournalBatch): Promise<void>;
  /** Milliseconds since the oldest write under way was handed to the disk; 0 when there is none. */
  oldestWriteAgeMs(): number;
  /** Forgets entries at and below `index`, whose term is `term`; the metadata store holds what they did, synced. */
  compact(index: Index, term: Term): Promise<void>;
  /** Drops the whole log and starts behind a snapshot just installed; identity and HardState stay. */
  reset(baseIndex: Index, baseTerm: Term): Promise<void>;
  /** Bytes on disk. */
  sizeBytes(): number;
  close(): Promise<void>;
}
