/**
 * `metadata`: operations per second on three masters (three processes on this machine, journal fsynced by a majority),
 * beside three etcd members on the same machine with as many outstanding requests; and the CPU time of each process per
 * operation, which other load on the machine does not change.
 *
 * Every request is an RPC of its own under a session; `create-batched` puts 64 creates into one request.
 */
import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { systemClock } from "../src/lib/clock.ts";
import { WeirError } from "../src/lib/errors.ts";
import { type InodeId, indexOfPosition, rootInodeId, type SessionId } from "../src/lib/ids.ts";
import { silentLogger } from "../src/lib/logger.ts";
import { type ClientCommand, type CommandResult, unwrap } from "../src/rpc/commands.ts";
import { masterApi } from "../src/rpc/master-api.ts";
import { MasterConnection } from "../src/rpc/master-connection.ts";
import type { Method } from "../src/rpc/method.ts";
import { eventually } from "../test/lib/eventually.ts";
import { type LocalCluster, withCluster } from "../test/lib/local-cluster.ts";
import { measureEtcd } from "./etcd.ts";
import { compare, type Figure, figure, percentile } from "./figure.ts";
import type { BenchOptions } from "./main.ts";
import { cpuUs } from "./process-cpu.ts";

/** As many as the clients of etcd's load generator at its largest load. */
const outstanding = 1000;
const batchSize = 64;
const deadlineMs = 30_000;

export async function run(options: BenchOptions): Promise<Figure[]> {
  const ours = await measureOurs(options);
  if (options.only.length > 0 || options.profile !== undefined) return ours;
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

async function measureOurs(options: BenchOptions): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), "weir-bench-metadata-"));
  if (options.profile !== undefined) {
    // For the masters, which inherit it, and for this process.
    process.env["WEIR_PROFILE_DIR"] = resolve(options.profile);
    process.env["NODE_OPTIONS"] = "--import tsx --import ./bench/profile-preload.ts";
    await import("./profile-preload.ts");
  }
  return await withCluster({ directory, masters: 3, workers: 1 }, async (cluster) => {
    const masters = cluster.config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort }));
    const shared = { masters, logger: silentLogger, clock: systemClock };
    const connection = new MasterConnection(shared);
    const readers = masters.map((_, reader) => new MasterConnection({ ...shared, reader }));
    const driver = await Driver.open(connection);
    const keep = setInterval(() => void driver.keep(), 5000);
    try {
      return await new Bench(cluster, connection, readers, driver, options).measure();
    } finally {
      clearInterval(keep);
      for (const each of [connection, ...readers]) each.close();
    }
  });
}

class Bench {
  readonly #cluster: LocalCluster;
  readonly #connection: MasterConnection;
  /** One for each master: its reads from any go to that one. */
  readonly #readers: readonly MasterConnection[];
  readonly #driver: Driver;
  readonly #options: BenchOptions;
  readonly #rows: Figure[] = [];
  #profiles = 0;

  constructor(
    cluster: LocalCluster,
    connection: MasterConnection,
    readers: readonly MasterConnection[],
    driver: Driver,
    options: BenchOptions,
  ) {
    this.#cluster = cluster;
    this.#connection = connection;
    this.#readers = readers;
    this.#driver = driver;
    this.#options = options;
  }

