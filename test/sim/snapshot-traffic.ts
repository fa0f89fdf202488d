/**
 * Snapshots on their way between nodes, chunk by chunk: a transfer may break off, go on where it stopped, and bring chunks
 * that are not those that were sent.
 */
import type { NodeId } from "../../src/raft/types.ts";
import type { Network } from "./network.ts";
import type { SimulatedNode } from "./simulated-node.ts";
import type { Image } from "./state-machine.ts";
import type { World } from "./world.ts";

interface Transfer {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly image: Image;
  /** In which the sender leads. */
  readonly term: number;
  readonly whenOver: () => void;
}

export class SnapshotTraffic {
  readonly #world: World;
  readonly #network: Network;
  readonly #nodeOf: (id: NodeId) => SimulatedNode | undefined;

  constructor(world: World, network: Network, nodeOf: (id: NodeId) => SimulatedNode | undefined) {
    this.#world = world;
    this.#network = network;
    this.#nodeOf = nodeOf;
  }

  /** Brings an image from node to node, or not; calls back when the attempt is over. */
  carry(from: NodeId, to: NodeId, image: Image, whenOver: () => void): void {
    const transfer = { from, to, image, term: this.#nodeOf(from)?.core?.term ?? 0, whenOver };
    if (image.chunks.length === 0) {
      const durationMs = 2 * this.#network.delayMs() + this.#world.random.below(20);
      this.#world.timeline.after(durationMs, () => this.#finish(transfer));
      return;
    }
    if ((this.#nodeOf(to)?.received(image) ?? 0) > 0) this.#world.count("snapshots resumed");
    this.#sendNext(transfer);
  }

  #sendNext(transfer: Transfer): void {
    const { from, to, image, term, whenOver } = transfer;
    const world = this.#world;
    const network = this.#network;
    const place = this.#nodeOf(to)?.received(image) ?? 0;
    world.timeline.after(1 + network.delayMs(), () => {
      if (place >= image.chunks.length) {
        this.#finish(transfer);
        return;
      }
      const chunk = image.chunks[place]!;
      const isLost = this.#isLost(from, to) || world.oneIn(world.faults.breakOneIn);
      const arrived = this.#arrived(image, chunk);
      if (isLost || this.#nodeOf(to)?.receiveChunk(image, term, arrived) !== true) {
        world.count("snapshots interrupted");
        world.timeline.after(network.delayMs(), whenOver);
        return;
      }
      this.#sendNext(transfer);
    });
  }

  /** The receiver has all, if it is heard that this is the end. */
  #finish({ from, to, image, whenOver }: Transfer): void {
    if (!this.#isLost(from, to)) this.#nodeOf(to)?.install(image, from);
    this.#world.timeline.after(this.#network.delayMs(), whenOver);
  }

  #isLost(from: NodeId, to: NodeId): boolean {
    const { random, faults } = this.#world;
    return this.#network.isCut(from, to) || random.below(100) < faults.lossPercent;
  }

  /** A chunk as it arrives: with a flipped bit, or another one of the same snapshot in its place. */
  #arrived(image: Image, chunk: Uint8Array): Uint8Array {
    const { random, faults } = this.#world;
    if (!this.#world.oneIn(faults.damageOneIn)) return chunk;
    this.#world.count("chunks damaged");
    const other = image.chunks[random.below(image.chunks.length)]!;
    if (other !== chunk) return other;
    const damaged = Uint8Array.from(chunk);
    const at = random.below(damaged.length);
    damaged[at] = damaged[at]! ^ (1 << random.below(8));
    return damaged;
  }
}
