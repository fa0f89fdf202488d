/**
 * Which containers of this worker are pinned: asks the masters page by page, in the order in which containers would be
 * evicted, and over again. What it knows is soft: after a restart it is asked for anew.
 *
 * A page costs a master about a millisecond; where nothing is pinned in the whole cluster no page is asked for.
 */
import { sleep } from "../lib/clock.ts";
import type { InodeId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import type { BlockStore } from "./block-store.ts";

/** Inodes of one question, and how long it rests between two, and between rounds. */
const pageSize = 500;
const pagePauseMs = 200;
const roundPauseMs = 5000;

export interface PinsOptions {
  readonly store: BlockStore;
  /** Which of the files are pinned; undefined: none is, in the whole cluster. */
  readonly ask: (
    inodes: readonly InodeId[],
    signal: AbortSignal,
  ) => Promise<ReadonlySet<InodeId> | undefined>;
  readonly logger: Logger;
}

/** Runs until the signal ends it. */
export async function watchPins(options: PinsOptions, signal: AbortSignal): Promise<void> {
  const { logger } = options;
  while (!signal.aborted) {
    try {
      await askRound(options, signal);
    } catch (error) {
      if (signal.aborted) return;
      logger.debug({ error: String(error) }, "pins are not known; they are asked for again");
    }
    await sleep(roundPauseMs, signal).catch(() => undefined);
  }
}

async function askRound({ store, ask }: PinsOptions, signal: AbortSignal): Promise<void> {
  if ((await ask([], signal)) === undefined) {
    store.retainPins(new Set());
    return;
  }
  const inodes = store.inodesInOrder();
  for (let from = 0; from < inodes.length; from += pageSize) {
    const page = inodes.slice(from, from + pageSize);
    const pinned = await ask(page, signal);
    for (const inode of page) store.setPinned(inode, pinned?.has(inode) === true);
    await sleep(pagePauseMs, signal);
  }
  store.retainPins(new Set(inodes));
}
