/**
 * The level of the state: what all members know. A command that would do something else on a master of an earlier release
 * does it from the level on that came with it, which the leader raises when no such master is left.
 */
import { type Command, type CommandResult, newestLevel } from "../../rpc/commands.ts";
import { type Context, refuse } from "./context.ts";
import { levelKey } from "./keys.ts";
import { count } from "./model.ts";
import { beginCounting } from "./usage-commands.ts";

/** A level that the state has already is fine. Result: `id` is the level. */
export function raiseLevel(
  context: Context,
  { level }: Extract<Command, { kind: "raiseLevel" }>,
): CommandResult {
  if (level > newestLevel) {
    refuse("NotSupported", `level ${level}, known are those up to ${newestLevel}`);
  }
  if (level > context.level) context.state.write(count, levelKey, level);
  if (level >= 2) beginCounting(context);
  return { ok: true, id: Math.max(level, context.level) };
}
