/**
 * One node's turns: everything that has arrived goes into the core, then one output comes out and is carried out. Turns
 * run after the sockets were read, so that what came in together is handled together.
 *
 * Invariants
 * 1. Messages that have arrived go into the core before a tick does.
 * 2. After an error nothing is carried out any more.
 */
import type { Clock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Journal } from "../journal.ts";
import type { Input, Output, Proposed, RaftCore } from "../core.ts";
import type { MemberChange } from "../member-change.ts";
import type { MembersChanged } from "../membership.ts";
import type { TransferStarted } from "../transfer.ts";
import type { Entry, Index, Message, NodeId } from "../types.ts";
import { Applier } from "./applier.ts";
import { LogWeight } from "./log-weight.ts";
import { Persister } from "./persister.ts";
import { Ticker } from "./ticker.ts";

/** A follower that gets a snapshot, or goes on behind one, keeps so many times the bytes that are kept anyway. */
const heldFactor = 4;
/** What an entry takes besides its payload, about. */
const entryOverheadBytes = 128;
/** Entries are forgotten in steps of this share of those that are kept, not one by one. */
const compactionStep = 0.1;

export interface DriverOptions {
  readonly core: RaftCore;
  readonly journal: Journal;
  readonly machine: {
    readonly appliedIndex: number;
    apply(entries: readonly Entry[]): Promise<void>;
    flushedIndex(): { index: number; term: number };
  };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tickMs: number;
  readonly electionTicks: number;
  /** Kept behind what is flushed, for slow followers, whichever is less: so many entries, and bytes of payload. */
  readonly retainedEntries: number;
  readonly retainedBytes: number;
  /** Calls back after the sockets that are readable now were read: `setImmediate`. */
  readonly afterPoll: (callback: () => void) => void;
  readonly send: (messages: readonly Message[]) => void;
  readonly sendSnapshot: (to: NodeId) => void;
  /**
   * Lowest index that the log is to begin behind for those who get a snapshot, or got one and do not hold the log up to
   * `caughtUp` yet; infinite when there are none.
   */
  readonly snapshotFloor: (caughtUp: number) => number;
  /** Role, term or leader changed. */
  readonly onChange: () => void;
  /** A turn is over: its output was carried out. */
  readonly onTurn?: () => void;
  readonly onFatal: (error: Error) => void;
}

/** The reads of one turn. */
interface Reader {
  readonly index: Promise<Index>;
  resolve(index: Index): void;
  reject(error: WeirError): void;
}

export class Driver {
  readonly core: RaftCore;
  readonly #options: DriverOptions;
  readonly #ticker: Ticker;
  readonly #persister: Persister;
  readonly #applier: Applier;
  /** Of what was applied. */
  readonly #weight: LogWeight;
  /** As much of it as is held for snapshots at most. */
  readonly #heldWeight: LogWeight;
  #inbox: Message[] = [];
  /** Members whose process has ended. */
  #gone: NodeId[] = [];
  #isTickDue = false;
  #isTurnDue = false;
  #isStopped = false;
  /** To be called at the start of the next turn. */
  #beforeTurn: (() => void)[] = [];
  /** All reads that wait for the next turn; those before by the id under which the core was asked. */
  #newReader: Reader | undefined;
  readonly #readers = new Map<number, Reader>();
  #readId = 0;
  #shown = "";

