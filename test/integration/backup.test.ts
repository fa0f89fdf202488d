import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type InodeId, rootInodeId } from "../../src/lib/ids.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import { eventually } from "../lib/eventually.ts";
import { createCommand, ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";
import { weir, weirJson } from "./weir-command.ts";

interface Created {
  readonly path: string;
  readonly bytes: number;
  readonly index: number;
  readonly inodes: number;
  readonly master: string;
}

describe("A backup", function () {
  this.timeout(120_000);
  let base: string;
  let cluster: MasterCluster;
  let connection: MasterConnection;
  let worker: ListingWorker;

  before(async () => {
    base = await mkdtemp(join(tmpdir(), "weir-backup-"));
    cluster = await MasterCluster.start(join(base, "old"));
    connection = cluster.connect();
    worker = await ListingWorker.start(cluster);
    await fill(cluster, connection);
  });

  after(async () => {
    await worker.stop();
    connection.close();
    await cluster.close();
    await rm(base, { recursive: true, force: true });
  });

  it("taken while writes go on is of one index: all that was acknowledged before, and no gap", async () => {
    const session = await TestSession.open(connection);
    const directory = (await session.create(rootInodeId, "stream", "directory")).status!.inode;
    let next = 0;
    let isOver = false;
    // One after the other: whatever is there, everything before it must be.
    const writer = (async () => {
      while (!isOver) await session.create(directory, name(next++));
    })();
    await eventually("writes to flow", () => next > 200);
    const before = next - 1;
    const path = join(base, "stream.weirbackup");
    const created = await weirJson<Created>(cluster.configPath, "backup", "create", path);
    await eventually("writes to flow on", () => next > before + 100);
    isOver = true;
    await writer;

    assert.equal(created.path, path);
    const leader = await cluster.leader(connection);
    assert.notEqual(created.master, cluster.configs[leader]!.name, "a follower gives it");
    const restored = await restore(path, "stream");
    try {
      const names = (await listAll(restored.connection, restored.inode("stream"))).map(
        (entry) => entry.name,
      );
      assert(names.length >= before, `${String(names.length)} of ${String(before)} names`);
      assert.deepEqual(
        names,
        names.map((_, i) => name(i)),
      );
    } finally {
      await restored.close();
    }
  });

  it("restores names, attributes, mounts and lineages into a new cluster of three that takes new writes", async () => {
    const path = join(base, "whole.weirbackup");
    await weirJson(cluster.configPath, "backup", "create", path);
    const wanted = await contentOf(connection);
    const restored = await restore(path, "whole", 3);
    try {
      assert.deepEqual(await contentOf(restored.connection), wanted);
      const states = await restored.cluster.settled(restored.connection);
      assert.equal(new Set(states.map(({ stateHash }) => stateHash)).size, 1);
      assert.equal(states.length, 3);
      const session = await TestSession.open(restored.connection);
      await session.create(restored.inode("data"), "written after");
      const names = (await listAll(restored.connection, restored.inode("data"))).map(
        (entry) => entry.name,
      );
      assert(names.includes("written after"));
      // What the old cluster goes on to give out is never given out here.
      const theirs = await TestSession.open(connection);
      assert(session.id > theirs.id * 1000, "session ids of the two clusters are far apart");
      await restored.cluster.masters[0]!.kill();
      const after = await listAll(restored.connection, restored.inode("data"));
      assert.equal(after.length, names.length, "without the one that was seeded");
    } finally {
      await restored.close();
    }
  });

  it("ends the sessions of the old clients, with their leases", async () => {
    const session = await TestSession.open(connection);
    await session.do({ ...createCommand(rootInodeId, "leased"), lease: true } as never);
    const path = join(base, "leased.weirbackup");
    await weirJson(cluster.configPath, "backup", "create", path);
    const restored = await restore(path, "leased");
    try {
      await assert.rejects(
        restored.connection.call(
          masterApi.keepSession,
          { session: session.id },
          { deadlineMs: 10_000, idempotent: true },
        ),
        { code: "SessionExpired" },
      );
      const taker = await TestSession.open(restored.connection);
      await taker.do({ kind: "lease", inode: restored.inode("leased") });
    } finally {
      await restored.close();
    }
  });

  it("goes into an empty directory only, and under a name of the configuration", async () => {
    const path = join(base, "again.weirbackup");
    await weirJson(cluster.configPath, "backup", "create", path);
    const target = join(base, "occupied");
    await mkdir(target);
    await writeFile(join(target, "journal"), "precious");
    const args = ["backup", "restore", path, "--data-dir", target];
    const refused = await weir(cluster.configPath, ...args, "--name", "master-1");
    assert.equal(refused.status, 3);
    assert.match(refused.stderr, /it holds "journal", wanted an empty directory/);
    assert.equal(await readFile(join(target, "journal"), "utf8"), "precious");
    await rm(join(target, "journal"));
    const unknown = await weir(cluster.configPath, ...args, "--name", "master-9");
    assert.equal(unknown.status, 78);
    assert.deepEqual(await readdir(target), []);
  });

  it("that was cut, flipped or appended to is refused, with the place, and nothing is made of it", async () => {
    const path = join(base, "good.weirbackup");
    const { bytes } = await weirJson<Created>(cluster.configPath, "backup", "create", path);
    const damaged = join(base, "bad.weirbackup");
    const cases: [string, (file: Awaited<ReturnType<typeof open>>) => Promise<unknown>][] = [
      ["cut in the middle", (file) => file.truncate(Math.floor(bytes / 2))],
      ["cut by one byte", (file) => file.truncate(bytes - 1)],
      ["cut to nothing", (file) => file.truncate(0)],
      ["appended to", (file) => file.write("x", bytes)],
    ];
    for (let i = 0; i < 24; i++) {
      const at = Math.floor((i * (bytes - 1)) / 23);
      cases.push([`flipped at byte ${String(at)}`, (file) => flip(file, at)]);
    }
    for (const [what, damage] of cases) {
      await cp(path, damaged);
      const file = await open(damaged, "r+");
      await damage(file);
      await file.close();
      const verified = await weir(cluster.configPath, "backup", "verify", damaged);
      assert.equal(verified.status, 65, what);
      assert.match(verified.stderr, /^Cannot use the backup ".*": at byte \d+ /, what);
    }
    const target = join(base, "never");
    const args = ["backup", "restore", damaged, "--name", "master-1", "--data-dir", target];
    assert.equal((await weir(cluster.configPath, ...args)).status, 65);
    assert.deepEqual(
      (await readdir(base)).filter((each) => each.startsWith("never")),
      [],
    );
    assert.equal((await weir(cluster.configPath, "backup", "verify", path)).status, 0);
  });

  it("is listed with the others of a directory, damaged ones as such", async () => {
    const directory = join(base, "several");
    await mkdir(directory);
    await weirJson(cluster.configPath, "backup", "create", `${directory}/`);
    await weirJson(cluster.configPath, "backup", "create", join(directory, "b.weirbackup"));
    const cut = join(directory, "c.weirbackup");
    await weirJson(cluster.configPath, "backup", "create", cut);
    const file = await open(cut, "r+");
    await file.truncate((await file.stat()).size - 5);
    await file.close();
    await writeFile(join(directory, "other.txt"), "no backup");
    const listed = await weirJson<{ path: string; damage?: string }[]>(
      cluster.configPath,
      "backup",
      "ls",
      directory,
    );
    assert.deepEqual(
      listed.map(({ damage }) => damage === undefined),
      [true, true, false],
    );
    const text = (await weir(cluster.configPath, "backup", "ls", directory)).stdout;
    assert.match(text, /weir-\d{8}T\d{6}Z\.weirbackup .* complete\n/);
    assert.match(text, /c\.weirbackup .* DAMAGED\n/);
  });

  it("never overwrites a file unless told to, and leaves no half of one when its master dies", async () => {
    const path = join(base, "once.weirbackup");
    await weirJson(cluster.configPath, "backup", "create", path);
    const again = await weir(cluster.configPath, "backup", "create", path);
    assert.deepEqual([again.status, /it exists/.test(again.stderr)], [3, true]);
    await weirJson(cluster.configPath, "backup", "create", path, "--force");
    const dead = await MasterCluster.prepare(join(base, "dead"));
    const failed = await weir(dead.configPath, "backup", "create", join(base, "none.weirbackup"));
    assert.equal(failed.status, 69);
    assert.match(failed.stderr, /^Cannot back up to ".*none.weirbackup": no master answers/);
    assert(!(await readdir(base)).some((each) => each.startsWith("none")));
  });

  /** A new cluster from a backup, running: one master is seeded, the others join it. */
  async function restore(path: string, label: string, count = 1) {
    const restored = await MasterCluster.prepare(join(base, `restored-${label}`), { count });
    await weirJson(
      ...[restored.configPath, "backup", "restore", path],
      ...["--name", "master-1", "--data-dir", restored.dataDir(0)],
    );
    restored.masters[0]!.start();
    await restored.masters[0]!.ready();
    for (const { name: other } of restored.configs.slice(1)) {
      const joining = await restored.startEmpty(other);
      await weirJson(restored.configPath, "cluster", "add", other, "--wait");
      await joining.ready();
    }
    const at = restored.connect();
    const top = await listAll(at, rootInodeId);
    return {
      cluster: restored,
      connection: at,
      inode: (wanted: string) => top.find((entry) => entry.name === wanted)!.status.inode,
      close: async () => {
        at.close();
        await restored.close();
      },
    };
  }
});

function name(i: number): string {
  return `f${String(i).padStart(6, "0")}`;
}

async function flip(file: Awaited<ReturnType<typeof open>>, at: number): Promise<void> {
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0]! ^= 0x10;
  await file.write(byte, 0, 1, at);
}

