/** Mounts that are not shared: the mode of the root lets its owner in, and the superuser, and nobody else. */
import { type Context, refuse } from "./context.ts";
import type { Inode } from "./model.ts";
import { mountOf } from "./queries.ts";

const ofOthers = 0o077;

/** The mode of the root while the mount is not shared, from that when it is. */
export function privateMode(mode: number): number {
  return (mode & ~ofOthers) | 0o700;
}

/** Refuses a mode that would let others into a mount that is not shared. */
export function needPrivate(context: Context, of: Inode, mode: number): void {
  if (!of.mountPoint || (mode & ofOthers) === 0) return;
  if (mountOf(context.state, of.mountId)?.sharedMode === undefined) return;
  refuse(
    "NotPermitted",
    "it is the root of a mount that is not shared, wanted it to be shared first",
  );
}
