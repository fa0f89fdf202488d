/**
 * A store under guard: every call ends, whatever the store does, and a store that is away costs little.
 *
 * Invariants
 * 1. Every call has an end: short ones by a deadline, reads and writes by one for each step that the store makes, removals
 *    and renames of trees (which may take hours) by asking meanwhile whether the store still answers.
 * 2. While the store is unhealthy no call reaches it but one probe at a time.
 * 3. Reads and looks that are under way in the store are bounded, those included that were given up and still hang there:
 *    of a local store each of them holds a thread of the process.
 *
 * The store is opened with its first call, under the same guard.
 */
import type { Clock } from "../lib/clock.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import { cancellation } from "./errors.ts";
import { shown } from "./paths.ts";
import { StoreHealth } from "./store-health.ts";
import type {
  Going,
  Move,
  Removal,
  UfsAttributes,
  UfsListEntry,
  UfsStat,
  UnderFileSystem,
} from "./types.ts";

export interface GuardLimits {
  /** Of a call that is one step: a page of a listing, a stat, a directory. */
  readonly callMs: number;
  /** Of each step of a read or write. */
  readonly stepMs: number;
  /** How often a store is asked whether it answers while a tree of it is moved or removed. */
  readonly watchMs: number;
  /** Reads and looks in the store at once. */
  readonly inFlight: number;
}

export const defaultLimits: Omit<GuardLimits, "inFlight"> = {
  callMs: 10_000,
  stepMs: 30_000,
  watchMs: 30_000,
};

/** A caller that gave up waiting says something of the store if it had waited so long. */
const tellingSilenceMs = 5000;

