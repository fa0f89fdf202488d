/** How hostile the world of one seed is, and its network. Each seed draws its own measures. */
import type { Random } from "../../src/lib/clock.ts";
import type { Message, NodeId } from "../../src/raft/types.ts";
import type { Timeline } from "./timeline.ts";

export interface Faults {
  /** Percent of messages. */
  lossPercent: number;
  duplicatePercent: number;
  /** Longest delay of most messages, and of one in fifty. */
  delayMs: number;
  longDelayMs: number;
  syncMs: number;
  /** One sync in so many takes fifty times as long; during one in so many the node crashes. */
  stallOneIn: number;
  crashInSyncOneIn: number;
  /** Longest time between two uses of the cluster: with less use, as many steps see more faults. */
  useEveryMs: number;
  /** Range of the nodes' tick periods: no two clocks run alike. */
  tickMs: readonly [from: number, to: number];
  /** Mean time between two faults of the kinds below. */
  faultEveryMs: number;
  crashes: boolean;
  partitions: boolean;
  pauses: boolean;
}

export function drawFaults(random: Random): Faults {
  const oneIn = (count: number) => random.below(count) === 0;
  return {
    lossPercent: oneIn(3) ? 0 : random.below(30),
    duplicatePercent: oneIn(2) ? 0 : random.below(20),
    delayMs: 1 + random.below(oneIn(3) ? 60 : 10),
    longDelayMs: 1 + random.below(500),
    syncMs: 1 + random.below(oneIn(4) ? 100 : 10),
    stallOneIn: oneIn(2) ? 200 : 4 + random.below(40),
    crashInSyncOneIn: oneIn(2) ? 500 : 10 + random.below(90),
    useEveryMs: 5 + random.below(oneIn(2) ? 20 : 300),
    tickMs: oneIn(2) ? [8, 13] : [4, 30],
    faultEveryMs: 50 + random.below(800),
    crashes: !oneIn(5),
    partitions: !oneIn(5),
    pauses: !oneIn(4),
  };
}

/** A world in which nothing goes wrong. */
export const noFaults: Faults = {
  lossPercent: 0,
  duplicatePercent: 0,
  delayMs: 2,
  longDelayMs: 2,
  syncMs: 2,
  stallOneIn: Number.POSITIVE_INFINITY,
  crashInSyncOneIn: Number.POSITIVE_INFINITY,
  useEveryMs: 20,
  tickMs: [10, 11],
  faultEveryMs: Number.POSITIVE_INFINITY,
  crashes: false,
  partitions: false,
  pauses: false,
};

export class SimulatedNetwork {
  faults: Faults;
  dropped = 0;
  delivered = 0;
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #deliver: (message: Message) => void;
  /** "from to" of the directions that carry nothing. */
  readonly #cut = new Set<string>();

  constructor(options: {
    timeline: Timeline;
    random: Random;
    faults: Faults;
    deliver: (message: Message) => void;
  }) {
    this.#timeline = options.timeline;
    this.#random = options.random;
    this.faults = options.faults;
    this.#deliver = options.deliver;
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cut.has(`${from} ${to}`);
  }

  heal(): void {
    this.#cut.clear();
  }

  /** Cuts single directions, one node (rather `target`) off, or two halves apart. */
  partition(ids: readonly NodeId[], target: NodeId): void {
    this.heal();
    const random = this.#random;
    const side = new Map(ids.map((id) => [id, random.below(2)]));
    const company = ids[random.below(ids.length)]!;
    const isIn = (id: NodeId) => id === target || id === company;
    const kind = random.below(5);
    for (const from of ids) {
      for (const to of ids) {
        const isCut = [
          side.get(from) !== side.get(to),
          from === target || to === target,
          isIn(from) !== isIn(to),
          random.below(2) === 0 && from === target,
          random.below(3) === 0,
        ][kind]!;
        if (isCut && from !== to) this.#cut.add(`${from} ${to}`);
      }
    }
  }

  send(message: Message): void {
    const { lossPercent, duplicatePercent } = this.faults;
    if (this.#random.below(100) < lossPercent) {
      this.dropped++;
      return;
    }
    this.#carry(message);
    if (this.#random.below(100) < duplicatePercent) this.#carry(message);
  }

  /** Time that something takes from node to node. */
  delayMs(): number {
    const { delayMs, longDelayMs } = this.faults;
    return this.#random.below(50) === 0
      ? this.#random.below(longDelayMs + 1)
      : this.#random.below(delayMs + 1);
  }

  #carry(message: Message): void {
    this.#timeline.after(this.delayMs(), () => {
      if (this.isCut(message.from, message.to)) {
        this.dropped++;
        return;
      }
      this.delivered++;
      this.#deliver(message);
    });
  }
}
