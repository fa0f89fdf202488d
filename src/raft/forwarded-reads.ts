/**
 * Linearizable reads of a node that does not lead: it asks the leader for a read index, and serves from its own state
 * once that has got there (section 6.4 of the dissertation). Reads of a turn share a request.
 *
 * Invariants
 * 1. A request is sent after all its reads arrived, and gets no more: whatever leader answers it, its index was current
 *    at some time after that.
 * 2. A request number is never used twice, not even across restarts: they start at a random place, so that a late reply
 *    to an earlier life answers nothing.
 * 3. Each read is answered within an election timeout, or refused. Until then lost requests are sent again, to whoever
 *    leads then.
 */
import type { Random } from "../lib/clock.ts";
import type { NodeId } from "./types.ts";

/** Requests that may wait for their replies at once; further reads gather in the next one. */
const maxOutstanding = 4;

interface Request {
  readonly request: number;
  readonly ids: number[];
  /** Ticks since its first read. */
  ticks: number;
  /** It was sent once at least. */
  isClosed: boolean;
  /** The leader that has it, unless it is to be sent again. */
  sentTo: NodeId | undefined;
}

export class ForwardedReads {
  readonly #random: Random;
  #requests: Request[] = [];
  #lastRequest = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  add(id: number): void {
    const last = this.#requests.at(-1);
    if (last !== undefined && !last.isClosed) last.ids.push(id);
    else {
      const request = this.#nextRequest();
      this.#requests.push({ request, ids: [id], ticks: 0, isClosed: false, sentTo: undefined });
    }
  }

  /** Numbers of the requests that are to be sent to this leader now. */
  takeRequests(leader: NodeId): readonly number[] {
    const numbers: number[] = [];
    for (const [place, each] of this.#requests.entries()) {
      if (place === maxOutstanding) break;
      if (each.sentTo === leader) continue;
      each.sentTo = leader;
      each.isClosed = true;
      numbers.push(each.request);
    }
    return numbers;
  }

  /** The reads of a request, which is answered. None when it is unknown or was answered before. */
  takeAnswered(request: number): readonly number[] {
    const place = this.#requests.findIndex((each) => each.request === request && each.isClosed);
    return place < 0 ? [] : this.#requests.splice(place, 1)[0]!.ids;
  }

  /** One tick; returns reads that have waited for too long. */
  tick(retryTicks: number, timeoutTicks: number): readonly number[] {
    if (this.#requests.length === 0) return [];
    for (const each of this.#requests) {
      each.ticks++;
      if (each.ticks % retryTicks === 0) each.sentTo = undefined;
    }
    const late = this.#requests.filter(({ ticks }) => ticks >= timeoutTicks);
    this.#requests = this.#requests.filter(({ ticks }) => ticks < timeoutTicks);
    return late.flatMap(({ ids }) => ids);
  }

  /** All reads that wait, which are somebody else's now. */
  takeAll(): readonly number[] {
    const ids = this.#requests.flatMap((each) => each.ids);
    this.#requests = [];
    return ids;
  }

  #nextRequest(): number {
    if (this.#lastRequest === 0) {
      // Below 2^51: enough numbers are left to count up.
      this.#lastRequest = this.#random.below(2 ** 20) * 2 ** 31 + this.#random.below(2 ** 31);
    }
    return ++this.#lastRequest;
  }
}
