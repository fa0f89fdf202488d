/**
 * Whether a store answers, as far as its calls tell: after some failures in a row it is unhealthy, and calls are refused at
 * once with the reason and for how long, until a probe in the background is answered again. An answer that says no (no such
 * file, no permission) is an answer.
 *
 * Invariant: at most one probe is under way, and none while the store is healthy.
 */
import type { Clock } from "../lib/clock.ts";
import { type ErrorCode, WeirError } from "../lib/errors.ts";

/** Failures in a row after which a store counts as unhealthy. */
const failuresToDoubt = 3;
const firstProbeMs = 2000;
const longestProbeMs = 15_000;

/** What a store that is away looks like. */
const silence: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["Unavailable", "DeadlineExceeded"]);

export interface Unhealthy {
  /** How long by now, in milliseconds. */
  readonly forMs: number;
  readonly reason: string;
}

export class StoreHealth {
  readonly #clock: Clock;
  readonly #probe: () => Promise<void>;
  readonly #waiting = new Set<(error: WeirError) => void>();
  #failures = 0;
  #since: { readonly startMs: number; reason: string } | undefined;
  #pauseMs = firstProbeMs;
  #cancelProbe: (() => void) | undefined;
  #closed = false;

  /** `probe` rejects with a WeirError when the store does not answer, within a bound. */
  constructor(clock: Clock, probe: () => Promise<void>) {
    this.#clock = clock;
    this.#probe = probe;
  }

  get unhealthy(): Unhealthy | undefined {
    if (this.#since === undefined) return undefined;
    const forMs = Math.floor(this.#clock.monotonicMs() - this.#since.startMs);
    return { forMs, reason: this.#since.reason };
  }

  /** @throws WeirError `Unavailable` while the store is unhealthy */
  refuseIfUnhealthy(doing: string): void {
    const now = this.unhealthy;
    if (now === undefined) return;
    throw new WeirError(
      "Unavailable",
      `${doing}: the store has not answered for ${String(Math.round(now.forMs / 1000))} s (${now.reason}); it is asked again in the background and used as soon as it answers`,
    );
  }

  /** Calls `listener` once when the store becomes unhealthy; the returned function ends that. */
  onDoubt(listener: (error: WeirError) => void): () => void {
    this.#waiting.add(listener);
    return () => this.#waiting.delete(listener);
  }

  answered(): void {
    this.#failures = 0;
    if (this.#since === undefined) return;
    this.#since = undefined;
    this.#pauseMs = firstProbeMs;
    this.#cancelProbe?.();
  }

  /** Takes the failure of a call. */
  failed(error: WeirError): void {
    if (!silence.has(error.code)) {
      this.answered();
      return;
    }
    this.#failures++;
    if (this.#since !== undefined || this.#failures < failuresToDoubt || this.#closed) return;
    this.#since = { startMs: this.#clock.monotonicMs(), reason: error.message };
    for (const listener of [...this.#waiting]) listener(error);
    this.#waiting.clear();
    this.#planProbe();
  }

  close(): void {
    this.#closed = true;
    this.#cancelProbe?.();
  }

  #planProbe(): void {
    if (this.#closed) return;
    this.#cancelProbe = this.#clock.after(this.#pauseMs, () => {
      this.#pauseMs = Math.min(2 * this.#pauseMs, longestProbeMs);
      this.#probe().then(
        () => this.answered(),
        (error: unknown) => {
          if (error instanceof WeirError && !silence.has(error.code)) this.answered();
          else this.#planProbe();
        },
      );
    });
  }
}
