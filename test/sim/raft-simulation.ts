/**
 * A whole cluster in one process, on simulated time, network and disks, replayed by one seed. First anything may go wrong
 * and nothing unsafe may happen; then everything heals and progress is demanded.
 */
import { type Random, seededRandom } from "../../src/lib/clock.ts";
import type { Configuration, NodeId } from "../../src/raft/types.ts";
import { drawFaults, type Faults, noFaults, SimulatedNetwork } from "./faults.ts";
import { Invariants, require } from "./invariants.ts";
import { SimulatedNode } from "./simulated-node.ts";
import { Timeline } from "./timeline.ts";

/** Longest simulated time that a healed cluster may take to be of one mind. */
const convergenceMs = 20_000;

export interface Report {
  readonly steps: number;
  readonly simulatedMs: number;
  readonly nodes: number;
  readonly terms: number;
  readonly committed: number;
  readonly crashes: number;
  readonly partitions: number;
  readonly pauses: number;
  readonly snapshots: number;
  readonly dropped: number;
  readonly delivered: number;
}

/**
 * Runs one seed for `steps` events and through its convergence.
 * @throws Violation when an invariant does not hold
 */
export function simulateRaft(seed: number, steps: number): Report {
  return new RaftSimulation(seed).run(steps);
}

class RaftSimulation {
  readonly #random: Random;
  readonly #timeline = new Timeline();
  readonly #invariants: Invariants;
  readonly #nodes: SimulatedNode[];
  readonly #network: SimulatedNetwork;
  #faults: Faults;
  #payload = 0;
  #counts = { crashes: 0, partitions: 0, pauses: 0, snapshots: 0 };

