import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, unlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { WeirClient } from "../../src/client/client.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { LocalCluster } from "../lib/local-cluster.ts";
import { type S3Server, s3Server } from "../lib/s3-server.ts";

describe("What changes in a store behind the cluster", function () {
  this.timeout(120_000);
  let directory: string;
  let store: string;
  let cluster: LocalCluster;
  let client: WeirClient;
  let mounts = 0;
  let at: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-sync-"));
    cluster = await LocalCluster.start({ directory, masters: 1, workers: 2 });
    client = await connect();
  });
  after(async () => {
    await (client as WeirClient | undefined)?.close();
    await (cluster as LocalCluster | undefined)?.close();
    await rm(directory, { recursive: true, force: true });
  });
  beforeEach(async () => {
    at = `/m${String(mounts)}`;
    store = join(directory, `store-${String(mounts++)}`);
    await mkdir(store);
  });

  const connect = () =>
    WeirClient.connect({ config: cluster.config, logger: silentLogger, name: "test" });
  const mount = (options: Record<string, string> = {}) =>
    client.mount(at, pathToFileURL(store).href, { options });
  const text = async (path: string, by = client) => {
    const pieces: Uint8Array[] = [];
    for await (const piece of by.readFile(path)) pieces.push(piece);
    return Buffer.concat(pieces).toString();
  };
  const names = async (path: string) => {
    const all: string[] = [];
    for await (const { name } of client.list(path)) all.push(name);
    return all;
  };

  it("is shown after a sync: names that came, changed and went, and what is nowhere else stays", async () => {
    await mkdir(join(store, "d/e"), { recursive: true });
    for (const name of ["a", "b", "d/c", "d/e/f"]) await writeFile(join(store, name), name);
    await mount();
    const first = await client.sync(at, { recursive: true });
    assert.deepEqual([first.directories, first.names, first.failed], [3, 6, 0]);
    assert.equal(await text(`${at}/d/c`), "d/c");
    await client.writeFile(`${at}/mine`, Buffer.from("unsaved"), { writeType: "MUST_CACHE" });
    await client.writeFile(`${at}/d/e/mine`, Buffer.from("unsaved"), { writeType: "MUST_CACHE" });

    await writeFile(join(store, "new"), "new");
    await writeFile(join(store, "a"), "A");
    await unlink(join(store, "b"));
    await writeFile(join(store, "d/c"), "x/y");
    await rm(join(store, "d/e"), { recursive: true });
    await symlink("a", join(store, "link"));
    assert.deepEqual(await names(at), ["a", "b", "d", "mine"], "nobody looked yet");
    const done = await client.sync(at, { recursive: true });
    assert.deepEqual(
      [done.added, done.changed, done.removed, done.failed],
      [2, 2, 2, 0],
      JSON.stringify(done),
    );
    assert.deepEqual(await names(at), ["a", "d", "link", "mine", "new"]);
    assert.deepEqual(await names(`${at}/d/e`), ["mine"], "what is nowhere else keeps its place");
    assert.equal(await text(`${at}/a`), "A");
    assert.equal(await text(`${at}/d/c`), "x/y", "served from blocks of the object before");
    assert.equal(await text(`${at}/mine`), "unsaved");
    await assert.rejects(client.stat(`${at}/b`), (error) => hasCode(error, "NotFound"));
  });

  it("is shown by itself where an interval says so, by the nearest one, and at a path alone", async () => {
    await mkdir(join(store, "slow"));
    await mkdir(join(store, "fast"));
    await mount({ syncIntervalMs: "0" });
    await client.setSyncInterval(`${at}/slow`, -1);
    assert.deepEqual(await client.syncInterval(`${at}/slow`).then((of) => of.setOn), `${at}/slow`);
    assert.deepEqual(await client.syncInterval(`${at}/fast`).then((of) => of.intervalMs), 0);
    assert.deepEqual([await names(`${at}/slow`), await names(`${at}/fast`)], [[], []]);
    await writeFile(join(store, "slow/x"), "1");
    await writeFile(join(store, "fast/x"), "1");
    assert.deepEqual([await names(`${at}/slow`), await names(`${at}/fast`)], [[], ["x"]]);
    await assert.rejects(client.stat(`${at}/slow/x`), (error) => hasCode(error, "NotFound"));
    await client.sync(`${at}/slow/x`);
    assert.equal(await text(`${at}/slow/x`), "1");
    await unlink(join(store, "fast/x"));
    await assert.rejects(client.stat(`${at}/fast/x`), (error) => hasCode(error, "NotFound"));
    await client.setSyncInterval(`${at}/slow`, undefined);
    await writeFile(join(store, "slow/y"), "1");
    assert.deepEqual(await names(`${at}/slow`), ["x", "y"]);
  });

  it("A14: never comes from old blocks: a read that meets a changed object loads it and goes on", async () => {
    const file = join(store, "f");
    const at1 = new Date(1_700_000_000_000);
    await writeFile(file, "first version");
    await utimes(file, at1, at1);
    await mount();
    const read = async () => {
      // One that has no block of it open.
      const fresh = await connect();
      try {
        return await text(`${at}/f`, fresh);
      } finally {
        await fresh.close();
      }
    };
    // A worker tells of its copies with its next heartbeat.
    const freed = () =>
      eventually("a copy to be dropped", async () => (await client.free(`${at}/f`)) > 0);
    assert.equal(await read(), "first version");
    // The same length, the same second; nobody is told, and the blocks are cached.
    await unlink(file);
    await writeFile(file, "other version");
    await utimes(file, at1, at1);
    await freed();
    assert.equal(await read(), "other version");
    // Written in place, with its times set back: no read can tell, a sync can.
    await writeFile(file, "third version");
    await utimes(file, at1, at1);
    assert.equal(await read(), "other version");
    assert.equal((await client.sync(`${at}/f`)).changed, 1);
    assert.equal(await read(), "third version");
    await unlink(file);
    await eventually("a read to find nothing", async () => {
      await client.free(`${at}/f`).catch(() => undefined);
      return read().then(
        () => false,
        (error: unknown) => hasCode(error, "NotFound"),
      );
    });
    await assert.rejects(client.stat(`${at}/f`), (error) => hasCode(error, "NotFound"));
  });

  it("takes the place of what it is no more: a file of a directory and the other way round", async () => {
    await mkdir(join(store, "d"));
    await writeFile(join(store, "d/x"), "x");
    await writeFile(join(store, "f"), "f");
    await mount();
    await client.sync(at, { recursive: true });
    await rm(join(store, "d"), { recursive: true });
    await unlink(join(store, "f"));
    await writeFile(join(store, "d"), "a file now");
    await mkdir(join(store, "f"));
    await writeFile(join(store, "f/y"), "y");
    await client.sync(at, { recursive: true });
    assert.equal(await text(`${at}/d`), "a file now");
    assert.deepEqual(await names(`${at}/f`), ["y"]);
  });

  it("keeps nobody from what is known while the store is away, and takes nothing away for that", async () => {
    await writeFile(join(store, "a"), "a");
    await mkdir(join(store, "d"));
    await writeFile(join(store, "d/b"), "b");
    await mount({ syncIntervalMs: "0" });
    await client.sync(at, { recursive: true });
    await rm(store, { recursive: true });
    assert.deepEqual(await names(at), ["a", "d"]);
    assert.deepEqual(await names(`${at}/d`), ["b"]);
    const failed = await client.sync(at, { recursive: true }).catch((error: unknown) => error);
    assert(hasCode(failed, "Unavailable", "NotFound") || (failed as { failed: number }).failed > 0);
  });
});

