/**
 * Hands committed entries to the state machine, one call after the other, without holding up the consensus turns: the
 * machine may work through a call without a pause, so a backlog is cut, and the sockets are read between its pieces. A
 * snapshot is installed in the same queue, so that the state machine never does two things at once.
 */
import type { Entry, Index } from "../types.ts";

/** Most entries, and bytes of payload, in one call (but always one entry). */
const maxEntriesPerCall = 1024;
const maxBytesPerCall = 128 * 1024;

export interface ApplierOptions {
  readonly machine: {
    readonly appliedIndex: number;
    apply(entries: readonly Entry[]): Promise<void>;
  };
  /** Calls back after the sockets that are readable now were read: `setImmediate`. */
  readonly afterPoll: (callback: () => void) => void;
  readonly onApplied: (index: Index) => void;
  readonly onFatal: (error: unknown) => void;
}

export class Applier {
  readonly #options: ApplierOptions;
  #entries: Entry[] = [];
  #tasks: (() => Promise<void>)[] = [];
  #running: Promise<void> | undefined;
  #isStopped = false;
  /** Ends the pause between two calls. */
  #goOn: () => void = () => undefined;

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  /** Takes entries that follow those taken before. */
  push(entries: readonly Entry[]): void {
    for (const entry of entries) this.#entries.push(entry);
    this.#run();
  }

  /** Runs `task` between two calls of the state machine. It deals with its own errors. */
  between(task: () => Promise<void>): void {
    this.#tasks.push(task);
    this.#run();
  }

  /** Starts nothing new; resolves when the call under way is over. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#goOn();
    await this.#running;
  }

  #run(): void {
    if (this.#isStopped) return;
    this.#running ??= this.#drain()
      .catch((error: unknown) => {
        this.#isStopped = true;
        this.#options.onFatal(error);
      })
      .finally(() => {
        this.#running = undefined;
        if (this.#entries.length + this.#tasks.length > 0) this.#run();
      });
  }

  async #drain(): Promise<void> {
    const { machine, onApplied, afterPoll } = this.#options;
    let hasApplied = false;
    while (!this.#isStopped) {
      const task = this.#tasks.shift();
      if (task !== undefined) {
        await task();
        continue;
      }
      if (this.#entries.length === 0) return;
      if (hasApplied) {
        hasApplied = false;
        await new Promise<void>((resolve) => {
          this.#goOn = resolve;
          afterPoll(resolve);
        });
        continue;
      }
      hasApplied = true;
      const all = this.#entries.splice(0, this.#callLength());
      // A snapshot installed meanwhile may have brought some of them.
      const { appliedIndex } = machine;
      const entries =
        all[0]!.index > appliedIndex ? all : all.filter((e) => e.index > appliedIndex);
      if (entries.length > 0) await machine.apply(entries);
      if (!this.#isStopped) onApplied(all[all.length - 1]!.index);
    }
  }

  /** How many of the entries go into the next call. */
  #callLength(): number {
    const limit = Math.min(this.#entries.length, maxEntriesPerCall);
    let bytes = 0;
    for (let count = 0; count < limit; count++) {
      bytes += this.#entries[count]!.payload.length;
      if (bytes > maxBytesPerCall) return Math.max(1, count);
    }
    return limit;
  }
}
