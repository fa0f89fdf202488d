/**
 * `metadata`: operations per second on three masters (three processes on this machine, journal fsynced by a majority),
 * beside three etcd members on the same machine with as many outstanding requests.
 *
 * Every request is an RPC of its own under a session; `create-batched` puts 64 creates into one request.
 */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../src/lib/clock.ts";
import { WeirError } from "../src/lib/errors.ts";
import { type InodeId, rootInodeId, type SessionId } from "../src/lib/ids.ts";
import { silentLogger } from "../src/lib/logger.ts";
import { type ClientCommand, type CommandResult, unwrap } from "../src/rpc/commands.ts";
import { masterApi } from "../src/rpc/master-api.ts";
import { MasterConnection } from "../src/rpc/master-connection.ts";
import type { Method } from "../src/rpc/method.ts";
import { eventually } from "../test/lib/eventually.ts";
import { withCluster } from "../test/lib/local-cluster.ts";
import { measureEtcd } from "./etcd.ts";
import { compare, type Figure, figure, percentile } from "./figure.ts";
import type { BenchOptions } from "./main.ts";

/** As many as the clients of etcd's load generator at its largest load. */
const outstanding = 1000;
const batchSize = 64;
const deadlineMs = 30_000;

export async function run(options: BenchOptions): Promise<Figure[]> {
  const ours = await measureOurs(options.seconds);
  const etcd = await measureEtcd();
  const peer = "etcd, 3 members, 1,000 clients, put 256 B, fsync";
  const beside = new Set(["create", "create-batched", "rename", "delete"]);
  return ours.map((row) => {
    if (row.figure === "create-latency-p99") {
      const slowest = { name: `${peer}: slowest`, value: etcd.slowestMs, lowerIsBetter: true };
      return compare(row, slowest);
    }
    if (!beside.has(row.figure)) return row;
    return compare(row, { name: peer, value: etcd.writesPerSecond });
  });
}

async function measureOurs(seconds: number): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), "weir-bench-metadata-"));
  return await withCluster({ directory, masters: 3, workers: 1 }, async (cluster) => {
    const masters = cluster.config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort }));
    const connection = new MasterConnection({ masters, logger: silentLogger, clock: systemClock });
    const driver = await Driver.open(connection);
    const keep = setInterval(() => void driver.keep(), 5000);
    try {
      return await measureOperations(driver, seconds);
    } finally {
      clearInterval(keep);
      connection.close();
    }
  });
}

async function measureOperations(driver: Driver, seconds: number): Promise<Figure[]> {
  const setup = `3 masters, 1 client process, ${outstanding} outstanding, fsync`;
  const row = (name: string, value: number, unit = "1/s") =>
    figure("metadata", name, value, unit, setup);
  const parent = await eventually("the root to be loaded", () => driver.makeDirectory("bench"));
  const fileName = (i: number) => `f${String(i)}`;

  const created = await load(seconds, outstanding, async (i) => {
    await driver.mutate([create(parent, fileName(i))]);
  });
  const batchParent = await driver.makeDirectory("batched");
  const batched = await load(seconds, Math.ceil(outstanding / batchSize), async (i) => {
    const names = Array.from({ length: batchSize }, (_, k) => fileName(i * batchSize + k));
    await driver.mutate(names.map((each) => create(batchParent, each)));
  });
  const read = (consistency: "linearizable" | "stale") =>
    load(seconds / 2, outstanding, async (i) => {
      const name = fileName(i % created.count);
      await driver.call(masterApi.lookup, { parent, name, consistency });
    });
  const stat = await read("linearizable");
  const statStale = await read("stale");
  const listed = await load(seconds / 2, 4, async () => {
    const page = { directory: parent, after: undefined, limit: 1000 };
    await driver.call(masterApi.list, { ...page, consistency: "linearizable" });
  });
  const renamed = await load(
    seconds / 2,
    outstanding,
    async (i) => {
      await driver.mutate([
        {
          ...{ kind: "rename", sourceParent: parent, sourceName: fileName(i) },
          ...{ targetParent: parent, targetName: `r${String(i)}`, noReplace: false },
        },
      ]);
    },
    created.count,
  );
  const deleted = await load(
    seconds / 2,
    outstanding,
    async (i) => {
      await driver.mutate([{ kind: "unlink", parent, name: `r${String(i)}`, held: false }]);
    },
    renamed.count,
  );
  return [
    row("create", created.perSecond),
    row("create-latency-p99", percentile(created.latenciesMs, 0.99), "ms"),
    row("create-batched", batched.perSecond * batchSize),
    row("stat", stat.perSecond),
    row("stat-stale", statStale.perSecond),
    row("list", listed.perSecond, "pages of 1,000/s"),
    row("rename", renamed.perSecond),
    row("delete", deleted.perSecond),
  ];
}

