/**
 * Waiting for what somebody else has for a while: a write lease, which its holder gives up, or the part of a file that was
 * cut off and is still being taken away.
 */
import { type Clock, sleep } from "../lib/clock.ts";
import { hasCode } from "../lib/errors.ts";

const firstPauseMs = 10;
const longestPauseMs = 200;

/**
 * What `attempt` answers, tried again while another session holds the lease (`LeaseConflict`), or what it needs is busy.
 * @throws WeirError that refusal when it is still so at the deadline; whatever else `attempt` throws, at once
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
      if (!hasCode(error, "LeaseConflict", "Busy") || error.outcome === "unknown" || late)
        throw error;
    }
    await sleep(pauseMs);
  }
}