  constructor(seed: number) {
    const random = seededRandom(seed);
    this.#random = random;
    this.#faults = drawFaults(random);
    const ids: NodeId[] = Array.from({ length: 1 + random.below(5) }, (_, i) => `n${i + 1}`);
    const configuration: Configuration = { voters: ids, outgoing: [], learners: [] };
    const timeline = this.#timeline;
    this.#invariants = new Invariants((index, term) => {
      const holders = this.#nodes.filter(({ disk }) => disk.holds(index, term));
      return holders.length * 2 > this.#nodes.length;
    });
    const byId = new Map<NodeId, SimulatedNode>();
    this.#network = new SimulatedNetwork({
      timeline,
      random,
      faults: this.#faults,
      deliver: (message) => byId.get(message.to)!.receive(message),
    });
    const retainedEntries = 1 + random.below(random.below(2) === 0 ? 10 : 200);
    const [fastest, slowest] = this.#faults.tickMs;
    this.#nodes = ids.map((id) => {
      const node: SimulatedNode = new SimulatedNode({
        id,
        configuration,
        timeline,
        random,
        invariants: this.#invariants,
        retainedEntries,
        tickMs: fastest + random.below(slowest - fastest),
        syncMs: () => this.#syncMs(node),
        send: (message) => this.#network.send(message),
        sendSnapshot: (to, snapshot) => {
          this.#counts.snapshots++;
          timeline.after(this.#network.delayMs() * 3, () => {
            const isLost = random.below(100) < this.#faults.lossPercent;
            const isCut = this.#network.isCut(id, to) || this.#network.isCut(to, id);
            if (!isLost && !isCut) byId.get(to)!.install(snapshot, id);
            timeline.after(this.#network.delayMs(), () => node.snapshotOver(to));
          });
        },
      });
      byId.set(id, node);
      return node;
    });
  }

  run(steps: number): Report {
    for (const node of this.#nodes) node.start();
    this.#every(
      () => 1 + this.#random.below(this.#faults.useEveryMs),
      () => this.#useIt(),
    );
    this.#every(
      () => 1 + this.#random.below(2 * this.#faults.faultEveryMs),
      () => this.#harm(),
    );
    const timeline = this.#timeline;
    while (timeline.steps < steps) timeline.step();
    this.#converge();
    return {
      steps: timeline.steps,
      simulatedMs: timeline.nowMs,
      nodes: this.#nodes.length,
      terms: this.#invariants.leaders.size,
      committed: this.#invariants.lastCommitted,
      dropped: this.#network.dropped,
      delivered: this.#network.delivered,
      ...this.#counts,
    };
  }

  /** Heals everything, and demands that what is proposed then is applied everywhere. */
  #converge(): void {
    this.#faults = noFaults;
    this.#network.faults = noFaults;
    this.#network.heal();
    const timeline = this.#timeline;
    for (const node of this.#nodes) {
      node.pausedUntilMs = Math.min(node.pausedUntilMs, timeline.nowMs);
      if (!node.isUp) node.start();
    }
    const goal = this.#invariants.lastCommitted + 10;
    const untilMs = timeline.nowMs + convergenceMs;
    const isThere = () => this.#nodes.every((node) => node.machine.index >= goal);
    while (!isThere()) {
      require(timeline.nowMs < untilMs, `no progress in ${convergenceMs} ms of a healed world`);
      timeline.step();
    }
    const sums = new Map<number, number>();
    for (const { machine, id } of this.#nodes) {
      const sum = sums.get(machine.index) ?? machine.sum;
      require(sum === machine.sum, `${id} holds another state at ${machine.index}`);
      sums.set(machine.index, sum);
    }
  }

  #useIt(): void {
    const random = this.#random;
    const leaders = this.#nodes.filter((node) => node.core?.role === "leader");
    const node = leaders[random.below(Math.max(1, leaders.length))];
    if (node === undefined || node.pausedUntilMs > this.#timeline.nowMs) return;
    const count = random.below(8);
    for (let i = 0; i < count; i++) {
      node.propose(Buffer.alloc(random.below(40), String(++this.#payload)));
    }
    if (random.below(3) === 0) node.read();
    if (random.below(200) === 0) node.transfer();
  }

  #harm(): void {
    const random = this.#random;
    const { crashes, partitions, pauses } = this.#faults;
    // Rather the leader than another one.
    const leader = this.#nodes.find(({ core }) => core?.role === "leader");
    const any = this.#nodes[random.below(this.#nodes.length)]!;
    const node = random.below(2) === 0 ? (leader ?? any) : any;
    switch (random.below(6)) {
      case 0:
        if (crashes) this.#crash(node);
        return;
      case 1:
        if (crashes && random.below(5) === 0) for (const each of this.#nodes) this.#crash(each);
        return;
      case 2:
      case 3:
        if (!partitions) return;
        this.#counts.partitions++;
        this.#network.partition(
          this.#nodes.map(({ id }) => id),
          node.id,
        );
        return;
      case 4:
        this.#network.heal();
        return;
      default:
        if (!pauses) return;
        this.#counts.pauses++;
        node.pausedUntilMs = this.#timeline.nowMs + random.below(2000);
    }
  }

  #crash(node: SimulatedNode): void {
    if (!node.isUp) return;
    this.#counts.crashes++;
    node.crash();
    this.#timeline.after(1 + this.#random.below(1000), () => {
      if (!node.isUp) node.start();
    });
  }

  /** Time of a sync; crashes are likelier while one is under way. */
  #syncMs(node: SimulatedNode): number {
    const random = this.#random;
    const { syncMs, stallOneIn, crashInSyncOneIn, crashes } = this.#faults;
    const isOneIn = (count: number) => Number.isFinite(count) && random.below(count) === 0;
    const ms = 1 + random.below(isOneIn(stallOneIn) ? syncMs * 50 : syncMs);
    if (crashes && isOneIn(crashInSyncOneIn)) {
      this.#timeline.after(random.below(ms), () => this.#crash(node));
    }
    return ms;
  }

  #every(periodMs: () => number, action: () => void): void {
    const delayMs = periodMs();
    if (!Number.isFinite(delayMs)) {
      this.#timeline.after(1000, () => this.#every(periodMs, action));
      return;
    }
    this.#timeline.after(delayMs, () => {
      action();
      this.#every(periodMs, action);
    });
  }
}
