/**
 * A whole cluster in one process, on simulated time, network and disks, replayed by one seed. First anything may go wrong
 * and nothing unsafe may happen; then a core of the cluster is healed, and progress is demanded while the rest stays
 * broken; then everything is healed, and all nodes must come to one state.
 */
import { seededRandom } from "../../src/lib/clock.ts";
import type { Output } from "../../src/raft/core.ts";
import type { Configuration, NodeId } from "../../src/raft/types.ts";
import { Adversary } from "./adversary.ts";
import { Clients } from "./clients.ts";
import { Coverage } from "./coverage.ts";
import { healAndDemandProgress } from "./healing.ts";
import { drawFaults, drawSnapshotFaults, emphasized, type Faults } from "./faults.ts";
import { Invariants } from "./invariants.ts";
import { Network } from "./network.ts";
import { memberOf, Operator } from "./operator.ts";
import type { PlantedBug } from "./planted-bugs.ts";
import { NamespaceWorkload } from "./namespace-workload.ts";
import { plainWorkload } from "./simulated-machine.ts";
import { SimulatedNode } from "./simulated-node.ts";
import { SnapshotTraffic } from "./snapshot-traffic.ts";
import type { Workload } from "./state-machine.ts";
import { require } from "./violation.ts";
import { World } from "./world.ts";

/** Longest simulated time that what must happen may take. */
const progressMs = 30_000;
/** The whole log of the quorum is looked at once in so many events. */
const auditEvery = 64;

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
  /** Whether the nodes hold the product's namespace; by the seed unless told. */
  readonly namespace?: boolean;
}

/** One seed in so many has a cluster of the product's namespace: that takes twice as long. */
const namespaceOneIn = 4;
/** One seed in so many has a lot of one kind of harm. */
const emphasizedOneIn = 5;

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
  readonly workload: Workload;
  readonly #snapshots: SnapshotTraffic;
  readonly #options: SimulationOptions;
  readonly #coverage = new Coverage();
  readonly #byId = new Map<NodeId, SimulatedNode>();
  readonly #configuration: Configuration;

  constructor(options: SimulationOptions) {
    this.#options = options;
    const random = seededRandom(options.seed);
    const drawn = drawFaults(random);
    const isEmphasized = options.seed % emphasizedOneIn === emphasizedOneIn - 1;
    this.world = new World(random, {
      ...(isEmphasized ? emphasized(drawn, random) : drawn),
      ...options.bug?.faults,
      ...options.faults,
    });
    this.invariants = new Invariants((id, index, term) => this.#byId.get(id)!.holds(index, term));
    this.network = new Network(this.world, (message) =>
      this.#byId.get(message.to)?.receive(message),
    );
    this.#snapshots = new SnapshotTraffic(this.world, this.network, (id) => this.#byId.get(id));
    const { bug } = options;
    const isNamespace =
      options.namespace ??
      bug?.namespace ??
      (bug === undefined && options.seed % namespaceOneIn === 0);
    this.workload = isNamespace
      ? new NamespaceWorkload(this.world)
      : plainWorkload(this.world, bug?.remembers);
    if (isNamespace) {
      this.world.count("namespaces");
      const { faults } = this.world;
      const drawnToo = drawSnapshotFaults(random);
      this.world.faults = { ...faults, ...drawnToo, ...bug?.faults, ...options.faults };
    }
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
      { world, invariants: this.invariants, workload: this.workload, nodes: asked },
      1 + random.below(4),
    );
    this.#proposeBursts();
  }

  async run(): Promise<Report> {
    const { world, invariants, clients } = this;
    const nodes = this.nodes.length;
    while (world.timeline.steps < this.#options.steps) await this.step();
    await healAndDemandProgress(this);
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
      machine: this.workload.newMachine(),
      sendSnapshot: (from, to, image, whenOver) => {
        this.#snapshots.carry(from, to, image, whenOver);
      },
      onApplied: (by, entry, outcome) => {
        this.workload.onApplied(entry, outcome);
        this.clients.onApplied(by, entry, outcome);
      },
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

  /** Commands that nobody waits for, many at once. */
  #proposeBursts(): void {
    const { world } = this;
    world.timeline.after(1 + world.random.below(3 * world.faults.useEveryMs), () => {
      const leaders = this.nodes.filter(({ core }) => core?.role === "leader");
      const leader = leaders[world.random.below(Math.max(1, leaders.length))];
      const isIdle = leader === undefined || leader.isPaused || this.clients.areEnding;
      const count = isIdle ? 0 : world.random.below(8);
      for (let i = 0; i < count; i++) {
        leader?.propose(this.workload.drawUnanswered());
      }
      this.#proposeBursts();
    });
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
