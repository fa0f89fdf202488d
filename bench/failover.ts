/**
 * `failover`: how long writes stand still when the leader goes. Three masters (three processes of the compiled code on
 * this machine, journal fsynced by a majority), clients that write without a pause, and leaders that are killed with
 * SIGKILL, stopped with SIGSTOP (to all others silent, as without power or network), or asked to go: by SIGTERM, as in a
 * planned restart, and by a transfer as `weir cluster transfer` asks for it.
 *
 * A time runs from the signal (or the request) to the first acknowledgement by another leader, as a client sees it that was
 * writing all along; where the leader falls silent, there is one such time for each client, as each has to notice. The next
 * leader goes only when the last one is back and has caught up. At the end a freshly elected leader must list every name
 * whose create was acknowledged.
 */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type InodeId, rootInodeId } from "../src/lib/ids.ts";
import { masterApi } from "../src/rpc/master-api.ts";
import type { MasterConnection } from "../src/rpc/master-connection.ts";
import { buildForBench } from "./build.ts";
import { ListingWorker, MasterCluster, TestSession } from "../test/integration/master-cluster.ts";
import { eventually } from "../test/lib/eventually.ts";
import { type Figure, figure, percentile } from "./figure.ts";
import type { BenchOptions } from "./main.ts";

const clients = 4;
/** Creates that each client has under way. */
const lanes = 4;
/** Writes between two departures: the cluster is at work again, not just alive. */
const settledWrites = 200;
const catchUpMs = 60_000;

/** How long a leader is stopped at least. */
const silenceMs = 3000;

type Departure = "kill" | "silence" | "terminate" | "transfer";

export async function run({ kills }: BenchOptions): Promise<Figure[]> {
  buildForBench();
  const directory = await mkdtemp(join(tmpdir(), "weir-bench-failover-"));
  const cluster = await MasterCluster.start(directory);
  const observer = cluster.connect();
  let worker: ListingWorker | undefined;
  try {
    worker = await ListingWorker.start(cluster);
    return await measure(cluster, observer, kills);
  } finally {
    await worker?.stop();
    observer.close();
    await cluster.close();
  }
}

async function measure(
  cluster: MasterCluster,
  observer: MasterConnection,
  kills: number,
): Promise<Figure[]> {
  const load = await Load.start(cluster);
  const timesMs: Record<Departure, number[]> = {
    kill: [],
    silence: [],
    terminate: [],
    transfer: [],
  };
  try {
    for (const departure of departures(kills)) {
      await load.more(settledWrites);
      const place = await cluster.leader(observer);
      timesMs[departure].push(...(await depart(cluster, observer, load, place, departure)));
      const master = cluster.masters[place]!;
      if (departure === "kill" || departure === "terminate") {
        await master.gone();
        master.start();
        await master.ready();
      }
      await caughtUp(observer, place);
    }
    await load.more(settledWrites);
  } finally {
    await load.stop();
  }
  const lost = await lostNames(cluster, observer, load);
  const setup = `3 masters, ${String(clients)} clients with ${String(lanes)} creates each under way, fsync`;
  const planned = [...timesMs.terminate, ...timesMs.transfer];
  const row = (name: string, value: number, unit: string, of: string) =>
    figure("failover", name, value, unit, `${setup}; ${of}`);
  const killed = `${String(timesMs.kill.length)} × SIGKILL`;
  const stopped = `${String(timesMs.silence.length / clients)} × SIGSTOP, each client`;
  const asked = `${String(timesMs.terminate.length)} × SIGTERM, ${String(timesMs.transfer.length)} × transfer`;
  return [
    row("kill-p50", percentile(timesMs.kill, 0.5), "ms", killed),
    row("kill-p99", percentile(timesMs.kill, 0.99), "ms", killed),
    row("kill-max", Math.max(...timesMs.kill), "ms", killed),
    row("silent-p50", percentile(timesMs.silence, 0.5), "ms", stopped),
    row("silent-p99", percentile(timesMs.silence, 0.99), "ms", stopped),
    row("transfer-p50", percentile(planned, 0.5), "ms", asked),
    row("transfer-p99", percentile(planned, 0.99), "ms", asked),
    row(
      "lost",
      lost,
      "writes",
      `of ${String(load.acknowledged.length)} acknowledged; ${killed}, ${stopped}, ${asked}`,
    ),
  ];
}

/**
 * First the planned departures, of a cluster that has nothing else to recover from, in pairs of a restart and a transfer;
 * then the kills, and a leader that falls silent after every fourth.
 */
function departures(kills: number): Departure[] {
  const all: Departure[] = [];
  for (let i = 0; i < kills; i += 4) all.push("terminate", "transfer");
  for (let i = 0; i < kills; i++) {
    all.push("kill");
    if (i % 4 === 0) all.push("silence");
  }
  return all;
}

