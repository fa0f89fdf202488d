/**
 * All that one node knows, and the output that is being gathered. The rules that move it are in the files named after
 * them (election, replication, …); nothing outside src/raft sees it.
 *
 * Invariants
 * 1. appliedIndex ≤ applyCursor ≤ commitIndex ≤ lastIndex; durableIndex ≤ lastIndex; applyCursor ≤ durableIndex but for a
 *    snapshot just installed.
 * 2. A vote, an acknowledgement or any other message that tells of `hardState` or of entries leaves after they are durable.
 * 3. `term` never falls; within a term `vote` changes once at most, from undefined.
 */
import type { Random } from "../lib/clock.ts";
import { hasQuorum, isVoter, membersOf } from "./configuration.ts";
import { ConfigurationHistory } from "./configuration-history.ts";
import { ForwardedReads } from "./forwarded-reads.ts";
import { Log } from "./log.ts";
import type { Progress } from "./progress.ts";
import { ReadQueue, type ReadResult } from "./read-index.ts";
import {
  type Configuration,
  type Entry,
  type HardState,
  type Index,
  type Message,
  type MessageBody,
  type NodeId,
  type Role,
  type Term,
  zeroIndex,
} from "./types.ts";

export interface CoreOptions {
  readonly id: NodeId;
  /** As of `appliedIndex`; where that is not known, as of `baseIndex`. Later ones are among `entries`. */
  readonly configuration: Configuration;
  /** Index of the entry that brought `configuration`; 0, the default, where it is the one that the cluster began with. */
  readonly configurationIndex?: Index | undefined;
  /** What the journal held. */
  readonly hardState: HardState;
  readonly entries: readonly Entry[];
  readonly baseIndex: Index;
  readonly baseTerm: Term;
  /** Where the state machine stands; not before the base. */
  readonly appliedIndex: Index;
  /** Shortest silence before a pre-vote, in ticks; the real one is drawn from [1, 2) times this at each start. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly random: Random;
  /** Most payload bytes in one append. */
  readonly maxAppendBytes?: number;
  /** Most appends to one follower that are not acknowledged, and payload bytes in all of them but the last. */
  readonly maxInflight?: number;
  readonly maxInflightBytes?: number;
  /**
   * Proposals are refused while more than this is appended and not applied; entries of a leader are not taken while so much
   * is committed and not applied.
   */
  readonly maxUnappliedBytes?: number;
  readonly maxUnappliedEntries?: number;
}

/** What is to be made durable as a whole, before anything that is taken later. */
export interface Persist {
  /** To be named in the `persisted` input; counts up. */
  readonly sequence: number;
  /** Term and vote as one record, when either changed. */
  readonly hardState: HardState | undefined;
  /** The log is to be dropped first, and to start behind this entry. */
  readonly reset: { readonly index: Index; readonly term: Term } | undefined;
  /** A first index at or before the last one written replaces the suffix from there. */
  readonly entries: readonly Entry[];
}

/** A write under way. */
interface PendingPersist {
  readonly sequence: number;
  readonly hardState: HardState | undefined;
  /** Up to here the log will be durable; lowered when the log is truncated meanwhile. */
  lastIndex: number;
}

export class State {
  readonly id: NodeId;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly random: Random;
  readonly maxAppendBytes: number;
  readonly maxInflight: number;
  readonly maxInflightBytes: number;
  readonly maxUnappliedBytes: number;
  readonly maxUnappliedEntries: number;
  readonly log: Log;
  readonly configurations: ConfigurationHistory;

  // What is durable, once `durable…` has caught up.
  term: Term;
  vote: NodeId | undefined;
  hardStateChanged = false;
  durableHardState: HardState;
  /** Next entry to hand out for writing. */
  persistNext: number;
  /** The log is on this node's disk up to here, in the version that is in memory. */
  durableIndex: number;
  persistReset: { index: Index; term: Term } | undefined;
  persistSequence = 0;
  readonly pendingPersists: PendingPersist[] = [];

