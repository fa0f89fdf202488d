/**
 * Quotas: what may lie below a directory, nested as directories are. A command is refused that leaves a total above a
 * limit and has raised it; so what was above the limit before may shrink, and move within. What only takes names away is
 * never refused, though a file may come to count in another directory by it: that of its next name.
 */
import type { Command } from "../../rpc/commands.ts";
import { type Quota, type Usage, wholeUsage } from "../../rpc/namespace.ts";
import { type Context, refuse } from "./context.ts";
import { pathOf } from "./queries.ts";
import type { LedgerMark } from "./usage-ledger.ts";

/** Commands that may fail for a quota. */
export const limitedCommands: ReadonlySet<Command["kind"]> = new Set([
  "create",
  "link",
  "rename",
  "truncate",
  "commit",
  "mount",
  "recordLineage",
]);

/** Refuses with `QuotaExceeded` what was done since the mark. */
export function needQuotas(context: Context, since: LedgerMark): void {
  for (const { directory, quota, total, change } of context.usage.grownSince(since)) {
    const flaw = excess(quota, total, change);
    if (flaw === undefined) continue;
    const path = pathOf(context.state, directory) ?? "";
    refuse("QuotaExceeded", `the quota of "${path}" is ${flaw}`);
  }
}

function excess(limit: Quota, of: Usage, by: Usage): string | undefined {
  const [total, change] = [wholeUsage(of), wholeUsage(by)];
  if (limit.bytes !== undefined && change.bytes > 0 && total.bytes > limit.bytes) {
    const before = total.bytes - change.bytes;
    return `${limit.bytes} bytes, ${before} are used, ${change.bytes} more were wanted`;
  }
  const inodes = total.files + total.directories;
  const more = change.files + change.directories;
  if (limit.inodes !== undefined && more > 0 && inodes > limit.inodes) {
    return `${limit.inodes} inodes, ${inodes - more} are used, ${more} more were wanted`;
  }
  return undefined;
}
