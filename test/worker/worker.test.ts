import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createBlockClient } from "../../src/blocks/client.ts";
import { type BlockConnection, connectBlocks } from "../../src/blocks/connection.ts";
import type { BlockClient, ContainerId } from "../../src/blocks/types.ts";
import { type Config, loadConfig } from "../../src/lib/config.ts";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import type { InodeId, LineageId, MountId, UfsOpId, WorkerId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { Extent, FileLayout, Job, Segment } from "../../src/rpc/namespace.ts";
import type { Task, TaskResult } from "../../src/rpc/tasks.ts";
import { type RunningWorker, startWorker } from "../../src/worker/server.ts";
import { startNatsServer, type TestNatsServer } from "../lib/nats-server.ts";
import { FakeMaster } from "./fake-master.ts";
import {
  blockSizeBytes,
  collect,
  containerOf,
  never,
  readOf,
  temporaryDirectory,
  twoTiers,
  until,
} from "./tools.ts";

const MiB = 1024 * 1024;
const zero = { sec: 0, nsec: 0 };

/** The layout of a file that is one container from its start, or an object of a store. */
function layoutOf(
  container: ContainerId,
  size: number,
  locations: WorkerId[],
  ufs?: { path: string; fingerprint: string },
): FileLayout {
  const segments: Segment[] = [];
  for (let fileOffset = 0; fileOffset < size; fileOffset += blockSizeBytes) {
    const length = Math.min(blockSizeBytes, size - fileOffset);
    const blockIndex = fileOffset / blockSizeBytes;
    const { writeId } = container;
    segments.push({
      fileOffset,
      length,
      block: { writeId, blockIndex, offset: 0, length },
      locations,
    });
  }
  return {
    status: {
      inode: container.inode,
      kind: "file",
      mode: 0o644,
      uid: 0,
      gid: 0,
      size,
      nlink: 1,
      atime: zero,
      mtime: zero,
      ctime: zero,
      version: 1,
      mountId: 1 as MountId,
      persistence: "none",
      loaded: true,
      target: undefined,
      lineageId: undefined,
      writeType: undefined,
      mountPoint: false,
    },
    blockSizeBytes,
    segments,
    ufs:
      ufs === undefined ? undefined : { ...ufs, mountId: 1 as MountId, writeId: container.writeId },
  };
}

describe("worker", () => {
  let root: { path: string; remove(): Promise<void> };
  let nats: TestNatsServer;
  let master: FakeMaster;
  let workers: RunningWorker[];
  let connection: BlockConnection;
  let client: BlockClient;
  let taskIds = 0;
  const extraMasters: FakeMaster[] = [];

  const extraMaster = async (): Promise<FakeMaster> => {
    const made = await FakeMaster.start();
    extraMasters.push(made);
    return made;
  };

  const configOf = (name: string, masters = [master]): Config =>
    loadConfig({
      file: { path: "test", text: "" },
      flags: {
        masters: masters.map(({ port }, place) => ({ name: `m-${place}`, rpcPort: port })),
        "nats.urls": [nats.url],
        "worker.tiers": twoTiers(join(root.path, name), [8 * MiB, 32 * MiB]),
        "worker.blockSizeBytes": blockSizeBytes,
        "worker.heartbeatMs": 50,
        "worker.scratchDir": join(root.path, name, "scratch"),
      },
    });
  const start = async (name = "one", masters = [master]): Promise<RunningWorker> => {
    const worker = await startWorker(configOf(name, masters), silentLogger);
    workers.push(worker);
    await worker.registered;
    return worker;
  };
  const put = async (id: ContainerId, bytes: Uint8Array, chain = [1 as WorkerId]) => {
    const writer = await client.openContainer(chain, id, { resumeAt: 0, signal: never });
    await writer.write(bytes);
    await writer.flush({ sync: true });
    await writer.close({ keep: true });
  };
  const get = (id: ContainerId, blockIndex: number, length: number, worker = 1) =>
    collect(client.read(worker as WorkerId, readOf(id, { blockIndex, length }), { signal: never }));
  const run = async (task: Omit<Task, "taskId">): Promise<TaskResult> => {
    const taskId = ++taskIds;
    master.tasks.push({ ...task, taskId } as Task);
    const found = (): TaskResult | undefined =>
      master.results.find((result) => result.taskId === taskId);
    await until(() => found() !== undefined, `the result of ${task.kind}`);
    return found()!;
  };
  const mount = async () => {
    const path = join(root.path, "under");
    await mkdir(path, { recursive: true });
    return { id: 1 as MountId, uri: `file://${path}`, readOnly: false, options: {} };
  };

  beforeEach(async () => {
    root = await temporaryDirectory();
    nats = await startNatsServer();
    master = await FakeMaster.start();
    workers = [];
    connection = await connectBlocks({ urls: [nats.url], name: "test", logger: silentLogger });
    client = createBlockClient(connection, {
      clusterName: "weir",
      logger: silentLogger,
      deadlineMs: 2000,
    });
    await connection.ready(5000);
  });
  afterEach(async () => {
    for (const worker of workers) await worker.stop();
    await client.close();
    await connection.close();
    for (const each of extraMasters.splice(0)) await each.close();
    await master.close();
    await nats.stop();
    await root.remove();
  });

  it("registers, serves what is written to it, and reports it as kept until it is released", async () => {
    await start();
    const bytes = randomBytes(2 * MiB + 77);
    await put(containerOf(5), bytes);
    assert.ok((await get(containerOf(5), 2, 77)).equals(bytes.subarray(2 * MiB)));
    const report = { ...containerOf(5), blocks: [0, 1, 2], length: bytes.length };
    await until(() => master.holds.get("5.100")?.blocks.length === 3, "it is reported");
    assert.deepEqual(master.holds.get("5.100"), { ...report, kept: true });
    master.released.add(5 as InodeId);
    await until(() => master.holds.get("5.100")?.kept === false, "it is cache now");
    assert.ok((await get(containerOf(5), 0, 99)).equals(bytes.subarray(0, 99)));
  });

  it("tells every master everything, and again when asked", async () => {
    const follower = await extraMaster();
    const third = await extraMaster();
    follower.leader = third.leader = false;
    await start("one", [master, follower, third]);
    for (let inode = 1; inode <= 3; inode++) await put(containerOf(inode), randomBytes(10));
    for (const each of [master, follower]) {
      await until(() => each.holds.size === 3, "all are reported");
      each.holds.clear();
      each.resync = true;
      await until(() => each.holds.size === 3, "all are reported again");
    }
    const containers = [containerOf(2)];
    await run({ kind: "dropContainers", containers, kept: false } as Omit<Task, "taskId">);
    assert.equal(master.holds.size, 3, "kept ones stay");
    await run({ kind: "dropContainers", containers, kept: true } as Omit<Task, "taskId">);
    for (const each of [master, follower]) {
      await until(() => each.holds.size === 2, "the removal is reported");
    }
  });

  it("reports to masters that joined, as any of them says, until the leader leaves them out", async () => {
    const joined = await extraMaster();
    joined.leader = false;
    const addressOf = ({ port }: FakeMaster) => `127.0.0.1:${port}`;
    await start();
    await put(containerOf(1), randomBytes(10));
    master.leader = false;
    master.ownAddress = addressOf(master);
    joined.ownAddress = addressOf(joined);
    master.masters = [addressOf(master), addressOf(joined)];
    await until(() => joined.holds.size === 1, "all is reported to the new one");
    master.masters = [addressOf(master)];
    const heard = () => master.beats.length;
    let before = heard();
    await until(() => heard() > before + 3, "more reports");
    const count = joined.beats.length;
    await until(() => joined.beats.length > count, "the word of a follower is not enough");
    master.leader = true;
    before = heard();
    await until(() => heard() > before + 3, "more reports");
    const last = joined.beats.length;
    before = heard();
    await until(() => heard() > before + 3, "more reports");
    assert.equal(joined.beats.length, last);
  });

  it("reports once to a master that the others call by another name of its host", async () => {
    master.ownAddress = `localhost:${master.port}`;
    const follower = await extraMaster();
    follower.leader = false;
    follower.masters = master.masters = [master.ownAddress, `127.0.0.1:${follower.port}`];
    await start("one", [master, follower]);
    await put(containerOf(1), randomBytes(10));
    await until(() => follower.beats.length > 5 && master.beats.length > 5, "reports to both");
    const resets = () => master.beats.filter(({ full }) => full).length;
    const before = resets();
    const beats = master.beats.length;
    await until(() => master.beats.length > beats + 5, "more reports");
    assert.equal(resets(), before);
  });

  it("takes tasks of the leader alone, and none of a term that is over", async () => {
    const old = await extraMaster();
    const third = await extraMaster();
    third.leader = false;
    old.term = 4;
    master.term = 5;
    await start("one", [master, old, third]);
    await until(() => master.beats.length > 2 && old.beats.length > 2, "both were heard");
    const task = async (taskId: number): Promise<Task> => ({
      kind: "listDirectory",
      taskId,
      mount: await mount(),
      path: "",
      after: undefined,
      limit: 10,
    });
    old.tasks.push(await task(900));
    await until(() => old.tasks.length === 0, "it was handed out");
    master.tasks.push(await task(901));
    await until(() => master.results.length > 0, "the leader's result");
    assert.deepEqual(
      [...master.results, ...old.results].map(({ taskId }) => taskId),
      [901],
    );
  });

  it("registers again when the leader asks, under the same uuid", async () => {
    const worker = await start();
    master.register = true;
    await until(() => master.registrations.length === 2, "it registered again");
    assert.deepEqual(new Set(master.registrations.map(({ uuid }) => uuid)), new Set([worker.uuid]));
    assert.equal(master.registrations[0]!.address, `127.0.0.1:${worker.port}`);
  });

  it("serves the same after a restart, with the same uuid", async () => {
    const first = await start();
    const bytes = randomBytes(MiB + 5);
    await put(containerOf(5), bytes);
    const writer = await client.openContainer([1 as WorkerId], containerOf(6), {
      resumeAt: 0,
      signal: never,
    });
    await writer.write(bytes);
    await first.stop();
    master.holds.clear();
    const second = await start();
    assert.equal(second.uuid, first.uuid);
    await until(() => master.holds.has("5.100"), "it is reported again");
    assert.equal(master.holds.get("5.100")!.kept, true);
    assert.equal(master.holds.has("6.100"), false, "never flushed");
    assert.ok((await get(containerOf(5), 1, 5)).equals(bytes.subarray(MiB)));
    await writer.abort();
  });

  it("lists a directory of a store", async () => {
    await start();
    const target = await mount();
    await writeFile(join(root.path, "under", "b"), "12345");
    await mkdir(join(root.path, "under", "a"));
    const result = await run({
      kind: "listDirectory",
      mount: target,
      path: "",
      after: undefined,
      limit: 10,
    } as Omit<Task, "taskId">);
    assert.ok(result.kind === "listed" && result.last);
    assert.deepEqual(
      result.entries.map(({ name, kind }) => [name, kind]),
      [
        ["a", "directory"],
        ["b", "file"],
      ],
    );
  });

  it("persists a file from its own copy, from another worker's, and with holes", async () => {
    await start("one");
    const bytes = randomBytes(2 * MiB + 1000);
    await put(containerOf(5), bytes);
    const target = await mount();
    const action = {
      kind: "persist",
      path: "deep/down/file",
      layout: layoutOf(containerOf(5), bytes.length, [1 as WorkerId]),
      mode: 0o640,
      uid: process.getuid!(),
      gid: process.getgid!(),
      mtime: { sec: 1_000_000, nsec: 0 },
    };
    const persist = (changed: object) =>
      run({
        kind: "ufsOp",
        op: 1 as UfsOpId,
        mount: target,
        action: { ...action, ...changed },
      } as Omit<Task, "taskId">);
    const own = await persist({});
    assert.ok(own.kind === "ufsDone" && own.fingerprint !== undefined, JSON.stringify(own));
    const path = join(root.path, "under", "deep/down/file");
    assert.ok((await readFile(path)).equals(bytes));
    const { mode, mtimeMs } = await stat(path);
    assert.deepEqual([mode & 0o777, mtimeMs], [0o640, 1_000_000_000]);

    const whole = layoutOf(containerOf(5), bytes.length, [1 as WorkerId]);
    const holed = { ...whole, segments: whole.segments.filter((_, place) => place !== 1) };
    assert.equal((await persist({ layout: holed, path: "holed" })).kind, "ufsDone");
    const expected = Buffer.from(bytes);
    expected.fill(0, MiB, 2 * MiB);
    assert.ok((await readFile(join(root.path, "under", "holed"))).equals(expected));

    // The other worker has the tasks now and nothing of the file.
    const other = await extraMaster();
    const secondId = 2 as WorkerId;
    other.worker = secondId;
    const second = await start("two", [other]);
    other.tasks.push({
      kind: "ufsOp",
      taskId: 77,
      op: 2 as UfsOpId,
      mount: target,
      action: { ...action, path: "remote" },
    } as Task);
    await until(() => other.results.length === 1, "the other worker's result");
    assert.equal(other.results[0]!.kind, "ufsDone", JSON.stringify(other.results));
    assert.ok((await readFile(join(root.path, "under", "remote"))).equals(bytes));
    await second.stop();
  });

  it("A7: writes nothing to the store when a file cannot be read whole", async () => {
    await start();
    const result = await run({
      kind: "ufsOp",
      op: 1 as UfsOpId,
      mount: await mount(),
      action: {
        kind: "persist",
        path: "file",
        layout: layoutOf(containerOf(99), 5000, [9 as WorkerId]),
        mode: 0o640,
        uid: 0,
        gid: 0,
        mtime: zero,
      },
    } as Omit<Task, "taskId">);
    assert.ok(result.kind === "failed" && result.code === "Unavailable", JSON.stringify(result));
    assert.deepEqual(await readdir(join(root.path, "under")), []);
  });

  const jobOf = (argv: string[], captureStdout = false): Job => ({
    argv,
    environment: {},
    timeoutMs: 20_000,
    captureStdout,
  });
  const runJob = async (
    job: Job,
    inputs: { path: string; layout: FileLayout }[],
    outputs: number,
  ) =>
    run({
      kind: "runJob",
      lineage: 3 as LineageId,
      epoch: 4096 as WriteId,
      job,
      inputs,
      outputs: Array.from({ length: outputs }, (_, place) => ({
        path: `/out/result-${place}`,
        inode: (50 + place) as InodeId,
        size: undefined,
        hash: undefined,
      })),
    } as Omit<Task, "taskId">);

  it("runs a job on staged inputs, of copies and of stores, and keeps what it made", async () => {
    await start();
    const bytes = randomBytes(MiB + 321);
    await put(containerOf(5), bytes);
    master.mounts = [await mount()];
    const under = join(root.path, "under", "words");
    await writeFile(under, "b\na\nc\n");
    const listed = await run({
      kind: "listDirectory",
      mount: master.mounts[0]!,
      path: "",
      after: undefined,
      limit: 10,
    } as Omit<Task, "taskId">);
    assert.ok(listed.kind === "listed");
    const { fingerprint } = listed.entries[0]!;
    const result = await runJob(
      jobOf([
        "sh",
        "-c",
        'cat "$1" "$2" > "$3"; sort "$2" > "$4"',
        "sh",
        "{in:0}",
        "{in:1}",
        "{out:0}",
        "{out:1}",
      ]),
      [
        { path: "/data/bytes", layout: layoutOf(containerOf(5), bytes.length, [1 as WorkerId]) },
        {
          path: "/data/words",
          layout: layoutOf(containerOf(7), 6, [], { path: "words", fingerprint }),
        },
      ],
      2,
    );
    assert.ok(result.kind === "jobDone", JSON.stringify(result));
    assert.equal(result.exitCode, 0, result.stderrTail);
    const expected = Buffer.concat([bytes, Buffer.from("b\na\nc\n")]);
    const [first, second] = result.outputs!;
    assert.deepEqual([first!.size, second!.size], [expected.length, 6]);
    assert.equal(first!.hash, createHash("sha256").update(expected).digest("hex"));
    const writeId = 4096 as WriteId;
    const extents: Extent[] = [
      { fileOffset: 0, length: MiB, writeId, blockIndex: 0, offset: 0 },
      { fileOffset: MiB, length: 327, writeId, blockIndex: 1, offset: 0 },
    ];
    assert.deepEqual(first!.extents, extents);
    const got = await get({ inode: 50 as InodeId, writeId }, 1, 327);
    assert.ok(got.equals(expected.subarray(MiB)));
    await until(() => master.holds.get("51.4096")?.kept === true, "outputs are kept");
    const sorted = await get({ inode: 51 as InodeId, writeId }, 0, 6);
    assert.equal(sorted.toString(), "a\nb\nc\n");
    const scratch = await readdir(join(root.path, "one", "scratch"), { recursive: true });
    assert.deepEqual(
      scratch.filter((name) => name.includes("4096")),
      [],
    );
  });

  it("L1: reports a job's exit status and publishes nothing of a failed one", async () => {
    await start();
    const result = await runJob(
      jobOf(["sh", "-c", "echo part > $0; echo no >&2; exit 3", "{out}"]),
      [],
      1,
    );
    assert.ok(result.kind === "jobDone");
    assert.deepEqual([result.exitCode, result.outputs], [3, undefined]);
    assert.match(result.stderrTail, /no/);
    assert.equal(master.holds.size, 0);
  });

  it("L2: neither a chatty standard error nor an endless job holds it up", async () => {
    await start();
    const chatty = await runJob(
      jobOf(["sh", "-c", "yes complaint | head -c 3000000 >&2; echo done > $0", "{out}"]),
      [],
      1,
    );
    assert.ok(chatty.kind === "jobDone" && chatty.exitCode === 0, JSON.stringify(chatty));
    const endless = await runJob({ ...jobOf(["sleep", "1000"]), timeoutMs: 200 }, [], 1);
    assert.ok(endless.kind === "jobDone" && endless.exitCode !== 0);
  });

  it("refuses data of another cluster that it keeps, and drops cached copies of it", async () => {
    const first = await start();
    await put(containerOf(5), randomBytes(100));
    await put(containerOf(6), randomBytes(100));
    await until(() => master.holds.size === 2, "both are reported");
    await first.stop();
    master.clusterId = "cluster-b";
    const refused = await startWorker(configOf("one"), silentLogger);
    workers.push(refused);
    await assert.rejects(refused.registered, (error) => hasCode(error, "ConfigInvalid"));
    assert.ok(hasCode(await refused.failure, "ConfigInvalid"));
    await refused.stop();
    master.clusterId = "cluster-a";
    const again = await start();
    master.released.add(5 as InodeId).add(6 as InodeId);
    await until(() => [...master.holds.values()].every(({ kept }) => kept !== true), "all cache");
    await again.stop();
    master.clusterId = "cluster-b";
    master.holds.clear();
    await start();
    await until(() => master.beats.at(-1)!.sequence > 0, "it reports");
    assert.equal(master.holds.size, 0);
  });

  it("refuses a block size that is not the cluster's", async () => {
    master.blockSizeBytes = 64 * MiB;
    const worker = await startWorker(configOf("one"), silentLogger);
    workers.push(worker);
    await assert.rejects(worker.registered, /blockSizeBytes/);
  });

  it("gives up when the masters refuse its configuration, before it has an id", async () => {
    master.refusal = new WeirError("ConfigInvalid", "Cannot register: the blocks differ");
    const worker = await startWorker(configOf("one"), silentLogger);
    workers.push(worker);
    await assert.rejects(worker.registered, /the blocks differ/);
    assert.ok(hasCode(await worker.failure, "ConfigInvalid"));
    assert.equal(master.registrations.length, 1);
    assert.equal(master.registrations[0]!.blockSizeBytes, blockSizeBytes);
  });

  it("says which report is the last, how long copies are, and whether it runs jobs", async () => {
    await start();
    await put(containerOf(5), randomBytes(MiB + 7));
    await until(() => master.holds.get("5.100")?.length === MiB + 7, "its length is reported");
    const { complete, jobs } = master.beats.at(-1)!;
    assert.deepEqual([complete, jobs], [true, true]);
  });

  it("waits for masters and NATS that come later", async () => {
    await nats.kill();
    await master.close();
    const worker = await startWorker(configOf("one"), silentLogger);
    workers.push(worker);
    await nats.start();
    await worker.stop();
    await assert.rejects(worker.registered);
    master = await FakeMaster.start();
    await start("one");
    await connection.ready(5000);
    const bytes = randomBytes(100);
    await until(
      () =>
        put(containerOf(5), bytes).then(
          () => true,
          () => false,
        ),
      "the worker is reached",
    );
    assert.ok((await get(containerOf(5), 0, 100)).equals(bytes));
  });
});
