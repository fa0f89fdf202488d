/**
 * Linearizable reads without writing to the log (section 6.4 of the dissertation): a read takes the commit index, and is
 * answered once a quorum has confirmed, after that moment, that this leader still leads.
 *
 * Invariants
 * 1. Tokens are made by the leader and only rise; a follower's answer to a token counts for that token and all before it,
 *    never for a later one.
 * 2. A round is started only when the leader has committed an entry of its own term: before, its commit index may be
 *    behind what an earlier leader acknowledged.
 * 3. Reads that arrive while a round is under way share the next one.
 * 4. No read waits for a round without end: a leader may be long in committing, while followers go on asking.
 */
import type { Index, NodeId } from "./types.ts";

/** The answer to a read: everything up to `index` must be applied first; undefined when no leader could be asked. */
export interface ReadResult {
  readonly id: number;
  readonly index: Index | undefined;
}

/** Who reads: this node itself, under an id of its own, or another one with a request. */
export interface Reader {
  readonly from: NodeId | undefined;
  readonly id: number;
}

/** A reader, and the answer to it. */
export interface Confirmed {
  readonly reader: Reader;
  readonly index: Index;
}

/** A read that waits for a round. */
interface Waiting extends Reader {
  ticks: number;
}

interface Round {
  readonly token: number;
  readonly index: Index;
  readonly readers: readonly Reader[];
}

export class ReadQueue {
  #waiting: Waiting[] = [];
  #rounds: Round[] = [];
  #token = 0;

  /** The token that a heartbeat carries now. */
  get token(): number {
    return this.#token;
  }
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }
  get isUnderWay(): boolean {
    return this.#rounds.length > 0;
  }

  add({ from, id }: Reader): void {
    this.#waiting.push({ from, id, ticks: 0 });
  }

  /** Takes a request of another node, unless it waits already: those are sent again and again. */
  addRequest(from: NodeId, id: number): void {
    if (!this.#waiting.some((each) => each.id === id && each.from === from)) this.add({ from, id });
  }

  /**
   * One tick; returns the ids of this node's own reads that have waited for `ownTicks`. Requests of others are dropped after
   * `requestTicks`, when those have given them up.
   */
  tick(ownTicks: number, requestTicks: number): readonly number[] {
    const late: number[] = [];
    let hasDropped = false;
    for (const each of this.#waiting) {
      each.ticks++;
      if (each.ticks < (each.from === undefined ? ownTicks : requestTicks)) continue;
      hasDropped = true;
      if (each.from === undefined) late.push(each.id);
    }
    if (hasDropped) {
      this.#waiting = this.#waiting.filter(
        ({ from, ticks }) => ticks < (from === undefined ? ownTicks : requestTicks),
      );
    }
    return late;
  }

  /** Starts a round for all that wait; to be called right before heartbeats with the new token leave. */
  startRound(commitIndex: Index): void {
    if (this.#waiting.length === 0) return;
    this.#token++;
    this.#rounds.push({ token: this.#token, index: commitIndex, readers: this.#waiting });
    this.#waiting = [];
  }

  /** Reads that are confirmed, given the highest token that a quorum has answered. */
  confirm(token: number): readonly Confirmed[] {
    const confirmed: Confirmed[] = [];
    while (this.#rounds.length > 0 && this.#rounds[0]!.token <= token) {
      const round = this.#rounds.shift()!;
      for (const reader of round.readers) confirmed.push({ reader, index: round.index });
    }
    return confirmed;
  }

  /** All reads not answered yet, which fail because the leader is one no more. */
  takeAll(): readonly Reader[] {
    const readers = [...this.#rounds.flatMap((round) => round.readers), ...this.#waiting];
    this.#rounds = [];
    this.#waiting = [];
    return readers;
  }
}
