/**
 * Side effects that workers carry out for earlier leaders, and that cannot be called back. A leader leaves the operations
 * of these alone until they have ended.
 *
 * A worker that hears of a new leader ends what it does for the one before, and says what has not ended yet. One that
 * hears of no leader stops by itself after a part of `workerTimeoutMs` (`effectLeasePart`): so what it has not said after
 * all of that, counted from the start of the reign, goes on nowhere.
 */
import type { Clock } from "../../lib/clock.ts";
import type { UfsOpId } from "../../lib/ids.ts";
import { workersOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";
import type { WorkerRegistry } from "./worker-registry.ts";

export interface EffectFenceOptions {
  readonly reader: StateReader;
  readonly registry: Pick<WorkerRegistry, "endingAt">;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly workerTimeoutMs: number;
}

/** Operations that go on at workers for earlier leaders; undefined while a live worker has not said. */
export function endingElsewhere(options: EffectFenceOptions): ReadonlySet<UfsOpId> | undefined {
  const { reader, registry, reign, clock, workerTimeoutMs } = options;
  const isOld = clock.monotonicMs() - reign.sinceMs > workerTimeoutMs;
  const ending = new Set<UfsOpId>();
  for (const { id, state } of workersOf(reader)) {
    const atWorker = registry.endingAt(id, reign.term);
    if (atWorker === undefined && state === "live" && !isOld) return undefined;
    for (const op of atWorker ?? []) ending.add(op);
  }
  return ending;
}
