/**
 * How long this process went without a turn of its event loop: in a pause no heartbeat leaves and no call is answered.
 * The longest one of the last seconds is kept, for those who look now and then.
 */
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import type { Clock } from "../../lib/clock.ts";

const resolutionMs = 5;
const windowMs = 1000;
/** Windows that are remembered, beside the one under way. */
const windows = 2;

export class Pauses {
  readonly #clock: Clock;
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: resolutionMs });
  readonly #longestMs: number[] = [];
  #cancel: () => void;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#histogram.enable();
    this.#cancel = this.#windowEnds();
  }

  /** Of the last two to three seconds, in whole milliseconds. */
  get longestMs(): number {
    return Math.max(this.#ofThisWindow(), ...this.#longestMs);
  }

  close(): void {
    this.#cancel();
    this.#histogram.disable();
  }

  #ofThisWindow(): number {
    // What it measures is the time from one look to the next.
    return Math.max(0, Math.round(this.#histogram.max / 1e6) - resolutionMs);
  }

  #windowEnds(): () => void {
    return this.#clock.after(windowMs, () => {
      this.#longestMs.push(this.#ofThisWindow());
      if (this.#longestMs.length > windows) this.#longestMs.shift();
      this.#histogram.reset();
      this.#cancel = this.#windowEnds();
    });
  }
}