export class GuardedStore implements UnderFileSystem {
  readonly uri: string;
  readonly readOnly: boolean;
  readonly health: StoreHealth;
  readonly #open: () => Promise<UnderFileSystem>;
  readonly #clock: Clock;
  readonly #limits: GuardLimits;
  #store: Promise<UnderFileSystem> | undefined;
  #inFlight = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(options: {
    uri: string;
    readOnly: boolean;
    open: () => Promise<UnderFileSystem>;
    clock: Clock;
    limits: GuardLimits;
  }) {
    this.uri = options.uri;
    this.readOnly = options.readOnly;
    this.#open = options.open;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.health = new StoreHealth(options.clock, () => this.#probe());
  }

  list(
    path: string,
    options: { after?: string | undefined; limit: number; signal?: AbortSignal },
  ): Promise<{ entries: readonly UfsListEntry[]; last: boolean }> {
    return this.#look(this.#doing("list", path), options.signal, (store, signal) =>
      store.list(path, { ...options, signal }),
    );
  }

  stat(path: string): Promise<UfsStat | undefined> {
    return this.#look(this.#doing("stat", path), undefined, (store) => store.stat(path));
  }

  async *read(
    path: string,
    options: {
      offset: number;
      length: number;
      fingerprint?: string | undefined;
      signal?: AbortSignal;
    },
  ): AsyncIterable<Uint8Array> {
    const doing = this.#doing("read", path);
    const ending = new AbortController();
    const signal = joined(options.signal, ending.signal);
    let source: AsyncIterator<Uint8Array> | undefined;
    let hangs = true;
    try {
      for (;;) {
        const next = await this.#inTurn(doing, options.signal, () =>
          this.#step(doing, this.#limits.stepMs, options.signal, async () => {
            source ??= (await this.#opened())
              .read(path, { ...options, signal })
              [Symbol.asyncIterator]();
            return source.next();
          }),
        );
        if (next.done === true) break;
        hangs = false;
        yield next.value;
        hangs = true;
      }
      hangs = false;
    } finally {
      ending.abort(new WeirError("Cancelled", `${doing}: nobody reads on`));
      const closing = source?.return?.()?.catch(() => undefined);
      // One that hangs would not come back from its end either.
      if (!hangs) await closing;
    }
  }

  async write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: {
      size: number;
      attributes?: UfsAttributes;
      keeps?: string | undefined;
    } & Going,
  ): Promise<string> {
    const doing = this.#doing("write", path);
    this.health.refuseIfUnhealthy(doing);
    const ending = new AbortController();
    const signal = joined(options.signal, ending.signal);
    const watch = new StepWatch(this.#clock, this.#limits.stepMs, () => {
      ending.abort(this.#late(doing, this.#limits.stepMs));
    });
    try {
      const store = await raced(this.#opened(), ending.signal);
      const written = store.write(path, watch.over(source), { ...options, signal });
      tellOfHanging(options, written, ending.signal);
      // When the caller gives up, the store cleans up before it says so.
      const fingerprint = await raced(written, ending.signal);
      this.health.answered();
      return fingerprint;
    } catch (thrown) {
      const error = toWeirError(thrown, doing);
      if (!watch.sourceFailed && options.signal?.aborted !== true) this.health.failed(error);
      throw error;
    } finally {
      watch.end();
    }
  }

  forgetReplaced(path: string, fingerprint: string): Promise<void> {
    return this.#change(this.#doing("forget what was replaced at", path), {}, (store) =>
      store.forgetReplaced(path, fingerprint),
    );
  }

  delete(path: string, what: Removal & Going): Promise<{ aside: boolean }> {
    return this.#changeTree(this.#doing("delete", path), what, (store, signal) =>
      store.delete(path, { ...what, signal }),
    );
  }

  rename(from: string, to: string, how: Move & Going): Promise<{ aside: boolean }> {
    const doing = `Cannot rename ${shown(from)} to ${shown(to)} in ${this.uri}`;
    return this.#changeTree(doing, how, (store, signal) =>
      store.rename(from, to, { ...how, signal }),
    );
  }

  mkdir(path: string, attributes?: UfsAttributes, going: Going = {}): Promise<void> {
    return this.#change(this.#doing("make directory", path), going, (store, signal) =>
      store.mkdir(path, attributes, { ...going, signal }),
    );
  }

  symlink(path: string, target: string, going: Going = {}): Promise<void> {
    return this.#change(this.#doing("make symbolic link", path), going, (store, signal) =>
      store.symlink(path, target, { ...going, signal }),
    );
  }

  setAttributes(
    path: string,
    attributes: UfsAttributes,
    going: Going = {},
  ): Promise<string | undefined> {
    return this.#change(this.#doing("change attributes of", path), going, (store, signal) =>
      store.setAttributes(path, attributes, { ...going, signal }),
    );
  }

  /** Does not wait for a store that does not answer. */
  async close(): Promise<void> {
    this.health.close();
    const closed = this.#store?.then((store) => store.close());
    closed?.catch(() => undefined);
    if (this.health.unhealthy === undefined) await closed;
  }

  #doing(verb: string, path: string): string {
    return `Cannot ${verb} ${shown(path)} in ${this.uri}`;
  }

  #late(doing: string, limitMs: number): WeirError {
    const detail = `the store did not answer within ${String(limitMs / 1000)} s`;
    return new WeirError("DeadlineExceeded", `${doing}: ${detail}`, { outcome: "unknown" });
  }

  #opened(): Promise<UnderFileSystem> {
    if (this.#store === undefined) {
      const opening = this.#open();
      this.#store = opening;
      opening.catch(() => {
        if (this.#store === opening) this.#store = undefined;
      });
    }
    return this.#store;
  }

  #look<T>(
    doing: string,
    signal: AbortSignal | undefined,
    run: (store: UnderFileSystem, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return this.#inTurn(doing, signal, () =>
      this.#step(doing, this.#limits.callMs, signal, async (own) => run(await this.#opened(), own)),
    );
  }

  async #change<T>(
    doing: string,
    going: Going,
    run: (store: UnderFileSystem, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const changing = async (signal: AbortSignal) => {
      const change = run(await this.#opened(), signal);
      tellOfHanging(going, change, signal);
      return change;
    };
    return this.#step(doing, this.#limits.callMs, going.signal, changing).promise;
  }

  /** Without a deadline of its own: it goes on for as long as the store answers others. */
  async #changeTree<T>(
    doing: string,
    going: Going,
    run: (store: UnderFileSystem, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    this.health.refuseIfUnhealthy(doing);
    const ending = new AbortController();
    const signal = joined(going.signal, ending.signal);
    let cancelWatch: () => void = () => undefined;
    const watch = () => {
      cancelWatch = this.#clock.after(this.#limits.watchMs, () => {
        void this.#probe().then(watch, (thrown: unknown) => {
          this.health.failed(toWeirError(thrown, doing));
          ending.abort(this.#late(doing, this.#limits.callMs));
        });
      });
    };
    watch();
    try {
      const store = await raced(this.#opened(), ending.signal);
      const change = run(store, signal);
      tellOfHanging(going, change, signal);
      const done = await raced(change, signal);
      this.health.answered();
      return done;
    } catch (thrown) {
      const error = toWeirError(thrown, doing);
      if (going.signal?.aborted !== true) this.health.failed(error);
      throw error;
    } finally {
      ending.abort();
      cancelWatch();
    }
  }

  /** Whether the store answers, asked past the refusals. */
  async #probe(): Promise<void> {
    const ending = new AbortController();
    const doing = this.#doing("list", "");
    const cancel = this.#clock.after(this.#limits.callMs, () => {
      ending.abort(this.#late(doing, this.#limits.callMs));
    });
    try {
      const { signal } = ending;
      await raced(
        this.#opened().then((store) => store.list("", { limit: 1, signal })),
        signal,
      );
    } catch (thrown) {
      throw toWeirError(thrown, doing);
    } finally {
      cancel();
    }
  }

  /** One step in the store. `settled` is when it is over there as well, which may be never. */
  #step<T>(
    doing: string,
    limitMs: number,
    signal: AbortSignal | undefined,
    run: (signal: AbortSignal) => Promise<T>,
  ): { promise: Promise<T>; settled: Promise<unknown> } {
    this.health.refuseIfUnhealthy(doing);
    const startMs = this.#clock.monotonicMs();
    const ending = new AbortController();
    const both = joined(signal, ending.signal);
    const cancel = this.#clock.after(limitMs, () => {
      ending.abort(this.#late(doing, limitMs));
    });
    const cancelDoubt = this.health.onDoubt((error) => ending.abort(error));
    const running = run(both);
    const settled = running.catch(() => undefined);
    const guard = async () => {
      try {
        const value = await raced(running, both);
        this.health.answered();
        return value;
      } catch (thrown) {
        if (signal?.aborted !== true) {
          const error = toWeirError(thrown, doing);
          this.health.failed(error);
          throw error;
        }
        if (this.#clock.monotonicMs() - startMs >= tellingSilenceMs) {
          this.health.failed(this.#late(doing, tellingSilenceMs));
        }
        throw cancellation(signal, doing);
      } finally {
        cancel();
        cancelDoubt();
      }
    };
    return { promise: guard(), settled };
  }

  /** Runs a step when fewer than the bound are in the store. */
  async #inTurn<T>(
    doing: string,
    signal: AbortSignal | undefined,
    step: () => { promise: Promise<T>; settled: Promise<unknown> },
  ): Promise<T> {
    this.health.refuseIfUnhealthy(doing);
    if (this.#inFlight >= this.#limits.inFlight) await this.#turn(doing, signal);
    else this.#inFlight++;
    let running: ReturnType<typeof step>;
    try {
      running = step();
    } catch (thrown) {
      this.#leave();
      throw thrown;
    }
    void running.settled.then(() => this.#leave());
    return running.promise;
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inFlight--;
    else next();
  }

  /** Resolves with a place that another left. */
  #turn(doing: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        cancel();
        cancelDoubt();
        signal?.removeEventListener("abort", onAbort);
        const place = this.#waiting.indexOf(enter);
        if (place >= 0) this.#waiting.splice(place, 1);
        settle();
      };
      const enter = () => end(resolve);
      const onAbort = () => end(() => reject(cancellation(signal!, doing)));
      const cancel = this.#clock.after(this.#limits.callMs, () => {
        end(() => {
          const detail = `${String(this.#limits.inFlight)} others wait for the store`;
          reject(new WeirError("Busy", `${doing}: ${detail}`));
        });
      });
      const cancelDoubt = this.health.onDoubt((error) => end(() => reject(error)));
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(enter);
    });
  }
}

