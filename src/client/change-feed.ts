/**
 * Follows the masters' change feed and tells a listener what changed, and how late it knows that. Any master will do;
 * after a loss it goes on with the next one, from what that one has applied: all before is taken as missed.
 *
 * Invariants
 * 1. `onConfirmed(t)` is said only when the master that feeds has answered a linearizable read that was asked at t: then
 *    it has applied all that was acknowledged before t. A master that is stopped, or cut off from the others, does not.
 * 2. It is not said before the feed has told all that this read reflects: an answer overtakes changes that wait in the
 *    master until this client has taken the ones before them.
 * 3. A feed that was not confirmed for `feedSilenceMs` is gone, whatever its connection looks like.
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
    /** Inodes whose write lease another session waits for. */
    recalled?: readonly InodeId[] | undefined;
  }): void;
  /** Some changes up to `index` were missed. */
  onGap(index: number): void;
  /** The feed is connected, or lost. */
  onLive(live: boolean, index: number): void;
  /** What was acknowledged before `atMs` of the monotonic clock was told, or is before the index of `onLive`. */
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
    for (let turn = 0; !signal.aborted; turn++) {
      const master = this.#masters[turn % this.#masters.length]!;
      const over = new AbortController();
      const end = () => over.abort();
      signal.addEventListener("abort", end, { once: true });
      let told: Told | undefined;
      try {
        const askedMs = this.#clock.monotonicMs();
        const { appliedIndex } = await ask(master, firstAnswerMs, over.signal);
        const items = master.stream(masterApi.subscribe, { after: appliedIndex }, over);
        // From here on every change behind that index arrives, or the loss of the stream shows.
        this.#listener.onLive(true, appliedIndex);
        told = new Told({
          index: appliedIndex,
          confirmedMs: askedMs,
          clock: this.#clock,
          onConfirmed: (atMs) => this.#listener.onConfirmed(atMs),
          onSilence: end,
        });
        void this.#ask(master, told, over.signal);
        for await (const item of items) {
          if (item.kind === "gap") this.#listener.onGap(item.index);
          else this.#listener.onChange(item);
          told.reaches(item.index);
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.debug({ master: master.address, error: String(error) }, "change feed lost");
      } finally {
        over.abort();
        signal.removeEventListener("abort", end);
        told?.end();
      }
      if (told !== undefined) this.#listener.onLive(false, told.index);
      await this.#pause(retryPauseMs, signal);
    }
  }

  /** Asks time and again how far the feed has to have come. */
  async #ask(master: Pick<RpcClient, "call">, told: Told, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const askedMs = this.#clock.monotonicMs();
      try {
        const { appliedIndex, feedIndex } = await ask(master, feedSilenceMs, signal);
        // A master of an earlier version may not have told of the last entries, having nothing to tell: then the feed
        // is not confirmed until it has.
        told.confirm(feedIndex ?? appliedIndex, askedMs);
      } catch {
        // Nobody leads just now, or the master is away: another question, or the silence, will tell.
      }
      await this.#pause(askEveryMs, signal);
    }
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

/** How far one feed has come, and up to when that was all. */
class Told {
  /** All changes up to it were told. */
  index: number;
  /** Answers, in their order, that reflect more than what was told. */
  readonly #ahead: { readonly index: number; readonly askedMs: number }[] = [];
  readonly #clock: Clock;
  readonly #onConfirmed: (atMs: number) => void;
  readonly #onSilence: () => void;
  #cancel: () => void = () => undefined;
  #isOver = false;

  constructor(options: {
    index: number;
    confirmedMs: number;
    clock: Clock;
    onConfirmed: (atMs: number) => void;
    /** It was not confirmed for `feedSilenceMs`. */
    onSilence: () => void;
  }) {
    this.index = options.index;
    this.#clock = options.clock;
    this.#onConfirmed = options.onConfirmed;
    this.#onSilence = options.onSilence;
    this.#confirmed(options.confirmedMs);
  }

  reaches(index: number): void {
    this.index = Math.max(this.index, index);
    while (this.#ahead.length > 0 && this.#ahead[0]!.index <= this.index) {
      this.#confirmed(this.#ahead.shift()!.askedMs);
    }
  }

  /** All that was acknowledged before `askedMs` is told once the feed reaches `index`. */
  confirm(index: number, askedMs: number): void {
    this.#ahead.push({ index, askedMs });
    this.reaches(this.index);
  }

  end(): void {
    this.#isOver = true;
    this.#cancel();
  }

  #confirmed(atMs: number): void {
    if (this.#isOver) return;
    this.#onConfirmed(atMs);
    this.#cancel();
    const leftMs = Math.max(0, atMs + feedSilenceMs - this.#clock.monotonicMs());
    this.#cancel = this.#clock.after(leftMs, this.#onSilence);
  }
}

/** What a master has applied, and told of, when it answers a linearizable read. */
async function ask(
  master: Pick<RpcClient, "call">,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<{ appliedIndex: number; feedIndex?: number | undefined }> {
  const request = { inode: rootInodeId, consistency: "linearizable" } as const;
  return master.call(masterApi.getStatus, request, { deadlineMs, signal });
}
