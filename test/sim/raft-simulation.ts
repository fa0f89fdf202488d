/**
 * A whole cluster in one process, on simulated time, network and disks, replayed by one seed. First anything may go wrong
 * and nothing unsafe may happen; then a core of the cluster is healed, and progress is demanded while the rest stays
 * broken; then everything is healed, and all nodes must come to one state.
 */
import { seededRandom } from "../../src/lib/clock.ts";
import { membersOf } from "../../src/raft/configuration.ts";
import type { Output } from "../../src/raft/core.ts";
import type { Configuration, NodeId } from "../../src/raft/types.ts";
import { Adversary } from "./adversary.ts";
import { Clients } from "./clients.ts";
import { Coverage } from "./coverage.ts";
import { calm, drawFaults, type Faults } from "./faults.ts";
import { Invariants } from "./invariants.ts";
import { Network } from "./network.ts";
import { decide, memberOf, Operator } from "./operator.ts";
import type { PlantedBug } from "./planted-bugs.ts";
import { encodeRequest, type MachineState } from "./simulated-machine.ts";
import { SimulatedNode } from "./simulated-node.ts";
import { require } from "./violation.ts";
import { World } from "./world.ts";

/** Longest simulated time that a healed core, or cluster, may take to make progress. */
const progressMs = 30_000;
/** A healed core has not done its work before so many commands were committed. */
const progressCommands = 10;
/** The whole log of the quorum is looked at once in so many events. */
const auditEvery = 64;

/** What may be the matter with a node that is not healed; a deaf one hears nobody, a mute one is heard by nobody. */
const brokenWays = ["down", "paused", "stalled", "deaf", "mute", "apart"] as const;

export interface Report {
  readonly seed: number;
  /** Events that happened, before and after the healing. */
  readonly steps: number;
  readonly simulatedMs: number;
  /** Nodes at the beginning. */
  readonly nodes: number;
  readonly terms: number;
  readonly committed: number;
  readonly writes: number;
  readonly reads: number;
  /** Equal for two runs of one seed. */
  readonly digest: number;
  /** What happened how often. */
  readonly counts: ReadonlyMap<string, number>;
  /** Hashes of the situations that the cluster was in. */
  readonly situations: ReadonlySet<number>;
}

export interface SimulationOptions {
  readonly seed: number;
  /** Events until everything heals. */
  readonly steps: number;
  readonly bug?: PlantedBug | undefined;
  /** In place of what the seed would draw. */
  readonly faults?: Partial<Faults>;
  readonly nodes?: number;
}

/**
 * Runs one seed.
 * @throws Violation when an invariant does not hold, or no progress is made where it must be
 */
export async function simulateRaft(options: SimulationOptions): Promise<Report> {
  return new RaftSimulation(options).run();
}

