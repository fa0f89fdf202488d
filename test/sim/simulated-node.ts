/**
 * One master's part in consensus, simulated: the product's core, host loop and journal in a simulated process, on a
 * simulated disk, with the state machine of a workload. It can be killed at any moment and started again; a journal that refuses
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
import { SimulatedProcess } from "./simulated-process.ts";
import type { Image, Outcome, StateMachine } from "./state-machine.ts";
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
  readonly machine: StateMachine;
  readonly send: (message: Message) => void;
  /** Carries a state to another node; calls back when that is over, well or not. */
  readonly sendSnapshot: (from: NodeId, to: NodeId, image: Image, whenOver: () => void) => void;
  readonly onApplied: (id: NodeId, entry: Entry, outcome: Outcome) => void;
  readonly onOutput: (node: SimulatedNode, output: Output) => void;
  readonly bug: PlantedBug | undefined;
}

/** What came of a command; `lost`: another took its place in the log. */
export type Answer = Outcome | "lost";

interface Proposal {
  readonly term: Term;
  readonly whenApplied: (answer: Answer) => void;
}

/** A snapshot on its way to a follower; undefined image: it is being taken. */
interface Outgoing {
  image: Image | undefined;
  isGoing: boolean;
}

/** How long an image is kept for another attempt. */
const keepMs = 3000;

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
  readonly machine: StateMachine;
  #driver: Driver | undefined;
  #core: ObservedCore | undefined;
  readonly #options: NodeOptions;
  readonly #speed: number;
  #proposals = new Map<number, Proposal>();
  #waiters: { index: number; resolve: () => void }[] = [];
  /** Snapshots that go out, or wait for another attempt. */
  #outgoing = new Map<NodeId, Outgoing>();
  /** What has come in of a snapshot. */
  #incoming:
    | { readonly image: Image; readonly term: number; readonly chunks: Uint8Array[] }
    | undefined;
  #isReceiving = false;
  #lastKnown: Configuration;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.id = options.id;
    this.machine = options.machine;
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
    return index <= this.machine.flushed.index || this.promised.holds(index, term);
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

  /** How many chunks of this image have come in. */
  received(image: Image): number {
    return this.#incoming?.image === image ? this.#incoming.chunks.length : 0;
  }

  /** The next chunk of an image comes in from the leader of `term`; false when nobody takes it: a later one may send too. */
  receiveChunk(image: Image, term: number, chunk: Uint8Array): boolean {
    if (this.#core === undefined || this.isPaused) return false;
    if (this.#incoming?.image !== image) {
      if (this.#incoming !== undefined && this.#incoming.term > term) return false;
      this.#incoming = { image, term, chunks: [] };
    }
    this.#incoming.chunks.push(chunk);
    return true;
  }

  /** An image from `from` has arrived whole: installed while the state machine is free, if it brings this node forward. */
  install(image: Image, from: NodeId): void {
    const { process, machine } = this;
    const { world, invariants } = this.#options;
    process?.arrive(() => {
      const driver = this.#driver;
      if (driver === undefined || this.#isReceiving) return;
      this.#isReceiving = true;
      driver.betweenApplies(async () => {
        await process.wait(1 + world.random.below(5));
        const chunks = this.#incoming?.image === image ? this.#incoming.chunks : image.chunks;
        this.#incoming = undefined;
        if (image.index > machine.index && !(await this.#isInstalled({ ...image, chunks }))) {
          this.#isReceiving = false;
          return;
        }
        if (machine.index === image.index) {
          invariants.checkState(this.id, machine.index, machine.hash);
        }
        this.#resolveWaiters();
        this.#isReceiving = false;
        driver.step({
          kind: "installed",
          index: image.index as Index,
          term: image.term as Term,
          from,
          configuration: machine.configuration?.value,
          configurationIndex: machine.configuration?.index as Index | undefined,
        });
      });
    });
  }

  /** Installs an image; false when it is damaged, which the state machine has to notice. */
  async #isInstalled(image: Image): Promise<boolean> {
    const { world, bug } = this.#options;
    const { machine } = this;
    const [index, hash] = [machine.index, machine.hash];
    try {
      await machine.install(bug?.image?.(image) ?? image);
    } catch (error) {
      if (!hasCode(error, "Corrupt")) throw error;
      require(machine.index === index && machine.hash === hash, () =>
        `${this.id} holds another state after a snapshot that it refused`);
      world.count("damaged snapshots refused");
      return false;
    }
    world.count("snapshots installed");
    return true;
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
    const { machine } = this;
    machine.restart();
    require(machine.index >= journal.state.baseIndex, () =>
      `the log of ${id} begins behind its state`);
    const log = startingLog(journal.state, machine.flushed);
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
      snapshotFloor: () => {
        const images = [...this.#outgoing.values()];
        return Math.min(...images.map(({ image }) => image?.index ?? machine.flushed.index));
      },
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
        for (const entry of entries) await this.#apply(entry);
        this.#resolveWaiters();
      },
      flushedIndex: () => this.machine.flushed,
    };
  }

  async #apply(entry: Entry): Promise<void> {
    const { invariants, bug, onApplied } = this.#options;
    const { machine } = this;
    const { index } = machine;
    require(entry.index === index + 1, () => `${this.id} applies ${entry.index} behind ${index}`);
    const outcome = await machine.apply(bug?.entry?.(entry, this.id) ?? entry);
    invariants.checkApplied(this.id, entry, machine.hash);
    onApplied(this.id, entry, outcome);
    const proposal = this.#proposals.get(entry.index);
    if (proposal === undefined) return;
    this.#proposals.delete(entry.index);
    proposal.whenApplied(proposal.term === entry.term ? outcome : "lost");
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
      const finish = this.machine.flush();
      process.after(1 + random.below(10), () => {
        finish();
        this.#flushOften(process);
      });
    });
  }

  #sendSnapshot(process: SimulatedProcess, to: NodeId): void {
    const { world, sendSnapshot } = this.#options;
    const kept = this.#outgoing.get(to);
    if (kept?.isGoing === true) return;
    world.count("snapshots sent");
    const outgoing = kept ?? { image: undefined, isGoing: true };
    outgoing.isGoing = true;
    this.#outgoing.set(to, outgoing);
    const send = (image: Image) => {
      if (!process.isAlive) return;
      outgoing.image = image;
      sendSnapshot(this.id, to, image, () => {
        process.arrive(() => {
          this.#letGo(process, to, outgoing);
          this.#driver?.step({ kind: "snapshotDone", to, ok: false, index: 0 as Index });
        });
      });
    };
    if (outgoing.image === undefined) {
      world.stir();
      this.machine.snapshot(send);
    } else send(outgoing.image);
  }

  /** An attempt is over: one that is made soon goes on with the same image. */
  #letGo(process: SimulatedProcess, to: NodeId, outgoing: Outgoing): void {
    outgoing.isGoing = false;
    if (outgoing.image?.chunks.length === 0) {
      this.#outgoing.delete(to);
      return;
    }
    process.after(keepMs, () => {
      if (!outgoing.isGoing && this.#outgoing.get(to) === outgoing) this.#outgoing.delete(to);
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
    this.#incoming = undefined;
    this.#isReceiving = false;
  }
}
