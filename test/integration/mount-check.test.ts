/** Mounting stores that are there and stores that are not, on real processes. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WeirClient } from "../../src/client/client.ts";
import { type ErrorCode, WeirError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { freePorts } from "../lib/free-ports.ts";
import { LocalCluster } from "../lib/local-cluster.ts";

describe("Mounting a store", function () {
  this.timeout(120_000);
  let directory: string;
  let cluster: LocalCluster;
  let client: WeirClient;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-mount-"));
    cluster = await LocalCluster.start({
      directory,
      masters: 1,
      workers: 1,
      startTimeoutMs: 60_000,
    });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "test" });
  });
  after(async () => {
    await client?.close();
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("is refused with the store's own error when it could not be read, and leaves nothing", async () => {
    const [port] = await freePorts(1);
    const keys = { accessKey: "a", secretKey: "b" };
    const refused = async (
      uri: string,
      code: ErrorCode,
      message: RegExp,
      options: Record<string, string> = {},
    ) =>
      assert.rejects(client.mount("/m", uri, { options }), (thrown) => {
        assert(thrown instanceof WeirError);
        assert.equal(thrown.code, code, thrown.message);
        assert.match(thrown.message, message);
        return true;
      });
    await refused("ftp://x", "InvalidArgument", /^Cannot mount "ftp:.* wanted file:/);
    await refused("file:///no/such", "NotFound", /there is nothing at "\/no\/such"/);
    await refused("s3://bucket/x", "Unavailable", /s3:\/\/bucket\/x.*ECONNREFUSED/, {
      endpoint: `http://127.0.0.1:${port}`,
      ...keys,
    });
    await refused("s3://bucket", "InvalidArgument", /"colour" is no option/, { colour: "red" });
    await assert.rejects(client.stat("/m"), /no such|not/i);
    await mkdir(join(directory, "store"));
    await client.mount("/m", `file://${join(directory, "store")}`);
    assert.equal((await client.stat("/m")).mountPoint, true);
  });
});
