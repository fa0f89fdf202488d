/** Several stores under one namespace, one of which falls silent: real processes, a real S3 server behind a proxy. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { WeirClient } from "../../src/client/client.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import { eventually } from "../lib/eventually.ts";
import { damageIn } from "../lib/fsck.ts";
import { LocalCluster } from "../lib/local-cluster.ts";
import { type S3Server, s3Server } from "../lib/s3-server.ts";
import { SwitchableProxy } from "../lib/switchable-proxy.ts";
import { weir } from "./weir-command.ts";

const bucket = "weir-mounts";

describe("Mounts of several stores [needs: s3]", function () {
  this.timeout(120_000);
  let directory: string;
  let server: S3Server;
  let proxy: SwitchableProxy;
  let cluster: LocalCluster;
  let client: WeirClient;
  const keys = () => ({ accessKey: server.accessKey, secretKey: server.secretKey });
  const optionsOfBucket = () => ({ endpoint: `http://127.0.0.1:${proxy.port}`, ...keys() });

  before(async function () {
    this.timeout(600_000);
    server = await s3Server();
    const endpoint = new URL(server.endpoint);
    proxy = await SwitchableProxy.start({ host: endpoint.hostname, port: Number(endpoint.port) });
    const direct = new S3Client({
      ...{ endpoint: server.endpoint, region: "us-east-1", forcePathStyle: true },
      credentials: { accessKeyId: server.accessKey, secretAccessKey: server.secretKey },
      requestChecksumCalculation: "WHEN_REQUIRED",
    });
    await direct.send(new CreateBucketCommand({ Bucket: bucket }));
    direct.destroy();
    directory = await mkdtemp(join(tmpdir(), "weir-mounts-"));
    for (const name of ["one", "two"]) await mkdir(join(directory, name));
    cluster = await LocalCluster.start({ directory, masters: 1, workers: 1 });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "test" });
  });
  after(async () => {
    await client?.close();
    await cluster?.close();
    await proxy?.close();
    await rm(directory, { recursive: true, force: true });
  });

  const write = (path: string, text: string) =>
    client.writeFile(path, [Buffer.from(text)], { writeType: "CACHE_THROUGH" });
  const read = async (path: string) => {
    const parts: Uint8Array[] = [];
    for await (const part of client.readFile(path)) parts.push(part);
    return Buffer.concat(parts).toString();
  };
  const list = async (path: string) => {
    const names: string[] = [];
    for await (const { name } of client.list(path)) names.push(name);
    return names;
  };

  it("holds the others up in nothing when one falls silent, says so, and has it back by itself", async () => {
    await client.mount("/one", `file://${join(directory, "one")}`);
    await client.mount("/one/s3", `s3://${bucket}/p`, { options: optionsOfBucket() });
    await write("/one/a", "local");
    await write("/one/s3/b", "object");
    await client.mkdir("/one/s3/unseen");
    await client.persist("/one/s3");

    await client.mount("/view", `s3://${bucket}/p`, {
      ...{ options: optionsOfBucket(), readOnly: true, overlap: true },
    });

    proxy.swallow();
    await assert.rejects(list("/view"), (thrown) => {
      assert(hasCode(thrown, "DeadlineExceeded", "Unavailable"), String(thrown));
      assert.match(thrown.message, /s3:\/\/weir-mounts\/p.* within 10 s/);
      return true;
    });
    const silent = `s3://${bucket}/dead`;
    await assert.rejects(
      client.mount("/dead", silent, { options: optionsOfBucket() }),
      (thrown) => {
        assert(hasCode(thrown, "DeadlineExceeded", "Unavailable"), String(thrown));
        assert.match(thrown.message, /s3:\/\/weir-mounts\/dead/);
        return true;
      },
    );
    // More effects than a worker takes at once wait for the silent one.
    for (let i = 0; i < 40; i++) {
      await client.writeFile(`/one/s3/f${i}`, [Buffer.from("x")], { writeType: "ASYNC_THROUGH" });
    }
    for (let i = 0; i < 5; i++) await write(`/one/c${i}`, "still goes on");
    assert.equal(await readFile(join(directory, "one", "c4"), "utf8"), "still goes on");
    assert.deepEqual(await list("/"), ["one", "view"]);
    assert((await list("/one")).includes("c4"));

    const unhealthy = await eventually(
      "the mount to be shown as unhealthy",
      async () => (await client.mounts()).find(({ path }) => path === "/one/s3")?.unhealthy?.[0],
      90_000,
    );
    assert.match(unhealthy.reason, /s3:\/\/weir-mounts\/p.*did not answer/);
    const others = (await client.mounts()).filter(({ uri }) => !uri.startsWith("s3:"));
    assert(others.every((each) => each.unhealthy?.length === 0));

    proxy.pass();
    await eventually(
      "everything to be in the bucket",
      async () => {
        const mount = (await client.mounts()).find(({ path }) => path === "/one/s3");
        return mount?.pendingOps === 0 && mount.unhealthy?.length === 0;
      },
      100_000,
    );
    assert.equal(await read("/one/s3/b"), "object");
    assert((await list("/view")).includes("f39"));
  });

  it("goes on with changed options, credentials first, and shows none of them", async () => {
    await client.mount("/two", `s3://${bucket}/two`, { options: optionsOfBucket() });
    await write("/two/a", "before");
    const wrong = { accessKey: "nobody", secretKey: "hush-hush-hush" };
    await assert.rejects(client.updateMount("/two", { set: wrong }), (thrown) => {
      assert(hasCode(thrown, "PermissionDenied"), String(thrown));
      assert(!thrown.message.includes("hush"));
      return true;
    });
    await write("/two/b", "as before");
    await client.updateMount("/two", { set: { endpoint: server.endpoint } });
    const shown = (await client.mounts()).find(({ path }) => path === "/two")!;
    assert.deepEqual(shown.options, { endpoint: server.endpoint });
    proxy.swallow();
    await write("/two/c", "past the proxy");
    proxy.pass();
    await client.updateMount("/two", { readOnly: true });
    await assert.rejects(write("/two/d", "no"), (thrown) => hasCode(thrown, "ReadOnly"));
    assert.equal(await read("/two/c"), "past the proxy");
    await client.unmount("/two");
  });

  it("has several stores under one path, with one written and one that may be away", async () => {
    for (const name of ["hot", "old"]) await mkdir(join(directory, name));
    await writeFile(join(directory, "old", "from-before"), "old");
    const layers = [
      { name: "hot", uri: `file://${join(directory, "hot")}` },
      { name: "cold", uri: `s3://${bucket}/cold`, options: optionsOfBucket() },
      { name: "old", uri: `file://${join(directory, "old")}`, readOnly: true },
    ];
    await assert.rejects(
      client.mountUnion("/u", { layers: layers.slice(1), writeLayer: "old" }),
      /"old" is to be written and is read-only/,
    );
    const missing = [...layers, { name: "gone", uri: "file:///no/such" }];
    await assert.rejects(
      client.mountUnion("/u", { layers: missing, writeLayer: "hot" }),
      (thrown) => hasCode(thrown, "NotFound") && thrown.message.includes('(layer "gone")'),
    );
    await client.mountUnion("/u", { layers, writeLayer: "hot" });
    assert.deepEqual(await list("/u"), ["from-before"]);
    await client.mkdir("/u/d");
    await write("/u/d/new", "new");
    assert.equal(await readFile(join(directory, "hot", "d", "new"), "utf8"), "new");
    await client.rename("/u/from-before", "/u/d/moved");
    const settled = () =>
      eventually("everything to be in the stores", async () => {
        const mount = (await client.mounts()).find(({ path }) => path === "/u");
        return mount?.pendingOps === 0;
      });
    await settled();
    assert.deepEqual((await readdir(join(directory, "hot", "d"))).includes("moved"), true);
    assert.equal(await read("/u/d/moved"), "old");
    assert.equal(await readFile(join(directory, "old", "from-before"), "utf8"), "old");

    proxy.swallow();
    await write("/u/d/meanwhile", "written while a layer is away");
    assert.equal(
      await readFile(join(directory, "hot", "d", "meanwhile"), "utf8"),
      "written while a layer is away",
    );
    proxy.pass();

    const names = async () =>
      (await client.mounts()).find(({ path }) => path === "/u")!.layers!.map(({ name }) => name);
    await client.updateMount("/u", { layers: [{ name: "old" }, { name: "hot" }] });
    assert.deepEqual(await names(), ["old", "hot"]);
    assert.equal(await read("/u/d/meanwhile"), "written while a layer is away");
    await settled();
    await client.unmount("/u");
    await client.mountUnion("/u", { layers, writeLayer: "hot" });
    assert.deepEqual(await list("/u"), ["d"], "what was moved away stays away");
    assert.equal(await read("/u/d/moved"), "old");
    await client.unmount("/u");
  });

  it("unmounts what no store has only by force, from the command line too", async () => {
    await mkdir(join(directory, "three"));
    await client.mount("/three", `file://${join(directory, "three")}`);
    await client.writeFile("/three/a", [Buffer.from("cached")], { writeType: "MUST_CACHE" });
    const refused = await weir(cluster.configPath, "fs", "unmount", "/three");
    assert.notEqual(refused.status, 0);
    assert.match(
      refused.stderr,
      /6 bytes of files below "\/three" are in no store.*fs persist \/three/,
    );
    await rm(join(directory, "three"), { recursive: true });
    await client.writeFile("/three/b", [Buffer.from("never there")], {
      writeType: "ASYNC_THROUGH",
    });
    const forced = await weir(cluster.configPath, "fs", "unmount", "/three", "--force");
    assert.equal(forced.status, 0, forced.stderr);
    assert.match(forced.stdout, /^Unmounted \/three, and gave up \d+ changes? of its store/);
    assert(!(await list("/")).includes("three"));
    const { host, rpcPort } = cluster.config.masters[0]!;
    const master = new RpcClient({ host, port: rpcPort, logger: silentLogger });
    assert.deepEqual(await damageIn(master), []);
    master.close();
  });

  it("refuses a store that another mount has, with the place and the way out", async () => {
    const uri = `file://${join(directory, "two")}`;
    await client.mount("/m", uri);
    await assert.rejects(
      client.mount("/n", `${uri}/`),
      /mounted at "\/m": .*wanted both read-only/,
    );
    await client.mount("/n", `${uri}/`, { overlap: true });
    await client.unmount("/n");
    await client.unmount("/m");
  });
});
