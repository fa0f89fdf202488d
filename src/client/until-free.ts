/** Waiting for a write lease: its holder gives it up by itself, at the latest some seconds after its last write. */
import { type Clock, sleep } from "../lib/clock.ts";
import { hasCode } from "../lib/errors.ts";

const firstPauseMs = 10;
const longestPauseMs = 200;

/**
 * What `attempt` answers, tried again while another session holds the lease.
 * @throws WeirError `LeaseConflict` when it still does at the deadline; whatever else `attempt` throws, at once
 */
export async function untilFree<T>(
  { clock, operationTimeoutMs }: { readonly clock: Clock; readonly operationTimeoutMs: number },
  attempt: () => Promise<T>,
): Promise<T> {
  const endMs = clock.monotonicMs() + operationTimeoutMs;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    try {
      return await attempt();
    } catch (error) {
      const late = clock.monotonicMs() + pauseMs >= endMs;
      if (!hasCode(error, "LeaseConflict") || late) throw error;
    }
    await sleep(pauseMs);
  }
}
