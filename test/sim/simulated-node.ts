/**
 * One master's part in consensus, simulated: the product's core, host loop and journal in a simulated process, on a
 * simulated disk, with a simulated state machine. It can be killed at any moment and started again; a journal that refuses
 * to open leaves it out for good.
 */
import { openJournal } from "../../src/journal/journal.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Driver, type DriverOptions } from "../../src/raft/host/driver.ts";
import type { Output, RaftCore } from "../../src/raft/core.ts";
import type { Journal } from "../../src/raft/journal.ts";
import { startingLog } from "../../src/raft/starting-log.ts";
import type { Configuration, Entry, Index, Message, NodeId, Term } from "../../src/raft/types.ts";
import type { Invariants } from "./invariants.ts";
import { ObservedCore } from "./observed-core.ts";
import type { PlantedBug } from "./planted-bugs.ts";
import { SimulatedFiles } from "./simulated-files.ts";
import { applied, emptyState, type MachineState } from "./simulated-machine.ts";
import { SimulatedProcess } from "./simulated-process.ts";
import { require, Violation } from "./violation.ts";
import { Promised, WatchedJournal } from "./watched-journal.ts";
import type { World } from "./world.ts";

export const tickMs = 15;
export const electionTicks = 8;
const heartbeatTicks = 2;

export interface NodeOptions {
  readonly world: World;
  readonly id: NodeId;
  /** What a node that has no log yet goes by. */
  readonly configuration: Configuration;
  readonly invariants: Invariants;
  readonly send: (message: Message) => void;
  /** Carries a state to another node; calls back when that is over, well or not. */
  readonly sendSnapshot: (
    from: NodeId,
    to: NodeId,
    state: MachineState,
    whenOver: () => void,
  ) => void;
  /** A request of a session was executed, not answered as before. */
  readonly onExecuted: (id: NodeId, entry: Entry) => void;
  readonly onOutput: (node: SimulatedNode, output: Output) => void;
  readonly bug: PlantedBug | undefined;
}

/** What came of a command: where it was executed, or that another took its place in the log, or that it was refused. */
export type Answer = number | "lost" | "refused";

interface Proposal {
  readonly term: Term;
  readonly whenApplied: (answer: Answer) => void;
}

