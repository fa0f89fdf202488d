import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../../src/lib/config.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { checkRestored, restoreBackup } from "../../../src/master/backup/restore.ts";

const backup = new URL("../../compat/fixtures/v1/small.weirbackup", import.meta.url).pathname;
const text = "masters: [{name: master-1, rpcPort: 1, raftPort: 2}]\n";
const config = loadConfig({ file: { path: "/weir.yaml", text } });

describe("Restoring a backup into a directory", function () {
  this.timeout(20_000);
  let base: string;

  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), "weir-restore-"));
  });
  afterEach(async () => {
    await rm(base, { recursive: true, force: true });
  });

  const restore = (dataDir: string, from = backup) =>
    restoreBackup({ backup: from, dataDir, name: "master-1", config, logger: silentLogger });
  const partsOf = async (directory: string) => (await readdir(directory)).sort();

  it("leaves the directory itself in its place: it may be a mount point, and nothing beside it is touched", async () => {
    const dataDir = join(base, "volume");
    await mkdir(dataDir);
    const { ino } = await stat(dataDir);
    // What a mount point forbids is what is forbidden here: taking its place, and writing beside it.
    await restore(dataDir);
    assert.equal((await stat(dataDir)).ino, ino);
    assert.deepEqual(await partsOf(dataDir), ["journal", "state"]);
    assert.deepEqual(await partsOf(base), ["volume"]);
    checkRestored(dataDir);
  });

  it("makes a directory that is missing, and leaves none when it fails", async () => {
    const damaged = join(base, "damaged.weirbackup");
    await cp(backup, damaged);
    await writeFile(damaged, "more", { flag: "a" });
    const dataDir = join(base, "a", "b");
    await assert.rejects(restore(dataDir, damaged), { code: "Corrupt" });
    assert.deepEqual(await partsOf(base), ["damaged.weirbackup"]);
    await restore(dataDir);
    assert.deepEqual(await partsOf(dataDir), ["journal", "state"]);
  });

  it("is no master's directory when it was interrupted, and begins anew when it is run again", async () => {
    const dataDir = join(base, "data");
    await restore(dataDir);
    // As after each of its steps: the journal not in place yet, then all but the removal of the mark.
    const restoring = join(dataDir, "restoring");
    await mkdir(restoring);
    for (const isJournalInPlace of [false, true]) {
      if (!isJournalInPlace) await rename(join(dataDir, "journal"), join(restoring, "journal"));
      assert.throws(() => checkRestored(dataDir), { code: "Corrupt" });
      await restore(dataDir);
      assert.deepEqual(await partsOf(dataDir), ["journal", "state"]);
      checkRestored(dataDir);
      await mkdir(restoring);
    }
    await writeFile(join(dataDir, "precious"), "");
    await assert.rejects(restore(dataDir), { code: "AlreadyExists" });
    assert((await partsOf(dataDir)).includes("precious"));
  });
});