function create(parent: InodeId, name: string): ClientCommand {
  return {
    ...{ kind: "create", parent, name, fileKind: "file", mode: 0o644, uid: 0, gid: 0 },
    ...{ target: undefined, lease: false, exclusive: true, writeType: "MUST_CACHE" },
  };
}

interface LoadResult {
  readonly count: number;
  readonly perSecond: number;
  readonly latenciesMs: readonly number[];
}

/** Keeps `width` calls under way for `seconds` (or `most` calls), numbered from 0. */
async function load(
  seconds: number,
  width: number,
  call: (i: number) => Promise<void>,
  most = Number.MAX_SAFE_INTEGER,
): Promise<LoadResult> {
  const latenciesMs: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1000;
  let next = 0;
  const lane = async () => {
    while (performance.now() < end && next < most) {
      const called = performance.now();
      await call(next++);
      latenciesMs.push(performance.now() - called);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  const elapsed = (performance.now() - start) / 1000;
  return { count: latenciesMs.length, perSecond: latenciesMs.length / elapsed, latenciesMs };
}

/** One session with its sequences: the smallest client that the protocol allows. */
class Driver {
  readonly #connection: MasterConnection;
  readonly #session: SessionId;
  readonly #open = new Set<number>();
  #next = 1;

  private constructor(connection: MasterConnection, session: SessionId) {
    this.#connection = connection;
    this.#session = session;
  }

  async call<Q, S>(method: Method<Q, S>, request: Q): Promise<S> {
    return await this.#connection.call(method, request, { deadlineMs, idempotent: true });
  }

  static async open(connection: MasterConnection): Promise<Driver> {
    const request = { clientName: "bench" };
    const options = { deadlineMs, idempotent: false };
    const { session } = await connection.call(masterApi.openSession, request, options);
    return new Driver(connection, session);
  }

  async keep(): Promise<void> {
    await this.call(masterApi.keepSession, { session: this.#session });
  }

  async mutate(commands: readonly ClientCommand[]): Promise<readonly CommandResult[]> {
    const sequence = this.#next++;
    this.#open.add(sequence);
    // A Set iterates in the order of insertion: its first is the lowest outstanding.
    const [acknowledgedBelow] = this.#open;
    const { results } = await this.#connection.call(
      masterApi.mutate,
      {
        ...{ session: this.#session, sequence, atomic: false, commands },
        acknowledgedBelow: acknowledgedBelow ?? sequence,
      },
      { deadlineMs, idempotent: true },
    );
    this.#open.delete(sequence);
    const failed = results.find((result) => !result.ok);
    if (failed !== undefined) unwrap(failed, "Cannot finish a bench request");
    return results;
  }

  async makeDirectory(name: string): Promise<InodeId> {
    const command = { ...create(rootInodeId, name), fileKind: "directory" } as ClientCommand;
    const [result] = await this.mutate([command]);
    const inode = result?.ok === true ? result.status?.inode : undefined;
    if (inode === undefined) throw new WeirError("Internal", `Cannot make "${name}": no inode`);
    return inode;
  }
}