export class RaftSimulation {
  readonly world: World;
  readonly invariants: Invariants;
  readonly network: Network;
  readonly nodes: SimulatedNode[] = [];
  readonly operator: Operator;
  readonly adversary: Adversary;
  readonly clients: Clients;
  readonly #options: SimulationOptions;
  readonly #coverage = new Coverage();
  readonly #byId = new Map<NodeId, SimulatedNode>();
  readonly #configuration: Configuration;
  #sequence = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    const random = seededRandom(options.seed);
    this.world = new World(random, {
      ...drawFaults(random),
      ...options.bug?.faults,
      ...options.faults,
    });
    this.invariants = new Invariants((id, index, term) => this.#byId.get(id)!.holds(index, term));
    this.network = new Network(this.world, (message) =>
      this.#byId.get(message.to)?.receive(message),
    );
    const count = options.nodes ?? [1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7][random.below(12)]!;
    const ids = Array.from({ length: count }, (_, place) => `n${place + 1}`);
    this.#configuration = {
      voters: ids,
      outgoing: [],
      learners: [],
      members: ids.map((id) => memberOf(id, false)),
    };
    while (this.nodes.length < count) this.#addNode();
    const { world, network } = this;
    const nodes = () => this.nodes;
    this.operator = new Operator({ world, nodes, addNode: () => this.#addNode() });
    this.adversary = new Adversary({ world, network, nodes, operator: this.operator });
    const asked = () => this.nodes.filter(({ isRetired }) => !isRetired);
    this.clients = new Clients(
      { world, invariants: this.invariants, nodes: asked },
      1 + random.below(4),
    );
    this.#proposeBursts();
  }

  async run(): Promise<Report> {
    const { world, invariants, clients } = this;
    const nodes = this.nodes.length;
    while (world.timeline.steps < this.#options.steps) await this.step();
    await this.#demandProgressOfCore();
    await this.#demandOneState();
    return {
      seed: this.#options.seed,
      steps: world.timeline.steps,
      simulatedMs: Math.round(world.timeline.nowMs),
      nodes,
      terms: invariants.leaders.size,
      committed: invariants.lastCommitted,
      writes: clients.writes,
      reads: clients.reads,
      digest: world.digest,
      counts: world.counts,
      situations: this.#coverage.seen,
    };
  }

  /** Lets the next thing happen, and looks whether everything still holds. */
  async step(): Promise<void> {
    const { world } = this;
    const settled = world.step();
    if (settled !== undefined) await settled;
    if (world.failure !== undefined) throw world.failure;
    if (world.timeline.steps % auditEvery === 0) this.#audit();
  }

  /** Lets things happen until `holds`, for a while at most. */
  async until(what: string, holds: () => boolean, limitMs = progressMs): Promise<void> {
    const untilMs = this.world.timeline.nowMs + limitMs;
    while (!holds()) {
      require(this.world.timeline.nowMs < untilMs, () =>
        `${what}: not within ${limitMs} ms\n${this.nodes.map(shown).join("\n")}`);
      await this.step();
    }
  }

  #audit(): void {
    let leader: SimulatedNode["core"];
    for (const { core } of this.nodes) {
      if (core?.role === "leader" && core.term > (leader?.term ?? 0)) leader = core;
    }
    if (leader !== undefined) this.invariants.checkQuorumLog(leader.configuration);
  }

  #addNode(): SimulatedNode {
    const { world, invariants } = this;
    const id = `n${this.nodes.length + 1}`;
    const node: SimulatedNode = new SimulatedNode({
      world,
      id,
      configuration: this.#configuration,
      invariants,
      bug: this.#options.bug,
      send: (message) => this.network.send(message),
      sendSnapshot: (from, to, state, whenOver) => this.#carry(from, to, state, whenOver),
      onExecuted: (by, entry) => this.clients.onExecuted(by, entry),
      onOutput: (of, output) => this.#onOutput(of, output),
    });
    node.files.onWrite = (durationMs) => {
      if (!world.oneIn(world.faults.crashInSyncOneIn)) return;
      world.timeline.after(world.random.below(Math.ceil(durationMs)), () => {
        this.adversary.crash(node, true);
      });
    };
    this.nodes.push(node);
    this.#byId.set(id, node);
    node.start();
    return node;
  }