  // Role.
  role: Role = "follower";
  /** The leader of `term`, as far as known. */
  leader: NodeId | undefined;
  /** Ticks since the leader was heard, a vote was given, or the last check of the quorum (leader). */
  electionElapsed = 0;
  /** Drawn from [electionTicks, 2 × electionTicks), but while the leader is known to be gone. */
  electionTimeout = 0;
  /** Ticks for which elections follow each other quickly, because the last leader's process has ended; 0 otherwise. */
  goneTicks = 0;
  gone: NodeId | undefined;
  /** The last request for a pre-vote that was passed over because the leader was heard, which has not been heard since. */
  unansweredPreVote: Extract<Message, { kind: "requestVote" }> | undefined;

  // Candidate.
  votes = new Map<NodeId, boolean>();
  campaignsForTransfer = false;

  // Follower.
  readonly forwardedReads: ForwardedReads;

  // Leader.
  progress = new Map<NodeId, Progress>();
  heartbeatElapsed = 0;
  /** Index of the no-op that began this reign. */
  termStart: Index = zeroIndex;
  transferTarget: NodeId | undefined;
  transferElapsed = 0;
  unappliedBytes = 0;
  readonly reads = new ReadQueue();

  commitIndex: Index;
  /** Last entry handed out for applying. */
  applyCursor: Index;
  /** Last entry known to be applied. */
  appliedIndex: Index;
  /** Payload of what was handed out for applying and is not applied. */
  applyingBytes = 0;

  // Output.
  send: Message[] = [];
  sendAfterPersist: Message[] = [];
  readResults: ReadResult[] = [];
  snapshotsWanted: NodeId[] = [];

  constructor(options: CoreOptions) {
    this.id = options.id;
    this.electionTicks = options.electionTicks;
    this.heartbeatTicks = options.heartbeatTicks;
    this.random = options.random;
    this.maxAppendBytes = options.maxAppendBytes ?? 1024 * 1024;
    this.maxInflight = options.maxInflight ?? 2;
    this.maxInflightBytes = options.maxInflightBytes ?? 4 * 1024 * 1024;
    this.maxUnappliedBytes = options.maxUnappliedBytes ?? 64 * 1024 * 1024;
    this.maxUnappliedEntries = options.maxUnappliedEntries ?? 65_536;
    this.log = new Log({ index: options.baseIndex, term: options.baseTerm }, options.entries);
    this.configurations = new ConfigurationHistory(
      options.configuration,
      options.configurationIndex,
    );
    for (const entry of options.entries) {
      if (entry.kind === "configuration") this.configurations.append(entry);
    }
    this.forwardedReads = new ForwardedReads(options.random);
    this.term = options.hardState.term;
    this.vote = options.hardState.vote;
    this.durableHardState = options.hardState;
    this.persistNext = this.log.lastIndex + 1;
    this.durableIndex = this.log.lastIndex;
    this.commitIndex = options.appliedIndex;
    this.applyCursor = options.appliedIndex;
    this.appliedIndex = options.appliedIndex;
    this.drawElectionTimeout();
  }

  /** The active one: the last of the log, committed or not. */
  get configuration(): Configuration {
    return this.configurations.active;
  }

  /** True when this node's vote counts, for itself too. */
  get isVoter(): boolean {
    return isVoter(this.configuration, this.id);
  }

  /**
   * Voters may campaign; learners and strangers never do. One that is being removed may until that is committed, though
   * its own vote does not count: it may be the only one with the last entries, and the others need its vote, which it
   * could not give them (section 4.2.2 of the dissertation).
   */
  get mayCampaign(): boolean {
    return this.configurations.mayVote(this.id, this.commitIndex);
  }

  /** All members but this node. */
  get others(): readonly NodeId[] {
    return membersOf(this.configuration).filter((id) => id !== this.id);
  }

  /**
   * True when so much is committed and not applied that no more is taken from a leader, which tries again. What is not
   * committed does not count: it may need the leader's next entry to be.
   */
  get isBehindWithApplying(): boolean {
    return (
      this.applyCursor - this.appliedIndex >= this.maxUnappliedEntries ||
      this.applyingBytes >= this.maxUnappliedBytes
    );
  }

