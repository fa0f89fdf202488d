/**
 * Follows the masters' change feed and tells a listener what changed. Any master will do; after a loss it goes on with
 * the next one from where it stood.
 */
import { sleep } from "../lib/clock.ts";
import type { InodeId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";

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
}

const retryPauseMs = 200;
const statusTimeoutMs = 3000;

export class ChangeFeed {
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(masters: MasterConnection, listener: ChangeListener, logger: Logger) {
    this.#done = this.#follow(masters, listener, logger);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #follow(
    masters: MasterConnection,
    listener: ChangeListener,
    logger: Logger,
  ): Promise<void> {
    const { signal } = this.#stop;
    let index = 0;
    for (let turn = 0; !signal.aborted; turn++) {
      const master = masters.each[turn % masters.each.length]!;
      let live = false;
      try {
        const { appliedIndex } = await master.call(
          masterApi.status,
          { exact: false },
          { deadlineMs: statusTimeoutMs, signal },
        );
        index ||= appliedIndex;
        const items = master.stream(masterApi.subscribe, { after: index }, { signal });
        // From here on every change behind `index` arrives, or the loss of the stream shows.
        live = true;
        listener.onLive(true, Math.max(index, appliedIndex));
        for await (const item of items) {
          index = Math.max(index, item.index);
          if (item.kind === "gap") listener.onGap(item.index);
          else listener.onChange(item);
        }
      } catch (error) {
        if (signal.aborted) return;
        logger.debug({ master: master.address, error: String(error) }, "change feed lost");
      }
      if (live) listener.onLive(false, index);
      await sleep(retryPauseMs, signal).catch(() => undefined);
    }
  }
}
