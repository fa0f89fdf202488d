/**
 * What must hold at every step, whatever happens: figure 3 of the Raft paper, the invariants of etcd's TLA+ model, and
 * more. It sees all nodes at once, which no node can, and looks only at what has changed since it looked last.
 *
 * 1. Election safety: one leader per term.
 * 2. One vote per node and term, also across restarts; a node's term never falls.
 * 3. Log matching: an (index, term) stands for one payload behind one predecessor.
 * 4. Leader completeness: a new leader's log holds what was committed in earlier terms. A leader only appends to its log.
 * 5. State machine safety: an index is committed, and applied, with one term and payload everywhere.
 * 6. Quorum log: what is committed is on the disks of every quorum of the configuration that decided, of both halves of
 *    a joint one; and later on the disk of at least one node of every quorum that could elect a leader.
 * 7. Committed is durable: a node's commit index and configuration never pass or leave its own log; no node applies what
 *    its own disk does not hold.
 * 8. Nodes that have applied the same index hold the same state.
 * 9. A read's point is at or behind everything that was committed when it was asked for.
 */
import { hasQuorum } from "../../src/raft/configuration.ts";
import type { RaftCore } from "../../src/raft/core.ts";
import type { Configuration, Entry, Message, NodeId, Term } from "../../src/raft/types.ts";
import { require } from "./violation.ts";

interface Committed {
  readonly term: Term;
  /** Term of the node that showed it first. */
  readonly byTerm: Term;
}

/** Entries that one leader has made: their indexes follow each other. */
interface Reign {
  readonly first: number;
  readonly prevTerm: Term | undefined;
  readonly payloads: Uint8Array[];
}

/** What was seen of a node when it was looked at last. */
interface Seen {
  core: RaftCore;
  term: number;
  commitIndex: number;
  lastIndex: number;
  isLeader: boolean;
}

export class Invariants {
  readonly leaders = new Map<Term, NodeId>();
  /** By index; 0 is not used. */
  readonly committed: Committed[] = [{ term: 0 as Term, byTerm: 0 as Term }];
  readonly #holds: (id: NodeId, index: number, term: Term) => boolean;
  readonly #votes = new Map<string, NodeId>();
  readonly #reigns = new Map<Term, Reign>();
  readonly #seen = new Map<NodeId, Seen>();
  /** Hash of the state at an applied index. */
  readonly #hashes: (number | string | undefined)[] = [];

  /** `holds`: whether a node's disk has this version of an entry. */
  constructor(holds: (id: NodeId, index: number, term: Term) => boolean) {
    this.#holds = holds;
  }

  get lastCommitted(): number {
    return this.committed.length - 1;
  }

  /** To be called after each turn of a node. */
  checkNode(core: RaftCore): void {
    const { id, term, role, commitIndex, lastIndex } = core;
    const seen = this.#seen.get(id);
    const isSame = seen?.core === core;
    require(commitIndex <= lastIndex, () =>
      `${id} commits ${commitIndex}, its log ends at ${lastIndex}`);
    require(core.configurationIndex <= lastIndex, () =>
      `${id} goes by a configuration of entry ${core.configurationIndex}, its log ends at ${lastIndex}`);
    if (role === "leader") this.#checkLeader(core, isSame ? seen : undefined);
    if (isSame) {
      // What a restart may forget of the term is what the journal had not promised: that is looked at there.
      require(term >= seen.term, () => `the term of ${id} falls from ${seen.term} to ${term}`);
      require(commitIndex >= seen.commitIndex, () =>
        `the commit index of ${id} falls from ${seen.commitIndex} to ${commitIndex}`);
      if (commitIndex > seen.commitIndex) this.#checkCommitted(core, seen.commitIndex);
      seen.term = term;
      seen.commitIndex = commitIndex;
      seen.lastIndex = lastIndex;
      seen.isLeader = role === "leader";
    } else {
      this.#checkCommitted(core, core.baseIndex);
      const isLeader = role === "leader";
      this.#seen.set(id, { core, term, commitIndex, lastIndex, isLeader });
    }
  }

