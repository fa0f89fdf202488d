/** Real programs on a mount of a whole cluster: three masters, two workers, nats-server, each a process. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { WeirClient } from "../../src/client/client.ts";
import { mountedAt, unmount } from "../../src/fuse/mount-point.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { type ControlledProcess, LocalCluster } from "../lib/local-cluster.ts";

const run = promisify(execFile);

describe("a mount of a cluster [needs: fuse]", function () {
  this.timeout(120_000);
  let directory: string;
  let mnt: string;
  let cluster: LocalCluster;
  let mount: ControlledProcess;
  let client: WeirClient;

  const sh = async (script: string, cwd = directory) =>
    (await run("sh", ["-euc", script], { cwd, timeout: 90_000, maxBuffer: 1 << 26 })).stdout;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-fuse-cluster-"));
    mnt = join(directory, "mnt");
    cluster = await LocalCluster.start({ directory, startTimeoutMs: 60_000 });
    mount = cluster.process("fuse", "fuse", []);
    mount.start();
    await mount.ready(60_000);
    client = await WeirClient.connect({
      config: cluster.config,
      logger: silentLogger,
      name: "test",
    });
    const tree = join(directory, "tree");
    await mkdir(join(tree, "a/b"), { recursive: true });
    for (let i = 0; i < 60; i++) {
      await writeFile(join(tree, "a", `file-${String(i)}`), Buffer.alloc(i * i * 100, String(i)));
    }
    await writeFile(join(tree, "a/b/größe ✓"), "names beyond ASCII");
    await writeFile(join(tree, "large"), Buffer.alloc(9_000_001, "0123456789abc"));
    await symlink("a/file-7", join(tree, "link"));
    await symlink("nowhere/at all", join(tree, "dangling"));
    await sh(
      "ln a/file-3 hard; chmod 640 a/file-4; touch -d 2001-02-03T04:05:06.250Z a/file-5",
      tree,
    );
  });

  after(async () => {
    await client?.close();
    await mount?.kill();
    if ((await mountedAt(mnt)) !== undefined) await unmount(mnt, { lazy: true });
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("shows a directory of under storage as it is, to diff -r, cold and warm", async () => {
    await client.mount("/data", `file://${join(directory, "tree")}`, { readOnly: true });
    await sh("diff -r --no-dereference tree mnt/data; diff -r --no-dereference tree mnt/data");
    await assert.rejects(sh("echo x > mnt/data/new"), /Read-only file system/);
  });

  it("takes a tree from cp -a and one from tar, and gives them back", async () => {
    await sh("cp -a tree mnt/copy; diff -r --no-dereference tree mnt/copy");
    await sh(
      "tar -C tree -cf tree.tar .; mkdir mnt/tar; tar -C mnt/tar -xf tree.tar; diff -r --no-dereference tree mnt/tar",
    );
    const times = await sh(
      "stat -c '%.3Y %a %h' mnt/copy/a/file-5 mnt/copy/a/file-4 mnt/copy/hard",
    );
    const [dated, mode, hard] = times.trim().split("\n");
    assert.equal(dated, "981173106.250 644 1");
    assert.match(mode!, / 640 1$/);
    assert.match(hard!, / 2$/);
  });

  it("A3, A25: appends, overwrites, truncates, renames and links as a local directory does", async () => {
    const script = `
      echo one > f; echo two >> f; echo three >> f; printf X | dd of=f bs=1 seek=1 conv=notrunc status=none
      cat f; truncate -s 3 f; cat f; echo; truncate -s 6 f; od -c f; : > f; wc -c < f; echo again > f; cat f
      echo left > a; echo right > b; mv a b; cat b; mkdir d; mv b d/c; cat d/c; ls -R
      ln d/c e; stat -c %h e; rm d/c; cat e; ln -s e s; readlink s; cat s; rm s
      mkdir -p x/y/z; mv x w; ls w/y; rmdir w/y/z w/y w
      dd if=/dev/zero of=sparse bs=1 count=1 seek=200000 status=none; wc -c < sparse; cksum sparse
      for i in 1 2 3 4 5 6 7 8 9; do echo line $i >> log & done; wait; sort log
      exec 3>open; echo kept >&3; rm open; exec 3>&-; ls; touch -d 2002-02-02T02:02:02Z t; stat -c %Y t`;
    await sh("mkdir local mnt/posix");
    assert.equal(await sh(script, join(mnt, "posix")), await sh(script, join(directory, "local")));
  });

  it("A1: serves 64 readers of a cold file at once", async () => {
    await sh(
      'cp tree/large mnt/shared; pids=; for i in $(seq 64); do cmp tree/large mnt/data/large & pids="$pids $!"; done; for p in $pids; do wait $p; done',
    );
  });

  it("loses no write to files that are emptied while others read them", async () => {
    // Opening with O_TRUNC finds the file shared with readers whose last handle closes just then.
    const paths = [0, 1, 2].map((i) => join(mnt, `emptied-${String(i)}`));
    let writing = true;
    const readers = paths.map(async (path) => {
      while (writing) await readFile(path).catch(ignoreMissing);
    });
    const writers = paths.map(async (path) => {
      for (let i = 0; i < 60; i++) await writeFile(path, `content ${String(i)} of ${path}`);
    });
    await Promise.all(writers).finally(() => {
      writing = false;
    });
    await Promise.all(readers);
    for (const path of paths) assert.equal(await readFile(path, "utf8"), `content 59 of ${path}`);
  });

  it("shows to other clients what is closed, and sees what they closed", async () => {
    await sh("echo from the mount > mnt/meet");
    const chunks = [];
    for await (const chunk of client.readFile("/meet")) chunks.push(chunk);
    assert.equal(Buffer.concat(chunks).toString(), "from the mount\n");
    await client.writeFile("/meet", Buffer.from("from elsewhere, and longer\n"));
    await sh("until [ \"$(cat mnt/meet)\" = 'from elsewhere, and longer' ]; do sleep 0.1; done");
    await client.remove("/meet");
    await sh("while [ -e mnt/meet ]; do sleep 0.1; done");
  });

  it("persists what it wrote to under storage", async () => {
    await sh("mkdir mnt/kept; cp tree/large mnt/kept/; echo small > mnt/kept/small");
    await client.persist("/kept", { wait: true });
    await sh("cmp tree/large root/kept/large; cat root/kept/small");
  });

  it("keeps every file acknowledged while the leading master is killed", async () => {
    const creating = sh("mkdir kill; for i in $(seq 150); do echo $i > kill/f$i; done", mnt);
    await sh("until [ -e mnt/kill/f40 ]; do sleep 0.02; done");
    const roles = await Promise.all(
      client.masters.each.map((each) =>
        each.call(masterApi.status, { exact: false }, { deadlineMs: 5000 }),
      ),
    );
    const leader = cluster.masters[roles.findIndex((each) => each.role === "leader")]!;
    await leader.kill();
    await creating;
    assert.equal(
      (await sh("ls kill | wc -l; cat kill/f1 kill/f77 kill/f150", mnt)).trim(),
      "150\n1\n77\n150",
    );
    leader.start();
    await leader.ready(60_000);
  });

  it("writes a file whole although a worker of its chain is killed in the middle", async () => {
    await sh("head -c 60000000 /dev/urandom > random");
    const [victim] = cluster.workers;
    const copying = sh("(head -c 30000000; sleep 1; cat) < random > mnt/random");
    await sh(
      "until [ $(stat -c %s mnt/random 2>/dev/null || echo 0) -ge 20000000 ]; do sleep 0.05; done",
    );
    await victim!.kill();
    await copying;
    await sh("cmp random mnt/random");
    victim!.start();
    await victim!.ready(60_000);
  });

  it("is gone at SIGTERM, with what was written published", async () => {
    await sh("echo last words > mnt/last");
    assert.equal(await mount.stop(), 0);
    assert.equal(await mountedAt(mnt), undefined);
    const log = await readFile(join(directory, "fuse.log"), "utf8");
    assert(!log.includes('"uncaught"'));
    const chunks = [];
    for await (const chunk of client.readFile("/last")) chunks.push(chunk);
    assert.equal(Buffer.concat(chunks).toString(), "last words\n");
  });
});

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
