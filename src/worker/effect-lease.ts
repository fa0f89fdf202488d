/**
 * Until when this worker may go on with side effects on stores: a leader that hears nothing of it gives them to another
 * worker after a while, and by then nothing may happen here any more.
 *
 * Invariant: the time counts from when the request was sent whose answer extends it. The leader counts from when that
 * request came in, which is later.
 */
import { WeirError } from "../lib/errors.ts";

export class EffectLease {
  readonly #onEnd: (error: WeirError) => void;
  #untilMs = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Calls `onEnd` each time that it ran out. */
  constructor(onEnd: (error: WeirError) => void) {
    this.#onEnd = onEnd;
  }

  /** `leaseMs` undefined: of a master of an earlier version, which knows of no end. */
  extend(sentMs: number, leaseMs: number | undefined): void {
    this.#untilMs = leaseMs === undefined ? Infinity : Math.max(this.#untilMs, sentMs + leaseMs);
    clearTimeout(this.#timer);
    if (this.#untilMs === Infinity) return;
    this.#timer = setTimeout(() => this.#onEnd(ended()), this.#untilMs - performance.now());
    this.#timer.unref();
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
    if (performance.now() >= this.#untilMs) throw ended();
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}

function ended(): WeirError {
  return new WeirError("Cancelled", "No leader answered for too long: another worker may do it");
}