  /** New entries of a node's log, before they are on its disk, or those that it starts with. */
  checkEntries(core: RaftCore, entries: readonly Entry[]): void {
    for (const { index, term, payload } of entries) {
      const prevTerm = core.termAt(index - 1);
      let reign = this.#reigns.get(term);
      if (reign === undefined) {
        reign = { first: index, prevTerm, payloads: [] };
        this.#reigns.set(term, reign);
      }
      const place = index - reign.first;
      require(place >= 0 && place <= reign.payloads.length, () =>
        `${core.id} has entry ${index} of term ${term}, which began at ${reign.first}`);
      const known = reign.payloads[place];
      const expectedPrev = place === 0 ? reign.prevTerm : term;
      require(prevTerm === undefined || prevTerm === expectedPrev, () =>
        `${core.id} has entry ${index} of term ${term} behind one of term ${prevTerm ?? "?"}`);
      if (known === undefined) reign.payloads.push(payload);
      else {
        require(known === payload || Buffer.compare(known, payload) === 0, () =>
          `${core.id} has another entry ${index} of term ${term}`);
      }
    }
  }

  checkMessage(message: Message): void {
    if (message.kind === "requestVote" && !message.preVote) {
      this.checkVote(message.from, message.term, message.from);
    } else if (message.kind === "voteReply" && !message.preVote && message.granted) {
      this.checkVote(message.from, message.term, message.to);
    }
  }

  checkVote(voter: NodeId, term: Term, candidate: NodeId): void {
    const key = `${voter} ${term}`;
    const known = this.#votes.get(key) ?? candidate;
    require(known === candidate, () =>
      `${voter} votes for ${known} and ${candidate} in term ${term}`);
    this.#votes.set(key, candidate);
  }

  checkApplied(id: NodeId, { index, term }: Entry, hash: number | string): void {
    require(this.committed[index]?.term === term, () => `${id} applies ${index} of term ${term}`);
    require(this.#holds(id, index, term), () =>
      `${id} applies ${index}, which its disk does not hold`);
    const known = this.#hashes[index];
    if (known === undefined) this.#hashes[index] = hash;
    else require(known === hash, () => `${id} holds another state at ${index}`);
  }

  /** A state that came from elsewhere: a snapshot, or the own disk at a start. */
  checkState(id: NodeId, index: number, hash: number | string): void {
    require((this.#hashes[index] ?? hash) === hash, () => `${id} holds another state at ${index}`);
  }

  checkRead(id: NodeId, index: number, floor: number): void {
    require(index >= floor, () => `${id} reads at ${index} what was asked for at ${floor}`);
  }

  /**
   * The whole of invariant 6: no quorum of `configuration` may do without all of those that hold what is committed. To be
   * called now and then with the configuration of the present leader.
   */
  checkQuorumLog(configuration: Configuration): void {
    const index = this.lastCommitted;
    const { term } = this.committed[index]!;
    const couldForget = hasQuorum(configuration, (id) => !this.#holds(id, index, term));
    require(!couldForget, () =>
      `a quorum does not hold the committed entry ${index} of term ${term}`);
  }

  #checkCommitted(core: RaftCore, above: number): void {
    const { id, commitIndex } = core;
    // Behind the base, after a snapshot, nothing is known.
    for (let index = Math.max(above + 1, core.baseIndex); index <= commitIndex; index++) {
      const term = core.termAt(index)!;
      const known = this.committed[index];
      if (known !== undefined) {
        require(known.term === term, () =>
          `${id} commits ${index} of term ${term}, not ${known.term}`);
        continue;
      }
      require(index === this.committed.length, () =>
        `${id} commits ${index}, which nobody had before`);
      this.committed.push({ term, byTerm: core.term });
    }
    if (commitIndex !== this.lastCommitted || core.role !== "leader") return;
    const term = core.termAt(commitIndex)!;
    require(hasQuorum(core.configuration, (each) => this.#holds(each, commitIndex, term)), () =>
      `${id} commits ${commitIndex} of term ${term}, which is not on the disks of a quorum`);
  }

  #checkLeader(core: RaftCore, seen: Seen | undefined): void {
    const { id, term, lastIndex } = core;
    const known = this.leaders.get(term);
    if (known !== undefined) {
      require(known === id, () => `${known} and ${id} both lead term ${term}`);
      if (seen?.isLeader === true && seen.term === term) {
        require(lastIndex >= seen.lastIndex, () =>
          `leader ${id} drops entries behind ${lastIndex}`);
      }
      return;
    }
    this.leaders.set(term, id);
    for (let index = this.lastCommitted; index > core.baseIndex; index--) {
      const committed = this.committed[index]!;
      if (committed.byTerm >= term) continue;
      require(core.termAt(index) === committed.term, () =>
        `${id} leads term ${term} without the committed entry ${index} of term ${committed.term}`);
      break;
    }
  }
}
