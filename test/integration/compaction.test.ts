/** Files of very many small extents, whose bytes workers put together, while they are read, and whatever goes away meanwhile. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WeirClient } from "../../src/client/client.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { LocalCluster } from "../lib/local-cluster.ts";
import { weirJson } from "./weir-command.ts";

const pageBytes = 4096;
const writes = 5000;
/** Of three pages one is written, in an order that joins nothing. */
const stride = 3 * pageBytes;

describe("Compaction", function () {
  this.timeout(180_000);
  let directory: string;
  let cluster: LocalCluster;
  let client: WeirClient;
  let other: WeirClient;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-compaction-"));
    const master = { retiredGraceMs: 1000 };
    cluster = await LocalCluster.start({
      directory,
      masters: 3,
      workers: 2,
      overrides: { master },
    });
    const { config } = cluster;
    client = await WeirClient.connect({ config, logger: silentLogger, name: "writer" });
    other = await WeirClient.connect({ config, logger: silentLogger, name: "reader" });
  });
  after(async () => {
    await Promise.all([client.close(), other.close()]);
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** The n-th page of a file, no two of which are equal. */
  function page(n: number): Buffer {
    const bytes = Buffer.alloc(pageBytes, n % 251);
    bytes.writeUInt32BE(n);
    return bytes;
  }

  /** A file of scattered pages that no store has, and the bytes that it has. */
  async function scattered(path: string): Promise<Buffer> {
    const wanted = Buffer.alloc(writes * stride);
    await client.writeFile(path, Buffer.alloc(0), { writeType: "MUST_CACHE" });
    const handle = await client.open(path, "r+");
    for (let i = 0; i < writes; i++) {
      const n = (i * 1777) % writes;
      await handle.write(n * stride, page(n));
      page(n).copy(wanted, n * stride);
    }
    await handle.close();
    return wanted.subarray(0, (writes - 1) * stride + pageBytes);
  }

  async function extentsOf(path: string): Promise<number> {
    const { segments } = await client.locations(path);
    return segments.filter(({ block }) => block !== undefined).length;
  }

  async function contentOf(path: string): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for await (const part of client.readFile(path)) parts.push(part);
    return Buffer.concat(parts);
  }

  function isCompact(path: string): Promise<true> {
    return eventually(
      `the extents of ${path} to be few`,
      async () => ((await extentsOf(path)) <= writes / 20 ? true : undefined),
      90_000,
    );
  }

  it("makes extents fewer by far, changes no byte and no version, and who reads reads on", async () => {
    const wanted = await scattered("/scattered");
    const { version } = await client.stat("/scattered");
    const handle = await other.open("/scattered");
    assert.equal((await handle.read(0, pageBytes)).length, pageBytes);
    await isCompact("/scattered");
    assert.equal((await client.stat("/scattered")).version, version);
    assert.ok(wanted.equals(await contentOf("/scattered")), "another content");
    // What it knew of is reclaimed by and by.
    for (let at = 0; at < wanted.length; at += stride * 97) {
      const found = await handle.read(at, pageBytes);
      assert.ok(wanted.subarray(at, at + pageBytes).equals(found), `byte ${String(at)} is another`);
    }
    await handle.close();
  });

  it("goes on when a worker, and then the leader, is killed in the middle of it", async () => {
    const wanted = await scattered("/killed");
    const most = await extentsOf("/killed");
    const isBelow = (count: number) =>
      eventually("some ranges to be done", async () =>
        (await extentsOf("/killed")) < count ? true : undefined,
      );
    await isBelow(most);
    const [worker] = cluster.workers;
    await worker!.kill();
    worker!.start();
    await worker!.ready();
    await killLeader();
    await isCompact("/killed");
    assert.ok(wanted.equals(await contentOf("/killed")), "another content");
  });

  it("compacts what is not written of a file that is written all the time, and loses nothing", async () => {
    const wanted = await scattered("/busy");
    const handle = await client.open("/busy", "r+");
    const hot = writes / 20;
    let n = 0;
    await eventually(
      "the extents to be few while it is written",
      async () => {
        for (let i = 0; i < 5; i++) {
          n += 7;
          const at = (n % hot) * stride;
          await handle.write(at, page(n));
          page(n).copy(wanted, at);
        }
        await handle.sync();
        return (await extentsOf("/busy")) <= 3 * hot ? true : undefined;
      },
      90_000,
    );
    await handle.close();
    assert.ok(wanted.equals(await contentOf("/busy")), "another content");
  });

  async function killLeader(): Promise<void> {
    const { members } = await weirJson<{
      members: readonly { readonly name: string; readonly isLeader: boolean }[];
    }>(cluster.configPath, "cluster", "members");
    const { name } = members.find(({ isLeader }) => isLeader)!;
    const leader = cluster.masters.find((master) => master.name === name)!;
    await leader.kill();
    leader.start();
    await leader.ready();
  }

  it("one write over very many extents is done in parts, and whole in the end", async () => {
    const wanted = await scattered("/covered");
    const bytes = Buffer.alloc(wanted.length, 7);
    const handle = await client.open("/covered", "r+");
    await handle.write(0, bytes);
    await handle.close();
    assert.ok(bytes.equals(await contentOf("/covered")));
    assert.ok((await extentsOf("/covered")) < 10);
  });
});
