/** The simulated network: what becomes of a message between two nodes. */
import { decodeMessage, encodeMessage } from "../../src/raft/messages.ts";
import type { Message, NodeId } from "../../src/raft/types.ts";
import type { World } from "./world.ts";

export class Network {
  readonly #world: World;
  readonly #deliver: (message: Message) => void;
  /** "from to" of the directions that carry nothing. */
  readonly #cut = new Set<string>();
  /** Directions that hold back what they carry, until then. */
  readonly #cloggedUntilMs = new Map<string, number>();
  /** Arrival of the last message of each direction, where they keep their order. */
  readonly #lastArrivalMs = new Map<string, number>();

  constructor(world: World, deliver: (message: Message) => void) {
    this.#world = world;
    this.#deliver = deliver;
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cut.has(`${from} ${to}`);
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cut.add(`${from} ${to}`);
  }

  /** Carries everything again, what was clogged at once. */
  heal(): void {
    this.#cut.clear();
    this.#cloggedUntilMs.clear();
    this.#lastArrivalMs.clear();
  }

  clog(from: NodeId, to: NodeId, untilMs: number): void {
    this.#cloggedUntilMs.set(`${from} ${to}`, untilMs);
  }

  send(message: Message): void {
    const { faults, random } = this.#world;
    if (faults.lossPercent > 0 && random.below(100) < faults.lossPercent) {
      this.#world.count("lost");
      return;
    }
    const carried = faults.encodes
      ? decodeMessage(Buffer.from(encodeMessage(message)), message.from, message.to)
      : message;
    this.#carry(carried);
    if (faults.duplicatePercent > 0 && random.below(100) < faults.duplicatePercent) {
      this.#world.count("duplicated");
      this.#carry(carried);
    }
  }

  /** Time that something takes from node to node. */
  delayMs(): number {
    const { faults, random } = this.#world;
    return random.below(50) === 0
      ? random.below(faults.longDelayMs + 1)
      : random.below(faults.delayMs + 1);
  }

  #carry(message: Message): void {
    const { timeline, faults } = this.#world;
    const link = `${message.from} ${message.to}`;
    let atMs = timeline.nowMs + this.delayMs();
    const clogged = this.#cloggedUntilMs.get(link);
    if (clogged !== undefined && clogged > timeline.nowMs) {
      this.#world.count("clogged");
      atMs += clogged - timeline.nowMs;
    }
    const last = this.#lastArrivalMs.get(link) ?? 0;
    if (!faults.reorders) {
      atMs = Math.max(atMs, last);
      this.#lastArrivalMs.set(link, atMs);
    } else if (atMs < last) this.#world.count("reordered");
    else this.#lastArrivalMs.set(link, atMs);
    timeline.after(atMs - timeline.nowMs, () => {
      if (this.#cut.size > 0 && this.#cut.has(link)) {
        this.#world.count("cut off");
        return;
      }
      this.#world.count("delivered");
      this.#deliver(message);
    });
  }
}
