/**
 * What must hold at every step, whatever happens (figure 3 of the Raft paper, and more). It sees all nodes at once, which
 * no node can.
 *
 * 1. Election safety: one leader per term.
 * 2. One vote per node and term, also across crashes.
 * 3. Log matching: an (index, term) stands for one payload behind one predecessor.
 * 4. Leader completeness: a new leader's log holds what was committed in earlier terms.
 * 5. State machine safety: an index is committed, and applied, with one term and payload everywhere.
 * 6. What is committed is on the disks of a majority.
 * 7. A read's point is at or behind everything that was committed when it was asked for.
 */
import type { RaftCore } from "../../src/raft/core.ts";
import type { Entry, Message, NodeId, Term } from "../../src/raft/types.ts";

export class Violation extends Error {}

interface Committed {
  readonly term: Term;
  /** Term of the leader that committed it. */
  readonly byTerm: Term;
}

export class Invariants {
  readonly leaders = new Map<Term, NodeId>();
  /** By index; 0 is not used. */
  readonly committed: Committed[] = [{ term: 0 as Term, byTerm: 0 as Term }];
  readonly #isOnMajority: (index: number, term: Term) => boolean;
  readonly #votes = new Map<string, NodeId>();
  readonly #entries = new Map<string, { payload: string; prevTerm: Term | undefined }>();

  constructor(isOnMajority: (index: number, term: Term) => boolean) {
    this.#isOnMajority = isOnMajority;
  }

  get lastCommitted(): number {
    return this.committed.length - 1;
  }

  /** To be called after each turn of a node. */
  checkNode(core: RaftCore): void {
    if (core.role === "leader") this.#checkLeader(core);
    for (let index = core.commitIndex; index > core.baseIndex; index--) {
      const known = this.committed[index];
      const term = core.termAt(index)!;
      if (known !== undefined) {
        require(known.term ===
          term, `${core.id} commits ${index} of term ${term}, not ${known.term}`);
        break;
      }
    }
    for (let index = this.committed.length; index <= core.commitIndex; index++) {
      const term = core.termAt(index)!;
      this.committed.push({ term, byTerm: core.term });
      require(this.#isOnMajority(
        index,
        term,
      ), `${core.id} commits ${index} of term ${term}, which is not on the disks of a majority`);
    }
  }

  checkEntries(core: RaftCore, entries: readonly Entry[]): void {
    for (const { index, term, payload } of entries) {
      const key = `${index} ${term}`;
      const text = Buffer.from(payload).toString("latin1");
      const prevTerm = core.termAt(index - 1);
      const known = this.#entries.get(key);
      if (known === undefined) this.#entries.set(key, { payload: text, prevTerm });
      else {
        const isEqual =
          known.payload === text && (prevTerm === undefined || prevTerm === known.prevTerm);
        require(isEqual, `${core.id} has another entry ${index} of term ${term}`);
      }
    }
  }

  checkMessage(message: Message): void {
    if (message.kind === "requestVote" && !message.preVote) {
      this.#checkVote(message.from, message.term, message.from);
    } else if (message.kind === "voteReply" && !message.preVote && message.granted) {
      this.#checkVote(message.from, message.term, message.to);
    }
  }

  checkApplied(id: NodeId, { index, term }: Entry): void {
    require(this.committed[index]?.term === term, `${id} applies ${index} of term ${term}`);
  }

  #checkVote(voter: NodeId, term: Term, candidate: NodeId): void {
    const key = `${voter} ${term}`;
    const known = this.#votes.get(key) ?? candidate;
    require(known === candidate, `${voter} votes for ${known} and ${candidate} in term ${term}`);
    this.#votes.set(key, candidate);
  }

  #checkLeader(core: RaftCore): void {
    const known = this.leaders.get(core.term);
    if (known !== undefined) {
      require(known === core.id, `${known} and ${core.id} both lead term ${core.term}`);
      return;
    }
    this.leaders.set(core.term, core.id);
    for (let index = this.lastCommitted; index > core.baseIndex; index--) {
      const { term, byTerm } = this.committed[index]!;
      if (byTerm >= core.term) continue;
      require(core.termAt(index) ===
        term, `${core.id} leads term ${core.term} without the committed entry ${index} of term ${term}`);
      break;
    }
  }
}

export function require(holds: boolean, claim: string): void {
  if (!holds) throw new Violation(claim);
}
