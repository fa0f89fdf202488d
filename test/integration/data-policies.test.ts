/** Files that go from one store to another while they are read: real processes, the leader killed in the middle. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WeirClient } from "../../src/client/client.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { eventually } from "../lib/eventually.ts";
import { LocalCluster } from "../lib/local-cluster.ts";
import { weir, weirJson } from "./weir-command.ts";

const files = 300;
const bytes = 20_000;

interface Run {
  readonly state: string;
  readonly matched: number;
  readonly matchedBytes: number;
  readonly done: number;
  readonly failed: number;
  readonly samples: readonly string[];
}

function contentOf(i: number): Buffer {
  return Buffer.alloc(bytes, `${i} `);
}

describe("Data policies on a union mount", function () {
  this.timeout(180_000);
  let directory: string;
  let cluster: LocalCluster;
  let client: WeirClient;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-policies-"));
    const hot = join(directory, "hot");
    await mkdir(join(hot, "sub"), { recursive: true });
    await mkdir(join(directory, "cold"));
    const old = new Date(Date.now() - 40 * 86_400_000);
    for (let i = 0; i < files; i++) {
      const path = join(hot, i % 2 === 0 ? `f${i}` : `sub/f${i}`);
      await writeFile(path, contentOf(i));
      await utimes(path, old, old);
    }
    await writeFile(join(hot, "young"), "stays");
    cluster = await LocalCluster.start({ directory, masters: 3, workers: 2 });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "test" });
    await client.mountUnion("/u", {
      layers: ["hot", "cold"].map((name) => ({ name, uri: `file://${join(directory, name)}` })),
      writeLayer: "hot",
    });
  });
  after(async () => {
    await client?.close();
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  const read = async (path: string) => {
    const hash = createHash("sha256");
    for await (const part of client.readFile(path)) hash.update(part);
    return hash.digest("hex");
  };
  const hashOf = (i: number) => createHash("sha256").update(contentOf(i)).digest("hex");
  const pathOf = (i: number) => (i % 2 === 0 ? `/u/f${i}` : `/u/sub/f${i}`);
  const inLayer = async (name: string) => {
    const all = await readdir(join(directory, name), { recursive: true, withFileTypes: true });
    return all.filter((entry) => entry.isFile() && !entry.name.startsWith(".")).length;
  };
  const on = (...args: string[]) => weirJson<Run>(cluster.configPath, ...args);

  it("says in a trial what would go, moves it whole though the leader dies, and tells what it came to", async () => {
    const rule = ["--from", "hot", "--to", "cold", "--older-than", "30d"];
    const set = await weir(cluster.configPath, "policy", "set", "cool", "/u", ...rule);
    assert.equal(set.status, 0, set.stderr);
    const trial = await on("policy", "run", "cool", "--dry-run");
    assert.deepEqual(
      [trial.state, trial.matched, trial.matchedBytes, trial.done],
      ["done", files, files * bytes, 0],
    );
    assert.match(trial.samples[0]!, /^\/u\/f/);
    assert.equal(await inLayer("cold"), 0);

    const versions = new Map<string, number>();
    for (let i = 0; i < files; i += 10) {
      versions.set(pathOf(i), (await client.stat(pathOf(i))).version);
    }
    await on("policy", "run", "cool", "--background");
    await eventually("the first files to go", async () => (await inLayer("cold")) > 20, 60_000);
    const options = { deadlineMs: 10_000, idempotent: true };
    const { leader: name } = await client.masters.call(
      masterApi.status,
      { exact: undefined },
      options,
    );
    const leader = cluster.masters.find((each) => each.name === name)!;
    await leader.kill();
    // Whatever is where by now, it is read whole.
    for (let i = 0; i < files; i += 7) assert.equal(await read(pathOf(i)), hashOf(i), pathOf(i));
    await eventually(
      "the end of the run",
      async () => (await client.dataPolicies())[0]!.running === undefined,
      120_000,
    );
    const run = (await client.dataPolicies())[0]!.runs.at(-1)!;
    assert.deepEqual([run.state, run.done, run.failed], ["done", files, 0]);
    assert.deepEqual([await inLayer("hot"), await inLayer("cold")], [1, files]);
    for (let i = 0; i < files; i++) assert.equal(await read(pathOf(i)), hashOf(i), pathOf(i));
    for (const [path, version] of versions) {
      assert.equal(
        (await client.stat(path)).version,
        version,
        "a file that only moved is the same",
      );
    }
    const shown = await weir(cluster.configPath, "policy", "show", "cool");
    assert.match(shown.stdout, /move hot → cold, older than 30 d/);
    assert.match(shown.stdout, /300 done/);
    leader.start();
    await leader.ready(60_000);
  });

  it("refuses what cannot be, in words that name it", async () => {
    const refused = async (wanted: RegExp, ...args: string[]) => {
      const { status, stderr } = await weir(cluster.configPath, "policy", ...args);
      assert.notEqual(status, 0);
      assert.match(stderr, wanted);
    };
    const way = ["--from", "hot", "--to", "cold"];
    await refused(/"warm" is no layer of it/, "set", "x", "/u", "--from", "warm", "--to", "cold");
    await refused(/wanted a mount with layers/, "set", "x", "/", ...way);
    await refused(/wanted a duration such as/, "set", "x", "/u", ...way, "--older-than", "soon");
    await refused(/a "\[" has no "\]"/, "set", "x", "/u", ...way, "--pattern", "[a");
    await refused(/no data policy is named "nobody"/, "run", "nobody");
  });
});
