/**
 * The deadlines of many calls under one timer. A timer of their own, made and cleared, costs most calls more than what
 * they ask for; here a call costs a comparison, and a sweep over all that are open happens only when one may be late.
 */

/** Sweeps are at least so far apart, so that many deadlines close together cost one sweep. */
const sweepPauseMs = 5;

export class DeadlineSweep<T> {
  readonly #open: () => Iterable<T>;
  readonly #deadlineMs: (item: T) => number;
  readonly #onLate: (item: T) => void;
  #timer: NodeJS.Timeout | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;

  /**
   * `open` lists what is not over yet; `deadlineMs` on the clock of `performance.now`. `onLate` is called once for each
   * item that is late, at most `sweepPauseMs` after its deadline; it has to take the item out of what is open.
   */
  constructor(options: {
    open: () => Iterable<T>;
    deadlineMs: (item: T) => number;
    onLate: (item: T) => void;
  }) {
    this.#open = options.open;
    this.#deadlineMs = options.deadlineMs;
    this.#onLate = options.onLate;
  }

  /** To be told of each new item's deadline. */
  watch(deadlineMs: number): void {
    if (deadlineMs < this.#armedForMs) this.#arm(deadlineMs, performance.now());
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#armedForMs = Number.NEGATIVE_INFINITY;
  }

  #arm(deadlineMs: number, nowMs: number): void {
    clearTimeout(this.#timer);
    this.#armedForMs = deadlineMs;
    this.#timer = setTimeout(() => this.#sweep(), Math.max(1, Math.ceil(deadlineMs - nowMs)));
    // What is waited for keeps the process alive by itself.
    this.#timer.unref();
  }

  #sweep(): void {
    const nowMs = performance.now();
    this.#armedForMs = Number.POSITIVE_INFINITY;
    let nextMs = Number.POSITIVE_INFINITY;
    const late: T[] = [];
    for (const item of this.#open()) {
      const deadlineMs = this.#deadlineMs(item);
      if (deadlineMs <= nowMs) late.push(item);
      else if (deadlineMs < nextMs) nextMs = deadlineMs;
    }
    if (nextMs < Number.POSITIVE_INFINITY) {
      this.#arm(Math.max(nextMs, nowMs + sweepPauseMs), nowMs);
    }
    for (const item of late) this.#onLate(item);
  }
}
