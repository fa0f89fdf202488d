/** Two clients that write one file: who waits gets the lease from who has it, whatever that one does. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { WeirClient } from "../../src/client/client.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { ControlledProcess, LocalCluster } from "../lib/local-cluster.ts";
import { weirJson } from "./weir-command.ts";

interface Members {
  readonly members: readonly { readonly name: string; readonly isLeader: boolean }[];
}

describe("The write lease between clients", function () {
  this.timeout(120_000);
  let directory: string;
  let cluster: LocalCluster;
  const clients: WeirClient[] = [];
  let holder: ControlledProcess | undefined;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-lease-"));
    cluster = await LocalCluster.start({ directory, masters: 3, workers: 1 });
  });
  afterEach(async () => {
    await holder?.kill();
    holder = undefined;
    await Promise.all(clients.splice(0).map((client) => client.close()));
  });
  after(async () => {
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function connect(name: string): Promise<WeirClient> {
    const client = await WeirClient.connect({ config: cluster.config, logger: silentLogger, name });
    clients.push(client);
    return client;
  }

  /** Another process that has written `text` to the file and not published it. */
  async function hold(path: string, text: string): Promise<() => Promise<string[]>> {
    const logPath = join(directory, "holder.log");
    const program = fileURLToPath(new URL("held-file.ts", import.meta.url));
    holder = new ControlledProcess({
      ...{ name: "holder", command: process.execPath, logPath, environment: {} },
      args: ["--import", "tsx", program, cluster.configPath, path, text],
    });
    holder.start();
    await holder.ready();
    return () =>
      eventually("the holder to end", async () => {
        const line = /^ENDED (.*)$/m.exec(await readFile(logPath, "utf8"));
        return line === null ? undefined : (JSON.parse(line[1]!) as string[]);
      });
  }

  /** Kills whoever leads, and starts it again. */
  async function restartLeader(): Promise<void> {
    const { members } = await weirJson<Members>(cluster.configPath, "cluster", "members");
    const { name } = members.find((member) => member.isLeader)!;
    const leader = cluster.masters.find((master) => master.name === name)!;
    await leader.kill();
    leader.start();
    await leader.ready();
  }

  async function contentOf(client: WeirClient, path: string): Promise<string> {
    const parts: Uint8Array[] = [];
    for await (const part of client.readFile(path)) parts.push(part);
    return Buffer.concat(parts).toString();
  }

  it("goes from one that works to one that waits, and back, and nothing that was written is lost", async () => {
    const [a, b] = [await connect("a"), await connect("b")];
    await a.writeFile("/shared", Buffer.from(""), {});
    const [first, second] = [await a.open("/shared", "r+"), await b.open("/shared", "r+")];
    for (let round = 0; round < 3; round++) {
      await first.write(2 * round, Buffer.from("a"));
      // The first one would keep its lease for as long as it writes.
      await second.write(2 * round + 1, Buffer.from("b"));
    }
    await Promise.all([first.close(), second.close()]);
    assert.equal(await contentOf(a, "/shared"), "ababab");
  });

  it("is taken from a stopped client, and what that one publishes later fails for good", async () => {
    const client = await connect("a");
    await client.writeFile("/held", Buffer.from("before"), {});
    const ended = await hold("/held", "STALE");
    holder!.pause();
    const handle = await client.open("/held", "r+");
    await handle.write(0, Buffer.from("after!"));
    await handle.close();
    holder!.resume();
    holder!.signal("SIGUSR2");
    assert.deepEqual(await ended(), ["LeaseLost", "LeaseLost"]);
    assert.equal(await contentOf(client, "/held"), "after!");
  });

  it("is taken from a stopped client by the next leader, when the one that was asked dies", async () => {
    const client = await connect("a");
    await client.writeFile("/failover", Buffer.from("before"), {});
    const ended = await hold("/failover", "STALE");
    holder!.pause();
    const handle = await client.open("/failover", "r+");
    const writing = handle.write(0, Buffer.from("after!")).then(() => handle.close());
    await restartLeader();
    await writing;
    holder!.resume();
    holder!.signal("SIGUSR2");
    assert.deepEqual(await ended(), ["LeaseLost", "LeaseLost"]);
    assert.equal(await contentOf(client, "/failover"), "after!");
  });
});
