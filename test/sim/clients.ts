/**
 * Clients of a simulated cluster. Each has a session and does one thing after the other: writes, which it sends again, to
 * another node, until it gets an answer; and linearizable reads, on leaders and followers.
 *
 * Invariants that they check
 * 1. Exactly once: a request is executed at one position of the log, on every node, and that is what its client is told.
 * 2. Linearizability: whatever begins after something was answered takes effect behind it.
 */
import type { Entry, NodeId } from "../../src/raft/types.ts";
import type { Invariants } from "./invariants.ts";
import { encodeRequest, requestOf } from "./simulated-machine.ts";
import type { SimulatedNode } from "./simulated-node.ts";
import { require } from "./violation.ts";
import type { World } from "./world.ts";

const retryMs = 400;

export interface ClientsOptions {
  readonly world: World;
  readonly invariants: Invariants;
  /** The nodes that may be asked. */
  readonly nodes: () => readonly SimulatedNode[];
}

export class Clients {
  readonly #options: ClientsOptions;
  /** By session: where its requests were executed, one after the other. */
  readonly #executed = new Map<number, number[]>();
  /** Position of the last thing that anybody was told of. */
  #answered = 0;
  writes = 0;
  reads = 0;

  constructor(options: ClientsOptions, count: number) {
    this.#options = options;
    for (let session = 1; session <= count; session++) {
      this.#executed.set(session, []);
      this.#later(() => this.#live(session, 1));
    }
  }

  /** A node has executed a request that it had not seen before. */
  onExecuted(id: NodeId, { index, payload }: Entry): void {
    const { session, sequence } = requestOf(payload)!;
    const places = this.#executed.get(session)!;
    const known = places[sequence];
    require(known === undefined || known === index, () =>
      `${id} executes request ${sequence} of session ${session} at ${index}, and at ${known ?? 0} before`);
    places[sequence] = index;
  }

  #live(session: number, sequence: number): void {
    const { world } = this.#options;
    if (world.random.below(3) === 0) {
      this.#read(() => this.#later(() => this.#live(session, sequence)));
    } else {
      const floor = this.#answered;
      this.#write(session, sequence, (position) => {
        const executed = this.#executed.get(session)![sequence];
        require(position === executed, () =>
          `session ${session} is told ${position} of request ${sequence}, which ran at ${executed ?? 0}`);
        require(position > floor, () =>
          `a write takes effect at ${position}, begun when ${floor} was answered`);
        this.#answered = Math.max(this.#answered, position);
        this.writes++;
        this.#later(() => this.#live(session, sequence + 1));
      });
    }
  }

  /** Sends a request until it is answered. */
  #write(session: number, sequence: number, whenDone: (position: number) => void): void {
    const { world } = this.#options;
    let isOver = false;
    const payload = encodeRequest(session, sequence, world.random.below(30));
    const node = this.#someNode(true);
    const isTaken = node?.propose(payload, (position) => {
      if (isOver || position === undefined) return;
      isOver = true;
      whenDone(position);
    });
    if (isTaken !== true) isOver = true;
    world.timeline.after(isTaken === true ? retryMs : 20, () => {
      if (isOver && isTaken === true) return;
      if (isTaken === true) world.count("requests sent again");
      // Answers that come late are not listened to, as by a client that has moved on.
      isOver = true;
      this.#write(session, sequence, whenDone);
    });
  }

  #read(whenDone: () => void): void {
    const { world, invariants } = this.#options;
    const node = this.#someNode(world.random.below(2) === 0);
    const floor = Math.max(this.#answered, invariants.lastCommitted);
    let isOver = false;
    const finish = () => {
      if (isOver) return;
      isOver = true;
      whenDone();
    };
    node?.read((index) => {
      if (index !== undefined) {
        invariants.checkRead(node.id, index, floor);
        this.#answered = Math.max(this.#answered, index);
        this.reads++;
        if (node.core?.role !== "leader") world.count("reads on followers");
      }
      finish();
    });
    world.timeline.after(retryMs, finish);
  }

  #someNode(wantsLeader: boolean): SimulatedNode | undefined {
    const { world, nodes } = this.#options;
    const up = nodes().filter(({ core, isPaused }) => core !== undefined && !isPaused);
    const leaders = up.filter(({ core }) => core?.role === "leader");
    const among = wantsLeader && leaders.length > 0 ? leaders : up;
    return among[world.random.below(Math.max(1, among.length))];
  }

  #later(action: () => void): void {
    const { world } = this.#options;
    world.timeline.after(1 + world.random.below(world.faults.useEveryMs), action);
  }
}
