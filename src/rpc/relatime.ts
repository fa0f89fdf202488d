/** The rule of relatime in mount(8), for clients that tell of reads and masters that decide by it. Pure. */
import type { Timestamp } from "./namespace.ts";

const daySeconds = 86_400;

export function isLater(a: Timestamp, b: Timestamp): boolean {
  return a.sec > b.sec || (a.sec === b.sec && a.nsec > b.nsec);
}

/** Whether a read at `now` should move the access time: it lags behind the other two times, or by a day. */
export function lagsBehind(
  of: { readonly atime: Timestamp; readonly mtime: Timestamp; readonly ctime: Timestamp },
  now: Timestamp,
): boolean {
  const { atime, mtime, ctime } = of;
  if (!isLater(atime, mtime) || !isLater(atime, ctime)) return true;
  return !isLater({ sec: atime.sec + daySeconds, nsec: atime.nsec }, now);
}

/** The time `ms` milliseconds earlier. */
export function minus({ sec, nsec }: Timestamp, ms: number): Timestamp {
  const rest = nsec - (ms % 1000) * 1_000_000;
  const whole = sec - Math.floor(ms / 1000);
  return rest < 0 ? { sec: whole - 1, nsec: rest + 1_000_000_000 } : { sec: whole, nsec: rest };
}