  /** True while a leader was heard within the shortest election timeout: votes are then refused (vote stickiness). */
  get hearsLeader(): boolean {
    return this.leader !== undefined && this.electionElapsed < this.electionTicks;
  }

  /** Of a leader: true when a quorum of `configuration`, itself counted, was heard within an election timeout. */
  isAnsweredBy(configuration: Configuration): boolean {
    return hasQuorum(
      configuration,
      (id) => id === this.id || (this.progress.get(id)?.isActive(this.electionTicks) ?? false),
    );
  }

  drawElectionTimeout(): void {
    this.electionElapsed = 0;
    this.electionTimeout =
      this.goneTicks > 0
        ? 2 * this.heartbeatTicks * (1 + this.turn)
        : this.electionTicks + this.random.below(this.electionTicks);
  }

  /**
   * A vote was given, the own or that for another: it is waited for what comes of it. Also in the hurry after a leader is
   * gone, when who waited less would take the votes of an election that is all but over, on a machine that is busy.
   */
  awaitElection(): void {
    this.electionElapsed = 0;
    if (this.goneTicks === 0) return;
    this.electionTimeout = this.electionTicks + 2 * this.heartbeatTicks * this.turn;
  }

  /** Place among those who may follow a leader that is gone: one after the other, so that they do not split the vote. */
  get turn(): number {
    return this.turnWithout(undefined);
  }

  /** The same without another one, which has tried. */
  turnWithout(tried: NodeId | undefined): number {
    const { voters, outgoing } = this.configuration;
    const all = [...new Set([...voters, ...outgoing])];
    const heirs = all.filter((id) => id !== this.gone && id !== tried);
    return Math.max(0, heirs.sort().indexOf(this.id));
  }

  setHardState(term: Term, vote: NodeId | undefined): void {
    if (this.term === term && this.vote === vote) return;
    this.term = term;
    this.vote = vote;
    this.hardStateChanged = true;
  }

  /** For what depends on nothing unwritten: appends of a leader, requests for pre-votes. */
  sendNow(to: NodeId, body: MessageBody, term: Term = this.term): void {
    this.send.push({ from: this.id, to, term, ...body });
  }

  /** For what tells of entries or of a vote. */
  sendWhenDurable(to: NodeId, body: MessageBody, term: Term = this.term): void {
    this.sendAfterPersist.push({ from: this.id, to, term, ...body });
  }

  /** For what tells of the term only: need not wait for entries, however slow the disk. */
  sendWhenTermDurable(to: NodeId, body: MessageBody, term: Term = this.term): void {
    if (this.durableHardState.term === this.term) this.sendNow(to, body, term);
    else this.sendWhenDurable(to, body, term);
  }

  appendToLog(entry: Entry): void {
    this.log.append(entry);
    if (entry.kind === "configuration") this.configurations.append(entry);
  }

  /**
   * Drops entries from `index` on. Writes under way count only for what stays: the disk may hold another version of the
   * same (index, term) for a while, when a later leader brings back what was dropped (the ABA of asynchronous writes).
   */
  truncateLog(index: number): void {
    this.log.truncateFrom(index);
    this.configurations.truncateFrom(index);
    this.persistNext = Math.min(this.persistNext, index);
    this.durableIndex = Math.min(this.durableIndex, index - 1);
    for (const pending of this.pendingPersists) {
      pending.lastIndex = Math.min(pending.lastIndex, index - 1);
    }
  }

  /** Starts the log anew behind a snapshot that the state machine holds durably. */
  resetLog(index: Index, term: Term): void {
    this.log.reset(index, term);
    this.persistReset = { index, term };
    this.persistNext = index + 1;
    this.durableIndex = index;
    for (const pending of this.pendingPersists) pending.lastIndex = 0;
  }

  /** Raises the commit index; entries behind it never change again. */
  commitTo(index: number): void {
    if (index > this.commitIndex) this.commitIndex = index as Index;
  }
}
