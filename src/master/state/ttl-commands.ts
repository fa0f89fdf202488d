/**
 * What ends by its time to live. A time to live counts in wall time from the last change of a file's content, so a clock
 * that is set wrong would end what is still wanted: the state remembers wall time and cluster time together, and where one
 * of them has moved much further than the other nothing is removed until somebody says that the clock is right.
 *
 * Invariants
 * 1. Only what the nearest time to live asks to be deleted is removed, and only when its time is over in the wall time of
 *    the entry: the leader's look at it may be old.
 * 2. Nothing is removed while the clock is not trusted.
 */
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { maxExpired } from "../../rpc/commands.ts";
import { type Context, needDirectory, needWritable, refuse } from "./context.ts";
import { ttlClockKey } from "./keys.ts";
import { dropFileLink } from "./links.ts";
import { type Inode, type Link, type StateClock, stateClock } from "./model.ts";
import { dropDirectory } from "./namespace-commands.ts";
import { nearestValue, ownPolicy } from "./path-policies.ts";
import { needSuperuser } from "./permissions.ts";
import { edgeOf, inodeOf, isOpen, isReachable } from "./queries.ts";
import { isClockTrusted, isOver } from "./time-to-live.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Files and empty directories whose time is over lose the given names. Result: `id` is how many did. */
export function expire(context: Context, command: Of<"expire">): CommandResult {
  const { names } = command;
  if (names.length > maxExpired) {
    refuse("InvalidArgument", `${names.length} names, wanted at most ${maxExpired}`);
  }
  const directory = needDirectory(context, command.directory);
  needWritable(context, directory);
  if (!isReachable(context.state, directory.id)) {
    refuse("NotFound", `directory ${directory.id} was removed`);
  }
  if (!isClockTrusted(context.state.read(stateClock, ttlClockKey), context)) {
    refuse("Unavailable", "the clock moved further than time did, wanted somebody to accept it");
  }
  const inherited = nearestValue(context.state, directory.id, "ttl");
  let removed = 0;
  for (const name of names) {
    const found = edgeOf(context.state, directory.id, name);
    if (found === undefined) continue;
    const child = inodeOf(context.state, found.child)!;
    const ttl = ownPolicy(context.state, child)?.ttl ?? inherited;
    if (ttl?.action !== "delete" || !isOver(child.mtime, ttl.seconds, context.wallTime)) continue;
    if (!isExpendable(context, child)) continue;
    const link: Link = { parent: directory.id, name };
    if (child.kind === "directory") dropDirectory(context, child, link);
    else dropFileLink(context, child, link);
    removed++;
  }
  return { ok: true, id: removed };
}

/** Nobody writes it; a directory is empty, and nobody said anything of it. */
function isExpendable(context: Context, of: Inode): boolean {
  if (of.kind !== "directory") {
    return of.lease === undefined || !isOpen(context.state, of.lease.session);
  }
  return of.childCount === 0 && of.loaded && !of.mountPoint && of.policies === undefined;
}

/**
 * Takes the present times as the right ones: by the leader as long as they have moved alike, so that small differences do
 * not add up over the years; with `accept` in any case.
 */
export function setTtlClock(context: Context, { accept }: Of<"setTtlClock">): CommandResult {
  if (accept) needSuperuser(context);
  const before = context.state.read(stateClock, ttlClockKey);
  if (before !== undefined && !accept && !isClockTrusted(before, context)) {
    refuse("Unavailable", "the clock moved further than time did, wanted somebody to accept it");
  }
  const { clusterTimeMs, wallTime } = context;
  const now: StateClock = { clusterTimeMs, wallTime };
  context.state.write(stateClock, ttlClockKey, now);
  return { ok: true };
}
