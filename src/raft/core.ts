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
import { applied, installed, takeApply } from "./application.ts";
import { isSoleVoter } from "./configuration.ts";
import { onGone } from "./election.ts";
import type { MemberChange } from "./member-change.ts";
import {
  changeMembers,
  finishJoint,
  isChanging,
  type MembersChanged,
  resignIfRemoved,
} from "./membership.ts";
import { hardStatePersisted, persisted, takePersist } from "./persistence.ts";
import type { ReadResult } from "./read-index.ts";
import { read, sendReadRequests } from "./reads.ts";
import { receive } from "./receive.ts";
import { onSnapshotDone, sendAppends, startReads } from "./replication.ts";
import { type CoreOptions, type Persist, State } from "./state.ts";
import { tick } from "./tick.ts";
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
   * `index`, brought by the entry at `configurationIndex`; without it the last committed one known here stays.
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
  /**
   * Index of the last configuration with that member that is committed for certain because another one follows it in the log;
   * undefined without one.
   */
  settledWith(id: NodeId): Index | undefined {
    return this.#state.configurations.settledWith(id)?.index;
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
      startReads(state);
      sendAppends(state);
      resignIfRemoved(state);
    } else {
      sendReadRequests(state);
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
