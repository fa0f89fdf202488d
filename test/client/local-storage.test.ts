import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalStorage } from "../../src/client/local-storage.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { InodeId, WorkerId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import type { WorkerInfo } from "../../src/rpc/namespace.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { workerApi } from "../../src/rpc/worker-api.ts";
import { eventually } from "../lib/eventually.ts";

const worker = 1 as WorkerId;
const container = { inode: 7 as InodeId, writeId: 9 as WriteId };

describe("short circuit", () => {
  let directory: string;
  let server: RpcServer;
  let client: RpcClient;
  let storage: LocalStorage;
  /** What the worker wrote into the nonce file of its tier, whatever this process finds there. */
  let nonce: string;
  let length: number;
  const calls: string[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-tier-"));
    nonce = "the worker's own";
    length = 10;
    calls.length = 0;
    await writeFile(join(directory, "nonce"), nonce);
    await writeFile(join(directory, "7.9"), "--0123456789abc");
    server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    server.handle(workerApi.tiers, async () => ({ directories: [directory] }));
    server.handle(workerApi.proveLocal, async ({ nonces }) => ({
      local: nonces.map((each) => each === nonce),
    }));
    server.handle(workerApi.leaseContainer, async () => {
      calls.push("lease");
      return { address: { path: join(directory, "7.9"), offset: 2, length, leaseMs: 30_000 } };
    });
    server.handle(workerApi.releaseContainers, async () => {
      calls.push("release");
      return {};
    });
    client = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
    const info = { id: worker, address: client.address } as WorkerInfo;
    storage = new LocalStorage({
      workers: { get: () => info, refresh: async () => undefined, connection: () => client },
      clock: systemClock,
      logger: silentLogger,
      enabled: true,
    });
  });

  afterEach(async () => {
    await storage.close();
    client.close();
    await server.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("A21: reads the tier's file where the nonce proves that the storage is shared", async () => {
    assert.equal(await storage.shares(worker), true);
    const local = await storage.open(container, [worker], 10);
    const target = Buffer.alloc(4);
    assert.equal(await local!.read(target, 3), true);
    assert.equal(target.toString(), "3456");
  });

  it("A21: does not where it finds another nonce, or none, though the host is the same", async () => {
    nonce = "another storage, mounted at the same path";
    assert.equal(await storage.shares(worker), false);
    assert.equal(await storage.open(container, [worker], 10), undefined);
    await rm(join(directory, "nonce"));
    const other = new LocalStorage({
      workers: {
        get: () => ({ id: worker, address: client.address }) as WorkerInfo,
        refresh: async () => undefined,
        connection: () => client,
      },
      clock: systemClock,
      logger: silentLogger,
      enabled: true,
    });
    assert.equal(await other.shares(worker), false);
    await other.close();
    assert.deepEqual(calls, []);
  });

  it("leases a container once, however many readers ask at once, and keeps reading after its eviction", async () => {
    const opened = await Promise.all(
      Array.from({ length: 8 }, () => storage.open(container, [worker], 10)),
    );
    assert(opened.every((each) => each === opened[0]));
    assert.deepEqual(calls, ["lease"]);
    await rm(join(directory, "7.9"));
    const target = Buffer.alloc(10);
    assert.equal(await opened[0]!.read(target, 0), true);
    assert.equal(target.toString(), "0123456789");
  });

  it("gives descriptors up where the worker and its leases are gone", async () => {
    await storage.open(container, [worker], 10);
    await server.close();
    await eventually("the container to be given up", () => storage.opened(container) === undefined);
  });

  it("does not serve bytes that are not there yet", async () => {
    assert.equal(await storage.open(container, [worker], 11), undefined);
  });
});
