import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { workerApi } from "../../src/rpc/worker-api.ts";
import type { BlockStore } from "../../src/worker/block-store.ts";
import type { ContainerWriters } from "../../src/worker/container-sink.ts";
import { serveControl } from "../../src/worker/control-server.ts";
import { BlockLeases } from "../../src/worker/leases.ts";
import { containerOf, openStore, temporaryDirectory, twoTiers, until, write } from "./tools.ts";

const MiB = 1024 * 1024;
const options = { deadlineMs: 5000 };

describe("short circuit", () => {
  let root: { path: string; remove(): Promise<void> };
  let store: BlockStore;
  let writers: ContainerWriters;
  let leases: BlockLeases;
  let server: RpcServer;
  const clients: RpcClient[] = [];
  const bytes = randomBytes(MiB);

  const connect = (): RpcClient => {
    const made = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
    clients.push(made);
    return made;
  };
  const readNonces = async (client: RpcClient): Promise<string[]> => {
    const { directories } = await client.call(workerApi.tiers, {}, options);
    return Promise.all(directories.map((each) => readFile(join(each, "nonce"), "utf8")));
  };
  const lease = async (client: RpcClient, inode: number) =>
    (await client.call(workerApi.leaseContainer, { container: containerOf(inode) }, options))
      .address;

  const start = async (leaseMs: number) => {
    leases = new BlockLeases({ store, clock: systemClock, leaseMs });
    serveControl(server, {
      store,
      leases,
      uuid: "u",
      worker: () => undefined,
      counters: () => [{ name: "x", value: 3 }],
    });
  };
  beforeEach(async () => {
    root = await temporaryDirectory();
    ({ store, writers } = await openStore(twoTiers(root.path, [2 * MiB, 1])));
    server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    await write(writers, containerOf(1), bytes);
    await store.release(containerOf(1));
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await server.close();
    leases.close();
    await store.close();
    await root.remove();
  });

  it("A21: is opened by the nonce alone: host names and addresses play no role", async () => {
    await start(30_000);
    const stranger = connect();
    // On the same host by name and address, but it did not read the nonces.
    assert.equal(await lease(stranger, 1), undefined);
    const wrong = await stranger.call(
      workerApi.proveLocal,
      { nonces: ["", "0".repeat(64)] },
      options,
    );
    assert.deepEqual(wrong.local, [false, false]);
    assert.equal(await lease(stranger, 1), undefined);

    const sharer = connect();
    const nonces = await readNonces(sharer);
    const half = await sharer.call(workerApi.proveLocal, { nonces: ["", nonces[1]!] }, options);
    assert.deepEqual(half.local, [false, true]);
    assert.equal(await lease(sharer, 1), undefined, "it lies in the other directory");
    const whole = await sharer.call(workerApi.proveLocal, { nonces }, options);
    assert.deepEqual(whole.local, [true, true]);
    const address = await lease(sharer, 1);
    assert.ok(address !== undefined);
    assert.deepEqual([address.offset, address.length, address.leaseMs], [0, MiB, 30_000]);
    assert.ok((await readFile(address.path)).equals(bytes));
    assert.equal(await lease(sharer, 7), undefined, "not here");
    // The proof is the connection's: the stranger is none the wiser.
    assert.equal(await lease(stranger, 1), undefined);
  });

  it("keeps a leased container from eviction until it is released", async () => {
    await start(30_000);
    const client = connect();
    await client.call(workerApi.proveLocal, { nonces: await readNonces(client) }, options);
    assert.ok(await lease(client, 1));
    await write(writers, containerOf(2), bytes);
    await store.release(containerOf(2));
    await write(writers, containerOf(3), bytes);
    assert.ok(store.report(containerOf(1)));
    assert.equal(store.report(containerOf(2)), undefined);
    const containers = [containerOf(1)];
    await client.call(workerApi.releaseContainers, { containers }, options);
    assert.equal(store.peek(containerOf(1))!.leases, 0);
  });

  it("ends the leases of a client that disconnects, and of one that does not renew", async () => {
    await start(300);
    const [gone, silent, lively] = [connect(), connect(), connect()];
    for (const client of [gone, silent, lively]) {
      await client.call(workerApi.proveLocal, { nonces: await readNonces(client) }, options);
      assert.ok(await lease(client, 1));
    }
    const container = store.peek(containerOf(1))!;
    assert.equal(container.leases, 3);
    gone.close();
    const renewing = setInterval(() => {
      lively.call(workerApi.renewLeases, {}, options).catch(() => undefined);
    }, 50);
    await until(() => container.leases === 1, "only the lively one is left");
    clearInterval(renewing);
    await until(() => container.leases === 0, "the last one does not renew any more");
  });

  it("shows what it holds and did", async () => {
    await start(300);
    const status = await connect().call(workerApi.status, {}, options);
    assert.deepEqual(
      status.tiers.map(({ usedBytes }) => usedBytes),
      [MiB, 0],
    );
    assert.equal(status.containers, 1);
    assert.equal(status.keptBytes, 0);
    assert.deepEqual(status.counters, [{ name: "x", value: 3 }]);
  });
});
