/** The history of data policies: what each run came to. */
import type { TreeOpId } from "../../lib/ids.ts";
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
    copiedUpTo: isWhole && work.migration.keep ? (work.before ?? startedAt) : policy.copiedUpTo,
    runs: [...policy.runs, run].slice(-rememberedRuns),
  });
}