  #onOutput(_node: SimulatedNode, output: Output): void {
    if (output.persist === undefined && output.apply.length === 0) return;
    this.#coverage.observe(this.nodes, this.invariants);
  }

  #carry(from: NodeId, to: NodeId, state: MachineState, whenOver: () => void): void {
    const { world, network } = this;
    const durationMs = 2 * network.delayMs() + world.random.below(20);
    world.timeline.after(durationMs, () => {
      const isLost = network.isCut(from, to) || world.random.below(100) < world.faults.lossPercent;
      if (!isLost) this.#byId.get(to)?.install(state, from);
      world.timeline.after(network.delayMs(), whenOver);
    });
  }

  /** Commands that nobody waits for, many at once. */
  #proposeBursts(): void {
    const { world } = this;
    world.timeline.after(1 + world.random.below(3 * world.faults.useEveryMs), () => {
      const leaders = this.nodes.filter(({ core }) => core?.role === "leader");
      const leader = leaders[world.random.below(Math.max(1, leaders.length))];
      const count = leader === undefined || leader.isPaused ? 0 : world.random.below(8);
      for (let i = 0; i < count; i++) {
        const sequence = ++this.#sequence;
        const request = { session: 0, sequence, acknowledgedBelow: 0 };
        leader?.propose(encodeRequest(request, world.random.below(40)));
      }
      this.#proposeBursts();
    });
  }

  /**
   * Nodes that decide alone in every configuration that may be in force, as few as chance finds, and all learners: they
   * may become voters while nobody looks.
   */
  #chooseCore(): readonly SimulatedNode[] {
    const { random } = this.world;
    const configurations = this.#configurationsInForce();
    const members = new Set(configurations.flatMap(membersOf));
    const sound = this.nodes.filter((node) => node.isSound && members.has(node.id));
    for (let place = sound.length - 1; place > 0; place--) {
      const other = random.below(place + 1);
      [sound[place], sound[other]] = [sound[other]!, sound[place]!];
    }
    const learners = new Set(configurations.flatMap((configuration) => configuration.learners));
    const core = sound.filter(({ id }) => learners.has(id));
    for (const node of sound) {
      const ids = core.map(({ id }) => id);
      if (configurations.every((configuration) => decide(configuration, ids))) break;
      if (!core.includes(node)) core.push(node);
    }
    return core;
  }

  #configurationsInForce(): readonly Configuration[] {
    return this.nodes.filter(({ isRetired, isLost }) => !isRetired && !isLost).map((n) => n.known);
  }

  async #demandProgressOfCore(): Promise<void> {
    const { world, network, invariants } = this;
    world.faults = calm(world.faults);
    network.heal();
    for (const { files } of this.nodes) {
      files.isFull = false;
      files.stalledUntilMs = 0;
      files.slowness = 1;
      files.failsNextWrite = false;
      files.misdirectsNextWrite = undefined;
    }
    const core = this.#chooseCore();
    // With links of the rest to only some of the core, one of the rest may lead, and a node of the core that it does not
    // reach is left behind for as long as the others hear that leader: then progress of the cluster is all there can be.
    const isPartial = world.random.below(4) === 0;
    const rest = this.nodes.filter((node) => !core.includes(node));
    for (const node of rest) this.#break(node, isPartial);
    for (const node of core) {
      node.process?.resume();
      node.start();
    }
    const goal = invariants.lastCommitted + progressCommands;
    const { writes, reads } = this.clients;
    // A learner of a change that came to nothing may be switched off, while a node that is cut off still goes by it.
    const isThere = ({ id, machine, isRetired }: SimulatedNode) =>
      machine.index >= goal || isRetired || !this.#isMember(id);
    await this.until(
      `the healed nodes ${core.map(({ id }) => id).join(" ")} commit, apply and answer`,
      () =>
        (isPartial ? core.some(isThere) : core.every(isThere)) &&
        this.clients.writes > writes &&
        this.clients.reads > reads,
    );
  }

  #isMember(id: NodeId): boolean {
    const configuration = this.operator.latest;
    return configuration !== undefined && membersOf(configuration).includes(id);
  }

  /** Leaves a node outside the core as badly off as it may be. */
  #break(node: SimulatedNode, isPartial: boolean): void {
    const { network, world, nodes } = this;
    const { random } = world;
    world.count("left broken");
    const way = isPartial ? "partial" : brokenWays[random.below(brokenWays.length)]!;
    if (way === "down") node.crash(true);
    if (way === "paused") node.process?.pause(1e9);
    if (way === "stalled") node.files.stalledUntilMs = 1e9;
    for (const { id } of nodes) {
      const isSome = way === "partial" && random.below(2) === 0;
      if (way === "deaf" || way === "apart" || isSome) network.cut(id, node.id);
      if (way === "mute" || way === "apart" || isSome) network.cut(node.id, id);
    }
  }

  async #demandOneState(): Promise<void> {
    const { world, network, invariants } = this;
    network.heal();
    for (const node of this.nodes) {
      node.files.stalledUntilMs = 0;
      node.process?.resume();
      node.start();
    }
    const goal = invariants.lastCommitted + progressCommands;
    await this.until("all sound members come to one state", () => {
      const configuration = this.operator.latest;
      if (configuration === undefined) return false;
      return membersOf(configuration).every((id) => {
        const node = this.#byId.get(id)!;
        return !node.isSound || node.machine.index >= goal;
      });
    });
    world.count("converged");
  }
}

function shown(node: SimulatedNode): string {
  const { id, core, machine, isUp, isLost, isRetired, isDamaged, isPaused } = node;
  const marks = Object.entries({ isUp, isLost, isRetired, isDamaged, isPaused });
  const state = marks.flatMap(([name, holds]) => (holds ? [name.slice(2).toLowerCase()] : []));
  const { voters, outgoing, learners } = node.known;
  const configuration = `${voters.join(" ")} | ${outgoing.join(" ")} | ${learners.join(" ")}`;
  const log =
    core === undefined
      ? ""
      : `${core.role} of term ${core.term}, log ${core.baseIndex} to ${core.lastIndex}, commit ${core.commitIndex}, `;
  return `${id}: ${state.join(" ")}; ${log}applied ${machine.index}, [${configuration}]`;
}
