/** What an inode is beyond its bytes, by the command line, the SDK and a mount of a cluster of processes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { connect, type Weir } from "../../src/client/sdk.ts";
import { mountedAt, unmount } from "../../src/fuse/mount-point.ts";
import { isLater } from "../../src/rpc/relatime.ts";
import { aclOfMode } from "../../src/rpc/acl.ts";
import { eventually } from "../lib/eventually.ts";
import { type ControlledProcess, LocalCluster } from "../lib/local-cluster.ts";
import { weir, weirJson } from "./weir-command.ts";

const run = promisify(execFile);

describe("metadata of a cluster [needs: fuse]", function () {
  this.timeout(120_000);
  let directory: string;
  let mnt: string;
  let cluster: LocalCluster;
  let mount: ControlledProcess;
  let sdk: Weir;

  const sh = async (script: string) =>
    (await run("sh", ["-euc", script], { cwd: mnt, timeout: 60_000 })).stdout;
  const fs = async (...args: readonly string[]) => {
    const { status, stdout, stderr } = await weir(cluster.configPath, "fs", ...args);
    return status === 0 ? stdout : stderr;
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-metadata-"));
    mnt = join(directory, "mnt");
    cluster = await LocalCluster.start({ directory, masters: 1, workers: 1 });
    mount = cluster.process("fuse", "fuse", []);
    mount.start();
    await mount.ready(60_000);
    sdk = await connect({ configFile: cluster.configPath });
  });

  after(async () => {
    await sdk?.close();
    await mount?.kill();
    if ((await mountedAt(mnt)) !== undefined) await unmount(mnt, { lazy: true });
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("keeps extended attributes through a restart of the master", async () => {
    await fs("mkdir", "/kept");
    await fs("setfattr", "--name", "user.größe", "--value", "fünf", "/kept");
    await fs("setfattr", "--name", "trusted.key", "--value", "0x00ff10", "/kept");
    const master = cluster.masters[0]!;
    await master.kill();
    master.start();
    await master.ready(60_000);
    const shown = 'trusted.key=0sAP8Q\nuser.größe="fünf"\n';
    assert.equal(await fs("getfattr", "/kept"), shown);
    assert.equal(await fs("getfattr", "--name", "user.größe", "/kept"), 'user.größe="fünf"\n');
    assert.deepEqual(await weirJson(cluster.configPath, "fs", "getfattr", "/kept"), {
      path: "/kept",
      attributes: { "trusted.key": "AP8Q", "user.größe": "ZsO8bmY=" },
    });
    await fs("setfattr", "--remove", "user.größe", "/kept");
    assert.match(await fs("getfattr", "--name", "user.größe", "/kept"), /no such attribute/);
    assert.match(await fs("setfattr", "/kept"), /wanted either --name or --remove/);
    assert.match(await fs("setfattr", "--name", "nowhere.a", "/kept"), /in no namespace/);
  });

  it("gives to the SDK what it set", async () => {
    await sdk.mkdir("/sdk");
    await sdk.setXattr("/sdk", "user.a", "text", "create");
    await assert.rejects(sdk.setXattr("/sdk", "user.a", "", "create"), { code: "AlreadyExists" });
    assert.deepEqual(await sdk.listXattrs("/sdk"), ["user.a"]);
    assert.equal(Buffer.from(await sdk.getXattr("/sdk", "user.a")).toString(), "text");
    await sdk.removeXattr("/sdk", "user.a");
    await assert.rejects(sdk.getXattr("/sdk", "user.a"), { code: "NoData" });
    const [owner, group, other] = aclOfMode(0o750);
    const user = { tag: "user", id: 1001, permissions: 6 } as const;
    const access = [owner!, user, group!, { tag: "mask", permissions: 7 } as const, other!];
    await sdk.setAcls("/sdk", { access, defaults: access });
    assert.deepEqual(await sdk.getAcls("/sdk"), { access, defaults: access });
    await sdk.setAcls("/sdk", { access: [], defaults: [] });
    assert.deepEqual(await sdk.getAcls("/sdk"), { access: aclOfMode(0o770), defaults: undefined });
  });

  it("shows and changes access control lists, and hands them on to what is made below", async () => {
    await fs("mkdir", "/acl");
    await fs("setfacl", "--modify", "u:1001:rwx,g:2000:r", "/acl");
    await fs("setfacl", "--default", "--modify", "g:2000:rw,m::r", "/acl");
    const head = "# file: /acl\n# owner: 0\n# group: 0\n";
    const access = "user::rwx\nuser:1001:rwx\ngroup::r-x\ngroup:2000:r--\nmask::rwx\nother::r-x\n";
    const defaults = [
      "default:user::rwx",
      "default:group::r-x\t#effective:r--",
      "default:group:2000:rw-\t#effective:r--",
      "default:mask::r--",
      "default:other::r-x\n",
    ].join("\n");
    assert.equal(await fs("getfacl", "/acl"), head + access + defaults);
    assert.match(await fs("ls", "/"), /drwxrwxr-x\+ .* acl\n/);
    // The binding does not say the umask, which the kernel has taken from the mode.
    await sh("umask 002; echo x > acl/file; mkdir acl/below; umask 077; echo x > acl/private");
    assert.match(await fs("getfacl", "/acl/file"), /group:2000:rw-\t#effective:r--\nmask::r--\n/);
    assert.match(await fs("getfacl", "/acl/private"), /mask::---\nother::---\n/);
    assert.match(await fs("getfacl", "/acl/below"), /default:group:2000:rw-/);
    await sh("chmod 620 acl/file");
    assert.match(await fs("getfacl", "/acl/file"), /mask::-w-\nother::---\n/);
    await fs("setfacl", "--remove", "g:2000", "--no-mask", "/acl");
    assert.doesNotMatch(await fs("getfacl", "/acl"), /^group:2000/m);
    await fs("setfacl", "--remove-all", "/acl");
    assert.equal(await fs("getfacl", "/acl"), `${head}user::rwx\ngroup::r-x\nother::r-x\n`);
    assert.match(await fs("setfacl", "--modify", "u:me:r", "/acl"), /"me" is no number/);
    assert.match(await fs("setfacl", "--remove", "u:9", "/acl"), /no such entry/);
    assert.match(await fs("setfacl", "/acl"), /wanted --modify/);
  });

  it("moves access times of what is read when they lag behind, unless the client is told not to", async () => {
    await sdk.writeFile("/read", "content");
    const before = await sdk.stat("/read");
    for (const [atime, moves] of [
      ["noatime", false],
      ["relatime", true],
      ["relatime", false],
    ] as const) {
      const settings = { "client.atime": atime };
      const reader = await connect({ configFile: cluster.configPath, settings });
      await reader.mkdir(`/made-${atime}-${String(moves)}`);
      const known = await reader.stat("/read");
      for await (const chunk of reader.readFile("/read")) assert.ok(chunk.length > 0);
      await reader.close();
      const now = await sdk.stat("/read");
      assert.equal(isLater(now.atime, known.atime), moves, atime);
      assert.deepEqual(
        { ...now, atime: before.atime, persistence: "" },
        { ...before, persistence: "" },
      );
    }
  });

  it("takes a path that ends in a slash for that of a directory, and no name that is too long", async () => {
    await sdk.mkdir("/slash/d/", { parents: true });
    await sdk.writeFile("/slash/f", "x");
    const long = "n".repeat(256);
    for (const [code, attempt] of [
      ["NotDirectory", () => sdk.stat("/slash/f/")],
      ["NotDirectory", () => sdk.rename("/slash/f/", "/slash/g")],
      ["NotDirectory", () => sdk.rename("/slash/f", "/slash/g/")],
      ["NotDirectory", () => sdk.remove("/slash/f/")],
      ["IsDirectory", () => sdk.writeFile("/slash/g/", "x")],
      ["NameTooLong", () => sdk.stat(`/slash/${long}`)],
      ["NameTooLong", () => sdk.writeFile(`/${long}`, "x")],
      ["NameTooLong", () => sdk.rename("/slash/f", `/slash/${long}`)],
    ] as const) {
      await assert.rejects(attempt(), { code }, String(attempt));
    }
    await sdk.writeFile(`/slash/${long.slice(1)}`, "x");
    await sdk.rename("/slash/d/", "/slash/e/");
    assert.equal((await sdk.stat("/slash/e/")).kind, "directory");
    await sdk.remove("/slash/e/");
  });

  it("has a file and a directory change places, in the store too, whenever the master dies", async () => {
    await sdk.mkdir("/swap/d", { parents: true });
    for (const path of ["/swap/d/below", "/swap/f"]) {
      await sdk.writeFile(path, path, { writeType: "CACHE_THROUGH" });
    }
    const master = cluster.masters[0]!;
    for (const names of [
      ["d", "f"],
      ["f", "d"],
    ]) {
      const [from, to] = names.map((name) => `/swap/${name}`) as [string, string];
      assert.equal(await fs("mv", "--exchange", from, to), "");
      await master.kill();
      master.start();
      await master.ready(60_000);
    }
    assert.equal(await fs("mv", "--exchange", "/swap/d", "/swap/f"), "");
    const store = join(directory, "root/swap");
    await eventually("both in their new places", async () => {
      const { stdout } = await run("find", [store, "-type", "f", "-printf", "%P "]);
      assert.deepEqual(stdout.trim().split(" ").sort(), ["d", "f/below"]);
      assert.equal((await run("cat", [join(store, "d")])).stdout, "/swap/f");
      return true;
    });
    assert.equal(await sh("cat swap/d swap/f/below"), "/swap/f/swap/d/below");
    assert.match(await fs("mv", "--exchange", "/swap/d", "/swap/none"), /does not exist/);
  });

  it("has fifos, sockets, devices and links that a mount can see, and stores none of them", async () => {
    await fs("mkdir", "/nodes");
    await fs("mkfifo", "--mode", "600", "/nodes/pipe");
    await fs("mknod", "/nodes/null", "c", "1", "3");
    await fs("mknod", "/nodes/disk", "b", "259", "70000");
    await fs("mknod", "/nodes/socket", "s");
    await fs("ln", "/nodes/pipe", "/nodes/same");
    await fs("ln", "--symbolic", "pipe", "/nodes/link");
    assert.equal(
      await sh("cd nodes; stat -c '%n %F %a %h %t:%T' disk link null pipe socket"),
      [
        "disk block special file 644 1 103:11170",
        "link symbolic link 777 1 0:0",
        "null character special file 644 1 1:3",
        "pipe fifo 600 2 0:0",
        "socket socket 644 1 0:0\n",
      ].join("\n"),
    );
    assert.match(await fs("stat", "/nodes/disk"), /device +259:70000/);
    assert.match(await fs("mknod", "/nodes/x", "c", "1"), /a device has a minor number/);
    assert.match(await fs("mknod", "/nodes/x", "p", "1"), /a fifo has no device numbers/);
    assert.match(await fs("mknod", "/nodes/x", "f"), /"f" is no type/);
    await fs("persist", "--wait", "/nodes");
    const { stdout } = await run("ls", [join(directory, "root/nodes")]);
    assert.deepEqual(stdout.trim().split("\n"), ["link"]);
    await sh("mv nodes moved; (echo through > moved/pipe & cat moved/pipe)");
    await fs("rm", "--recursive", "/moved");
  });
});
