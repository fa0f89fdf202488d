/** Who does harm to a simulated cluster, within the limits in which nothing may be lost. */
import type { NodeId } from "../../src/raft/types.ts";
import type { Harm } from "./faults.ts";
import type { Network } from "./network.ts";
import type { Operator } from "./operator.ts";
import type { SimulatedNode } from "./simulated-node.ts";
import type { World } from "./world.ts";

export interface AdversaryOptions {
  readonly world: World;
  readonly network: Network;
  readonly operator: Operator;
  readonly nodes: () => readonly SimulatedNode[];
}

export class Adversary {
  readonly #options: AdversaryOptions;

  constructor(options: AdversaryOptions) {
    this.#options = options;
    this.#waitAndHarm();
  }

  /** A crash, and a new start some time after. */
  crash(node: SimulatedNode, losesPower: boolean): void {
    if (!node.isUp) return;
    const { world } = this.#options;
    world.count(losesPower ? "power losses" : "kills");
    node.crash(losesPower);
    this.#tellOfEnd(node, world.faults.toldOfEndPercent);
    // At once, while the election that it took part in goes on, or later.
    const downMs = world.random.below(2) === 0 ? 30 : 1000;
    world.timeline.after(1 + world.random.below(downMs), () => node.start());
  }

  /** Tells the others that its process has ended, as the machine does on which it ran. */
  #tellOfEnd(node: SimulatedNode, percent: number): void {
    const { world, network } = this.#options;
    for (const other of this.#running()) {
      if (other === node || world.random.below(100) >= percent) continue;
      world.timeline.after(network.delayMs(), () => {
        world.count("told of an end");
        other.tellGone(node.id);
      });
    }
  }

  #waitAndHarm(): void {
    const { world } = this.#options;
    const { harms, harmEveryMs } = world.faults;
    world.timeline.after(1 + world.random.below(2 * harmEveryMs), () => {
      const harm = harms[world.random.below(Math.max(1, harms.length))];
      if (harm !== undefined && world.faults.harms.includes(harm)) this.#do(harm);
      this.#waitAndHarm();
    });
  }

  #do(harm: Harm): void {
    const { world, network, operator } = this.#options;
    const { random, timeline } = world;
    const node = this.#victim();
    if (node === undefined) return;
    const untilMs = timeline.nowMs + 100 + random.below(2000);
    switch (harm) {
      case "kill":
      case "powerLoss":
        this.crash(node, harm === "powerLoss");
        return;
      case "powerLossOfAll":
        if (random.below(3) > 0) return;
        for (const each of this.#running()) this.crash(each, true);
        return;
      case "partition":
      case "partialPartition":
      case "oneWay":
        world.count(harm);
        this.#cut(harm, node.id);
        timeline.after(untilMs - timeline.nowMs, () => network.heal());
        return;
      case "clog":
        world.count("clogs");
        for (const { id } of this.#running()) {
          if (random.below(2) === 0) network.clog(node.id, id, untilMs);
          if (random.below(2) === 0) network.clog(id, node.id, untilMs);
        }
        return;
      case "pause":
        world.count("pauses");
        node.process?.pause(10 + random.below(2000));
        return;
      case "clockJump":
        world.count("clock jumps");
        node.process?.jump(random.below(10_000));
        return;
      case "slowDisk":
        world.count("slow disks");
        node.files.slowness = 2 + random.below(50);
        timeline.after(untilMs - timeline.nowMs, () => {
          node.files.slowness = 1;
        });
        return;
      case "stalledDisk":
        world.count("stalled disks");
        node.files.stalledUntilMs = untilMs;
        return;
      case "fullDisk":
        world.count("full disks");
        node.files.isFull = true;
        timeline.after(1000 + random.below(3000), () => {
          node.files.isFull = false;
        });
        return;
      case "ioError":
        world.count("i/o errors");
        node.files.failsNextWrite = true;
        return;
      case "bitFlip":
      case "misdirectedWrite":
        if (operator.mayLose(node)) this.#damage(harm, node);
        return;
      case "transfer":
        world.count("transfers asked for");
        node.transfer();
        return;
      case "falseEnd":
        world.count("told of an end that was none");
        this.#tellOfEnd(node, 20 + random.below(81));
        return;
      case "addMember":
      case "removeMember":
      case "replaceMember":
        operator.change(harm);
    }
  }

  /** Changes what the node's disk holds; the node finds out when it starts again. */
  #damage(harm: "bitFlip" | "misdirectedWrite", node: SimulatedNode): void {
    const { world, operator } = this.#options;
    if (harm === "misdirectedWrite") {
      node.files.misdirectsNextWrite = () => {
        if (!operator.mayLose(node)) return false;
        world.count("misdirected writes");
        node.damage();
        return true;
      };
      return;
    }
    if (!node.files.flipBit()) return;
    world.count("flipped bits");
    node.damage();
    if (world.random.below(2) === 0) this.crash(node, world.random.below(2) === 0);
  }

  /** Rather the leader than another one. */
  #victim(): SimulatedNode | undefined {
    const { random } = this.#options.world;
    const nodes = this.#running();
    const leader = nodes.find(({ core }) => core?.role === "leader");
    if (leader !== undefined && random.below(2) === 0) return leader;
    return nodes[random.below(Math.max(1, nodes.length))];
  }

  #running(): readonly SimulatedNode[] {
    return this.#options.nodes().filter(({ isUp }) => isUp);
  }

  #cut(harm: "partition" | "partialPartition" | "oneWay", target: NodeId): void {
    const { network, nodes, world } = this.#options;
    const { random } = world;
    const ids = nodes().map(({ id }) => id);
    const side = new Map(ids.map((id) => [id, random.below(2)]));
    const bridge = ids[random.below(ids.length)]!;
    const isAlone = random.below(2) === 0;
    network.heal();
    for (const from of ids) {
      for (const to of ids) {
        if (from === to) continue;
        if (harm === "partition") {
          const isCut = isAlone
            ? from === target || to === target
            : side.get(from) !== side.get(to);
          if (isCut) network.cut(from, to);
        } else if (harm === "oneWay") {
          if ((isAlone ? from : to) === target && random.below(3) > 0) network.cut(from, to);
        } else if (isAlone ? random.below(3) === 0 : isSplit(from, to)) {
          network.cut(from, to);
        }
      }
    }
    // Two halves that see each other only through one node.
    function isSplit(from: NodeId, to: NodeId): boolean {
      return from !== bridge && to !== bridge && side.get(from) !== side.get(to);
    }
  }
}
