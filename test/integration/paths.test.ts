/** What `weir path` and the commands around usage do, on real processes. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WeirClient } from "../../src/client/client.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { LocalCluster } from "../lib/local-cluster.ts";
import { weir, weirJson } from "./weir-command.ts";

interface UsageLine {
  readonly path: string;
  readonly bytes: number;
  readonly unpersistedBytes: number;
  readonly files: number;
  readonly directories: number;
  readonly complete: boolean;
}

describe("paths", function () {
  this.timeout(240_000);
  let directory: string;
  let cluster: LocalCluster;
  let client: WeirClient;
  const ok = async (...args: string[]) => {
    const { status, stdout, stderr } = await weir(cluster.configPath, ...args);
    assert.equal(status, 0, stderr);
    return stdout;
  };
  const json = <T>(...args: string[]) => weirJson<T>(cluster.configPath, ...args);
  const bytes = (length: number) => new Uint8Array(length).fill(7);

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-paths-"));
    cluster = await LocalCluster.start({ directory, startTimeoutMs: 60_000 });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "test" });
    await client.stat("/");
  });
  after(async () => {
    await client?.close();
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("are counted as they change, whoever leads", async () => {
    await ok("fs", "mkdir", "--parents", "/count/below");
    await client.writeFile("/count/below/x", bytes(3000), { writeType: "THROUGH" });
    await client.writeFile("/count/y", bytes(500), { writeType: "MUST_CACHE" });
    const wanted = { bytes: 3500, unpersistedBytes: 500, files: 2, directories: 1 };
    const look = async () => {
      const [line] = await json<UsageLine[]>("fs", "count", "/count");
      const { bytes: found, unpersistedBytes, files, directories } = line!;
      return { bytes: found, unpersistedBytes, files, directories };
    };
    assert.deepEqual(await look(), wanted);
    await ok("cluster", "transfer");
    assert.deepEqual(await look(), wanted);
    const lines = await json<UsageLine[]>("fs", "du", "--depth", "1", "--all", "/count");
    assert.deepEqual(
      lines.map(({ path, bytes: size }) => [path, size]),
      [
        ["/count", 3500],
        ["/count/below", 3000],
        ["/count/y", 500],
      ],
    );
    await ok("fs", "rm", "--recursive", "/count/below");
    assert.equal((await look()).bytes, 500);
  });

  it("have quotas that a write meets with an error that names them", async () => {
    await ok("fs", "mkdir", "/limited");
    await ok("path", "quota", "set", "/limited", "--bytes", "1KiB", "--inodes", "2");
    await client.writeFile("/limited/a", bytes(1024));
    await assert.rejects(client.writeFile("/limited/b", bytes(1)), (error: Error) => {
      assert.equal((error as Error & { code: string }).code, "QuotaExceeded");
      assert.match(error.message, /the quota of "\/limited" is 1024 bytes, 1024 are used, 1 more/);
      return true;
    });
    const { status, stderr } = await weir(cluster.configPath, "fs", "mkdir", "/limited/c");
    assert.equal(status, 17);
    assert.match(stderr, /the quota of "\/limited" is 2 inodes, 2 are used/);
    const [shown] = await json<{ path: string; usedBytes: number; usedInodes: number }[]>(
      ...["fs", "quota", "/limited/a"],
    );
    assert.deepEqual([shown!.path, shown!.usedBytes, shown!.usedInodes], ["/limited", 1024, 2]);
    await ok("path", "quota", "clear", "/limited");
    await client.writeFile("/limited/c", bytes(5000));
  });

  it("say how files below are written and read, and show where that is said", async () => {
    await ok("fs", "mkdir", "--parents", "/said/below");
    await ok("path", "write-type", "/said", "CACHE_THROUGH");
    await ok("path", "read-type", "/said", "NO_CACHE");
    await client.writeFile("/said/below/x", bytes(2000));
    const status = await client.stat("/said/below/x");
    assert.deepEqual([status.writeType, status.persistence], ["CACHE_THROUGH", "persisted"]);
    const shown = await json<Record<string, unknown>>("path", "get", "/said/below/x");
    assert.deepEqual(shown["from"], { writeType: "/said", readType: "/said" });
    const store = join(directory, "store");
    await mkdir(store);
    await writeFile(join(store, "y"), bytes(2000));
    await client.mount("/said/mounted", `file://${store}`);
    const copies = async () =>
      (await client.locations("/said/mounted/y")).segments.flatMap(({ locations }) => locations);
    assert.equal((await ok("fs", "head", "--bytes", "2000", "/said/mounted/y")).length, 2000);
    assert.deepEqual(await copies(), []);
    await ok("path", "clear", "/said", "read-type");
    await ok("path", "pin", "/said");
    await eventually("the copies are there", async () => {
      assert.ok((await copies()).length > 0);
      return true;
    });
    assert.match(await ok("path", "ls", "/said"), /\/said +pin +yes/);
  });

  it("A18: end by their time to live: copies by default, files only when asked, whoever leads", async () => {
    await ok("fs", "mkdir", "/kept");
    await ok("fs", "mkdir", "/scratch");
    await client.writeFile("/kept/x", bytes(100), { writeType: "CACHE_THROUGH" });
    await client.writeFile("/scratch/x", bytes(100), { writeType: "CACHE_THROUGH" });
    await ok("path", "ttl", "/kept", "1s");
    await ok("path", "ttl", "--action", "delete", "/scratch", "1s");
    const below = (path: string) => existsSync(join(directory, "root", path));
    await eventually("the file is gone, in its store too", async () => {
      assert.equal(await client.exists("/scratch/x"), false);
      assert.equal(below("scratch/x"), false);
      return true;
    });
    await eventually("the copy is gone", async () => {
      const { segments } = await client.locations("/kept/x");
      assert.deepEqual(segments[0]!.locations, []);
      return true;
    });
    assert.equal(below("kept/x"), true);
    await ok("cluster", "transfer");
    await client.writeFile("/scratch/y", bytes(100), { writeType: "CACHE_THROUGH" });
    await eventually("the next file is gone", async () => {
      assert.equal(await client.exists("/scratch/y"), false);
      return true;
    });
    assert.equal((await client.stat("/kept/x")).size, 100);
    assert.match(await ok("path", "clock"), /trusted +yes/);
  });

  it("are looked at, copied and touched", async () => {
    await ok("fs", "mkdir", "--parents", "/files/d");
    await client.writeFile("/files/d/x", Buffer.from("first line\nlast line\n"));
    await client.symlink("x", "/files/d/link");
    assert.equal(await ok("fs", "head", "--bytes", "5", "/files/d/x"), "first");
    assert.equal(await ok("fs", "tail", "--bytes", "5", "/files/d/x"), "line\n");
    await ok("fs", "cp", "--recursive", "--preserve", "/files/d", "/files/copy");
    assert.equal(await ok("fs", "cat", "/files/copy/x"), "first line\nlast line\n");
    assert.equal((await client.stat("/files/copy/link")).target, "x");
    const [from, to] = [await client.stat("/files/d/x"), await client.stat("/files/copy/x")];
    assert.deepEqual([to.mode, to.mtime], [from.mode, from.mtime]);
    const inside = await weir(cluster.configPath, "fs", "cp", "-r", "/files", "/files/d");
    assert.equal(inside.status, 64);
    assert.match(inside.stderr, /the target is the source or inside it/);
    await ok("fs", "touch", "/files/new");
    assert.equal((await client.stat("/files/new")).size, 0);
    await ok("fs", "touch", "/files/copy/x");
    assert.ok((await client.stat("/files/copy/x")).mtime.sec >= to.mtime.sec);
    assert.equal((await client.stat("/files/copy/x")).size, 21);
    const test = async (...args: string[]) =>
      (await weir(cluster.configPath, "fs", "test", ...args)).status;
    assert.equal(await test("/files/new"), 0);
    assert.equal(await test("--directory", "/files/new"), 1);
    assert.equal(await test("--file", "--empty", "/files/new"), 0);
    assert.equal(await test("/files/none"), 1);
  });
});
