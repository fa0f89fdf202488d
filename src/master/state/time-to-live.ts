/** Times to live as figures: whether one is over, and whether the clock that says so can be trusted. Pure. */
import type { Timestamp } from "../../rpc/namespace.ts";
import type { StateClock } from "./model.ts";

/**
 * By how much wall time and the cluster's own time may have moved apart. Cluster time stands still while no master leads:
 * a cluster may be down for so long.
 */
export const clockToleranceMs = 24 * 3_600_000;

/** By how much more wall time has moved than cluster time since `from`; negative: by how much less. */
export function clockDriftMs(from: StateClock, to: StateClock): number {
  const wallMs = milliseconds(to.wallTime) - milliseconds(from.wallTime);
  return wallMs - (to.clusterTimeMs - from.clusterTimeMs);
}

/** Undefined: nobody has looked at the clock yet. */
export function isClockTrusted(from: StateClock | undefined, now: StateClock): boolean {
  return from !== undefined && Math.abs(clockDriftMs(from, now)) <= clockToleranceMs;
}

function milliseconds({ sec, nsec }: Timestamp): number {
  return sec * 1000 + Math.floor(nsec / 1_000_000);
}

/** Whether so many seconds have passed since a file was changed. */
export function isOver(changed: Timestamp, seconds: number, now: Timestamp): boolean {
  const end = changed.sec + seconds;
  return end < now.sec || (end === now.sec && changed.nsec <= now.nsec);
}
