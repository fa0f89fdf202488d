/**
 * The consensus core: a value in, `step`; then, once per turn, one value out, `take`. It has no clock, no disk and no
 * network of its own, so that one seed replays whole clusters.
 *
 * What the host owes it
 * 1. `tick` at a steady pace; every message that arrives as `receive`.
 * 2. Output is carried out in the order in which it was taken: `send` at once; `persist` as one write after all before it,
 *    `persisted` with its sequence when it is durable; `sendAfterPersist` then, also where `persist` is empty; `apply` one
 *    after the other, `applied` when it is done.
 * 3. `snapshots`: the state machine's snapshot goes to these followers, and `snapshotDone` says what became of it.
 */
import assert from "node:assert/strict";
import { hasQuorum, isSoleVoter } from "./configuration.ts";
import {
  campaign,
  onGone,
  onRequestVote,
  onSelfVoteDurable,
  onTimeoutNow,
  onVoteReply,
} from "./election.ts";
import type { MemberChange } from "./member-change.ts";
import {
  changeMembers,
  finishJoint,
  isChanging,
  type MembersChanged,
  resignIfRemoved,
  tickMembership,
} from "./membership.ts";
import type { ReadResult } from "./read-index.ts";
import {
  advanceCommit,
  broadcastHeartbeat,
  onAppend,
  onAppendReply,
  onHeartbeat,
  onHeartbeatReply,
  onSnapshotDone,
  sendAppends,
} from "./replication.ts";
import { becomeFollower } from "./roles.ts";
import { type CoreOptions, type Persist, State } from "./state.ts";
import { resign, startTransfer, type TransferStarted } from "./transfer.ts";
import type { Configuration, Entry, Index, Message, NodeId, Role, Term } from "./types.ts";

/** What may happen to a node. */
export type Input =
  /** `hold`: the own disk stalls; do not campaign. */
  | { readonly kind: "tick"; readonly hold?: boolean }
  | { readonly kind: "receive"; readonly message: Message }
  /** Asks for a point of the log that a linearizable read must reach, of the leader if need be; `id` comes back in `reads`. */
  | { readonly kind: "read"; readonly id: number }
  /** All writes up to this sequence are durable. */
  | { readonly kind: "persisted"; readonly sequence: number }
  /** Term and vote of all writes up to this sequence are durable, while entries wait for room on the disk. */
  | { readonly kind: "hardStatePersisted"; readonly sequence: number }
  /** The state machine has applied up to here. */
  | { readonly kind: "applied"; readonly index: Index }
  /** What became of a snapshot sent to `to`. */
  | {
      readonly kind: "snapshotDone";
      readonly to: NodeId;
      readonly ok: boolean;
      readonly index: Index;
    }
  /**
   * The state machine was replaced, durably, by a snapshot that `from` sent. `configuration` is the one that was active at
   * `index`, brought by the entry at `configurationIndex`; without it the last one known at that point stays.
   */
  | {
      readonly kind: "installed";
      readonly index: Index;
      readonly term: Term;
      readonly from: NodeId | undefined;
      readonly configuration?: Configuration | undefined;
      readonly configurationIndex?: Index | undefined;
    }
  /** Forget the log up to here; at most what is applied. */
  | { readonly kind: "compact"; readonly index: Index }
  /** Hand the leadership over, to the given voter or to the best one: `transfer`, when nobody asks what comes of it. */
  | { readonly kind: "transfer"; readonly to: NodeId | undefined }
  /** Lead no more, whatever becomes of what is under way. */
  | { readonly kind: "stepDown" }
  /** The process of that node has ended: the host was told so by the machine on which it ran. */
  | { readonly kind: "gone"; readonly node: NodeId };

export interface Output {
  readonly persist: Persist | undefined;
  readonly send: readonly Message[];
  readonly sendAfterPersist: readonly Message[];
  /** Committed, durable here, in order, each once. */
  readonly apply: readonly Entry[];
  readonly reads: readonly ReadResult[];
  /** Followers that need what the log does not hold any more. */
  readonly snapshots: readonly NodeId[];
}

/** A follower or learner, as its leader sees it. */
export interface FollowerProgress {
  /** It holds the leader's log up to here, durably. */
  readonly matchIndex: Index;
  /** `probe`: looking for where its log parts; `replicate`: getting entries as they come; `snapshot`: getting the state. */
  readonly state: "probe" | "replicate" | "snapshot";
  /** Heard from within an election timeout, in this term. */
  readonly isActive: boolean;
}

