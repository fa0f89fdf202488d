/** Time and chance, as seams: composition roots hand in the real ones, simulations their own. */

export interface Clock {
  /** Milliseconds of a clock that never goes back, from an arbitrary start. */
  monotonicMs(): number;
  /** Wall time in milliseconds since 1970, as the machine believes it. */
  wallMs(): number;
  /** Calls `callback` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

export interface Random {
  /** An integer in [0, limit), limit ≤ 2^31. */
  below(limit: number): number;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => {
      clearTimeout(timer);
    };
  },
};

export const systemRandom: Random = { below: (limit) => Math.floor(Math.random() * limit) };

/** Resolves after `delayMs`, or rejects with the signal's reason when it is aborted first. */
export function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** `sleep` by a given clock; with `signal` aborted it resolves at once. */
export function sleepOn(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const onAbort = () => {
      cancel();
      resolve();
    };
    const cancel = clock.after(delayMs, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** A deterministic generator (xorshift128, Marsaglia 2003) for simulations and tests: equal seeds, equal sequences. */
export function seededRandom(seed: number): Random {
  let [x, y, z, w] = [seed >>> 0 || 1, 362436069, 521288629, 88675123];
  const next = () => {
    const t = x ^ (x << 11);
    [x, y, z] = [y, z, w];
    w = (w ^ (w >>> 19) ^ t ^ (t >>> 8)) >>> 0;
    return w;
  };
  for (let i = 0; i < 16; i++) next();
  return { below: (limit) => Math.floor((next() / 2 ** 32) * limit) };
}
