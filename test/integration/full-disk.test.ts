/** A master on a small disk of its own, which nothing but its journal fills. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { rootInodeId } from "../../src/lib/ids.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { eventually } from "../lib/eventually.ts";
import { createCommand, ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";

const run = promisify(execFile);
const mebibyte = 1024 * 1024;
const diskBytes = 96 * mebibyte;

describe("A master whose disk is full of its journal [needs: root]", function () {
  this.timeout(180_000);
  let cluster: MasterCluster;
  let disk = "";
  /** No mount is left behind by a run that is told to end. */
  const onSignal = () => {
    spawnSync("umount", ["--lazy", disk]);
    process.exit(143);
  };

  beforeEach(async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-full-disk-"));
    const master = {
      // More than the disk has: only what makes room when it is full keeps the master going.
      retainedEntries: 1_000_000,
      retainedBytes: 1024 * mebibyte,
      segmentBytes: 16 * mebibyte,
      reservedDiskBytes: 32 * mebibyte,
    };
    cluster = await MasterCluster.prepare(directory, { count: 1, master });
    disk = cluster.dataDir(0);
    await mkdir(disk);
    process.once("SIGTERM", onSignal);
    await run("mount", ["-t", "tmpfs", "-o", `size=${String(diskBytes)}`, "weir-test", disk]);
    await cluster.startAll();
  });
  afterEach(async () => {
    await Promise.all(cluster.masters.map((each) => each.kill()));
    await run("umount", [disk]);
    process.off("SIGTERM", onSignal);
    await cluster.close();
  });

  it("A5: makes room by itself, again and again, and loses nothing", async () => {
    const connection = cluster.connect();
    const session = await TestSession.open(connection);
    const worker = await ListingWorker.start(cluster);
    const { inode } = (await session.create(rootInodeId, "data", "directory")).status!;
    await worker.stop();
    // All but the first are refused, and fill the journal alone.
    const target = "x".repeat(4000);
    const commands = Array.from({ length: 100 }, (_each, i) => ({
      ...createCommand(inode, String(i)),
      fileKind: "symlink" as const,
      target,
    }));
    let [written, refusals] = [0, 0];
    while (written < 3 * diskBytes) {
      // In one piece, so that whole answers count.
      await eventually("room", async () => {
        try {
          await Promise.all([1, 2, 3, 4].map(() => session.send(commands)));
          return true;
        } catch (error) {
          if (!hasCode(error, "DiskFull")) throw error;
          refusals++;
          return false;
        }
      });
      written += 4 * commands.length * target.length;
    }
    assert.ok(refusals > 0, "the disk was never full");
    const [before] = await cluster.settled(connection);
    const [master] = cluster.masters;
    await master!.kill();
    master!.start();
    await eventually("all to be applied again", async () => {
      const [again] = await cluster.settled(connection);
      return again!.appliedIndex >= before!.appliedIndex;
    });
    assert.equal((await session.list(inode)).length, commands.length);
    connection.close();
  });
});
