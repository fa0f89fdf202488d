/** The history of data policies: what each run came to. */
import type { TreeOpId } from "../../lib/ids.ts";
import type { Timestamp } from "../../rpc/namespace.ts";
import { isLater } from "../../rpc/relatime.ts";
import type { Context } from "./context.ts";
import { dataPolicyKey } from "./keys.ts";
import { dataPolicy, type TreeOp } from "./model.ts";
import { dataPolicyOf } from "./queries.ts";

/** Runs that a policy remembers. */
export const rememberedRuns = 20;

/** An operation on a tree is over; if it was a run of a policy that is still there, that one remembers it. */
export function noteRunEnd(context: Context, id: TreeOpId, of: TreeOp): void {
  const { work } = of;
  if (work.kind !== "migrate") return;
  const policy = dataPolicyOf(context.state, work.policy);
  if (policy === undefined) return;
  const { startedAt, state, done, failed, failures, scanned, matched, matchedBytes, samples } = of;
  const run = {
    ...{ treeOp: id, isTrial: work.isTrial, startedAt, endedAt: context.wallTime, state },
    ...{ done, failed, failures, scanned, matched, matchedBytes, samples },
  };
  // What failed is looked at again by the next run.
  const isWhole = state === "done" && failed === 0 && !work.isTrial;
  context.state.write(dataPolicy, dataPolicyKey(work.policy), {
    ...policy,
    running: policy.running === id ? undefined : policy.running,
    copiedUpTo:
      isWhole && work.migration.keep ? copiedUpTo(work.before ?? startedAt, of) : policy.copiedUpTo,
    runs: [...policy.runs, run].slice(-rememberedRuns),
  });
}

/** The next run begins with the first file that this one had to leave. */
function copiedUpTo(whole: Timestamp, { leftSince }: TreeOp): Timestamp {
  if (leftSince === undefined || isLater(leftSince, whole)) return whole;
  const { sec, nsec } = leftSince;
  return nsec > 0 ? { sec, nsec: nsec - 1 } : { sec: sec - 1, nsec: 999_999_999 };
}
