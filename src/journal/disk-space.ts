/** How much of a disk is free, asked now and then: early enough to refuse work, seldom enough to cost nothing. */
import type { Clock } from "../lib/clock.ts";
import type { JournalFiles } from "./files.ts";

const checkEveryMs = 1000;

export class DiskSpace {
  readonly #files: Pick<JournalFiles, "freeBytes">;
  readonly #clock: Clock;
  #freeBytes = Number.MAX_SAFE_INTEGER;
  #checkedAtMs = Number.NEGATIVE_INFINITY;

  constructor(files: Pick<JournalFiles, "freeBytes">, clock: Clock) {
    this.#files = files;
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
    this.#freeBytes = await this.#files.freeBytes();
  }
}
