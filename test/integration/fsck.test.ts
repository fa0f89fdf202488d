import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/lib/clock.ts";
import { type InodeId, rootInodeId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { edgeKey } from "../../src/master/state/keys.ts";
import { edge } from "../../src/master/state/model.ts";
import { openStateStore } from "../../src/master/store/level-store.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import { eventually } from "../lib/eventually.ts";
import { ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";
import { weir, weirJson } from "./weir-command.ts";

interface Checked {
  readonly master: string;
  readonly inodes: number;
  readonly found: number;
  readonly findings: readonly { check: string; path?: string }[];
}

describe("weir fsck", function () {
  this.timeout(120_000);
  let directory: string;
  let cluster: MasterCluster;
  let connection: MasterConnection;
  let worker: ListingWorker;
  let below: InodeId;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-fsck-"));
    cluster = await MasterCluster.start(directory);
    connection = cluster.connect();
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    below = (await session.create(rootInodeId, "data", "directory")).status!.inode;
    for (let i = 0; i < 50; i++) await session.create(below, `f${String(i)}`);
  });

  after(async () => {
    await worker.stop();
    connection.close();
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("finds nothing while files come, go and move, on a follower", async () => {
    const session = await TestSession.open(connection);
    let isOver = false;
    let count = 0;
    const load = (async () => {
      for (; !isOver; count++) {
        const name = `n${String(count)}`;
        await session.create(below, name);
        const to = { targetParent: rootInodeId, targetName: name, noReplace: false };
        await session.do({ kind: "rename", sourceParent: below, sourceName: name, ...to });
        if (count % 2 === 0) {
          await session.do({ kind: "unlink", parent: rootInodeId, name, held: count % 4 === 0 });
        }
      }
    })();
    await eventually("writes to flow", () => count > 20);
    const end = await weirJson<Checked>(cluster.configPath, "fsck");
    isOver = true;
    await load;
    assert.deepEqual(end.findings, []);
    const leader = cluster.configs[await cluster.leader(connection)]!.name;
    assert.notEqual(end.master, leader);
    assert.ok(end.inodes >= 53);
  });

  it("reads at the rate that it is given, and says what it looked at", async () => {
    const { status, stdout } = await weir(cluster.configPath, "fsck", "--rate", "2000");
    assert.equal(status, 0);
    assert.match(stdout, /^no findings; [\d,]+ inodes, index [\d,]+, by master-\d\n$/);
  });

  it("refuses a source together with a master, and what is neither backup nor data directory", async () => {
    const both = await weir(cluster.configPath, "fsck", directory, "--from", "master-1");
    assert.match(both.stderr, /^Cannot check ".*" from "master-1": wanted a source or a master/);
    const neither = await weir(cluster.configPath, "fsck", directory);
    assert.match(neither.stderr, /^Cannot check ".*": it holds no "state", wanted a backup/);
    const missing = await weir(cluster.configPath, "fsck", join(directory, "missing"));
    assert.match(missing.stderr, /^Cannot check ".*missing": /);
  });

  it("refuses the directory of a master that runs", async () => {
    const { status, stderr } = await weir(cluster.configPath, "fsck", cluster.dataDir(0));
    assert.notEqual(status, 0);
    assert.match(stderr, /another process has it open/);
  });

  it("checks a backup, and names damage in the directory of a stopped master by its path", async () => {
    const backup = join(directory, "whole.weirbackup");
    await weirJson(cluster.configPath, "backup", "create", backup);
    assert.deepEqual((await weirJson<Checked>(cluster.configPath, "fsck", backup)).findings, []);

    const follower = ((await cluster.leader(connection)) + 1) % 3;
    const master = cluster.masters[follower]!;
    master.signal("SIGTERM");
    await master.gone();
    const data = cluster.dataDir(follower);
    assert.deepEqual((await weirJson<Checked>(cluster.configPath, "fsck", data)).findings, []);
    const file = await plantStray(join(data, "state"));
    const { status, stdout } = await weir(cluster.configPath, "fsck", data);
    assert.equal(status, 65);
    const named = new RegExp(`^names: inode ${file} \\(/data/f7\\) has the name "stray"`, "m");
    assert.match(stdout, named);
    assert.match(stdout, /^links: directory \d+ \(\/data\) says \d+ names, wanted \d+\. Cure: /m);
    assert.match(stdout, /^2 findings: 1 links, 1 names; /m);
  });

  /** Gives a file one more edge, which it does not know of. */
  async function plantStray(state: string): Promise<string> {
    const options = { directory: state, clock: systemClock, logger: silentLogger };
    const store = await openStateStore(options);
    try {
      const file = store.read(edge, edgeKey(below, "f7"))!;
      store.write(edge, edgeKey(below, "stray"), file);
      store.applied(store.appliedIndex + 1, store.flushedTerm);
      await store.flush();
      return String(file.child);
    } finally {
      await store.close();
    }
  }
});
