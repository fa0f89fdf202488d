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
import type { Answer, SimulatedNode } from "./simulated-node.ts";
import type { ClientRequest, Outcome, Workload } from "./state-machine.ts";
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

/** Something that it asks for. */
interface Asked {
  readonly sequence: number;
  readonly encode: (request: ClientRequest) => Uint8Array;
}

export interface ClientsOptions {
  readonly world: World;
  readonly invariants: Invariants;
  readonly workload: Workload;
  /** The nodes that may be asked. */
  readonly nodes: () => readonly SimulatedNode[];
}

export class Clients {
  readonly #options: ClientsOptions;
  /** By session: where its requests were executed, one after the other. */
  readonly #executed = new Map<number, number[]>();
  /** They begin nothing new; what they have begun they bring to its end. */
  areEnding = false;
  /** What they have begun. */
  #underWay = 0;
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

  /** Everything that they have begun was answered. */
  get areDone(): boolean {
    return this.areEnding && this.#underWay === 0;
  }

  /** A node has applied an entry. */
  onApplied(id: NodeId, { index }: Entry, { of, served }: Outcome): void {
    if (of === undefined || served !== "execute") return;
    const { session, sequence } = of;
    const places = this.#executed.get(session)!;
    const known = places[sequence];
    require(known === undefined || known === index, () =>
      `${id} executes request ${sequence} of session ${session} at ${index}, and at ${known ?? 0} before`);
    places[sequence] = index;
  }

  #live(client: Client): void {
    const { world } = this.#options;
    if (this.areEnding) return;
    this.#underWay++;
    const goOn = () => {
      this.#underWay--;
      this.#later(() => this.#live(client));
    };
    if (world.random.below(3) === 0) {
      this.#read(goOn);
      return;
    }
    const { session } = client;
    const sequence = client.nextSequence++;
    client.waiting.add(sequence);
    const floor = this.#answered;
    const encode = this.#options.workload.draw(session);
    this.#write(client, { sequence, encode }, ({ position, answer }) => {
      const executed = this.#executed.get(session)![sequence];
      require(position === executed, () =>
        `session ${session} is told ${position} of request ${sequence}, which ran at ${executed ?? 0}`);
      require(position > floor, () =>
        `a write takes effect at ${position}, begun when ${floor} was answered`);
      this.#options.workload.onAnswered(position, answer);
      this.#answered = Math.max(this.#answered, position);
      this.writes++;
      client.waiting.delete(sequence);
      goOn();
    });
  }

  /** Sends a request until it is answered. */
  #write(client: Client, asked: Asked, whenDone: (outcome: Outcome) => void): void {
    const { world } = this.#options;
    const { sequence } = asked;
    let isOver = false;
    const acknowledgedBelow = Math.min(...client.waiting);
    const { session } = client;
    const payload = asked.encode({ session, sequence, acknowledgedBelow });
    if (world.oneIn(lateCopyOneIn)) this.#sendLate(payload);
    const node = this.#someNode(true);
    const isTaken = node?.propose(payload, (answer: Answer) => {
      if (isOver || answer === "lost") return;
      require(answer.served !== "refuse", () =>
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
      this.#write(client, asked, whenDone);
    });
  }

  /** A copy of a request that was on its way for long: nobody waits for what comes of it. */
  #sendLate(payload: Uint8Array): void {
    const { world } = this.#options;
    world.timeline.after(world.random.below(4 * retryMs), () => {
      if (this.#someNode(true)?.propose(payload) === true) world.count("late copies");
    });
  }

  #read(whenDone: () => void): void {
    const { world, invariants, workload } = this.#options;
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
        workload.look(node.machine);
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
