/**
 * Times of inodes: what is explicitly set, and when a read moves an access time. All other commands set them as POSIX says
 * at each function; test/master/state/times.test.ts has the table.
 */
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { maxAtimes } from "../../rpc/commands.ts";
import { isLater, lagsBehind, minus } from "../../rpc/relatime.ts";
import type { Timestamp } from "../../rpc/namespace.ts";
import { type Context, patchInode, refuse } from "./context.ts";
import type { Inode } from "./model.ts";
import { inodeOf, mountOf } from "./queries.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** The times that a change of attributes asks for; undefined where one stays as it is. */
export function timesOf(
  context: Context,
  { atime, mtime, touch }: Of<"setAttributes">,
): { readonly atime: Timestamp | undefined; readonly mtime: Timestamp | undefined } {
  if (touch === true) return { atime: context.wallTime, mtime: context.wallTime };
  return { atime: needTime(context, atime), mtime: needTime(context, mtime) };
}

function needTime(context: Context, time: Timestamp | undefined): Timestamp | undefined {
  // Masters of before level 2 took any.
  if (time !== undefined && time.nsec >= 1_000_000_000 && context.level >= 2) {
    refuse("InvalidArgument", `${time.nsec} nanoseconds are no part of a second`);
  }
  return time;
}

/**
 * Nobody is asked for a right: who has read was allowed to, and all that one can do who was not is to move an access time to
 * the present. Result: `id` is the number of access times that moved.
 */
export function touchAtimes(context: Context, { reads }: Of<"touchAtimes">): CommandResult {
  if (reads.length > maxAtimes) {
    refuse("InvalidArgument", `${reads.length} reads are told of, wanted at most ${maxAtimes}`);
  }
  let moved = 0;
  for (const { inode, agoMs } of reads) {
    const of = inodeOf(context.state, inode);
    if (of === undefined || !isWritable(context, of)) continue;
    const atime = minus(context.wallTime, agoMs);
    if (!isLater(atime, of.atime) || !lagsBehind(of, atime)) continue;
    patchInode(context, inode, { atime });
    moved++;
  }
  return { ok: true, id: moved };
}

function isWritable(context: Context, of: Inode): boolean {
  return mountOf(context.state, of.mountId)?.readOnly === false;
}