/** Where a proposal was put in the log, or why it was not. */
export type Proposed =
  | { readonly ok: true; readonly index: Index; readonly term: Term }
  | { readonly ok: false; readonly code: "NotLeader" | "Busy" };

export class RaftCore {
  readonly #state: State;

  constructor(options: CoreOptions) {
    assert(options.appliedIndex >= options.baseIndex, "the state machine is behind the log");
    this.#state = new State(options);
    assert(
      options.appliedIndex <= this.#state.log.lastIndex,
      "the log ends before what the state machine has applied",
    );
  }

  get id(): NodeId {
    return this.#state.id;
  }
  get role(): Role {
    return this.#state.role;
  }
  get term(): Term {
    return this.#state.term;
  }
  get vote(): NodeId | undefined {
    return this.#state.vote;
  }
  get leader(): NodeId | undefined {
    return this.#state.leader;
  }
  get commitIndex(): Index {
    return this.#state.commitIndex;
  }
  get lastIndex(): Index {
    return this.#state.log.lastIndex;
  }
  get baseIndex(): Index {
    return this.#state.log.baseIndex;
  }
  get appliedIndex(): Index {
    return this.#state.appliedIndex;
  }
  /** The members as this node's log has them, active whether committed or not. */
  get configuration(): Configuration {
    return this.#state.configuration;
  }
  /** Index of the entry that brought `configuration`; 0 for the one that the cluster began with. */
  get configurationIndex(): Index {
    return this.#state.configurations.activeIndex;
  }
  /** True while the active configuration is not committed as far as known here, or is joint. */
  get isChangingMembers(): boolean {
    return isChanging(this.#state);
  }
  /** True when no other node takes part in decisions. */
  get isAlone(): boolean {
    return isSoleVoter(this.#state.configuration, this.#state.id);
  }
  /** All nodes that this one may have to send to: the other members, and those that are yet to hear of their removal. */
  get peers(): readonly NodeId[] {
    const { others, progress } = this.#state;
    const leaving = [...progress.keys()].filter((id) => !others.includes(id));
    return [...others, ...leaving];
  }
  /** Where the leader knows another node to stand; undefined on other nodes, and for who gets nothing from the leader. */
  progressOf(id: NodeId): FollowerProgress | undefined {
    const progress = this.#state.progress.get(id);
    if (progress === undefined) return undefined;
    const isActive = progress.isActive(this.#state.electionTicks);
    return { matchIndex: progress.match, state: progress.state, isActive };
  }
  /** Term of an entry of the log; undefined before its base and behind its end. */
  termAt(index: number): Term | undefined {
    return this.#state.log.termAt(index);
  }
  /** Entries [from, to) of the log. */
  entries(from: number, to: number): readonly Entry[] {
    return this.#state.log.slice(from, to);
  }

  /**
   * Appends a command to the leader's log. `Busy`: too much is appended and not applied, or the leadership is being handed
   * over, or ends since this node is being removed; nothing is appended then. The protocol's own entries are never refused.
   */
  propose(payload: Uint8Array): Proposed {
    const state = this.#state;
    if (state.role !== "leader") return { ok: false, code: "NotLeader" };
    if (
      state.transferTarget !== undefined ||
      !state.isVoter ||
      state.log.lastIndex - state.appliedIndex >= state.maxUnappliedEntries ||
      (state.unappliedBytes > 0 && state.unappliedBytes + payload.length > state.maxUnappliedBytes)
    ) {
      return { ok: false, code: "Busy" };
    }
    const index = (state.log.lastIndex + 1) as Index;
    state.unappliedBytes += payload.length;
    state.appendToLog({ index, term: state.term, kind: "command", payload });
    return { ok: true, index, term: state.term };
  }

  /**
   * Begins a change of the members on the leader; returns the place of its first entry. Changes of voters go through joint
   * consensus, which the leader leaves by itself: `isChangingMembers` tells when all is done.
   * `Busy`, which passes by itself: another change or a transfer is under way, the leader is new, a learner to be promoted
   * is behind, or too few of those who would decide answer. `InvalidArgument`: the change makes no sense.
   */
  changeMembers(change: MemberChange): MembersChanged {
    return changeMembers(this.#state, change);
  }

  /**
   * Hands the leadership to `target`, or to the voter that holds most of the log; commands are refused meanwhile. It is
   * over when this node leads no more, or given up after an election timeout.
   */
  transfer(target: NodeId | undefined): TransferStarted {
    return startTransfer(this.#state, target);
  }

  step(input: Input): void {
    const state = this.#state;
    switch (input.kind) {
      case "tick":
        tick(state, input.hold ?? false);
        return;
      case "receive":
        receive(state, input.message);
        return;
      case "read":
        read(state, input.id);
        return;
      case "persisted":
        persisted(state, input.sequence);
        return;
      case "hardStatePersisted":
        hardStatePersisted(state, input.sequence);
        return;
      case "applied":
        applied(state, input.index);
        return;
      case "snapshotDone":
        if (state.role === "leader") onSnapshotDone(state, input.to, input);
        return;
      case "installed":
        installed(state, input);
        return;
      case "compact":
        assert(input.index <= state.appliedIndex, "a compaction passes what is applied");
        state.log.compact(input.index);
        state.configurations.settle(input.index);
        return;
      case "transfer":
        startTransfer(state, input.to);
        return;
      case "stepDown":
        resign(state);
        return;
      case "gone":
        onGone(state, input.node);
    }
  }

  /** What is to be done because of all steps since the last call. */
  take(): Output {
    const state = this.#state;
    if (state.role === "leader") {
      finishJoint(state);
      if (
        state.reads.isWaiting &&
        !state.reads.isUnderWay &&
        state.commitIndex >= state.termStart
      ) {
        broadcastHeartbeat(state);
      }
      sendAppends(state);
      resignIfRemoved(state);
    } else if (state.leader !== undefined) {
      for (const request of state.forwardedReads.takeRequests(state.leader)) {
        state.sendNow(state.leader, { kind: "readRequest", request });
      }
    }
    const output: Output = {
      persist: takePersist(state),
      send: state.send,
      sendAfterPersist: state.sendAfterPersist,
      apply: takeApply(state),
      reads: state.readResults,
      snapshots: state.snapshotsWanted,
    };
    state.send = [];
    state.sendAfterPersist = [];
    state.readResults = [];
    state.snapshotsWanted = [];
    return output;
  }
}

function takePersist(state: State): Persist | undefined {
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

function takeApply(state: State): readonly Entry[] {
  // What is not on the own disk is not applied, even if a quorum has it: after a crash the state machine would be ahead
  // of the log.
  const end = Math.min(state.commitIndex, state.durableIndex);
  if (end <= state.applyCursor) return [];
  const entries = state.log.slice(state.applyCursor + 1, end + 1);
  state.applyCursor = end as Index;
  return entries;
}

/** A leader confirms that it still leads; others ask it, as far as there is one. */
function read(state: State, id: number): void {
  if (state.role === "leader") state.reads.add({ from: undefined, id });
  else if (state.leader === undefined) state.readResults.push({ id, index: undefined });
  else state.forwardedReads.add(id);
}

function tick(state: State, hold: boolean): void {
  state.electionElapsed++;
  if (state.goneTicks > 0) state.goneTicks--;
  const { heartbeatTicks, electionTicks } = state;
  for (const id of state.forwardedReads.tick(heartbeatTicks, electionTicks)) {
    state.readResults.push({ id, index: undefined });
  }
  if (state.role !== "leader") {
    const isAlone = isSoleVoter(state.configuration, state.id);
    // Nobody else could lead: no need to listen for one first.
    if (state.electionElapsed < state.electionTimeout && !(isAlone && state.role === "follower")) {
      return;
    }
    if (hold) becomeFollower(state, state.term, undefined);
    else campaign(state);
    return;
  }
  if (state.transferTarget !== undefined && ++state.transferElapsed >= state.electionTicks) {
    state.transferTarget = undefined;
  }
  for (const progress of state.progress.values()) {
    progress.tick(state.log.lastIndex, state.electionTicks);
  }
  if (state.electionElapsed >= state.electionTicks) {
    state.electionElapsed = 0;
    if (!checkQuorum(state)) {
      becomeFollower(state, state.term, undefined);
      return;
    }
  }
  tickMembership(state);
  if (++state.heartbeatElapsed >= state.heartbeatTicks) broadcastHeartbeat(state);
}

/** A leader that a quorum has not answered for an election timeout steps down (section 6.2 of the dissertation). */
function checkQuorum(state: State): boolean {
  return hasQuorum(
    state.configuration,
    (id) => id === state.id || (state.progress.get(id)?.isActive(state.electionTicks) ?? false),
  );
}

function receive(state: State, message: Message): void {
  if (message.to !== state.id) return;
  if (message.term > state.term && !adoptTerm(state, message)) return;
  if (message.term < state.term) {
    answerOldTerm(state, message);
    return;
  }
  switch (message.kind) {
    case "requestVote":
      onRequestVote(state, message);
      return;
    case "voteReply":
      onVoteReply(state, message);
      return;
    case "append":
      onAppend(state, message);
      return;
    case "heartbeat":
      onHeartbeat(state, message);
      return;
    case "timeoutNow":
      onTimeoutNow(state, message.from);
      return;
    case "appendReply":
      if (state.role === "leader") onAppendReply(state, message);
      return;
    case "heartbeatReply":
      if (state.role === "leader") onHeartbeatReply(state, message);
      return;
    case "snapshotDone":
      if (state.role === "leader") onSnapshotDone(state, message.from, message);
      return;
    case "readRequest":
      if (state.role === "leader") state.reads.add({ from: message.from, id: message.request });
      return;
    case "readReply":
      for (const id of state.forwardedReads.takeAnswered(message.request)) {
        state.readResults.push({ id, index: message.index });
      }
  }
}

/** Follows a higher term where the message is a reason to; returns whether the message is to be looked at further. */
function adoptTerm(state: State, message: Message): boolean {
  if (message.kind === "requestVote") {
    // Stickiness: who hears a leader neither votes nor raises its term, so that a node that was cut off disturbs nobody.
    if (state.hearsLeader && !message.transfer) return false;
    if (message.preVote) return true;
  }
  // A granted pre-vote echoes the term that was asked for, which nobody has entered yet.
  if (message.kind === "voteReply" && message.preVote && message.granted) return true;
  const isFromLeader = message.kind === "append" || message.kind === "heartbeat";
  becomeFollower(state, message.term, isFromLeader ? message.from : undefined);
  return true;
}

/** Somebody is behind: tell those who act on their term; replies of the past say nothing. */
function answerOldTerm(state: State, message: Message): void {
  switch (message.kind) {
    case "append":
    case "heartbeat":
      // A leader of the past, or one that this node left behind by campaigning: either way it must learn the term.
      state.sendWhenTermDurable(message.from, {
        kind: "appendReply",
        ok: false,
        index: 0 as Index,
        hintIndex: 0 as Index,
        hintTerm: 0 as Term,
      });
      return;
    case "requestVote":
      state.sendWhenTermDurable(message.from, {
        kind: "voteReply",
        preVote: message.preVote,
        granted: false,
      });
      return;
    case "voteReply":
    case "appendReply":
    case "heartbeatReply":
    case "snapshotDone":
    case "timeoutNow":
    case "readRequest":
    case "readReply":
  }
}

function persisted(state: State, sequence: number): void {
  while (state.pendingPersists.length > 0 && state.pendingPersists[0]!.sequence <= sequence) {
    const { hardState, lastIndex } = state.pendingPersists.shift()!;
    if (hardState !== undefined) state.durableHardState = hardState;
    state.durableIndex = Math.max(state.durableIndex, lastIndex);
  }
  countSelfVote(state);
  if (state.role === "leader") advanceCommit(state);
}

function hardStatePersisted(state: State, sequence: number): void {
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

function applied(state: State, index: Index): void {
  assert(index <= state.applyCursor, "the state machine applied what it was not given");
  raiseApplied(state, index);
}

function raiseApplied(state: State, index: Index): void {
  if (index <= state.appliedIndex) return;
  if (state.role === "leader") {
    for (const entry of state.log.slice(state.appliedIndex + 1, index + 1)) {
      state.unappliedBytes -= entry.payload.length;
    }
  }
  state.appliedIndex = index;
}

function installed(state: State, input: Extract<Input, { kind: "installed" }>): void {
  const { index, term, from } = input;
  if (index > state.commitIndex) {
    // With the same entry there, what follows it may have been acknowledged: it stays. Else the log conflicts with what
    // is committed, or ends before it.
    if (state.log.termAt(index) !== term) {
      if (state.role !== "follower") becomeFollower(state, state.term, undefined);
      state.resetLog(index, term);
      const { configuration, configurationIndex = index } = input;
      state.configurations.reset(
        index,
        configuration && { configuration, index: configurationIndex },
      );
    }
    state.commitTo(index);
  }
  if (index > state.applyCursor) state.applyCursor = index;
  raiseApplied(state, index);
  if (from === undefined) return;
  state.sendWhenDurable(from, { kind: "snapshotDone", ok: true, index: state.commitIndex });
}
