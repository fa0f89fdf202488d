/** Several users of one machine on a whole cluster: their programs run under their own ids. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WeirClient } from "../../src/client/client.ts";
import { hasCode, type ErrorCode } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { Caller } from "../../src/rpc/namespace.ts";
import { LocalCluster, programOf } from "../lib/local-cluster.ts";

const root: Caller = { uid: 0, gid: 0, groups: [] };
const ann: Caller = { uid: 15_001, gid: 15_001, groups: [] };
const bob: Caller = { uid: 15_002, gid: 15_002, groups: [] };
/** In the group of ann. */
const mate: Caller = { uid: 15_003, gid: 15_001, groups: [] };
/** Exit status of what is not permitted. */
const denied = 77;

describe("users of a cluster [needs: root]", function () {
  this.timeout(180_000);
  let directory: string;
  let cluster: LocalCluster;
  let client: WeirClient;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-users-"));
    // The configuration is for all of them to read.
    await chmod(directory, 0o755);
    cluster = await LocalCluster.start({ directory, workers: 1, startTimeoutMs: 60_000 });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "test" });
    await client.mkdir("/home");
    await client.setAttributes("/home", { mode: 0o1777 });
  });

  after(async () => {
    await client?.close();
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Runs `weir ARGS` as a process of the user, with `input` on its standard input. */
  async function weir(
    by: Caller,
    args: readonly string[],
    input = "",
  ): Promise<{ status: number | null; stdout: string; stderr: string }> {
    const { uid, gid } = by;
    const all = [...programOf("cli"), ...args, "--config", cluster.configPath];
    const child = spawn(process.execPath, all, { uid, gid });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.end(input);
    const [status] = (await once(child, "close")) as [number | null];
    return { status, stdout, stderr };
  }

  async function done(by: Caller, args: readonly string[], input?: string): Promise<string> {
    const { status, stdout, stderr } = await weir(by, args, input);
    assert.equal(status, 0, `${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  async function refused(by: Caller, args: readonly string[], input?: string): Promise<string> {
    const { status, stderr } = await weir(by, args, input);
    assert.equal(status, denied, `${args.join(" ")}: ${stderr}`);
    return stderr;
  }

  async function rejects(code: ErrorCode, called: Promise<unknown>): Promise<void> {
    await assert.rejects(called, (thrown) => hasCode(thrown, code), `wanted ${code}`);
  }

  it("own what they make, and keep others out as their modes say", async () => {
    await done(ann, ["fs", "mkdir", "/home/ann"]);
    await done(ann, ["fs", "put", "-", "/home/ann/diary"], "dear diary");
    const { uid, gid, mode } = await client.stat("/home/ann/diary");
    assert.deepEqual([uid, gid, mode], [ann.uid, ann.gid, 0o644]);
    await done(ann, ["fs", "chmod", "u=rwx,go=", "/home/ann"]);
    assert.match(
      await refused(bob, ["fs", "cat", "/home/ann/diary"]),
      /^Cannot read "\/home\/ann\/diary": user 15002 may not search a directory of the path\n$/,
    );
    await refused(bob, ["fs", "ls", "/home/ann"]);
    await refused(bob, ["fs", "put", "-", "/home/ann/diary"], "overwritten");
    assert.equal(await done(ann, ["fs", "cat", "/home/ann/diary"]), "dear diary");
    assert.equal(await done(root, ["fs", "cat", "/home/ann/diary"]), "dear diary");
  });

  it("share with their groups what they say, and no more", async () => {
    await done(ann, ["fs", "mkdir", "--parents", "/home/shared/sub"]);
    await done(ann, ["fs", "put", "-", "/home/shared/sub/text"], "ours");
    await done(ann, ["fs", "chmod", "--recursive", "u=rwX,g=rX,o=", "/home/shared"]);
    assert.equal(await done(mate, ["fs", "cat", "/home/shared/sub/text"]), "ours");
    await refused(mate, ["fs", "put", "-", "/home/shared/sub/text"], "mine");
    await refused(bob, ["fs", "cat", "/home/shared/sub/text"]);
    await refused(mate, ["fs", "chmod", "777", "/home/shared"]);
    await refused(ann, ["fs", "chown", String(bob.uid), "/home/shared"]);
    await refused(ann, ["fs", "chgrp", String(bob.gid), "/home/shared"]);
    await done(root, ["fs", "chown", "--recursive", `${bob.uid}:${bob.gid}`, "/home/shared"]);
    assert.equal(await done(bob, ["fs", "cat", "/home/shared/sub/text"]), "ours");
    await refused(ann, ["fs", "cat", "/home/shared/sub/text"]);
  });

  it("remove their own trees, and nothing of others from a sticky directory", async () => {
    await done(ann, ["fs", "mkdir", "--parents", "/home/tree/a/b"]);
    await done(ann, ["fs", "put", "-", "/home/tree/a/b/one"], "1");
    await done(ann, ["fs", "put", "-", "/home/tree/two"], "2");
    await refused(bob, ["fs", "rm", "--recursive", "/home/tree"]);
    await refused(bob, ["fs", "mv", "/home/tree", "/home/mine"]);
    assert.ok(await client.exists("/home/tree/a/b/one"));
    await done(ann, ["fs", "rm", "--recursive", "/home/tree"]);
    assert.ok(!(await client.exists("/home/tree")));
  });

  it("do not administer the cluster, and are nobody else but by root's word", async () => {
    await refused(ann, ["fs", "mount", "/home/store", `file://${directory}`]);
    await refused(ann, ["lineage", "ls"]);
    await refused(ann, ["cluster", "transfer"]);
    await refused(ann, ["fs", "ls", "--as", "0", "/"]);
    const backup = await weir(ann, [
      "backup",
      "create",
      join(tmpdir(), `${String(process.pid)}.b`),
    ]);
    assert.equal(backup.status, denied, backup.stderr);
    await client.setAttributes("/", { mode: 0o755 });
    await refused(root, ["fs", "mkdir", "--as", `${ann.uid}:${ann.gid}`, "/top"]);
    await done(root, ["fs", "mkdir", "--as", `${ann.uid}:${ann.gid},7`, "/home/by-root"]);
    assert.equal((await client.stat("/home/by-root")).uid, ann.uid);
  });

  it("get no more from one program that asks for several of them", async () => {
    const [forAnn, forBob] = [client.as(ann), client.as(bob)];
    await forAnn.mkdir("/home/private", { mode: 0o700 });
    await forAnn.writeFile("/home/private/file", Buffer.from("mine"));
    const { inode } = await forAnn.stat("/home/private");
    await forAnn.inodes.lookup(inode, "file");
    await rejects("PermissionDenied", forBob.inodes.lookup(inode, "file"));
    await rejects("PermissionDenied", forBob.stat("/home/private/file"));
    const { inode: file } = await forAnn.stat("/home/private/file");
    await rejects("PermissionDenied", forBob.writeFile("/home/private/file", Buffer.from("x")));
    await forAnn.setAttributes("/home/private/file", { mode: 0o600 });
    await rejects("PermissionDenied", forBob.inodes.open(file, { read: true, write: false }));
    await forBob.writeFile("/home/bobs", Buffer.from("his"));
    assert.equal((await client.stat("/home/bobs")).uid, bob.uid);
    await client.remove("/home/private", { recursive: true });
  });
});
