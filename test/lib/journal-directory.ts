/** Journals on real files in a temporary directory, and what a crash may leave of them. */
import { cpSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { type JournalOptions, openJournal } from "../../src/journal/journal.ts";
import type { Journal } from "../../src/journal/types.ts";

export class JournalDirectory {
  readonly root: string;
  #generation = 0;

  private constructor(root: string) {
    this.root = root;
  }

  static async make(): Promise<JournalDirectory> {
    return new JournalDirectory(await mkdtemp(join(tmpdir(), "weir-journal-")));
  }

  get path(): string {
    return join(this.root, String(this.#generation));
  }

  open(options: Partial<JournalOptions> = {}): Promise<Journal> {
    return openJournal({
      directory: this.path,
      segmentBytes: 32 * 1024,
      reservedDiskBytes: 1,
      clock: systemClock,
      logger: silentLogger,
      ...options,
    });
  }

  /**
   * Goes on with a copy of the files as they are now, as after a kill. Nothing else runs meanwhile: at most the one write
   * under way gets into some of the files, as it may at a kill.
   */
  async copy(): Promise<void> {
    const from = this.path;
    this.#generation++;
    cpSync(from, this.path, { recursive: true, filter: (path) => !path.includes("/lock") });
  }

  /** Goes back to the files that the last `copy` was taken from. */
  discardCopy(): void {
    this.#generation--;
  }

  /** Paths of the segments, oldest first. */
  async segments(): Promise<string[]> {
    const names = (await readdir(this.path)).filter((name) => name.endsWith(".wal"));
    return names.sort().map((name) => join(this.path, name));
  }

  remove(): Promise<void> {
    return rm(this.root, { recursive: true, force: true });
  }
}
