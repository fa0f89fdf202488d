/**
 * What is asked when a master is silent: whether others know a leader in its place. A silence alone says little, as a
 * master that is merely slow is silent too; that others elected a leader meanwhile is reason enough to leave it.
 */
import { sleep } from "../lib/clock.ts";
import { hasCode } from "../lib/errors.ts";
import type { RpcClient } from "./client.ts";
import { masterApi } from "./master-api.ts";

/** How long a master that knows no other leader keeps the question, to answer as soon as it does. */
const waitMs = 500;
/** What an answer may take beyond that. */
const graceMs = 500;
const retryMs = 50;

/**
 * Address of the leader that any of `others` names in the place of `suspect`, as soon as one does; undefined once the
 * suspect is silent no more, or none of them can tell.
 */
export async function otherLeader(
  suspect: RpcClient,
  others: readonly RpcClient[],
): Promise<string | undefined> {
  const found = new AbortController();
  const { signal } = found;
  const ask = async (master: RpcClient): Promise<string | undefined> => {
    while (suspect.isSilent && !signal.aborted) {
      try {
        const { leaderAddress } = await master.call(
          masterApi.otherLeader,
          { than: suspect.address, waitMs },
          { deadlineMs: waitMs + graceMs, signal },
        );
        if (leaderAddress !== undefined && leaderAddress !== suspect.address) return leaderAddress;
      } catch (error) {
        // A master of an older version.
        if (hasCode(error, "NotSupported")) return undefined;
        await sleep(retryMs);
      }
    }
    return undefined;
  };
  return new Promise((resolve) => {
    const asked = others.map(async (master) => {
      const address = await ask(master);
      if (address !== undefined) {
        resolve(address);
        found.abort();
      }
    });
    void Promise.all(asked).then(() => resolve(undefined));
  });
}
