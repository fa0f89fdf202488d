import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { constants, type FileHandle, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { openJournalFiles, openThreadedFiles } from "../../src/journal/files.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";
import { withTempDir } from "../lib/temp-dir.ts";

/** Paths that are synced while `work` runs, in order. */
async function syncsOf(directory: string, work: () => Promise<void>): Promise<string[]> {
  const handle = await open(directory, "r");
  const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, "sync">;
  await handle.close();
  const { sync } = prototype;
  const synced: string[] = [];
  prototype.sync = function (this: FileHandle) {
    synced.push(readlinkSync(`/proc/self/fd/${this.fd}`));
    return sync.call(this);
  };
  try {
    await work();
  } finally {
    prototype.sync = sync;
  }
  return synced;
}

/** Flags with which this process has the file open. */
function flagsOf(path: string): number[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) !== path) return [];
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, "latin1");
      return [Number.parseInt(/flags:\s*(\d+)/u.exec(info)![1]!, 8)];
    } catch {
      // Closed meanwhile: that of the listing itself.
      return [];
    }
  });
}

describe("journal files", () => {
  for (const [kind, openFiles] of [
    ["of one thread", openJournalFiles],
    ["with a thread of their own", openThreadedFiles],
  ] as const) {
    it(`${kind} write so that a write that is over is on the disk`, async () => {
      await withTempDir(async (directory) => {
        const files = await openFiles(directory);
        await files.create("a", 8192, Buffer.from("head"));
        const writer = await files.openWriter("a");
        const flags = flagsOf(join(directory, "a"));
        await writer.close();
        await files.close();
        assert.equal(flags.length, 1);
        assert.equal(flags[0]! & constants.O_DSYNC, constants.O_DSYNC);
      });
    });
  }

  it("are on the disk, whole, when they are made, and their names when the directory is synced", async () => {
    await withTempDir(async (directory) => {
      const files = await openJournalFiles(directory);
      const synced = await syncsOf(directory, async () => {
        await files.create("a", 8192, Buffer.from("head"));
        await files.rename("a", "b");
        await files.syncDirectory();
      });
      assert.deepEqual(synced, [join(directory, "a"), directory]);
      assert.equal(readFileSync(join(directory, "b")).length, 8192);
      await files.close();
    });
  });

  it("that a process left are made durable by the next one, before it builds on them", async () => {
    const directory = await JournalDirectory.make();
    try {
      await (await directory.open()).close();
      let close = () => Promise.resolve();
      const synced = await syncsOf(directory.root, async () => {
        const journal = await directory.open();
        close = () => journal.close();
      });
      await close();
      assert.ok(synced.includes(directory.path), synced.join());
    } finally {
      await directory.remove();
    }
  });

  it("make the names of new directories above them durable too", async () => {
    await withTempDir(async (directory) => {
      await mkdir(join(directory, "there"));
      let close = () => Promise.resolve();
      const synced = await syncsOf(directory, async () => {
        const files = await openJournalFiles(join(directory, "there", "new", "journal"));
        close = () => files.close();
      });
      assert.deepEqual(synced.slice(0, 2), [
        join(directory, "there", "new"),
        join(directory, "there"),
      ]);
      await close();
    });
  });
});