/** Directories, files, links, attributes, a mount and a lineage. */
async function fill(cluster: MasterCluster, connection: MasterConnection): Promise<void> {
  const session = await TestSession.open(connection);
  const data = (await session.create(rootInodeId, "data", "directory")).status!.inode;
  await Promise.all(Array.from({ length: 500 }, (_, i) => session.create(data, name(i))));
  const odd = Buffer.from("grün \xff").toString("latin1");
  const file = (await session.create(data, odd)).status!.inode;
  await session.do({ kind: "link", inode: file, parent: rootInodeId, name: "linked" });
  await session.do({
    ...{ kind: "setAttributes", inode: file, mode: 0o600, uid: 7, gid: 8 },
    ...{ atime: undefined, mtime: { sec: 5, nsec: 6 } },
  });
  const store = join(cluster.directory, "store");
  await mkdir(store);
  await writeFile(join(store, "below"), "text");
  await session.do({
    ...{ kind: "mount", parent: rootInodeId, name: "mounted" },
    ...{ uri: `file://${store}`, readOnly: true, options: {} },
  });
  const job = { argv: ["sort", "-o", "{out}", "{in}"], environment: {}, timeoutMs: 1000 };
  await session.do({
    kind: "recordLineage",
    inputs: [],
    outputs: [{ path: "/made", parent: rootInodeId, name: "made" }],
    job: { ...job, captureStdout: false },
    uid: 0,
    gid: 0,
  });
}

async function listAll(connection: MasterConnection, directory: InodeId) {
  const session = await TestSession.open(connection);
  return session.list(directory);
}

/** Everything that a client can see, but for what the clocks say. */
async function contentOf(connection: MasterConnection): Promise<unknown> {
  const options = { deadlineMs: 20_000, idempotent: true };
  const tree = async (directory: InodeId): Promise<unknown[]> => {
    const all: unknown[] = [];
    for (const { name: entry, status } of await listAll(connection, directory)) {
      all.push([entry, status]);
      const isLocal = status.kind === "directory" && entry !== "mounted";
      if (isLocal) all.push(await tree(status.inode));
    }
    return all;
  };
  const { mounts } = await connection.call(masterApi.mounts, {}, options);
  const page = { after: undefined, limit: 100 };
  const { lineages } = await connection.call(masterApi.lineages, page, options);
  return { tree: await tree(rootInodeId), mounts, lineages };
}
