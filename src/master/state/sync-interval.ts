/**
 * How old what is known of a store may get before the store is asked again. An interval of -1 never asks again, 0 asks
 * every time. The nearest one counts: of the policy of the directory or of one above it, of the mount, of the cluster.
 *
 * Invariant: while no directory and no mount ever had an interval, `syncIntervalsKey` is absent. So reads that are not
 * under any pay with one look at it.
 */
import type { InodeId } from "../../lib/ids.ts";
import { syncIntervalOption } from "../../rpc/namespace.ts";
import type { PointReader } from "../store/types.ts";
import type { Context } from "./context.ts";
import { syncIntervalsKey } from "./keys.ts";
import { type Mount, presence } from "./model.ts";
import { ownPolicy } from "./path-policies.ts";
import { ancestorsOf, inodeOf, mountOf } from "./queries.ts";

/** The interval among the options of a mount; undefined when there is none, or none that makes sense. */
export function syncIntervalOfMount(of: Pick<Mount, "options">): number | undefined {
  const text = of.options[syncIntervalOption];
  return text !== undefined && /^(-1|\d{1,12})$/.test(text) ? Number(text) : undefined;
}

/** Where an interval comes from: the directory that has it or whose mount has it; absent: the cluster's own. */
export interface SyncInterval {
  readonly intervalMs: number;
  readonly from: InodeId | undefined;
}

/** The interval of a directory. `clusterMs` is what counts where nothing else is said. */
export function syncIntervalOf(
  reader: PointReader,
  directory: InodeId,
  clusterMs: number,
): SyncInterval {
  if (reader.get(syncIntervalsKey) === undefined) return { intervalMs: clusterMs, from: undefined };
  for (const id of ancestorsOf(reader, directory)) {
    const of = inodeOf(reader, id);
    const said = of === undefined ? undefined : ownPolicy(reader, of)?.syncIntervalMs;
    if (said !== undefined) return { intervalMs: said, from: id };
    if (of?.mountPoint !== true) continue;
    const mount = mountOf(reader, of.mountId);
    const intervalMs = mount === undefined ? undefined : syncIntervalOfMount(mount);
    if (intervalMs !== undefined) return { intervalMs, from: id };
  }
  return { intervalMs: clusterMs, from: undefined };
}

/** Notes that a mount has an interval of its own. */
export function noteSyncOption(context: Context, of: Pick<Mount, "options">): void {
  if (context.level >= 2 && syncIntervalOfMount(of) !== undefined) noteIntervals(context);
}

/** Notes that a directory or a mount has an interval of its own. */
export function noteIntervals(context: Context): void {
  if (context.state.get(syncIntervalsKey) === undefined) {
    context.state.put(syncIntervalsKey, presence);
  }
}
