import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type InodeId, rootInodeId } from "../../src/lib/ids.ts";
import type { ClusterMember } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import { eventually } from "../lib/eventually.ts";
import { ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";
import { weir, weirJson } from "./weir-command.ts";

interface Members {
  readonly members: readonly (ClusterMember & { lag?: number; version?: string })[];
}

describe("The members of a running cluster", function () {
  this.timeout(120_000);
  let cluster: MasterCluster;
  let connection: MasterConnection;
  let worker: ListingWorker | undefined;

  async function begin(count: number): Promise<void> {
    cluster = await MasterCluster.start(await mkdtemp(join(tmpdir(), "weir-members-")), { count });
    connection = cluster.connect();
  }

  afterEach(async () => {
    await worker?.stop();
    worker = undefined;
    connection.close();
    await cluster.close();
  });

  const command = (...args: string[]) => weir(cluster.configPath, "cluster", ...args);
  const done = <T = unknown>(...args: string[]) =>
    weirJson<T>(cluster.configPath, "cluster", ...args);
  const members = async () => (await done<Members>("members")).members;
  const roles = async () =>
    Object.fromEntries((await members()).map(({ name, role }) => [name, role]));
  const leaderName = async () => (await members()).find((member) => member.isLeader)!.name;
  const placeOf = (name: string) => cluster.configs.findIndex((each) => each.name === name);
  const follower = async () => (await members()).find((member) => !member.isLeader)!.name;

  /** A directory with files, and the names that must never be lost. */
  async function write(count: number): Promise<{ directory: InodeId; names: string[] }> {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    const directory = (await session.create(rootInodeId, "kept", "directory")).status!.inode;
    const names = Array.from({ length: count }, (_, i) => `f${String(i).padStart(5, "0")}`);
    await Promise.all(names.map((name) => session.create(directory, name)));
    return { directory, names };
  }

  /** What a client finds whose configuration lists all masters that there are now. */
  async function assertKept(kept: { directory: InodeId; names: string[] }): Promise<void> {
    const fresh = cluster.connect();
    try {
      const session = await TestSession.open(fresh);
      const found = (await session.list(kept.directory)).map(({ name }) => name);
      assert.deepEqual(found, kept.names);
    } finally {
      fresh.close();
    }
  }

  it("are shown with role, address, progress, activity and version", async () => {
    await begin(3);
    const all = await eventually("all to be heard", async () => {
      const found = await members();
      return found.every((each) => each.isActive && each.lag === 0) ? found : undefined;
    });
    assert.deepEqual(all.map(({ name }) => name).sort(), ["master-1", "master-2", "master-3"]);
    for (const member of all) {
      const { rpcPort, raftPort } = cluster.configs[placeOf(member.name)]!;
      assert.deepEqual([member.rpcPort, member.raftPort], [rpcPort, raftPort]);
      assert.equal(member.role, "voter");
      assert.match(member.nodeId, /^[0-9a-f-]{36}$/);
      assert.match(member.version!, /^\d+\.\d+\.\d+/);
    }
    assert.equal(all.filter((member) => member.isLeader).length, 1);
    const { stdout } = await command("members");
    assert.match(stdout, /^MASTER +ADDRESS +ROLE +ACTIVE +MATCH +LAG +VERSION +NODE\n/);
    assert.match(stdout, /\nmaster-\d +127\.0\.0\.1:\d+ +leader +yes +\d+ +0 /);
  });

  it("get one more that becomes a voter by itself, and outlives two of the first three", async () => {
    await begin(3);
    const kept = await write(300);
    await cluster.define("master-4");
    const added = await cluster.startEmpty("master-4");
    await done("add", "master-4", "--wait");
    await added.ready();
    assert.equal((await roles())["master-4"], "voter");
    await cluster.define("master-5");
    await cluster.startEmpty("master-5");
    await done("add", "master-5", "--wait");
    connection.close();
    connection = cluster.connect();
    await cluster.masters[0]!.kill();
    await cluster.masters[1]!.kill();
    await assertKept(kept);
    const session = await TestSession.open(connection);
    await session.create(kept.directory, "written by three of five");
  });

  it("may be led by a new one that clients do not list: they are told where it is", async () => {
    await begin(3);
    const kept = await write(20);
    await cluster.define("master-4");
    await cluster.startEmpty("master-4");
    await done("add", "master-4", "--wait");
    await done("transfer", "master-4");
    // This connection was made when there were three.
    assert.equal(connection.each.length, 3);
    const session = await TestSession.open(connection);
    await session.create(kept.directory, "through master-4");
    assert.equal(await leaderName(), "master-4");
  });

  it("get a learner that does not vote until it is promoted", async () => {
    await begin(1);
    const kept = await write(50);
    await cluster.define("spare");
    const spare = await cluster.startEmpty("spare");
    const text = (await command("add", "spare", "--learner", "--wait")).stdout;
    assert.match(text, /^Added "spare": it has caught up; weir cluster promote/);
    assert.deepEqual(await roles(), { "master-1": "voter", spare: "learner" });
    // The only voter goes on without it.
    await spare.kill();
    const session = await TestSession.open(connection);
    await session.create(kept.directory, "g");
    spare.start();
    await spare.ready();
    await eventually("the learner to be promoted", async () => {
      const { status } = await command("promote", "spare");
      return status === 0;
    });
    assert.deepEqual(await roles(), { "master-1": "voter", spare: "voter" });
  });

  it("lose a dead one by name, and tolerate the next failure again", async () => {
    await begin(3);
    const kept = await write(100);
    const dead = await follower();
    await cluster.masters[placeOf(dead)]!.kill();
    await done("remove", dead);
    assert.equal((await roles())[dead], undefined);
    await cluster.define("master-4");
    await cluster.startEmpty("master-4");
    await done("add", "master-4", "--wait");
    const second = await follower();
    await cluster.masters[placeOf(second)]!.kill();
    await assertKept(kept);
  });

  it("are told when they were removed: the process ends and says what to do", async () => {
    await begin(3);
    const kept = await write(20);
    const gone = await follower();
    const process = cluster.masters[placeOf(gone)]!;
    await done("remove", gone);
    await eventually("the removed master to end", () => !process.running);
    const wanted = `was removed from cluster "weir".* run "weir cluster add ${gone}"`;
    assert.match(await cluster.log(placeOf(gone)), new RegExp(wanted));
    await assertKept(kept);
  });

  it("replace one whose data directory is lost, under its name", async () => {
    await begin(3);
    const kept = await write(300);
    const name = await follower();
    const before = (await members()).find((member) => member.name === name)!;
    const place = placeOf(name);
    await cluster.masters[place]!.kill();
    await rm(cluster.dataDir(place), { recursive: true });
    await cluster.startEmpty(name);
    await done("replace", name, "--wait");
    await cluster.masters[place]!.ready();
    const after = (await members()).filter((member) => member.name === name);
    assert.equal(after.length, 1);
    assert.notEqual(after[0]!.nodeId, before.nodeId);
    assert.equal(after[0]!.role, "voter");
    const other = (await members()).find(
      (member) => !member.isLeader && member.name !== name,
    )!.name;
    await cluster.masters[placeOf(other)]!.kill();
    await assertKept(kept);
  });

  it("hand the leadership to whom they are told to", async () => {
    await begin(3);
    for (let round = 0; round < 4; round++) {
      const from = await leaderName();
      const to = await follower();
      const moved = await done<{ from: string; to: string }>("transfer", to);
      assert.deepEqual([moved.from, moved.to], [from, to]);
      assert.equal(await leaderName(), to);
    }
    const { status, stderr } = await command("transfer", "master-9");
    assert.equal(status, 2);
    assert.match(stderr, /^Cannot hand over to "master-9"/);
  });

  it("shrink to one and grow to three again, and keep everything", async () => {
    await begin(3);
    const kept = await write(200);
    const leader = await leaderName();
    const others = ["master-1", "master-2", "master-3"].filter((name) => name !== leader);
    for (const name of others) {
      await done("remove", name);
      await cluster.masters[placeOf(name)]!.kill();
    }
    assert.deepEqual(await roles(), { [leader]: "voter" });
    const last = await command("remove", leader);
    assert.notEqual(last.status, 0);
    assert.match(last.stderr, new RegExp(`^Cannot remove "${leader}"`));
    await assertKept(kept);
    for (const name of others) {
      const process = cluster.masters[placeOf(name)]!;
      // Its data is of a member that was removed: it cannot come back with it.
      await rm(cluster.dataDir(placeOf(name)), { recursive: true });
      await cluster.startEmpty(name);
      await done("add", name, "--wait");
      await process.ready();
    }
    assert.deepEqual(Object.values(await roles()), ["voter", "voter", "voter"]);
    await cluster.masters[placeOf(leader)]!.kill();
    await assertKept(kept);
  });

  it("lose their leader by name, and go on under another one", async () => {
    await begin(3);
    const kept = await write(50);
    const leader = await leaderName();
    await done("remove", leader);
    await eventually("a leader among the others", async () => {
      const now = await members();
      return now.length === 2 && now.some((member) => member.isLeader);
    });
    assert.equal((await roles())[leader], undefined);
    await assertKept(kept);
  });

  it("refuse a master that has data of another cluster", async () => {
    await begin(1);
    const other = await MasterCluster.start(await mkdtemp(join(tmpdir(), "weir-members-")), {
      count: 1,
    });
    try {
      const { raftPort, rpcPort } = other.configs[0]!;
      const ports = ["--raft-port", String(raftPort), "--rpc-port", String(rpcPort)];
      const refused = await command("add", "master-2", "--host", "127.0.0.1", ...ports);
      assert.notEqual(refused.status, 0);
      assert.match(refused.stderr, /^Cannot add "master-2": /);
      assert.deepEqual(await roles(), { "master-1": "voter" });
    } finally {
      await other.close();
    }
  });

  it("say what to start when nobody listens at the address of a new one", async () => {
    await begin(1);
    await cluster.define("master-2");
    const refused = await command("add", "master-2");
    assert.equal(refused.status, 69);
    assert.match(refused.stderr, /^Cannot add "master-2": .*weir master --name master-2\n$/);
    assert.deepEqual(await roles(), { "master-1": "voter" });
    const unknown = await command("add", "nowhere");
    assert.equal(unknown.status, 64);
    assert.match(unknown.stderr, /wanted --host HOST/);
  });

  it("form no second cluster over existing data, when two of three directories are gone", async () => {
    await begin(3);
    const kept = await write(10);
    await Promise.all(cluster.masters.map((master) => master.kill()));
    for (const place of [0, 1]) await rm(cluster.dataDir(place), { recursive: true });
    for (const master of cluster.masters) master.start();
    await eventually("the empty ones to say why they wait", async () =>
      (await Promise.all([0, 1].map((place) => cluster.log(place)))).every((log) =>
        /whose data is not here/.test(log),
      ),
    );
    const { status } = await weir(cluster.configPath, "status");
    assert.equal(status, 1, "there is no leader");
    assert.equal((await command("members")).status, 69);
    assert.equal(kept.names.length, 10);
  });
});