  async measure(): Promise<Figure[]> {
    const driver = this.#driver;
    const { seconds } = this.#options;
    const parent = await eventually("the root to be loaded", () => driver.makeDirectory("bench"));
    const fileName = (i: number) => `f${String(i)}`;
    const createOne = async (i: number) => {
      await driver.mutate([create(parent, fileName(i))]);
    };
    // The first second is that of the compiler.
    const warm = await load(1, outstanding, createOne);
    let files = warm.count;
    let renamed = 0;

    await this.#operation("alone", 1, seconds / 2, async (i) => {
      await driver.mutate([create(parent, `alone${String(i)}`)]);
    });
    await this.#operation("create", outstanding, seconds, (i) => createOne(warm.count + i));
    files += this.#lastCount;
    const batchParent = await driver.makeDirectory("batched");
    const batches = Math.ceil(outstanding / batchSize);
    await this.#operation("batched", batches, seconds, async (i) => {
      const names = Array.from({ length: batchSize }, (_, k) => fileName(i * batchSize + k));
      await driver.mutate(names.map((each) => create(batchParent, each)));
    });
    const read = (consistency: "linearizable" | "stale") => async (i: number) => {
      const name = fileName(i % files);
      await driver.call(masterApi.lookup, { parent, name, consistency });
    };
    await this.#operation("stat", outstanding, seconds / 2, read("linearizable"));
    await this.#operation("stale", outstanding, seconds / 2, read("stale"));
    const anywhere = (consistency: "linearizable" | "stale") => async (i: number) => {
      const request = { parent, name: fileName(i % files), consistency };
      const options = { deadlineMs, idempotent: true, from: "any" } as const;
      await this.#readers[i % this.#readers.length]!.call(masterApi.lookup, request, options);
    };
    await this.#operation("any", outstanding, seconds / 2, anywhere("linearizable"));
    await this.#operation("stale-any", outstanding, seconds / 2, anywhere("stale"));
    await this.#operation("list", 4, seconds / 2, async () => {
      const page = { directory: parent, after: undefined, limit: 1000 };
      await driver.call(masterApi.list, { ...page, consistency: "linearizable" });
    });
    const rename = async (i: number) => {
      const command = {
        kind: "rename",
        sourceParent: parent,
        sourceName: fileName(i),
        targetParent: parent,
        targetName: `r${String(i)}`,
        noReplace: false,
      } as const;
      await driver.mutate([command]);
    };
    if (await this.#operation("rename", outstanding, seconds / 2, rename, files)) {
      renamed = this.#lastCount;
    }
    const remove = async (i: number) => {
      const name = i < renamed ? `r${String(i)}` : fileName(i);
      await driver.mutate([{ kind: "unlink", parent, name, held: false }]);
    };
    await this.#operation("delete", outstanding, seconds / 2, remove, files);
    return this.#rows;
  }

  /** Calls that the last operation finished. */
  #lastCount = 0;

  /** Measures one operation, unless others are wanted only; false then. */
  async #operation(
    name: string,
    width: number,
    seconds: number,
    call: (i: number) => Promise<void>,
    most?: number,
  ): Promise<boolean> {
    this.#lastCount = 0;
    const { only } = this.#options;
    if (only.length > 0 && !only.includes(name)) return false;
    const pids = this.#processes();
    const driver = this.#driver;
    driver.entries.clear();
    await this.#toggleProfiles(pids);
    const before = await Promise.all(pids.map(({ pid }) => cpuUs(pid)));
    const done = await load(seconds, width, call, most);
    const after = await Promise.all(pids.map(({ pid }) => cpuUs(pid)));
    await this.#toggleProfiles(pids, name);
    this.#lastCount = done.count;

    const size = name === "batched" ? batchSize : 1;
    const figureName = figureNames[name] ?? name;
    const setup =
      `3 masters, 1 client process, ${String(width)} outstanding, fsync` +
      (size > 1 ? `, ${String(size)} creates in one request` : "");
    const row = (rowName: string, value: number, unit: string) => {
      this.#rows.push(figure("metadata", rowName, value, unit, setup));
    };
    if (name === "alone") row("create-alone-p50", percentile(done.latenciesMs, 0.5), "ms");
    else row(figureName, done.perSecond * size, name === "list" ? "pages of 1,000/s" : "1/s");
    if (name === "create") {
      row("create-latency-p50", percentile(done.latenciesMs, 0.5), "ms");
      row("create-latency-p99", percentile(done.latenciesMs, 0.99), "ms");
      row("create-per-entry", done.count / driver.entries.size, "commands");
    }
    pids.forEach(({ role }, i) => {
      const perCall = (after[i]! - before[i]!) / (done.count * size);
      row(`${figureName}-cpu-${role}`, perCall, "µs");
    });
    return true;
  }

  /** Who takes part, by role: the client, the master that leads, those that follow. */
  #processes(): { readonly role: string; readonly pid: number }[] {
    const { masters, config } = this.#cluster;
    const leading = config.masters.findIndex(
      ({ host, rpcPort }) => `${host}:${String(rpcPort)}` === this.#connection.leader.address,
    );
    const followers = masters.filter((_, i) => i !== leading);
    return [
      { role: "client", pid: process.pid },
      { role: "leader", pid: masters[leading]!.pid! },
      ...followers.map(({ pid }, i) => ({ role: `follower-${String(i + 1)}`, pid: pid! })),
    ];
  }

  /** Begins, or ends and awaits, the profiles of all processes. */
  async #toggleProfiles(processes: readonly { pid: number }[], ending?: string): Promise<void> {
    const { profile } = this.#options;
    if (profile === undefined) return;
    for (const { pid } of processes) process.kill(pid, "SIGUSR2");
    if (ending === undefined) return;
    const count = String(++this.#profiles);
    process.stderr.write(`profiles ${count}: ${ending}\n`);
    await eventually("the profiles to be written", async () => {
      const names = await readdir(profile);
      return names.filter((each) => each.endsWith(`-${count}.cpuprofile`)).length >= 4;
    });
  }
}

const figureNames: Readonly<Record<string, string>> = {
  alone: "create-alone",
  batched: "create-batched",
  stale: "stat-stale",
  any: "stat-any",
  "stale-any": "stat-stale-any",
};

function create(parent: InodeId, name: string): Extract<ClientCommand, { kind: "create" }> {
  return {
    kind: "create",
    parent,
    name,
    fileKind: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    target: undefined,
    lease: false,
    exclusive: true,
    writeType: "MUST_CACHE",
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
  /** Log indexes of the entries that the requests went into. */
  readonly entries = new Set<number>();

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
    const { position, results } = await this.#connection.call(
      masterApi.mutate,
      {
        session: this.#session,
        sequence,
        acknowledgedBelow: acknowledgedBelow ?? sequence,
        atomic: false,
        commands,
      },
      { deadlineMs, idempotent: true },
    );
    this.#open.delete(sequence);
    this.entries.add(indexOfPosition(position));
    const failed = results.find((result) => !result.ok);
    if (failed !== undefined) unwrap(failed, "Cannot finish a bench request");
    return results;
  }

  async makeDirectory(name: string): Promise<InodeId> {
    const command = create(rootInodeId, name);
    const [result] = await this.mutate([{ ...command, fileKind: "directory" }]);
    const inode = result?.ok === true ? result.status?.inode : undefined;
    if (inode === undefined) throw new WeirError("Internal", `Cannot make "${name}": no inode`);
    return inode;
  }
}