/** Makes the leader at `place` go; milliseconds until another one has acknowledged a write, of each client if it is silent. */
async function depart(
  cluster: MasterCluster,
  observer: MasterConnection,
  load: Load,
  place: number,
  departure: Departure,
): Promise<number[]> {
  const start = performance.now();
  if (departure === "silence") {
    const each = Array.from({ length: clients }, (_, client) => load.nextFromOther(place, client));
    cluster.masters[place]!.signal("SIGSTOP");
    try {
      const endsMs = await Promise.all(each);
      await sleep(Math.max(0, start + silenceMs - performance.now()));
      return endsMs.map((endMs) => endMs - start);
    } finally {
      cluster.masters[place]!.signal("SIGCONT");
    }
  }
  const next = load.nextFromOther(place);
  if (departure === "transfer") {
    const options = { deadlineMs: 10_000, idempotent: false };
    void observer
      .call(masterApi.transferLeadership, { to: undefined }, options)
      // What counts is when the next leader serves; that none came shows there.
      .catch(() => undefined);
  } else {
    cluster.masters[place]!.signal(departure === "kill" ? "SIGKILL" : "SIGTERM");
  }
  return [(await next) - start];
}

/** Waits until the master follows and has applied what was committed when it came back. */
async function caughtUp(observer: MasterConnection, place: number): Promise<void> {
  const status = (of: number) =>
    observer.each[of]!.call(masterApi.status, { exact: false }, { deadlineMs: 1000 });
  const others = [0, 1, 2].filter((each) => each !== place);
  const known = await Promise.all(
    others.map((each) =>
      status(each)
        .then(({ commitIndex }) => commitIndex)
        .catch(() => 0),
    ),
  );
  const wanted = Math.max(...known);
  await eventually(
    "a master to catch up",
    async () => (await status(place)).appliedIndex >= wanted,
    catchUpMs,
  );
}

/** Acknowledged creates that a leader elected after the last of them does not list. */
async function lostNames(
  cluster: MasterCluster,
  observer: MasterConnection,
  load: Load,
): Promise<number> {
  const last = await cluster.leader(observer);
  await cluster.masters[last]!.kill();
  const session = await TestSession.open(observer);
  const found = new Set((await session.list(load.directory)).map(({ name }) => name));
  return load.acknowledged.filter((name) => !found.has(name)).length;
}

/** Clients that create files without a pause, each with a session and connections of its own. */
class Load {
  readonly directory: InodeId;
  readonly acknowledged: string[] = [];
  readonly #connections: MasterConnection[];
  #lanes: Promise<void>[] = [];
  #isStopping = false;
  #failure: unknown;
  /** Who waits for an acknowledgement, by the place of who led and of the client. */
  readonly #onAcknowledged = new Set<(leader: number, client: number) => void>();
  #next = 0;

  private constructor(directory: InodeId, connections: MasterConnection[]) {
    this.directory = directory;
    this.#connections = connections;
  }

  static async start(cluster: MasterCluster): Promise<Load> {
    const connections = Array.from({ length: clients }, () => cluster.connect());
    const sessions: TestSession[] = [];
    for (const connection of connections) sessions.push(await TestSession.open(connection));
    const { status } = await sessions[0]!.create(rootInodeId, "failover", "directory");
    const load = new Load(status!.inode, connections);
    load.#lanes = sessions.flatMap((session, client) =>
      Array.from({ length: lanes }, () => load.#write(session, client)),
    );
    return load;
  }

  /** When (`performance.now()`) a write, of that client if given, is first acknowledged by a master at another place. */
  nextFromOther(place: number, of?: number): Promise<number> {
    return this.#until((leader, client) => leader !== place && (of ?? client) === client);
  }

  /** Waits for `count` more acknowledgements. */
  async more(count: number): Promise<void> {
    const wanted = this.acknowledged.length + count;
    await this.#until(() => this.acknowledged.length >= wanted);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#lanes);
    for (const connection of this.#connections) connection.close();
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  async #until(enough: (leader: number, client: number) => boolean): Promise<number> {
    const reached = new Promise<number>((resolve) => {
      const look = (leader: number, client: number) => {
        if (!enough(leader, client)) return;
        this.#onAcknowledged.delete(look);
        resolve(performance.now());
      };
      this.#onAcknowledged.add(look);
    });
    const failed = Promise.all(this.#lanes).then((): never => {
      throw this.#failure as Error;
    });
    return Promise.race([reached, failed]);
  }

  async #write(session: TestSession, client: number): Promise<void> {
    const { connection } = session;
    while (!this.#isStopping && this.#failure === undefined) {
      const name = `f${String(this.#next++)}`;
      try {
        await session.create(this.directory, name);
      } catch (error) {
        this.#failure ??= error;
        return;
      }
      this.acknowledged.push(name);
      const leader = connection.each.indexOf(connection.leader);
      for (const look of this.#onAcknowledged) look(leader, client);
    }
  }
}