export class SimulatedNode {
  readonly id: NodeId;
  readonly files: SimulatedFiles;
  readonly promised = new Promised();
  /** How often the disk was made to break its promises since the journal was opened last. */
  #damages = 0;
  /** The journal has refused to open: this node is gone for good. */
  isLost = false;
  /** Removed from the cluster and switched off. */
  isRetired = false;
  process: SimulatedProcess | undefined;
  machine: MachineState = emptyState;
  #driver: Driver | undefined;
  #core: ObservedCore | undefined;
  readonly #options: NodeOptions;
  readonly #speed: number;
  #flushed: MachineState = emptyState;
  #proposals = new Map<number, Proposal>();
  #waiters: { index: number; resolve: () => void }[] = [];
  /** Snapshots that go out, with the index of each. */
  #outgoing = new Map<NodeId, number>();
  #isReceiving = false;
  #lastKnown: Configuration;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.id = options.id;
    this.#lastKnown = options.configuration;
    const { world } = options;
    const [slowest, fastest] = world.faults.clockPercent;
    this.#speed = (slowest + world.random.below(fastest - slowest)) / 100;
    this.files = new SimulatedFiles(world);
  }

  /** Its process runs, though it may be starting still. */
  get isUp(): boolean {
    return this.process !== undefined;
  }
  /** Undefined while it is down or starting. */
  get core(): RaftCore | undefined {
    return this.#core;
  }
  get isPaused(): boolean {
    return this.process?.isPaused ?? false;
  }
  /** The disk may break its promises: the journal may refuse to open. */
  get isDamaged(): boolean {
    return this.#damages > 0;
  }
  /** It could be started and would find what it has promised. */
  get isSound(): boolean {
    return !this.isLost && !this.isRetired && !this.isDamaged;
  }

  /** The configuration that it goes by, or will when it is started. */
  get known(): Configuration {
    return this.#core?.configuration ?? this.#lastKnown;
  }

  /** Whether this version of the entry would be found after a crash, in the log or in what the state machine keeps. */
  holds(index: number, term: Term): boolean {
    return index <= this.#flushed.index || this.promised.holds(index, term);
  }

  /** The disk was made to break its promises. */
  damage(): void {
    this.#damages++;
  }

  start(): void {
    if (this.isUp || this.isLost || this.isRetired) return;
    const { world } = this.#options;
    const process = new SimulatedProcess(world, this.#speed);
    this.process = process;
    world.stir();
    this.#boot(process).catch((error: unknown) => this.#fail(process, error));
  }

  /** Ends the process, with or without the machine below it. */
  crash(losesPower: boolean): void {
    if (!this.isUp) return;
    this.#end();
    if (losesPower) this.files.losePower();
    else this.files.kill();
  }

  receive(message: Message): void {
    this.process?.arrive(() => this.#driver?.receive(message));
  }

  /** It is told that another node's process has ended, rightly or not; it may not listen. */
  tellGone(node: NodeId): void {
    this.process?.arrive(() => this.#driver?.peerGone(node));
  }

  /** Puts a command into the log, if this node leads; calls back when its place in the log is applied. */
  propose(payload: Uint8Array, whenApplied?: (answer: Answer) => void): boolean {
    const proposed = this.#driver?.propose(payload);
    if (proposed?.ok !== true) return false;
    if (whenApplied !== undefined) {
      this.#proposals.get(proposed.index)?.whenApplied("lost");
      this.#proposals.set(proposed.index, { term: proposed.term, whenApplied });
    }
    return true;
  }

  /** A linearizable read: calls back with the index of the state that it saw, or undefined when it failed. */
  read(whenDone: (index: number | undefined) => void): void {
    const { process } = this;
    if (this.#driver === undefined) {
      whenDone(undefined);
      return;
    }
    this.#driver
      .readIndex()
      .then(async (index) => {
        if (this.machine.index < index) {
          await new Promise<void>((resolve) => this.#waiters.push({ index, resolve }));
        }
        return this.machine.index;
      })
      .then(
        (index) => {
          if (process?.isAlive === true) whenDone(index);
        },
        () => {
          whenDone(undefined);
        },
      )
      .catch((error: unknown) => {
        this.#options.world.failure ??= error as Error;
      });
  }

  transfer(): void {
    this.#driver?.step({ kind: "transfer", to: undefined });
  }

  /** Asks the core itself; the host's turn that follows carries it out. */
  ask<T>(question: (core: RaftCore) => T): T | undefined {
    if (this.#core === undefined || this.#driver === undefined) return undefined;
    const answer = question(this.#core);
    this.#driver.step({ kind: "compact", index: this.#core.baseIndex });
    return answer;
  }

  /** A state from `from` has arrived whole: installed while the state machine is free, if it brings this node forward. */
  install(state: MachineState, from: NodeId): void {
    const { process } = this;
    process?.arrive(() => {
      const driver = this.#driver;
      if (driver === undefined || this.#isReceiving) return;
      this.#isReceiving = true;
      driver.betweenApplies(async () => {
        await process.wait(1 + this.#options.world.random.below(5));
        if (state.index > this.machine.index) {
          this.#options.world.count("snapshots installed");
          this.#options.invariants.checkState(this.id, state.index, state.hash);
          this.machine = state;
          this.#flushed = state;
          this.#resolveWaiters();
        }
        this.#isReceiving = false;
        driver.step({
          kind: "installed",
          index: state.index as Index,
          term: state.term as Term,
          from,
          configuration: state.configuration?.value,
          configurationIndex: state.configuration?.index as Index | undefined,
        });
      });
    });
  }

  async #boot(process: SimulatedProcess): Promise<void> {
    const { id } = this;
    const { world, invariants, bug } = this.#options;
    const { segmentBytes, retainedEntries } = world.faults;
    const damages = this.#damages;
    const opened = await openJournal({
      directory: `/simulated/${id}`,
      openFiles: async (directory) => this.files.open(directory),
      newSalt: () => world.random.below(2 ** 31),
      segmentBytes,
      reservedDiskBytes: 1024 * 1024,
      clock: process,
      logger: silentLogger,
    });
    const watched = new WatchedJournal(opened, this.promised);
    const journal: Journal = bug?.journal?.(watched) ?? watched;
    this.promised.recover(id, journal.state);
    // It has looked at every byte that counts, so what was changed before is overwritten by now, or never counted.
    this.#damages -= damages;
    if (journal.state.nodeId === undefined) {
      await journal.initialize({ nodeId: id, clusterId: "simulated" });
    }
    this.machine = this.#flushed;
    const { machine } = this;
    require(machine.index >= journal.state.baseIndex, () =>
      `the log of ${id} begins behind its state`);
    const log = startingLog(journal.state, machine);
    if (log.baseIndex !== journal.state.baseIndex) {
      await journal.reset(log.baseIndex, log.baseTerm);
    }
    const core: ObservedCore = new ObservedCore(
      {
        id,
        configuration: machine.configuration?.value ?? this.#options.configuration,
        configurationIndex: machine.configuration?.index as Index | undefined,
        hardState: journal.state.hardState,
        ...log,
        appliedIndex: machine.index as Index,
        electionTicks,
        heartbeatTicks,
        random: world.random,
        maxAppendBytes: 96,
        maxInflight: 2,
        maxUnappliedEntries: 400,
      },
      (output) => this.#observe(core, bug?.output?.(output, core) ?? output),
    );
    invariants.checkEntries(core, log.entries);
    this.#core = core;
    this.#driver = new Driver({
      core,
      journal,
      machine: this.#machineFor(process),
      clock: process,
      logger: silentLogger,
      tickMs,
      electionTicks,
      retainedEntries,
      retainedBytes: 64 * 1024 ** 2,
      afterPoll: (callback) => process.afterPoll(callback),
      send: (messages) => {
        if (process.isAlive) for (const message of messages) this.#send(message);
      },
      sendSnapshot: (to) => this.#sendSnapshot(process, to),
      snapshotFloor: () => Math.min(...this.#outgoing.values()),
      onChange: () => undefined,
      onFatal: (error) => this.#fail(process, error),
    });
    this.#flushOften(process);
  }

  #send(message: Message): void {
    this.#options.invariants.checkMessage(message);
    this.#options.send(message);
  }

  #observe(core: RaftCore, output: Output): Output {
    const { invariants, world, onOutput } = this.#options;
    if (output.persist !== undefined) invariants.checkEntries(core, output.persist.entries);
    invariants.checkNode(core);
    if (output.reads.length > 0) world.stir();
    world.note(core.term * 8191 + core.commitIndex * 31 + core.lastIndex);
    world.note(
      output.send.length * 64 + output.sendAfterPersist.length + output.apply.length * 512,
    );
    onOutput(this, output);
    return output;
  }

  #machineFor(process: SimulatedProcess): DriverOptions["machine"] {
    const currentIndex = () => this.machine.index;
    return {
      get appliedIndex() {
        return currentIndex();
      },
      apply: async (entries: readonly Entry[]) => {
        await process.wait(this.#options.world.random.below(4));
        for (const entry of entries) this.#apply(entry);
        this.#resolveWaiters();
      },
      flushedIndex: () => this.#flushed,
    };
  }

  #apply(entry: Entry): void {
    const { invariants, bug, onExecuted } = this.#options;
    const { index } = this.machine;
    require(entry.index === index + 1, () => `${this.id} applies ${entry.index} behind ${index}`);
    const outcome = applied(this.machine, bug?.entry?.(entry, this.id) ?? entry, bug?.remembers);
    this.machine = outcome.state;
    invariants.checkApplied(this.id, entry, this.machine.hash);
    if (outcome.served === "execute") onExecuted(this.id, entry);
    const proposal = this.#proposals.get(entry.index);
    if (proposal === undefined) return;
    this.#proposals.delete(entry.index);
    if (proposal.term !== entry.term) proposal.whenApplied("lost");
    else proposal.whenApplied(outcome.served === "refuse" ? "refused" : outcome.position);
  }

  #resolveWaiters(): void {
    this.#waiters = this.#waiters.filter(({ index, resolve }) => {
      if (index > this.machine.index) return true;
      this.#options.world.stir();
      resolve();
      return false;
    });
  }

  /** Makes the state durable now and then, as the metadata store does. */
  #flushOften(process: SimulatedProcess): void {
    const { random } = this.#options.world;
    process.after(20 + random.below(60), () => {
      const state = this.machine;
      process.after(1 + random.below(10), () => {
        if (state.index > this.#flushed.index) this.#flushed = state;
        this.#flushOften(process);
      });
    });
  }

  #sendSnapshot(process: SimulatedProcess, to: NodeId): void {
    if (this.#outgoing.has(to)) return;
    this.#options.world.count("snapshots sent");
    this.#outgoing.set(to, this.#flushed.index);
    this.#options.sendSnapshot(this.id, to, this.#flushed, () => {
      process.arrive(() => {
        this.#outgoing.delete(to);
        this.#driver?.step({ kind: "snapshotDone", to, ok: false, index: 0 as Index });
      });
    });
  }

  /** What ends a process by itself: a damaged journal, a failing disk; anything else is a bug. */
  #fail(process: SimulatedProcess, error: unknown): void {
    if (!process.isAlive) return;
    const { world } = this.#options;
    if (hasCode(error, "Corrupt") && this.isDamaged) {
      world.count("damage refused");
      this.isLost = true;
    } else if (!String(error).includes("EIO: ")) {
      world.failure ??=
        error instanceof Violation
          ? error
          : new Violation(`${this.id}: ${String(error)}`, { cause: error });
    }
    this.crash(false);
    // Whoever supervises it starts it again.
    world.timeline.after(1 + world.random.below(1000), () => this.start());
  }

  #end(): void {
    this.#lastKnown = this.known;
    this.process?.kill();
    this.process = undefined;
    this.#driver = undefined;
    this.#core = undefined;
    this.#proposals = new Map();
    this.#waiters = [];
    this.#outgoing = new Map();
    this.#isReceiving = false;
  }
}
