/**
 * Has what was made by earlier releases counted in the totals of directories, a bounded step at a time, in the order of the
 * ids. Lives as long as one reign; where it stands is in the state.
 */
import type { Clock } from "../../lib/clock.ts";
import { toWeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { inodeAtEnd, inodeRange } from "../state/keys.ts";
import type { Tree } from "../state/model.ts";
import { treeOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";

/** Inodes of one step, and how long it rests between two. */
const stepLimit = 500;
const stepPauseMs = 20;
/** How often it looks whether the level was raised, and waits after a failure. */
const pauseMs = 500;

export interface UsageCountOptions {
  readonly reader: StateReader;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Runs until all is counted, or the reign ends. */
export async function countUsage(options: UsageCountOptions): Promise<void> {
  const { reader, propose, reign, clock, logger } = options;
  while (!reign.signal.aborted) {
    try {
      const tree = treeOf(reader);
      if (tree !== undefined && tree.countedBelow >= tree.countedFrom) return;
      if (tree !== undefined) {
        const from = tree.countedBelow;
        const to = await endOfStep(reader, tree);
        await propose([{ kind: "countUsage", from, to }], reign.signal);
      }
      await rest(clock, tree === undefined ? pauseMs : stepPauseMs, reign.signal);
    } catch (thrown) {
      if (reign.signal.aborted) return;
      const { message } = toWeirError(thrown, "Cannot count what lies below directories");
      logger.warn({ error: message }, "the count of usage waits");
      await rest(clock, pauseMs, reign.signal);
    }
  }
}

/** Ids up to which there are `stepLimit` inodes to count: what is gone leaves gaps of any length. */
async function endOfStep(
  reader: StateReader,
  { countedBelow, countedFrom }: Tree,
): Promise<InodeId> {
  const rows = await reader.iterate(inodeRange(countedBelow, countedFrom), stepLimit);
  const last = rows[rows.length - 1];
  return last === undefined || rows.length < stepLimit
    ? countedFrom
    : ((inodeAtEnd(last[0]) + 1) as InodeId);
}

function rest(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(delayMs, end);
    function end(): void {
      cancel();
      signal.removeEventListener("abort", end);
      resolve();
    }
    signal.addEventListener("abort", end);
  });
}