  constructor(options: DriverOptions) {
    this.#options = options;
    this.core = options.core;
    const { clock, tickMs, afterPoll, journal, logger, send, machine } = options;
    const onFatal = (error: unknown) => this.#fail(error);
    this.#persister = new Persister({
      journal,
      clock,
      logger,
      send,
      onFatal,
      onPersisted: (sequence) => this.step({ kind: "persisted", sequence }),
      onHardStatePersisted: (sequence) => this.step({ kind: "hardStatePersisted", sequence }),
    });
    this.#applier = new Applier({
      machine,
      afterPoll,
      onFatal,
      onApplied: (index) => {
        this.step({ kind: "applied", index });
      },
    });
    this.#weight = new LogWeight(options.retainedBytes);
    this.#heldWeight = new LogWeight(heldFactor * options.retainedBytes);
    for (const entry of journal.state.entries) {
      if (entry.index <= machine.appliedIndex) this.#weigh(entry);
    }
    this.#ticker = new Ticker({
      clock,
      tickMs,
      afterPoll,
      onTick: () => {
        this.#isTickDue = true;
        this.#wake();
      },
    });
  }

  /** Takes a message that has arrived; it is looked at in the next turn. */
  receive(message: Message): void {
    if (this.#isStopped) return;
    this.#inbox.push(message);
    this.#wake();
  }

  /** Takes that a member's process has ended; it is looked at after all that it had sent. */
  peerGone(node: NodeId): void {
    if (this.#isStopped) return;
    this.#gone.push(node);
    this.#wake();
  }

  step(input: Input): void {
    if (this.#isStopped) return;
    this.#guard(() => this.core.step(input));
    this.#wake();
  }

  propose(payload: Uint8Array): Proposed {
    const proposed = this.core.propose(payload);
    if (proposed.ok) this.#wake();
    return proposed;
  }

  /** Begins a change of the members: see RaftCore. */
  changeMembers(change: MemberChange): MembersChanged {
    const changed = this.core.changeMembers(change);
    this.#wake();
    return changed;
  }

  /** Begins to hand the leadership over: see RaftCore. */
  transfer(to: NodeId | undefined): TransferStarted {
    const started = this.core.transfer(to);
    this.#wake();
    return started;
  }

  /** Calls back at the start of the next turn, after the sockets were read: what is proposed then is part of that turn. */
  beforeTurn(callback: () => void): void {
    this.#beforeTurn.push(callback);
    this.#wake();
  }

  /** The point of the log that a linearizable read must reach. All calls of a turn share one round, and its promise. */
  readIndex(): Promise<Index> {
    if (this.#isStopped) return Promise.reject(notLeader());
    if (this.#newReader === undefined) {
      this.#newReader = newReader();
      this.#wake();
    }
    return this.#newReader.index;
  }

  /** Runs `task` while the state machine does nothing else. */
  betweenApplies(task: () => Promise<void>): void {
    this.#applier.between(task);
  }

  /** Resolves when no call to the journal or to the state machine is under way any more. */
  async stop(): Promise<void> {
    this.#halt();
    await Promise.all([this.#persister.stop(), this.#applier.stop()]);
  }

  #wake(): void {
    if (this.#isTurnDue || this.#isStopped) return;
    this.#isTurnDue = true;
    this.#options.afterPoll(() => {
      if (!this.#isStopped) this.#guard(() => this.#turn());
    });
  }

  #turn(): void {
    const { core } = this;
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const message of inbox) core.step({ kind: "receive", message });
    for (const node of this.#gone.splice(0)) core.step({ kind: "gone", node });
    if (this.#isTickDue) this.#tick();
    const callbacks = this.#beforeTurn;
    this.#beforeTurn = [];
    for (const callback of callbacks) callback();
    if (this.#newReader !== undefined) {
      const id = ++this.#readId;
      this.#readers.set(id, this.#newReader);
      this.#newReader = undefined;
      core.step({ kind: "read", id });
    }
    // Whatever wakes it from here on is work for another turn.
    this.#isTurnDue = false;
    this.#carryOut(core.take());
    this.#showChange();
    this.#options.onTurn?.();
  }

  #tick(): void {
    this.#isTickDue = false;
    const { core } = this;
    const { journal, tickMs, electionTicks } = this.#options;
    const longestTimeoutMs = 2 * electionTicks * tickMs;
    const isStalled = journal.oldestWriteAgeMs() > longestTimeoutMs && !core.isAlone;
    if (isStalled && core.role === "leader") {
      this.#options.logger.warn(
        { writeAgeMs: journal.oldestWriteAgeMs() },
        "the disk stalls: giving up leadership",
      );
      core.step({ kind: "stepDown" });
    } else if (core.role === "leader" && this.#persister.fullDiskAgeMs() > longestTimeoutMs) {
      // Goes to a follower only if that one has written everything, so it has room.
      core.step({ kind: "transfer", to: undefined });
    }
    core.step({ kind: "tick", hold: isStalled });
    this.#compact();
  }

  #carryOut(output: Output): void {
    this.#options.send(output.send);
    this.#persister.submit(output.persist, output.sendAfterPersist);
    if (output.apply.length > 0) {
      for (const entry of output.apply) this.#weigh(entry);
      this.#applier.push(output.apply);
    }
    for (const { id, index } of output.reads) {
      const reader = this.#readers.get(id);
      this.#readers.delete(id);
      if (index === undefined) reader?.reject(notLeader());
      else reader?.resolve(index);
    }
    for (const to of output.snapshots) this.#options.sendSnapshot(to);
  }

  /** Whether half of what is held for snapshots at most has come behind `index` by now. */
  isHalfHeld(index: number): boolean {
    return this.#heldWeight.behind(index) * 2 > heldFactor * this.#options.retainedBytes;
  }

  #weigh({ index, payload }: Entry): void {
    this.#weight.add(index, payload.length);
    this.#heldWeight.add(index, payload.length + entryOverheadBytes);
  }

  /**
   * Forgets what the state machine has on disk, but for a tail for slow followers. With a full disk the tail is in memory
   * alone, so that no follower gets a snapshot, which its disk may have no room for either, for want of a few entries.
   */
  #compact(): void {
    const { journal, machine, retainedEntries, snapshotFloor } = this.#options;
    const { core } = this;
    const flushed = machine.flushedIndex().index;
    const limit = Math.min(flushed, core.appliedIndex);
    if (journal.diskFull) this.#compactJournal(limit as Index);
    const byBytes = this.#weight.forgettable(limit);
    const tail = Math.max(Math.min(flushed - retainedEntries, limit), byBytes);
    // Followers that are being brought up to date hold it back, but not without end.
    const atMostHeld = this.#heldWeight.forgettable(limit);
    const floor = Math.max(snapshotFloor((tail + core.lastIndex) / 2), atMostHeld);
    const wanted = Math.min(tail, floor);
    if (wanted <= core.baseIndex) return;
    const step = Math.max(1, Math.floor(retainedEntries * compactionStep));
    const isMark = wanted === byBytes || wanted === atMostHeld;
    if (wanted < core.baseIndex + step && !isMark) return;
    const index = wanted as Index;
    this.#compactJournal(index);
    core.step({ kind: "compact", index });
  }

  #compactJournal(index: Index): void {
    this.#persister.compact(index, (at) => this.core.termAt(at));
  }

  #showChange(): void {
    const { role, term, leader } = this.core;
    const shown = `${role} ${term} ${leader ?? ""}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#options.logger.info({ role, term, leader }, "consensus role");
    this.#options.onChange();
  }

  #guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#isStopped) return;
    this.#halt();
    this.#options.onFatal(error instanceof Error ? error : new Error(String(error)));
  }

  #halt(): void {
    this.#isStopped = true;
    this.#ticker.stop();
    this.#newReader?.reject(notLeader());
    this.#newReader = undefined;
    for (const reader of this.#readers.values()) reader.reject(notLeader());
    this.#readers.clear();
  }
}

function newReader(): Reader {
  let resolve: Reader["resolve"] = () => undefined;
  let reject: Reader["reject"] = () => undefined;
  const index = new Promise<Index>((...settle) => {
    [resolve, reject] = settle;
  });
  // Every caller has it, and may leave before it fails.
  index.catch(() => undefined);
  return { index, resolve, reject };
}

function notLeader(): WeirError {
  return new WeirError("NotLeader", "Cannot read here: this master does not lead");
}