/** Counts the time in which a writing store works, and not that in which it waits for what it is to write. */
class StepWatch {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #onLate: () => void;
  #cancel: () => void = () => undefined;
  #ended = false;
  sourceFailed = false;

  constructor(clock: Clock, limitMs: number, onLate: () => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#onLate = onLate;
    this.#start();
  }

  /** The source as the store is to take it. */
  async *over(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    this.#cancel();
    const chunks = source[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await chunks.next().catch((thrown: unknown) => {
          this.sourceFailed = true;
          throw thrown;
        });
        if (next.done === true) return;
        this.#start();
        yield next.value;
        this.#cancel();
      }
    } finally {
      this.#start();
      await chunks.return?.();
    }
  }

  end(): void {
    this.#cancel();
    this.#ended = true;
  }

  #start(): void {
    this.#cancel();
    if (!this.#ended) this.#cancel = this.#clock.after(this.#limitMs, this.#onLate);
  }
}

function joined(signal: AbortSignal | undefined, own: AbortSignal): AbortSignal {
  return signal === undefined ? own : AbortSignal.any([signal, own]);
}

/** Tells of a change that goes on in the store when its call has ended with the signal. */
function tellOfHanging({ outlives }: Going, change: Promise<unknown>, signal: AbortSignal): void {
  if (outlives === undefined) return;
  const tell = () => outlives(change);
  if (signal.aborted) tell();
  else {
    signal.addEventListener("abort", tell, { once: true });
    const forget = () => signal.removeEventListener("abort", tell);
    change.then(forget, forget);
  }
}

/** What the promise brings, or the reason of the signal, whichever is first. */
function raced<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => undefined);
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", onAbort))
      .catch(() => undefined);
  });
}
