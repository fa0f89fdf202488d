/** Cores that talk to each other in this process, each message and each write under the test's control. */
import { type Random, seededRandom } from "../../../src/lib/clock.ts";
import { type Output, RaftCore } from "../../../src/raft/core.ts";
import type { ReadResult } from "../../../src/raft/read-index.ts";
import type { CoreOptions } from "../../../src/raft/state.ts";
import type { Entry, Index, Message, NodeId, Term } from "../../../src/raft/types.ts";

/** A core with defaults for what a test does not care about. */
export function makeCore(options: Partial<CoreOptions> & { voters: readonly NodeId[] }): RaftCore {
  return new RaftCore({
    id: options.voters[0]!,
    configuration: { voters: options.voters, outgoing: [], learners: [] },
    hardState: { term: 0 as Term, vote: undefined },
    entries: [],
    baseIndex: 0 as Index,
    baseTerm: 0 as Term,
    appliedIndex: 0 as Index,
    electionTicks: 10,
    heartbeatTicks: 2,
    random: seededRandom(1),
    ...options,
  });
}

/** An entry whose payload tells its place. */
export function entry(index: number, term: number): Entry {
  return {
    index: index as Index,
    term: term as Term,
    kind: "command",
    payload: Buffer.from(`${index}@${term}`),
  };
}

/** A message with its numbers as plain ones. */
export function message(fields: object): Message {
  return fields as Message;
}

/** Gives a message to the core that it is for. */
export function receive(core: RaftCore, fields: object): void {
  core.step({ kind: "receive", message: message({ to: core.id, ...fields }) });
}

/** Ticks a core until it asks for votes, and makes it win them all: the leader of its next term. */
export function makeLeader(core: RaftCore, voters: readonly NodeId[]): void {
  while (core.role === "follower") core.step({ kind: "tick" });
  const others = voters.filter((id) => id !== core.id);
  const vote = { kind: "voteReply", granted: true };
  for (const from of others) {
    receive(core, { ...vote, from, term: core.term + 1, preVote: true });
    if (core.role === "candidate") break;
  }
  persistAll(core, core.take());
  for (const from of others) receive(core, { ...vote, from, term: core.term, preVote: false });
}

/** A core that leads, with the first entry of its term on its own disk and on nobody else's. */
export function leadingCore(
  options: Partial<CoreOptions> & { voters: readonly NodeId[] },
  whoVote = options.voters,
): RaftCore {
  const core = makeCore(options);
  makeLeader(core, whoVote);
  persistAll(core, core.take());
  return core;
}

/** What a core starts with whose log was compacted up to entry 50, of term 1. */
export const compactedAt50 = {
  hardState: { term: 1 as Term, vote: undefined },
  baseIndex: 50 as Index,
  baseTerm: 1 as Term,
  appliedIndex: 50 as Index,
};

/** Tells the core that an output's write is durable. */
export function persistAll(core: RaftCore, { persist }: Output): void {
  if (persist !== undefined) core.step({ kind: "persisted", sequence: persist.sequence });
}

/** Chance of the node at this place: neighbouring seeds begin too alike, and votes would be split again and again. */
function randomOf(place: number): Random {
  return seededRandom((place + 1) * 0x9e3779b1);
}

export class CoreCluster {
  readonly ids: readonly NodeId[];
  readonly cores = new Map<NodeId, RaftCore>();
  readonly applied = new Map<NodeId, Entry[]>();
  readonly reads = new Map<NodeId, ReadResult[]>();
  /** Messages for which this returns true are lost. */
  drop: (message: Message) => boolean = () => false;
  /** What was delivered or lost since the test cleared it. */
  log: Message[] = [];
  readonly #options: Partial<CoreOptions>;

  constructor(count: number, options: Partial<CoreOptions> = {}) {
    this.#options = options;
    this.ids = Array.from({ length: count }, (_, i) => `n${i + 1}`);
    this.ids.forEach((id, place) => {
      const random = randomOf(place);
      this.cores.set(id, makeCore({ voters: this.ids, id, random, ...options }));
      this.applied.set(id, []);
      this.reads.set(id, []);
    });
  }

  core(id: NodeId): RaftCore {
    return this.cores.get(id)!;
  }

  /** Carries out outputs until there are none. */
  settle(): void {
    for (let isBusy = true; isBusy; ) {
      isBusy = false;
      for (const [id, core] of this.cores) {
        const output = core.take();
        persistAll(core, output);
        this.applied.get(id)!.push(...output.apply);
        this.reads.get(id)!.push(...output.reads);
        const last = output.apply.at(-1);
        if (last !== undefined) core.step({ kind: "applied", index: last.index });
        const messages = [...output.send, ...output.sendAfterPersist];
        isBusy ||= output.persist !== undefined || messages.length > 0;
        this.log.push(...messages);
        for (const each of messages) {
          if (!this.drop(each)) this.core(each.to).step({ kind: "receive", message: each });
        }
      }
    }
  }

  /** All nodes tick once, then everything settles. */
  tick(count = 1): void {
    for (let i = 0; i < count; i++) {
      for (const core of this.cores.values()) core.step({ kind: "tick" });
      this.settle();
    }
  }

  /** The node comes back with what it had on disk; its state machine begins anew. */
  restart(id: NodeId): void {
    const core = this.core(id);
    const fresh = makeCore({
      voters: this.ids,
      id,
      random: randomOf(this.ids.indexOf(id)),
      ...this.#options,
      hardState: { term: core.term, vote: core.vote },
      entries: core.entries(1, core.lastIndex + 1),
    });
    this.cores.set(id, fresh);
    this.applied.set(id, []);
  }

  /** Makes `id` the leader by letting it alone tick. */
  elect(id: NodeId): void {
    for (let i = 0; i < 100 && this.core(id).role !== "leader"; i++) {
      this.core(id).step({ kind: "tick" });
      this.settle();
    }
    if (this.core(id).role !== "leader") throw new Error(`${id} was not elected`);
  }

  /** Cuts `id` off from all others; without one, heals everything. */
  isolate(id?: NodeId): void {
    this.drop = ({ from, to }) => from === id || to === id;
  }
}
