/** Waiting in tests: for a condition, never for luck. */
import { sleep } from "../../src/lib/clock.ts";

/**
 * Polls until `probe` returns something other than `undefined` or `false`, and returns that.
 * @throws Error naming `what` after `timeoutMs`, with the last thing that `probe` threw as its cause
 */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = 20_000,
): Promise<Exclude<T, undefined | false>> {
  const until = performance.now() + timeoutMs;
  let cause: unknown;
  while (performance.now() < until) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
    } catch (error) {
      cause = error;
    }
    await sleep(25);
  }
  throw new Error(`After ${timeoutMs} ms still waiting for: ${what}`, { cause });
}