describe("A bucket that others write to [needs: s3]", function () {
  this.timeout(600_000);
  const bucket = "weir-sync";
  let server: S3Server;
  let direct: S3Client;
  let directory: string;
  let cluster: LocalCluster;
  let client: WeirClient;

  before(async () => {
    server = await s3Server();
    const { endpoint, accessKey: accessKeyId, secretKey: secretAccessKey } = server;
    direct = new S3Client({
      endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId, secretAccessKey },
      requestChecksumCalculation: "WHEN_REQUIRED",
    });
    await direct.send(new CreateBucketCommand({ Bucket: bucket }));
    directory = await mkdtemp(join(tmpdir(), "weir-sync-s3-"));
    cluster = await LocalCluster.start({ directory, masters: 1, workers: 2 });
    client = await WeirClient.connect({
      config: cluster.config,
      logger: silentLogger,
      name: "test",
    });
    const { accessKey, secretKey } = server;
    await client.mount("/b", `s3://${bucket}/top`, { options: { endpoint, accessKey, secretKey } });
  });
  after(async () => {
    direct.destroy();
    await client.close();
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  const put = (key: string, body: string) =>
    direct.send(new PutObjectCommand({ Bucket: bucket, Key: `top/${key}`, Body: body }));
  const take = (key: string) =>
    direct.send(new DeleteObjectCommand({ Bucket: bucket, Key: `top/${key}` }));
  const text = async (path: string) => {
    const pieces: Uint8Array[] = [];
    for await (const piece of client.readFile(path)) pieces.push(piece);
    return Buffer.concat(pieces).toString();
  };

  /** Every file by its path below the mount, with its content. */
  async function filesBelow(): Promise<Map<string, string>> {
    const files = new Map<string, string>();
    for await (const { path, status } of client.walk("/b")) {
      if (status.kind === "file") files.set(path.slice("/b/".length), await text(path));
    }
    return files;
  }

  it("A14: is shown as it is after a sync, keys that are no paths included", async () => {
    const keys = ["a", "a/b", "a//c", "/d", "e/./f", "g/full/", "h"];
    for (const key of keys) await put(key, key);
    await client.sync("/b", { recursive: true });
    const first = await filesBelow();
    assert.deepEqual([...first.values()].sort(), [...keys].sort());
    assert.equal(first.get("%S3%a%"), "a");

    await put("h", "H");
    await put("a//c", "A//C");
    await take("a");
    await take("/d");
    await put("new//key", "new//key");
    const done = await client.sync("/b", { recursive: true });
    assert.deepEqual([done.failed, done.changed], [0, 2]);
    const wanted = ["A//C", "H", "a/b", "e/./f", "g/full/", "new//key"];
    assert.deepEqual([...(await filesBelow()).values()].sort(), wanted.sort());
    // Once more: nothing is found to be gone that only comes elsewhere in a listing.
    const again = await client.sync("/b", { recursive: true });
    assert.deepEqual([again.added, again.changed, again.removed, again.kept], [0, 0, 0, 0]);
  });

  it("loses nothing to what is done here: each path is its key", async () => {
    await put("x//y", "odd");
    await put("x/z", "even");
    await client.sync("/b", { recursive: true });
    await client.writeFile("/b/x/%S3%/y", Buffer.from("written"), { writeType: "CACHE_THROUGH" });
    await client.remove("/b/x/z");
    await eventually("the removal below", async () => (await client.pendingUfsOps()) === 0);
    const { Contents = [] } = await direct.send(
      new ListObjectsV2Command({ Bucket: bucket, Prefix: "top/x/" }),
    );
    assert.deepEqual(
      Contents.map(({ Key, Size }) => [Key, Size]),
      [["top/x//y", "written".length]],
    );
  });
});
