/**
 * Credit: how many bytes a sender may have under way. The receiver owns it, per connection, since the NATS server cuts a
 * connection that lets too much pile up; a sender only counts down what it was granted.
 *
 * Invariants
 * 1. The sum of what all shares of a pool hold never exceeds `totalBytes`.
 * 2. A share that holds nothing can always take `floorBytes`: every open stream makes progress, however many stall.
 */
import { WeirError } from "../lib/errors.ts";

export interface CreditOptions {
  readonly totalBytes: number;
  readonly floorBytes: number;
  /** Streams that may be open at once; floors of all of them are part of the total. */
  readonly streams: number;
}

const defaults: CreditOptions = {
  totalBytes: 16 * 1024 * 1024,
  floorBytes: 64 * 1024,
  streams: 128,
};

/** A receiver's credit, shared by the streams of one connection. */
export class CreditPool {
  readonly #options: CreditOptions;
  readonly #waiting: (() => void)[] = [];
  #open = 0;
  #sharedFree: number;
  #held = 0;

  constructor(options: Partial<CreditOptions> = {}) {
    this.#options = { ...defaults, ...options };
    this.#sharedFree = this.#sharedTotal;
  }

  get #sharedTotal(): number {
    return this.#options.totalBytes - this.#options.streams * this.#options.floorBytes;
  }

  /** Bytes granted and not yet given back, of all streams together. */
  get heldBytes(): number {
    return this.#held;
  }

  /**
   * A share for one stream; waits in order of arrival while too many are open.
   * @throws WeirError `Busy` after `waitMs`, or the reason of the signal
   */
  async open(options: { waitMs: number; signal?: AbortSignal | undefined }): Promise<CreditShare> {
    options.signal?.throwIfAborted();
    if (this.#open >= this.#options.streams || this.#waiting.length > 0) await this.#turn(options);
    else this.#open += 1;
    let held = 0;
    let shared = 0;
    let closed = false;
    const { floorBytes } = this.#options;
    return {
      get held() {
        return held;
      },
      take: (wanted) => {
        if (closed || wanted <= 0) return 0;
        const floor = Math.min(wanted, Math.max(0, floorBytes - (held - shared)));
        const fair = Math.floor(this.#sharedTotal / this.#open) - shared;
        const more = Math.max(0, Math.min(wanted - floor, fair, this.#sharedFree));
        this.#sharedFree -= more;
        shared += more;
        held += floor + more;
        this.#held += floor + more;
        return floor + more;
      },
      give: (bytes) => {
        if (closed) return;
        const back = Math.min(bytes, shared);
        this.#sharedFree += back;
        shared -= back;
        held -= bytes;
        this.#held -= bytes;
      },
      close: () => {
        if (closed) return;
        closed = true;
        this.#sharedFree += shared;
        this.#held -= held;
        const next = this.#waiting.shift();
        if (next === undefined) this.#open -= 1;
        else next();
      },
    };
  }

  #turn(options: { waitMs: number; signal?: AbortSignal | undefined }): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        clearTimeout(timer);
        options.signal?.removeEventListener("abort", onAbort);
      };
      const leave = (error: Error): void => {
        const at = this.#waiting.indexOf(turn);
        if (at >= 0) this.#waiting.splice(at, 1);
        stop();
        reject(error);
      };
      const turn = (): void => {
        stop();
        resolve();
      };
      const onAbort = (): void => {
        leave(options.signal?.reason as Error);
      };
      const timer = setTimeout(() => {
        leave(
          new WeirError(
            "Busy",
            `Cannot open a block stream: ${this.#options.streams} are open and none ended in ${options.waitMs} ms`,
          ),
        );
      }, options.waitMs);
      options.signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(turn);
    });
  }
}

/** One stream's part of a pool. */
export interface CreditShare {
  /** Bytes taken and not given back. */
  readonly held: number;
  /** Takes up to `wanted` bytes; what it returns may be granted to the sender. */
  take(wanted: number): number;
  /** Bytes that were received and consumed. */
  give(bytes: number): void;
  close(): void;
}

/** A sender's side: what it was granted and has not sent yet. */
export class SendWindow {
  #available: number;
  #wake: (() => void) | undefined;
  #fail: ((error: Error) => void) | undefined;
  #error: Error | undefined;

  constructor(credit: number) {
    this.#available = credit;
  }

  get available(): number {
    return this.#available;
  }

  grant(bytes: number): void {
    this.#available += bytes;
    this.#wake?.();
  }

  /** Ends all waiting, now and later. */
  abort(error: Error): void {
    this.#error ??= error;
    this.#fail?.(this.#error);
  }

  /** Waits for at least `least` bytes of credit and takes up to `most`. One caller at a time. */
  async take(least: number, most: number): Promise<number> {
    if (this.#error !== undefined) throw this.#error;
    while (this.#available < least) {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        this.#fail = reject;
      });
      this.#wake = undefined;
      this.#fail = undefined;
    }
    const taken = Math.min(this.#available, most);
    this.#available -= taken;
    return taken;
  }
}
