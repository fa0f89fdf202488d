import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ErrorCode, WeirError } from "../../src/lib/errors.ts";
import { validateUri } from "../../src/ufs/open.ts";

describe("the address of a store", () => {
  const refused = async (
    uri: string,
    code: ErrorCode,
    message: RegExp,
    options: Record<string, string> = {},
  ) =>
    assert.rejects(validateUri(uri, options), (thrown) => {
      assert(thrown instanceof WeirError);
      assert.equal(thrown.code, code, thrown.message);
      assert.match(thrown.message, message);
      return true;
    });

  it("is refused with what would be right", async () => {
    await refused("/data", "InvalidArgument", /no address of a store, wanted file:\/\/\/DIRECTORY/);
    await refused("ftp://host/x", "InvalidArgument", /scheme "ftp", wanted file or s3/);
    await refused("file://data/x", "InvalidArgument", /relative or names the host "data"/);
    await refused("file://", "InvalidArgument", /names no directory/);
    await refused("file:///a%zz", "InvalidArgument", /wanted %25/);
    await refused("file:///no/such/directory", "NotFound", /there is nothing at "\/no\/such/);
    await refused("s3:///prefix", "InvalidArgument", /no name of a bucket/);
    await refused("s3://bucket/../x", "InvalidArgument", /component "\." or "\.\."/);
    await refused("file:///tmp", "InvalidArgument", /"region" is no option of file/, {
      region: "x",
    });
    await refused("s3://bucket", "InvalidArgument", /"colour" is no option of s3/, { colour: "x" });
  });

  it("never shows credentials that were put into it", async () => {
    await assert.rejects(validateUri("s3://key:verysecret@bucket/x", {}), (thrown) => {
      assert(thrown instanceof WeirError);
      assert.doesNotMatch(thrown.message, /verysecret/);
      return thrown.code === "InvalidArgument";
    });
  });

  it("is refused when a file is at the place of the directory", async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-ufs-"));
    await writeFile(join(directory, "file"), "");
    await refused(`file://${directory}/file`, "NotDirectory", /no directory/);
    await validateUri(`file://${directory}`, {});
    await rm(directory, { recursive: true });
  });

  it("opens a bucket without a word on standard error, and leaves the environment as it was", () => {
    const script = `
      import { openUfs } from ${JSON.stringify(new URL("../../src/ufs/open.ts", import.meta.url))};
      const before = JSON.stringify(process.env);
      const store = await openUfs({ uri: "s3://bucket", readOnly: true, options: {} });
      await store.close();
      if (JSON.stringify(process.env) !== before) process.exitCode = 1;`;
    const args = ["--import=tsx", "--input-type=module", "--eval", script];
    const ended = spawnSync(process.execPath, args, { encoding: "utf8" });
    assert.deepEqual([ended.status, ended.stderr], [0, ""]);
  });

  it("is refused as Unavailable when nobody listens at the endpoint", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    await refused("s3://bucket/x", "Unavailable", /Cannot .*s3:\/\/bucket\/x/, {
      endpoint: `http://127.0.0.1:${port}`,
      accessKey: "a",
      secretKey: "b",
    });
  });
});
