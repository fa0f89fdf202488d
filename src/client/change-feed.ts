/**
 * Follows the masters' change feed and tells a listener what changed, and how late it knows that. Any master will do;
 * after a loss it goes on with the next one from where it stood.
 *
 * Invariants
 * 1. `onConfirmed(t)` is said only when the master that feeds has answered a linearizable read that was asked at t: then
 *    it has applied all that was acknowledged before t. A master that is stopped, or cut off from the others, does not.
 * 2. A feed that was not confirmed for `feedSilenceMs` is gone, whatever its connection looks like.
 */
import type { Clock } from "../lib/clock.ts";
import { type InodeId, rootInodeId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { RpcClient } from "../rpc/client.ts";

export interface ChangeListener {
  /** Committed changes at `index`. */
  onChange(change: {
    index: number;
    inodes: readonly InodeId[];
    names: readonly (readonly [InodeId, string])[];
  }): void;
  /** Some changes up to `index` were missed. */
  onGap(index: number): void;
  /** The feed is connected, or lost. */
  onLive(live: boolean, index: number): void;
  /** What was acknowledged before `atMs` of the monotonic clock is known, or was on its way with the answer that says so. */
  onConfirmed(atMs: number): void;
}

/** A feed counts for so long after the last time that it was known to be complete. */
export const feedSilenceMs = 1000;
/** How often it is asked: more than one answer may be late before the feed is gone. */
const askEveryMs = 300;
const retryPauseMs = 200;
/** The first answer of a master may need a connection. */
const firstAnswerMs = 3000;

export class ChangeFeed {
  readonly #masters: readonly Pick<RpcClient, "address" | "call" | "stream">[];
  readonly #listener: ChangeListener;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(options: {
    masters: readonly Pick<RpcClient, "address" | "call" | "stream">[];
    listener: ChangeListener;
    clock: Clock;
    logger: Logger;
  }) {
    this.#masters = options.masters;
    this.#listener = options.listener;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#done = this.#follow();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    let index = 0;
    for (let turn = 0; !signal.aborted; turn++) {
      const master = this.#masters[turn % this.#masters.length]!;
      const over = new AbortController();
      const end = () => over.abort();
      signal.addEventListener("abort", end, { once: true });
      let live = false;
      try {
        const askedMs = this.#clock.monotonicMs();
        const appliedIndex = await ask(master, firstAnswerMs, over.signal);
        index ||= appliedIndex;
        const items = master.stream(masterApi.subscribe, { after: index }, over);
        // From here on every change behind `index` arrives, or the loss of the stream shows.
        live = true;
        this.#listener.onLive(true, Math.max(index, appliedIndex));
        this.#listener.onConfirmed(askedMs);
        void this.#confirm(master, askedMs, over);
        for await (const item of items) {
          index = Math.max(index, item.index);
          if (item.kind === "gap") this.#listener.onGap(item.index);
          else this.#listener.onChange(item);
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.debug({ master: master.address, error: String(error) }, "change feed lost");
      } finally {
        over.abort();
        signal.removeEventListener("abort", end);
      }
      if (live) this.#listener.onLive(false, index);
      await this.#pause(retryPauseMs, signal);
    }
  }

  /** Asks whether the feed is complete, and ends it when that was not known for too long. */
  async #confirm(
    master: Pick<RpcClient, "call">,
    sinceMs: number,
    over: AbortController,
  ): Promise<void> {
    const { signal } = over;
    let confirmedMs = sinceMs;
    let cancel: () => void = () => undefined;
    const watch = () => {
      cancel();
      const leftMs = Math.max(0, confirmedMs + feedSilenceMs - this.#clock.monotonicMs());
      cancel = this.#clock.after(leftMs, () => over.abort());
    };
    watch();
    while (!signal.aborted) {
      const askedMs = this.#clock.monotonicMs();
      try {
        await ask(master, feedSilenceMs, signal);
        confirmedMs = askedMs;
        if (!signal.aborted) this.#listener.onConfirmed(askedMs);
        watch();
      } catch {
        // Nobody leads just now, or the master is away: another question, or the silence, will tell.
      }
      await this.#pause(askEveryMs, signal);
    }
    cancel();
  }

  /** Resolves after `delayMs`, or when it is over. */
  #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) {
        resolve();
        return;
      }
      const done = () => {
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const cancel = this.#clock.after(delayMs, done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}

/** The log index that a master has applied when it answers a linearizable read. */
async function ask(
  master: Pick<RpcClient, "call">,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<number> {
  const request = { inode: rootInodeId, consistency: "linearizable" } as const;
  return (await master.call(masterApi.getStatus, request, { deadlineMs, signal })).appliedIndex;
}
