/** Which workers are to hold what is written. Pure. */
import { WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { WorkerInfo } from "../rpc/namespace.ts";

export interface Candidate {
  readonly worker: WorkerInfo;
  /** This process reads the worker's storage directly. */
  readonly shared: boolean;
  /** A transfer with it failed a moment ago. */
  readonly distrusted: boolean;
}

/**
 * The chain for a new container: of the workers that did not fail lately (of all, when all did) one whose storage is
 * shared, then those with most free space; fewer than `keepers` when there are fewer. After two chains that failed it
 * is one worker, another one at each attempt.
 * @throws WeirError `Unavailable` when no worker is live
 */
export function chooseChain(
  candidates: readonly Candidate[],
  keepers: number,
  attempt = 0,
): WorkerId[] {
  if (candidates.length === 0) {
    throw new WeirError(
      "Unavailable",
      "Cannot write: no worker is live; start one with `weir worker`, or see `weir status` for those that are lost",
    );
  }
  const trusted = candidates.filter((candidate) => !candidate.distrusted);
  const ranked = (trusted.length > 0 ? trusted : candidates).toSorted(
    (a, b) =>
      Number(b.shared) - Number(a.shared) ||
      freeBytes(b.worker) - freeBytes(a.worker) ||
      a.worker.id - b.worker.id,
  );
  if (attempt >= 2) return [ranked[(attempt - 2) % ranked.length]!.worker.id];
  return ranked.slice(0, keepers).map((candidate) => candidate.worker.id);
}

function freeBytes(worker: WorkerInfo): number {
  return worker.tiers.reduce((sum, tier) => sum + Math.max(0, tier.quotaBytes - tier.usedBytes), 0);
}
