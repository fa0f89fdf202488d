/** How much of a disk is free, asked now and then: early enough to refuse work, seldom enough to cost nothing. */
import { statfs } from "node:fs/promises";
import type { Clock } from "../lib/clock.ts";

const checkEveryMs = 1000;

export class DiskSpace {
  readonly #directory: string;
  readonly #clock: Clock;
  #freeBytes = Number.MAX_SAFE_INTEGER;
  #checkedAtMs = Number.NEGATIVE_INFINITY;

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  /** Bytes free to this process at the last check; a stale answer starts a new check in the background. */
  get freeBytes(): number {
    if (this.#clock.monotonicMs() - this.#checkedAtMs >= checkEveryMs) {
      // A disk that does not answer keeps its last figure: the journal's writes tell what is wrong with it.
      this.check().catch(() => undefined);
    }
    return this.#freeBytes;
  }

  async check(): Promise<void> {
    this.#checkedAtMs = this.#clock.monotonicMs();
    const { bavail, bsize } = await statfs(this.#directory);
    this.#freeBytes = bavail * bsize;
  }
}
