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
 */
import type { Index } from "./types.ts";

/** The answer to a read: everything up to `index` must be applied first; undefined when this node does not lead. */
export interface ReadResult {
  readonly id: number;
  readonly index: Index | undefined;
}

interface Round {
  readonly token: number;
  readonly index: Index;
  readonly ids: readonly number[];
}

export class ReadQueue {
  #waiting: number[] = [];
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

  add(id: number): void {
    this.#waiting.push(id);
  }

  /** Starts a round for all that wait; to be called right before heartbeats with the new token leave. */
  startRound(commitIndex: Index): void {
    if (this.#waiting.length === 0) return;
    this.#token++;
    this.#rounds.push({ token: this.#token, index: commitIndex, ids: this.#waiting });
    this.#waiting = [];
  }

  /** Reads that are confirmed, given the highest token that a quorum has answered. */
  confirm(token: number): ReadResult[] {
    const results: ReadResult[] = [];
    while (this.#rounds.length > 0 && this.#rounds[0]!.token <= token) {
      const round = this.#rounds.shift()!;
      for (const id of round.ids) results.push({ id, index: round.index });
    }
    return results;
  }

  /** All reads not answered yet, which fail because the leader is one no more. */
  refuseAll(): ReadResult[] {
    const ids = [...this.#rounds.flatMap((round) => round.ids), ...this.#waiting];
    this.#rounds = [];
    this.#waiting = [];
    return ids.map((id) => ({ id, index: undefined }));
  }
}
