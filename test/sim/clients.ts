/**
 * Clients of a simulated cluster. Each has a session and does a few things at a time: writes, which it sends again, to
 * another node, until it gets an answer; and linearizable reads, on leaders and followers. Copies of what it sends may
 * come late, when it has long got its answer.
 *
 * Invariants that they check
 * 1. Exactly once: a request is executed at one position of the log, on every node, and that is what its client is told;
 *    no request is refused of which the client has not acknowledged the answer.
 * 2. Linearizability: whatever begins after something was answered takes effect behind it.
 */
import type { Entry, NodeId } from "../../src/raft/types.ts";
import type { Invariants } from "./invariants.ts";
import { encodeRequest, requestOf } from "./simulated-machine.ts";
import type { Answer, SimulatedNode } from "./simulated-node.ts";
import { require } from "./violation.ts";
import type { World } from "./world.ts";

const retryMs = 400;
/** One request in so many has a copy that comes late. */
const lateCopyOneIn = 8;

/** A client, as it knows itself. */
interface Client {
  readonly session: number;
  nextSequence: number;
  /** Requests that are not answered. */
  readonly waiting: Set<number>;
}

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
      const client = { session, nextSequence: 0, waiting: new Set<number>() };
      const atATime = 1 + options.world.random.below(3);
      for (let i = 0; i < atATime; i++) this.#later(() => this.#live(client));
    }
  }

  /** A node has executed a request, and not answered it as before. */
  onExecuted(id: NodeId, { index, payload }: Entry): void {
    const { session, sequence } = requestOf(payload)!;
    const places = this.#executed.get(session)!;
    const known = places[sequence];
    require(known === undefined || known === index, () =>
      `${id} executes request ${sequence} of session ${session} at ${index}, and at ${known ?? 0} before`);
    places[sequence] = index;
  }

  #live(client: Client): void {
    const { world } = this.#options;
    const goOn = () => this.#later(() => this.#live(client));
    if (world.random.below(3) === 0) {
      this.#read(goOn);
      return;
    }
    const { session } = client;
    const sequence = client.nextSequence++;
    client.waiting.add(sequence);
    const floor = this.#answered;
    this.#write(client, sequence, (position) => {
      const executed = this.#executed.get(session)![sequence];
      require(position === executed, () =>
        `session ${session} is told ${position} of request ${sequence}, which ran at ${executed ?? 0}`);
      require(position > floor, () =>
        `a write takes effect at ${position}, begun when ${floor} was answered`);
      this.#answered = Math.max(this.#answered, position);
      this.writes++;
      client.waiting.delete(sequence);
      goOn();
    });
  }

  /** Sends a request until it is answered. */
  #write(client: Client, sequence: number, whenDone: (position: number) => void): void {
    const { world } = this.#options;
    let isOver = false;
    const acknowledgedBelow = Math.min(...client.waiting);
    const { session } = client;
    const request = { session, sequence, acknowledgedBelow };
    const payload = encodeRequest(request, world.random.below(30));
    if (world.oneIn(lateCopyOneIn)) this.#sendLate(payload);
    const node = this.#someNode(true);
    const isTaken = node?.propose(payload, (answer: Answer) => {
      if (isOver || answer === "lost") return;
      require(answer !== "refused", () =>
        `request ${sequence} of session ${session} is refused, its answer is not acknowledged`);
      isOver = true;
      whenDone(answer);
    });
    if (isTaken !== true) isOver = true;
    world.timeline.after(isTaken === true ? retryMs : 20, () => {
      if (isOver && isTaken === true) return;
      if (isTaken === true) world.count("requests sent again");
      // Answers that come late are not listened to, as by a client that has moved on.
      isOver = true;
      this.#write(client, sequence, whenDone);
    });
  }

  /** A copy of a request that was on its way for long: nobody waits for what comes of it. */
  #sendLate(payload: Buffer): void {
    const { world } = this.#options;
    world.timeline.after(world.random.below(4 * retryMs), () => {
      if (this.#someNode(true)?.propose(payload) === true) world.count("late copies");
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
