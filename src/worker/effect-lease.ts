/**
 * Until when this worker may go on with side effects on stores: a leader that hears nothing of it gives them to another
 * worker after a while, and by then nothing may happen here any more.
 *
 * Invariant: the time counts from when the request was sent whose answer extends it. The leader counts from when that
 * request came in, which is later.
 */
import type { Clock } from "../lib/clock.ts";
import { WeirError } from "../lib/errors.ts";

export class EffectLease {
  readonly #clock: Clock;
  readonly #onEnd: (error: WeirError) => void;
  #untilMs = 0;
  #cancelTimer: () => void = () => undefined;

  /** Calls `onEnd` each time that it ran out. */
  constructor(clock: Clock, onEnd: (error: WeirError) => void) {
    this.#clock = clock;
    this.#onEnd = onEnd;
  }

  /** `leaseMs` undefined: of a master of an earlier version, which knows of no end. */
  extend(sentMs: number, leaseMs: number | undefined): void {
    this.#untilMs = leaseMs === undefined ? Infinity : Math.max(this.#untilMs, sentMs + leaseMs);
    this.#cancelTimer();
    if (this.#untilMs === Infinity) return;
    const leftMs = Math.max(0, this.#untilMs - this.#clock.monotonicMs());
    this.#cancelTimer = this.#clock.after(leftMs, () => this.#onEnd(ended()));
  }

  /** Another leader's word counts from here on. */
  restart(): void {
    this.#untilMs = 0;
  }

  /**
   * Not left to the timer alone: after the process was stopped for a while, other events may come before it.
   * @throws WeirError `Cancelled` when it ran out
   */
  check(): void {
    if (this.#clock.monotonicMs() >= this.#untilMs) throw ended();
  }

  close(): void {
    this.#cancelTimer();
  }
}

function ended(): WeirError {
  return new WeirError("Cancelled", "No leader answered for too long: another worker may do it");
}
