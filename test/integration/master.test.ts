import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../src/lib/clock.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { type InodeId, rootInodeId, type SessionId } from "../../src/lib/ids.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import { eventually } from "../lib/eventually.ts";
import { createCommand, ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";

describe("Masters", function () {
  this.timeout(60_000);
  let cluster: MasterCluster;
  let connection: MasterConnection;
  let worker: ListingWorker | undefined;

  beforeEach(async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-masters-"));
    cluster = await MasterCluster.start(directory);
    connection = cluster.connect();
  });

  afterEach(async () => {
    await worker?.stop();
    worker = undefined;
    connection.close();
    await cluster.close();
  });

  const resolve = (path: string) =>
    connection.call(
      masterApi.resolve,
      { path, consistency: "linearizable" },
      { deadlineMs: 20_000, idempotent: true },
    );

  it("create, list, rename and remove names, equal on all masters", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    const directory = (await session.create(rootInodeId, "data", "directory")).status!.inode;
    await Promise.all(
      Array.from({ length: 50 }, (_, i) => session.create(directory, `file-${String(i)}`)),
    );
    await session.do({
      kind: "rename",
      sourceParent: directory,
      sourceName: "file-7",
      targetParent: rootInodeId,
      targetName: "seven",
      noReplace: true,
    });
    await session.do({ kind: "unlink", parent: directory, name: "file-8", held: false });
    const names = (await session.list(directory)).map(({ name }) => name);
    assert.equal(names.length, 48);
    assert(!names.includes("file-7") && !names.includes("file-8"));
    assert.equal((await resolve("/seven")).parent, rootInodeId);
    await assert.rejects(resolve("/data/file-7"), (error) => hasCode(error, "NotFound"));
    const states = await cluster.settled(connection);
    assert.equal(new Set(states.map(({ stateHash }) => stateHash)).size, 1);
    assert.equal(states.filter(({ role }) => role === "leader").length, 1);
  });

  it("load directories of the store when they are first asked for, in pages, once", async () => {
    const root = join(cluster.directory, "root");
    await mkdir(join(root, "many", "below"), { recursive: true });
    const wanted = Array.from({ length: 2500 }, (_, i) => `entry-${String(i).padStart(5, "0")}`);
    await Promise.all(wanted.map((name) => writeFile(join(root, "many", name), name)));
    await symlink("nowhere", join(root, "many", "link"));
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    const many = (await resolve("/many")).status;
    assert.equal(many.loaded, false);
    const lists = await Promise.all(Array.from({ length: 8 }, () => session.list(many.inode)));
    for (const list of lists) {
      assert.deepEqual(
        list.map(({ name }) => name),
        ["below", ...wanted, "link"],
      );
    }
    const pages = (path: string) => worker!.listed.filter((each) => each === path).length;
    assert.deepEqual([pages(""), pages("many")], [1, 3], "pages of the root and of the directory");
    const link = (await resolve("/many/link")).status;
    assert.deepEqual([link.kind, link.target], ["symlink", "nowhere"]);
    await assert.rejects(session.create(many.inode, "entry-00042"), (error) =>
      hasCode(error, "AlreadyExists"),
    );
  });

  it("say what is missing when no worker is there to ask", async () => {
    await assert.rejects(resolve("/anything"), (error) => {
      assert(hasCode(error, "Unavailable"));
      assert.match(error.message, /no worker is registered: start one with: weir worker/);
      return true;
    });
  });

  it("lose no acknowledged create and repeat none when the leader is killed in a stream of them", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    const directory = (await session.create(rootInodeId, "d", "directory")).status!.inode;
    const acknowledged = new Map<string, InodeId>();
    let next = 0;
    let stop = false;
    const writers = Array.from({ length: 16 }, async () => {
      while (!stop) {
        const name = `f${String(next++)}`;
        acknowledged.set(name, (await session.create(directory, name)).status!.inode);
      }
    });
    for (let round = 0; round < 2; round++) {
      const before = acknowledged.size;
      await eventually("creates to flow", () => acknowledged.size > before + 200);
      const leader = await cluster.leader(connection);
      await cluster.masters[leader]!.kill();
      const atKill = acknowledged.size;
      await eventually("creates to flow again", () => acknowledged.size > atKill + 200);
      cluster.masters[leader]!.start();
      await cluster.masters[leader]!.ready();
    }
    stop = true;
    await Promise.all(writers);
    const listed = new Map(
      (await session.list(directory)).map(({ name, status }) => [name, status.inode]),
    );
    assert.deepEqual(listed, acknowledged);
    const states = await cluster.settled(connection);
    assert.equal(new Set(states.map(({ stateHash }) => stateHash)).size, 1);
  });

  it("have everything after all of them were killed and started again", async () => {
    worker = await ListingWorker.start(cluster);
    let session = await TestSession.open(connection);
    const directory = (await session.create(rootInodeId, "kept", "directory")).status!.inode;
    await Promise.all(
      Array.from({ length: 300 }, (_, i) => session.create(directory, `f${String(i)}`)),
    );
    await Promise.all(cluster.masters.map((master) => master.kill()));
    await cluster.startAll();
    session = await TestSession.open(connection);
    assert.equal((await session.list(directory)).length, 300);
    await session.create(directory, "one more");
    assert.equal((await session.list(directory)).length, 301);
    const states = await cluster.settled(connection);
    assert.equal(new Set(states.map(({ stateHash }) => stateHash)).size, 1);
  });

  it("R12: answer a repeated request with the first result, on the next leader too", async () => {
    worker = await ListingWorker.start(cluster);
    const { session } = await connection.call(
      masterApi.openSession,
      { clientName: "test" },
      { deadlineMs: 20_000, idempotent: true },
    );
    const send = () =>
      connection.call(
        masterApi.mutate,
        {
          session,
          sequence: 1,
          acknowledgedBelow: 0,
          atomic: false,
          commands: [createCommand(rootInodeId, "lock")],
        },
        { deadlineMs: 20_000, idempotent: true },
      );
    const first = await send();
    assert.deepEqual(await send(), first);
    await cluster.masters[await cluster.leader(connection)]!.kill();
    assert.deepEqual(await send(), first);
    assert(first.results[0]!.ok);
  });

  it("R8: a new leader serves reads that reflect every write acknowledged before", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    for (let round = 0; round < 3; round++) {
      const name = `n${String(round)}`;
      await session.create(rootInodeId, name);
      const leader = await cluster.leader(connection);
      await cluster.masters[leader]!.kill();
      const listed = await session.list();
      assert(listed.some((entry) => entry.name === name));
      cluster.masters[leader]!.start();
      await cluster.masters[leader]!.ready();
    }
  });

  it("stream every change, in order, to those who subscribe, and answer stale reads anywhere", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.list();
    const controller = new AbortController();
    const seen = connection.each.map(async (master) => {
      const names: string[] = [];
      const items = master.stream(masterApi.subscribe, { after: 0 }, { signal: controller.signal });
      for await (const item of items) {
        if (item.kind === "change") names.push(...item.names.map(([, name]) => name));
        if (names.includes("last")) return names;
      }
      return names;
    });
    await eventually("the subscriptions", async () => {
      // A subscription starts with what comes next: wait until each master has answered after it.
      await Promise.all(
        connection.each.map((master) =>
          master.call(masterApi.status, { exact: false }, { deadlineMs: 5000 }),
        ),
      );
      return true;
    });
    for (const name of ["a", "b", "c", "last"]) await session.create(rootInodeId, name);
    for (const names of await Promise.all(seen)) assert.deepEqual(names, ["a", "b", "c", "last"]);
    controller.abort();
    for (const master of connection.each) {
      const { status } = await master.call(
        masterApi.lookup,
        { parent: rootInodeId, name: "a", consistency: "stale" },
        { deadlineMs: 5000 },
      );
      assert.equal(status.kind, "file");
    }
  });

  it("each answer linearizable reads, with everything acknowledged before", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.list();
    for (let round = 0; round < 20; round++) {
      const name = `read-${String(round)}`;
      await session.create(rootInodeId, name);
      const request = { parent: rootInodeId, name, consistency: "linearizable" } as const;
      for (const master of connection.each) {
        const { status } = await master.call(masterApi.lookup, request, { deadlineMs: 10_000 });
        assert.equal(status.kind, "file");
      }
    }
  });

  it("each say how far their feed has told what a read reflects", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.list();
    const request = { inode: rootInodeId, consistency: "linearizable" } as const;
    for (const master of connection.each) {
      const before = await master.call(masterApi.getStatus, request, { deadlineMs: 10_000 });
      await session.create(rootInodeId, `told-by-${master.address}`);
      const after = await master.call(masterApi.getStatus, request, { deadlineMs: 10_000 });
      assert(after.feedIndex! > before.appliedIndex, "the feed tells of the new name");
      assert(after.feedIndex! <= after.appliedIndex);
      const over = new AbortController();
      for await (const { index } of master.stream(
        masterApi.subscribe,
        { after: before.appliedIndex },
        over,
      )) {
        if (index >= after.feedIndex!) break;
      }
    }
  });

  it("serve writes and reads on while a follower is stopped, and take it back", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.list();
    const leader = await cluster.leader(connection);
    const stopped = (leader + 1) % cluster.masters.length;
    const term = async () =>
      (
        await connection.each[leader]!.call(
          masterApi.status,
          { exact: false },
          { deadlineMs: 10_000 },
        )
      ).term;
    const before = await term();
    cluster.masters[stopped]!.pause();
    // More than fits the connection's buffers and the window, so that the leader has nobody but the other to count on.
    const name = "x".repeat(200);
    await Promise.all(
      Array.from({ length: 2000 }, (_, i) => session.create(rootInodeId, `${name}${String(i)}`)),
    );
    assert.equal((await resolve(`/${name}1999`)).parent, rootInodeId);
    assert.equal(await term(), before);
    cluster.masters[stopped]!.resume();
    const states = await cluster.settled(connection);
    assert.equal(new Set(states.map(({ stateHash }) => stateHash)).size, 1);
  });

  it("declare a silent worker lost, and take it back when it returns", async () => {
    await connection.call(
      masterApi.status,
      { exact: false },
      { deadlineMs: 20_000, idempotent: true },
    );
    worker = await ListingWorker.start(cluster);
    const workers = async () =>
      (
        await connection.call(
          masterApi.workers,
          { consistency: "linearizable" },
          { deadlineMs: 20_000, idempotent: true },
        )
      ).workers;
    const [first] = await workers();
    assert.equal(first?.state, "live");
    await worker.stop();
    await eventually("the worker to be lost", async () => (await workers())[0]?.state === "lost");
    worker = await ListingWorker.start(cluster);
    const [again] = await workers();
    assert.deepEqual([again?.id, again?.state], [first.id, "live"]);
  });

  it("give no id to a worker whose blocks have another size", async () => {
    const status = { deadlineMs: 20_000, idempotent: true };
    const identity = { uuid: "odd", host: "here", address: "127.0.0.1:1", tiers: [] };
    const register = (blockSizeBytes: number | undefined) =>
      connection.call(masterApi.registerWorker, { ...identity, blockSizeBytes }, status);
    await assert.rejects(register(12_345), (error) => hasCode(error, "ConfigInvalid"));
    const { workers } = await connection.call(
      masterApi.workers,
      { consistency: "linearizable" },
      status,
    );
    assert.deepEqual(workers, []);
    const { worker: id, blockSizeBytes } = await register(undefined);
    assert.deepEqual(await register(blockSizeBytes), {
      worker: id,
      clusterId: (await register(undefined)).clusterId,
      blockSizeBytes,
    });
  });

  it("go on when the leader is paused, and take it back as a follower", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.create(rootInodeId, "before");
    const leader = await cluster.leader(connection);
    cluster.masters[leader]!.pause();
    await session.create(rootInodeId, "meanwhile");
    cluster.masters[leader]!.resume();
    const states = await cluster.settled(connection);
    assert.equal(new Set(states.map(({ stateHash }) => stateHash)).size, 1);
    const names = (await session.list()).map(({ name }) => name);
    assert.deepEqual(names, ["before", "meanwhile"]);
  });

  it("are left when they fall silent as soon as others elect a leader, and serve nothing stale when they wake", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.create(rootInodeId, "before");
    const leader = await cluster.leader(connection);
    const other = cluster.connect();
    try {
      cluster.masters[leader]!.pause();
      const asked = connection.call(
        masterApi.pathOf,
        { inode: rootInodeId },
        { deadlineMs: 30_000, idempotent: false },
      );
      // Not for its silence alone, which takes much longer to tell from slowness.
      const left = assert.rejects(asked, /it is silent, and others follow/);
      await session.create(rootInodeId, "meanwhile");
      await left;
      // In the sockets of the one that sleeps: it reads this when it wakes, and believes for a moment that it leads.
      const late = other.each[leader]!.call(
        masterApi.resolve,
        { path: "/meanwhile", consistency: "linearizable" },
        { deadlineMs: 30_000 },
      );
      cluster.masters[leader]!.resume();
      await late.catch((error: unknown) => assert(hasCode(error, "NotLeader"), String(error)));
    } finally {
      other.close();
    }
  });

  it("do not let a wiped master vote or lead, and serve on without it", async () => {
    worker = await ListingWorker.start(cluster);
    const session = await TestSession.open(connection);
    await session.create(rootInodeId, "before");
    const leader = await cluster.leader(connection);
    const wiped = (leader + 1) % 3;
    await cluster.masters[wiped]!.kill();
    await rm(join(cluster.directory, cluster.masters[wiped]!.name), { recursive: true });
    cluster.masters[wiped]!.start();
    // With the wiped one voting, the other two would have a majority without the leader's log.
    for (let i = 0; i < 20; i++) await session.create(rootInodeId, `after-${String(i)}`);
    const status = await connection.each[wiped]!.call(
      masterApi.status,
      { exact: false },
      { deadlineMs: 2000 },
    ).catch(() => undefined);
    assert(status === undefined || (status.appliedIndex === 0 && status.role === "follower"));
    assert.equal((await session.list()).length, 21);
  });
});

