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

  /** Cuts single directions, one node off, or two halves apart. */
  partition(ids: readonly NodeId[]): void {
    this.heal();
    const random = this.#random;
    const side = new Map(ids.map((id) => [id, random.below(2)]));
    const alone = ids[random.below(ids.length)]!;
    const kind = random.below(4);
    for (const from of ids) {
      for (const to of ids) {
        const isCut = [
          side.get(from) !== side.get(to),
          from === alone || to === alone,
          random.below(2) === 0 && from === alone,
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
