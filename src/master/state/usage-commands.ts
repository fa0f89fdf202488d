/**
 * The count of what was made before anything was counted: in bounded steps through the ids, which the leader proposes until
 * it is done. A state that began at the present level has nothing to count but its first two directories.
 */
import { decode } from "../../lib/schema.ts";
import type { InodeId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { type Context, refuse } from "./context.ts";
import { inodeRange } from "./keys.ts";
import { inode } from "./model.ts";
import { nextId } from "./queries.ts";

/** Most inodes that one `countUsage` counts. */
export const countStepLimit = 1000;

/** From now on what is made is counted; what is there waits for its turn. */
export function beginCounting(context: Context): void {
  if (context.usage.tree !== undefined) return;
  const countedFrom = nextId(context.state, "Inode") as InodeId;
  context.usage.setTree({ countedFrom });
}

/** Result: `id` 1 while more is to be counted. `Stale` where another step came first. */
export function countUsage(
  context: Context,
  { from, to }: Extract<Command, { kind: "countUsage" }>,
): CommandResult {
  const { tree } = context.usage;
  if (tree === undefined) refuse("Unavailable", "nothing is counted yet");
  const { countedBelow, countedFrom } = tree;
  if (from !== countedBelow) refuse("Stale", `inodes are counted up to ${countedBelow}`);
  const end = Math.min(to, countedFrom) as InodeId;
  if (end <= from) return { ok: true, id: from < countedFrom ? 1 : 0 };
  let next = end;
  const rows = context.state.scan(inodeRange(from, end));
  const found = rows.slice(0, countStepLimit).map(([key, value]) => decode(inode, value, key));
  if (rows.length > found.length) next = (found[found.length - 1]!.id + 1) as InodeId;
  for (const of of found) context.usage.found(of);
  context.usage.setTree({ countedBelow: next });
  return { ok: true, id: next < countedFrom ? 1 : 0 };
}
