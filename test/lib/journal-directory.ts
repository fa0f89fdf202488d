/** Journals on real files in a temporary directory, and what a crash may leave of them. */
import { copyFileSync, mkdirSync, readdirSync } from "node:fs";
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
   * Goes on with a copy of the files as they are now, as after a kill. What the threads below Node have in hand goes on
   * meanwhile, as it may at a kill: one write gets into some of the files, a segment gets its name, old segments go.
   * Those go oldest first, so the newest are copied first: what is gone by its turn leaves no hole behind it.
   */
  async copy(): Promise<void> {
    const from = this.path;
    this.#generation++;
    mkdirSync(this.path);
    const names = readdirSync(from).filter((name) => name !== "lock");
    for (const name of names.sort().reverse()) {
      try {
        copyFileSync(join(from, name), join(this.path, name));
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== "ENOENT") throw thrown;
      }
    }
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
