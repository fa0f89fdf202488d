/**
 * The steady beat of the consensus clock. Node runs timers before it reads sockets, so after a pause (SIGSTOP, garbage
 * collection, a long task) the election timer would go off while the leader's heartbeats wait unread. Hence: a tick that
 * comes late waits until the sockets were read once more, and a pause counts as one tick, however long it was.
 */
import type { Clock } from "../../lib/clock.ts";

export interface TickerOptions {
  readonly clock: Clock;
  readonly tickMs: number;
  /** Calls back after the sockets that are readable now were read: `setImmediate`. */
  readonly afterPoll: (callback: () => void) => void;
  readonly onTick: () => void;
}

export class Ticker {
  readonly #options: TickerOptions;
  #cancel: (() => void) | undefined;
  #dueMs = 0;
  #isStopped = false;

  constructor(options: TickerOptions) {
    this.#options = options;
    this.#dueMs = options.clock.monotonicMs() + options.tickMs;
    this.#arm();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }

  #arm(): void {
    const { clock, tickMs } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#cancel = clock.after(Math.max(1, this.#dueMs - nowMs), () => {
      const lateMs = clock.monotonicMs() - this.#dueMs;
      // A little late is made up by the next one being earlier; a pause is not.
      this.#dueMs += lateMs < tickMs ? tickMs : lateMs + tickMs;
      if (lateMs < tickMs) this.#tick();
      else this.#options.afterPoll(() => this.#tick());
    });
  }

  #tick(): void {
    if (this.#isStopped) return;
    this.#arm();
    this.#options.onTick();
  }
}
