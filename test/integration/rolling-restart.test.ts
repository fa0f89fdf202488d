import assert from "node:assert/strict";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type InodeId, rootInodeId } from "../../src/lib/ids.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import { eventually } from "../lib/eventually.ts";
import { ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";

const clients = 6;
/** Requests of each client that are under way at once: writes and linearizable reads in turn. */
const lanes = 3;
/** The deadline of a request, retries included, as clients have it by default. */
const deadlineMs = 30_000;

describe("Masters that are restarted one after the other", function () {
  this.timeout(180_000);
  let cluster: MasterCluster;
  let worker: ListingWorker;
  let load: Load;

  beforeEach(async () => {
    cluster = await MasterCluster.start(await mkdtemp(join(tmpdir(), "weir-rolling-")));
    worker = await ListingWorker.start(cluster);
    load = await Load.start(cluster);
  });

  afterEach(async () => {
    await load.stop();
    await worker.stop();
    await cluster.close();
  });

  it("by SIGTERM, fail no request and lose no acknowledged write", async () => {
    for (let round = 0; round < 2; round++) {
      for (const place of [0, 1, 2]) {
        await load.more(150);
        const status = await cluster.masters[place]!.stop();
        assert.equal(status, 0, "it ends by itself");
        await load.more(150);
        cluster.masters[place]!.start();
        await cluster.masters[place]!.ready();
      }
    }
    await assertNothingLost();
  });

  it("by kill -9, the leader each time, fail no request and lose no acknowledged write", async () => {
    const observer = cluster.connect();
    try {
      for (let round = 0; round < 4; round++) {
        await load.more(150);
        const place = await cluster.leader(observer);
        await cluster.masters[place]!.kill();
        await load.more(150);
        cluster.masters[place]!.start();
        await cluster.masters[place]!.ready();
      }
    } finally {
      observer.close();
    }
    await assertNothingLost();
  });

  async function assertNothingLost(): Promise<void> {
    await load.stop();
    assert.deepEqual(load.failures, []);
    const connection = cluster.connect();
    try {
      await cluster.masters[await cluster.leader(connection)]!.stop();
      const session = await TestSession.open(connection);
      const found = new Map(
        (await session.list(load.directory)).map(({ name, status }) => [name, status.inode]),
      );
      for (const [name, inode] of load.acknowledged) assert.equal(found.get(name), inode, name);
      assert.equal(found.size, load.acknowledged.size, "nothing was created twice or unasked");
    } finally {
      connection.close();
    }
  }
});

/** Clients that write and read without a pause; every failure is kept. */
class Load {
  readonly directory: InodeId;
  readonly acknowledged = new Map<string, InodeId>();
  readonly failures: unknown[] = [];
  readonly #connections: MasterConnection[];
  #lanes: Promise<void>[] = [];
  #isStopping = false;
  #next = 0;

  private constructor(directory: InodeId, connections: MasterConnection[]) {
    this.directory = directory;
    this.#connections = connections;
  }

  static async start(cluster: MasterCluster): Promise<Load> {
    const connections = Array.from({ length: clients }, () => cluster.connect());
    const sessions = await Promise.all(connections.map((each) => TestSession.open(each)));
    const { status } = await sessions[0]!.create(rootInodeId, "rolling", "directory");
    const load = new Load(status!.inode, connections);
    load.#lanes = sessions.flatMap((session) =>
      Array.from({ length: lanes }, () => load.#work(session)),
    );
    return load;
  }

  /** Waits for `count` more acknowledged writes, or a failure. */
  async more(count: number): Promise<void> {
    const wanted = this.acknowledged.size + count;
    await eventually(
      "writes to be acknowledged",
      () => this.acknowledged.size >= wanted || this.failures.length > 0,
      60_000,
    );
    assert.deepEqual(this.failures, []);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#lanes);
    for (const connection of this.#connections) connection.close();
  }

  async #work(session: TestSession): Promise<void> {
    while (!this.#isStopping) {
      const name = `f${String(this.#next++)}`;
      try {
        const { status } = await session.create(this.directory, name);
        this.acknowledged.set(name, status!.inode);
        const found = await session.connection.call(
          masterApi.lookup,
          { parent: this.directory, name, consistency: "linearizable" },
          { deadlineMs, idempotent: true },
        );
        assert.equal(found.status.inode, status!.inode, `${name} is read as it was written`);
      } catch (error) {
        this.failures.push(error);
        return;
      }
    }
  }
}