describe("Masters with short timeouts", function () {
  this.timeout(60_000);

  it("end a session that was silent, and refuse its requests from then on", async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-masters-"));
    const cluster = await MasterCluster.start(directory, {
      count: 1,
      master: { sessionTimeoutMs: 1000 },
    });
    const connection = cluster.connect();
    const worker = await ListingWorker.start(cluster);
    try {
      const keep = (session: SessionId) =>
        connection.call(
          masterApi.keepSession,
          { session },
          { deadlineMs: 20_000, idempotent: true },
        );
      const [kept, silent] = [
        await TestSession.open(connection),
        await TestSession.open(connection),
      ];
      await silent.create(rootInodeId, "while it lived");
      await eventually("the silent session to end", async () => {
        // Whatever it sent would keep it alive: it is left alone for longer than its timeout before it is asked.
        for (let i = 0; i < 10; i++) {
          await keep(kept.id);
          await sleep(200);
        }
        try {
          await silent.create(rootInodeId, `at ${String(performance.now())}`);
          return false;
        } catch (error) {
          if (hasCode(error, "SessionExpired")) return true;
          throw error;
        }
      });
      await assert.rejects(keep(silent.id), (error) => hasCode(error, "SessionExpired"));
      await kept.create(rootInodeId, "kept");
    } finally {
      await worker.stop();
      connection.close();
      await cluster.close();
    }
  });
});
