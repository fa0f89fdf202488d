/** One node of a simulated cluster: the real core under a small host, with a simulated disk and state machine. */
import type { Random } from "../../src/lib/clock.ts";
import { RaftCore } from "../../src/raft/core.ts";
import { startingLog } from "../../src/raft/starting-log.ts";
import type { Configuration, Entry, Index, Message, NodeId, Term } from "../../src/raft/types.ts";
import { SimulatedDisk } from "./disk.ts";
import { type Invariants, require } from "./invariants.ts";
import type { Timeline } from "./timeline.ts";

/** What the state machine holds: a sum over what was applied tells whether two are equal. */
export interface MachineState {
  readonly index: Index;
  readonly term: Term;
  readonly sum: number;
}

export interface NodeOptions {
  readonly id: NodeId;
  readonly configuration: Configuration;
  readonly timeline: Timeline;
  readonly random: Random;
  readonly invariants: Invariants;
  readonly syncMs: () => number;
  readonly send: (message: Message) => void;
  readonly sendSnapshot: (to: NodeId, snapshot: MachineState) => void;
  readonly retainedEntries: number;
  readonly tickMs: number;
}

export class SimulatedNode {
  readonly id: NodeId;
  readonly disk: SimulatedDisk;
  /** Undefined while it is down. */
  core: RaftCore | undefined;
  /** Until then it does nothing, like a stopped process; what arrives waits. */
  pausedUntilMs = 0;
  machine: MachineState = { index: 0 as Index, term: 0 as Term, sum: 0 };
  readonly #options: NodeOptions;
  #flushed: MachineState = this.machine;
  #generation = 0;
  #inbox: Message[] = [];
  #isTickDue = false;
  #isTurnDue = false;
  #applyQueue: Entry[] = [];
  #isApplying = false;
  #sequence = 0;
  readonly #reads = new Map<number, number>();
  #readId = 0;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.id = options.id;
    const { timeline, random, syncMs } = options;
    this.disk = new SimulatedDisk({ timeline, random, syncMs });
  }

  get isUp(): boolean {
    return this.core !== undefined;
  }

  start(): void {
    const { configuration, random } = this.#options;
    this.machine = this.#flushed;
    const log = startingLog(this.disk.contents, this.machine);
    if (log.baseIndex !== this.disk.contents.baseIndex) {
      this.disk.resetNow(log.baseIndex, log.baseTerm);
    }
    this.core = new RaftCore({
      id: this.id,
      configuration,
      hardState: this.disk.contents.hardState,
      ...log,
      appliedIndex: this.machine.index,
      electionTicks: 10,
      heartbeatTicks: 3,
      random,
      maxAppendBytes: 64,
      maxInflight: 2,
      maxUnappliedEntries: 500,
    });
    this.#every(this.#options.tickMs, () => {
      this.#isTickDue = true;
      this.#wake();
    });
    this.#every(30 + random.below(50), () => this.#flush());
  }

  crash(): void {
    this.#generation++;
    this.core = undefined;
    this.disk.crash();
    this.#inbox = [];
    this.#isTickDue = false;
    this.#isTurnDue = false;
    this.#applyQueue = [];
    this.#isApplying = false;
    this.#reads.clear();
  }

  receive(message: Message): void {
    if (!this.isUp) return;
    this.#inbox.push(message);
    this.#wake();
  }

  propose(payload: Uint8Array): boolean {
    const isTaken = this.core?.propose(payload).ok ?? false;
    if (isTaken) this.#wake();
    return isTaken;
  }

  read(): void {
    if (this.core?.role !== "leader") return;
    const id = ++this.#readId;
    this.#reads.set(id, this.#options.invariants.lastCommitted);
    this.core.step({ kind: "read", id });
    this.#wake();
  }

  transfer(): void {
    this.core?.step({ kind: "transfer", to: undefined });
    this.#wake();
  }

  /** A snapshot of `from` has arrived whole; it is installed when the state machine is free. */
  install(snapshot: MachineState, from: NodeId): void {
    const { core } = this;
    if (core === undefined || this.#isApplying) return;
    if (snapshot.index > this.machine.index) {
      this.machine = snapshot;
      this.#flushed = snapshot;
    }
    core.step({ kind: "installed", index: snapshot.index, term: snapshot.term, from });
    this.#wake();
  }

  /** A snapshot to `to` is over, well or not. */
  snapshotOver(to: NodeId): void {
    this.core?.step({ kind: "snapshotDone", to, ok: false, index: 0 as Index });
    this.#wake();
  }

  /** Schedules a turn soon, or when the pause is over. */
  #wake(): void {
    if (this.#isTurnDue || !this.isUp) return;
    this.#isTurnDue = true;
    const { timeline } = this.#options;
    const pauseMs = Math.max(0, this.pausedUntilMs - timeline.nowMs);
    this.#later(pauseMs, () => {
      this.#isTurnDue = false;
      if (this.pausedUntilMs > timeline.nowMs) this.#wake();
      else this.#turn();
    });
  }

  #turn(): void {
    const core = this.core!;
    const { invariants, send, sendSnapshot } = this.#options;
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const message of inbox) core.step({ kind: "receive", message });
    if (this.#isTickDue) core.step({ kind: "tick" });
    this.#isTickDue = false;
    const output = core.take();
    invariants.checkEntries(core, output.persist?.entries ?? []);
    invariants.checkNode(core);
    const dispatch = (messages: readonly Message[]) => {
      for (const message of messages) {
        invariants.checkMessage(message);
        send(message);
      }
    };
    dispatch(output.send);
    if (output.persist !== undefined || output.sendAfterPersist.length > 0) {
      if (output.persist !== undefined) this.#sequence = output.persist.sequence;
      const sequence = this.#sequence;
      this.disk.write(output.persist, () => {
        core.step({ kind: "persisted", sequence });
        dispatch(output.sendAfterPersist);
        this.#wake();
      });
    }
    for (const { id, index } of output.reads) {
      const floor = this.#reads.get(id)!;
      this.#reads.delete(id);
      require(index === undefined ||
        index >= floor, `${this.id} reads at ${index} what was asked for at ${floor}`);
    }
    this.#applyQueue.push(...output.apply);
    this.#apply();
    for (const to of output.snapshots) sendSnapshot(to, this.#flushed);
  }

  #apply(): void {
    if (this.#isApplying || this.#applyQueue.length === 0) return;
    this.#isApplying = true;
    const { random, invariants } = this.#options;
    this.#later(random.below(4), () => {
      const entries = this.#applyQueue.splice(0, 1 + random.below(20));
      for (const entry of entries) {
        if (entry.index <= this.machine.index) continue;
        const { index, term } = this.machine;
        require(entry.index === index + 1, `${this.id} applies ${entry.index} behind ${index}`);
        invariants.checkApplied(this.id, entry);
        const sum = (this.machine.sum * 31 + entry.term * 7 + entry.payload.length + term) % 1e9;
        this.machine = { index: entry.index, term: entry.term, sum };
      }
      this.#isApplying = false;
      this.core!.step({ kind: "applied", index: entries[entries.length - 1]!.index });
      this.#wake();
      this.#apply();
    });
  }

  #flush(): void {
    if (this.#isApplying) return;
    this.#flushed = this.machine;
    const core = this.core!;
    const index = Math.min(
      this.#flushed.index - this.#options.retainedEntries,
      core.appliedIndex,
    ) as Index;
    if (index <= core.baseIndex) return;
    this.disk.compact(index, core.termAt(index)!);
    core.step({ kind: "compact", index });
  }

  #every(periodMs: number, action: () => void): void {
    this.#later(periodMs, () => {
      action();
      this.#every(periodMs, action);
    });
  }

  /** Calls back unless it has crashed meanwhile. */
  #later(delayMs: number, action: () => void): void {
    const generation = this.#generation;
    this.#options.timeline.after(delayMs, () => {
      if (generation === this.#generation && this.isUp) action();
    });
  }
}
