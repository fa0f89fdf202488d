/** Credentials of stores reach workers alone: real processes that share a secret, and callers that do not have it. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { parse, stringify } from "yaml";
import { connectMasters, viewCluster } from "../../src/cli/cluster-view.ts";
import { WeirClient } from "../../src/client/client.ts";
import { hasCode } from "../../src/lib/errors.ts";
import type { WorkerId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { eventually } from "../lib/eventually.ts";
import { LocalCluster } from "../lib/local-cluster.ts";
import { type S3Server, s3Server } from "../lib/s3-server.ts";
import { writeSecret } from "../lib/secrets.ts";

const bucket = "weir-worker-secret";
const planted = "planted-token-that-nobody-shall-see";

describe("The secret of masters and workers [needs: s3]", function () {
  this.timeout(120_000);
  let directory: string;
  let server: S3Server;
  let cluster: LocalCluster;
  let client: WeirClient;
  const logLevel = process.env["WEIR_LOG_LEVEL"];

  before(async function () {
    this.timeout(600_000);
    server = await s3Server();
    const direct = new S3Client({
      ...{ endpoint: server.endpoint, region: "us-east-1", forcePathStyle: true },
      credentials: { accessKeyId: server.accessKey, secretAccessKey: server.secretKey },
      requestChecksumCalculation: "WHEN_REQUIRED",
    });
    await direct.send(new CreateBucketCommand({ Bucket: bucket }));
    direct.destroy();
    directory = await mkdtemp(join(tmpdir(), "weir-worker-secret-"));
    process.env["WEIR_LOG_LEVEL"] = "debug";
    cluster = await LocalCluster.start({ directory, masters: 3, workers: 1 });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "test" });
  });
  after(async () => {
    if (logLevel === undefined) delete process.env["WEIR_LOG_LEVEL"];
    else process.env["WEIR_LOG_LEVEL"] = logLevel;
    await client?.close();
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  const keys = () => ({
    ...{ endpoint: server.endpoint, accessKey: server.accessKey },
    secretKey: server.secretKey,
  });
  const write = (path: string, text: string) =>
    client.writeFile(path, [Buffer.from(text)], { writeType: "CACHE_THROUGH" });

  it("keeps credentials and the names of workers from every other caller, at each master", async () => {
    await client.mount("/s3", `s3://${bucket}/p`, { options: keys() });
    await write("/s3/a", "through a worker that proved itself");
    const connection = connectMasters(cluster.config);
    try {
      const within = { deadlineMs: 5000 };
      const worker = 1 as WorkerId;
      const tiers = [{ medium: "MEM" as const, quotaBytes: 2 ** 20 }];
      const identity = {
        uuid: "stranger",
        host: "h",
        address: "127.0.0.1:1",
        tiers,
        blockSizeBytes: undefined,
      };
      const beat = {
        ...{ worker, incarnation: "stranger", sequence: 0, full: true, changed: [], removed: [] },
        ...{ usedBytes: [], freeSlots: 8, waitMs: 100, complete: true, jobs: true },
      };
      for (const master of connection.each) {
        const calls = [
          () => master.call(masterApi.mountTargets, {}, within),
          () => master.call(masterApi.registerWorker, identity, within),
          () => master.call(masterApi.heartbeat, beat, within),
          () => master.call(masterApi.taskResults, { worker, results: [] }, within),
        ];
        for (const call of calls) {
          await assert.rejects(call(), (thrown) => {
            assert(hasCode(thrown, "PermissionDenied"), String(thrown));
            return true;
          });
        }
      }
    } finally {
      connection.close();
    }
    assert.deepEqual((await viewCluster(cluster.config)).workers.length, 1);
  });

  it("is proved anew to each next leader", async () => {
    for (const round of [1, 2]) {
      const { leader } = await eventually("a leader", async () => {
        const view = await viewCluster(cluster.config);
        return view.leader === undefined ? undefined : view;
      });
      const master = cluster.masters.find(({ name }) => name === leader)!;
      await master.kill();
      await write(`/s3/after-${round}`, "through the next leader");
      master.start();
      await master.ready();
    }
  });

  it("ends a worker that starts with another one, or with none, with the cure", async () => {
    const secretFile = join(directory, "other-secret");
    await writeSecret(secretFile);
    const tiersOf = async (name: string) => {
      const tier = join(directory, name);
      await mkdir(tier);
      return JSON.stringify([{ medium: "SSD", directories: [tier], quotaBytes: 2 ** 20 }]);
    };
    const bare = join(directory, "bare.yaml");
    const values = parse(await readFile(cluster.configPath, "utf8")) as Record<string, unknown>;
    delete values["security"];
    await writeFile(bare, stringify(values));
    const strays = [
      { name: "stray-wrong", args: [], own: { WEIR_SECURITY_SECRET_FILE: secretFile } },
      { name: "stray-none", args: ["--config", bare], own: {} },
    ];
    for (const { name, args, own } of strays) {
      const stray = cluster.process(name, "worker", args, {
        WEIR_WORKER_TIERS: await tiersOf(`${name}-tier`),
        WEIR_WORKER_SCRATCH_DIR: join(directory, `${name}-scratch`),
        ...own,
      });
      stray.start();
      assert.notEqual(await stray.gone(), 0);
      const log = await readFile(join(directory, `${name}.log`), "utf8");
      assert.match(log, /^Cannot .*Cure: give the worker the masters' file/m);
    }
  });

  it("shows credentials in no log and no error, whatever fails", async () => {
    const errors: string[] = [];
    const failing = async (call: Promise<unknown>) => {
      await assert.rejects(call, (thrown) => {
        errors.push(String(thrown), JSON.stringify(thrown));
        return true;
      });
    };
    const wrong = { ...keys(), secretKey: planted, sessionToken: planted };
    await failing(client.mount("/wrong", `s3://${bucket}/q`, { options: wrong }));
    await failing(
      client.mount("/odd", `s3://${bucket}/q`, { options: { ...wrong, odd: planted } }),
    );
    await failing(client.updateMount("/s3", { set: { secretKey: planted } }));
    const away = { ...wrong, endpoint: "http://127.0.0.1:1" };
    await failing(client.mount("/away", `s3://${bucket}/q`, { options: away }));
    await write("/s3/last", "still with the old ones");
    const secret = (await readFile(join(directory, "secret"), "utf8")).trim();
    const logs = (await readdir(directory)).filter((name) => name.endsWith(".log"));
    assert(logs.length >= 5);
    const texts = await Promise.all(logs.map((name) => readFile(join(directory, name), "utf8")));
    for (const text of [...texts, ...errors]) {
      for (const hidden of [planted, server.secretKey, secret]) {
        assert(!text.includes(hidden), "a credential is shown");
      }
    }
    assert(
      texts.some((text) => text.includes('"level":20')),
      "the logs tell everything",
    );
  });
});
