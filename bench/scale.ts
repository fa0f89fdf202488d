/**
 * `scale`: what it costs to have many files. Masters as processes of the compiled code, on one machine, journal fsynced by a
 * majority; clients that speak the RPC alone. Files are made in batches, a thousand to a directory, and then as many again
 * as fit (half of all, at most a million) in one wide directory. Then they are looked up and listed, all masters restart
 * after a clean stop and after a SIGKILL under load, and a new member gets a snapshot while files are made.
 *
 * Pauses are those of the leader's event loop. On a machine that does other work too, they and the rates say little: the
 * CPU time per operation is told beside them.
 */
import { rmSync } from "node:fs";
import { mkdtemp, readdir, readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { WeirError } from "../src/lib/errors.ts";
import { type InodeId, rootInodeId } from "../src/lib/ids.ts";
import type { ClientCommand } from "../src/rpc/commands.ts";
import { masterApi } from "../src/rpc/master-api.ts";
import type { MasterConnection } from "../src/rpc/master-connection.ts";
import {
  createCommand,
  ListingWorker,
  MasterCluster,
  TestSession,
} from "../test/integration/master-cluster.ts";
import { eventually } from "../test/lib/eventually.ts";
import { buildForBench } from "./build.ts";
import { type Figure, figure } from "./figure.ts";
import { onInterruption } from "./interruption.ts";
import type { BenchOptions } from "./main.ts";
import { cpuUs } from "./process-cpu.ts";

const batchSize = 64;
/** Batches that are under way. */
const lanes = 16;
const filesPerDirectory = 1000;
const mostWide = 1_000_000;
/** Lookups that are under way, and how many are measured. */
const lookupLanes = 200;
const lookups = 20_000;
const pageSize = 1000;
/** Until a master without files serves, and one with all of them. */
const firstStartMs = 120_000;
const startMs = 600_000;
/** So few entries are retained that a new member has to get a snapshot. */
const retainedEntries = 100;
/** After so long a master does not tell of a pause any more. */
const forgottenMs = 3500;
/** Creates before a measurement: those of the compiler. */
const warmFiles = 4096;

export async function run(options: BenchOptions): Promise<Figure[]> {
  buildForBench();
  const directory = await mkdtemp(join(tmpdir(), "weir-bench-scale-"));
  const cluster = await MasterCluster.prepare(directory, {
    count: options.masters,
    master: { retainedEntries },
  });
  const goOn = onInterruption(() => {
    for (const each of cluster.masters) each.signal("SIGKILL");
    // Those that are being killed may still make a file.
    rmSync(directory, { recursive: true, force: true, maxRetries: 10 });
  });
  let connection: MasterConnection | undefined;
  let worker: ListingWorker | undefined;
  try {
    for (const each of cluster.masters) each.start();
    await Promise.all(cluster.masters.map((each) => each.ready(firstStartMs)));
    connection = cluster.connect();
    worker = await ListingWorker.start(cluster);
    return await new Scale(cluster, connection, options).measure();
  } finally {
    await worker?.stop();
    connection?.close();
    await cluster.close();
    goOn();
  }
}

/** What a phase cost: its length, the leader's CPU time, its longest pause. */
interface Cost {
  readonly seconds: number;
  readonly leaderUs: number;
  readonly pauseMs: number;
}

class Scale {
  readonly #cluster: MasterCluster;
  readonly #connection: MasterConnection;
  readonly #files: number;
  readonly #rows: Figure[] = [];
  readonly #setup: string;
  /** Of narrow ones, in their order. */
  readonly #directories: InodeId[] = [];
  #wide = 0 as InodeId;

  constructor(cluster: MasterCluster, connection: MasterConnection, options: BenchOptions) {
    this.#cluster = cluster;
    this.#connection = connection;
    this.#files = options.files;
    this.#setup = `${String(options.masters)} masters, ${options.files.toLocaleString("en-US")} files, fsync`;
  }

  async measure(): Promise<Figure[]> {
    const { wide } = this;
    const session = await TestSession.open(this.#connection);
    const keeping = keep(session);
    try {
      await this.#make(session);
      await this.#weigh();
      await this.#lookUp("lookup-warm", (i) => this.#files - wide - 1 - (i % 10_000), "made last");
      await this.#list();
      await this.#restart("restart-clean", "SIGTERM to all", (each) => each.stop());
      await this.#lookUp("lookup-cold", () => this.#anyFile(), "any, after a restart");
      const isLoading = { until: false };
      const load = this.#loadUntil(session, isLoading);
      await sleep(1000);
      await this.#restart("restart-kill", "SIGKILL to all, under creates", (each) => each.kill());
      isLoading.until = true;
      await load;
      await this.#join(session);
    } finally {
      clearInterval(keeping);
    }
    return this.#rows;
  }

  /** Files of the wide directory. */
  get wide(): number {
    return Math.min(mostWide, Math.floor(this.#files / 2));
  }

  #anyFile(): number {
    return Math.floor(Math.random() * (this.#files - this.wide));
  }

  async #make(session: TestSession): Promise<void> {
    const narrow = this.#files - this.wide;
    await this.#makeDirectories(session, Math.ceil(narrow / filesPerDirectory));
    const warm = await directory(session, "warm");
    await this.#creates(session, warmFiles, (i) => create(warm, `w${String(i)}`));
    const tenth = Math.floor(narrow / 10);
    const first = await this.#during(() => this.#narrowFiles(session, 0, tenth));
    const middle = await this.#during(() => this.#narrowFiles(session, tenth, narrow - tenth));
    const wide = await this.#during(() =>
      this.#creates(session, this.wide, (i) => create(this.#wide, nameOf(i))),
    );
    // The last tenth is like the first one, with all others there.
    const last = await this.#during(() => this.#narrowFiles(session, narrow - tenth, narrow));
    const how = `creates of ${String(batchSize)} in a request, ${String(lanes)} outstanding`;
    for (const [name, cost] of [
      ["create-first", first],
      ["create-last", last],
    ] as const) {
      this.#row(name, tenth / cost.seconds, "1/s", `${how}; ${name.slice(7)} 10 %`);
      this.#row(`${name}-cpu-leader`, cost.leaderUs / tenth, "µs", how);
    }
    const pauses = [first, middle, wide, last].map(({ pauseMs }) => pauseMs);
    this.#row("create-pause-max", Math.max(...pauses), "ms", how);
  }

  async #makeDirectories(session: TestSession, count: number): Promise<void> {
    this.#wide = await directory(session, "wide");
    const parent = await directory(session, "narrow");
    for (let made = 0; made < count; made += batchSize) {
      const size = Math.min(batchSize, count - made);
      const commands = Array.from({ length: size }, (_, i) =>
        createCommand(parent, `d${String(made + i)}`, "directory"),
      );
      const { results } = await session.send(commands);
      for (const result of results) {
        if (!result.ok)
          throw new WeirError("Internal", `Cannot make a directory: ${result.detail}`);
        this.#directories.push(result.status!.inode);
      }
    }
  }

  #narrowFiles(session: TestSession, from: number, to: number): Promise<void> {
    return this.#creates(session, to - from, (i) => {
      const at = from + i;
      return create(this.#directories[Math.floor(at / filesPerDirectory)]!, nameOf(at));
    });
  }

  /** Makes `count` files in batches, several of them under way. */
  async #creates(
    session: TestSession,
    count: number,
    commandOf: (i: number) => ClientCommand,
  ): Promise<void> {
    let next = 0;
    const lane = async () => {
      while (next < count) {
        const from = next;
        next = Math.min(count, from + batchSize);
        const commands = Array.from({ length: next - from }, (_, i) => commandOf(from + i));
        const { results } = await session.send(commands, startMs);
        const refused = results.find((each) => !each.ok);
        if (refused?.ok === false) {
          throw new WeirError("Internal", `Cannot make a file: ${refused.detail}`);
        }
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  }

  /** Memory and disk. */
  async #weigh(): Promise<void> {
    const place = await this.#cluster.leader(this.#connection);
    const { resident, peak } = await memoryOf(this.#cluster.masters[place]!.pid!);
    this.#row("resident", resident, "MiB", "leader, after the creates");
    this.#row("resident-peak", peak, "MiB", "leader, since its start");
    await this.#connection.each[place]!.call(
      masterApi.status,
      { exact: true },
      { deadlineMs: 60_000 },
    );
    const bytes = await sizeOf(join(this.#cluster.dataDir(place), "state"));
    this.#row("state-per-file", bytes / this.#files, "bytes", "leader's state on disk");
  }

  async #lookUp(name: string, fileOf: (i: number) => number, which: string): Promise<void> {
    let next = 0;
    const lane = async () => {
      while (next < lookups) {
        const file = fileOf(next++);
        const parent = this.#directories[Math.floor(file / filesPerDirectory)]!;
        const request = { parent, name: nameOf(file), consistency: "linearizable" } as const;
        const options = { deadlineMs: 60_000, idempotent: true };
        await this.#connection.call(masterApi.lookup, request, options);
      }
    };
    const cost = await this.#during(() => Promise.all(Array.from({ length: lookupLanes }, lane)));
    const how = `${String(lookups)} lookups of files ${which}, ${String(lookupLanes)} outstanding`;
    this.#row(name, lookups / cost.seconds, "1/s", how);
    this.#row(`${name}-cpu-leader`, cost.leaderUs / lookups, "µs", how);
  }

  /** The wide directory, in pages. */
  async #list(): Promise<void> {
    await sleep(forgottenMs);
    let entries = 0;
    const cost = await this.#during(async () => {
      for (let after: string | undefined; ; ) {
        const page = await this.#connection.call(
          masterApi.list,
          { directory: this.#wide, after, limit: pageSize, consistency: "linearizable" },
          { deadlineMs: 60_000, idempotent: true },
        );
        entries += page.entries.length;
        if (!page.more) break;
        after = page.entries[page.entries.length - 1]!.name;
      }
    });
    if (entries !== this.wide) {
      const wanted = `wanted ${String(this.wide)}`;
      throw new WeirError("Internal", `Cannot list: there are ${String(entries)} names, ${wanted}`);
    }
    const how = `${entries.toLocaleString("en-US")} entries in pages of ${String(pageSize)}`;
    this.#row("list", entries / cost.seconds, "entries/s", how);
    this.#row("list-cpu-leader", cost.leaderUs / entries, "µs", how);
    this.#row("list-pause-max", cost.pauseMs, "ms", how);
  }

  /** Ends all masters, and measures from their start until one answers a linearizable lookup. */
  async #restart(
    name: string,
    how: string,
    end: (master: MasterCluster["masters"][number]) => Promise<unknown>,
  ): Promise<void> {
    await Promise.all(this.#cluster.masters.map(end));
    const begin = performance.now();
    for (const each of this.#cluster.masters) each.start();
    const request = {
      parent: this.#directories[0]!,
      name: nameOf(0),
      consistency: "linearizable",
    } as const;
    const options = { deadlineMs: startMs, idempotent: true };
    await this.#connection.call(masterApi.lookup, request, options);
    this.#row(name, (performance.now() - begin) / 1000, "s", `${how}; all start at once`);
    await Promise.all(this.#cluster.masters.map((each) => each.ready(startMs)));
  }

  /** Creates in a directory of their own until they are told to end. */
  async #loadUntil(session: TestSession, end: { until: boolean }): Promise<number> {
    const parent = await directory(session, `load${String(performance.now())}`);
    let made = 0;
    const lane = async () => {
      while (!end.until) {
        const from = made;
        made += batchSize;
        const commands = Array.from({ length: batchSize }, (_, i) =>
          create(parent, `l${String(from + i)}`),
        );
        await session.send(commands, startMs);
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    return made;
  }

  /** A new member gets a snapshot while files are made: their rate meanwhile, over that without. */
  async #join(session: TestSession): Promise<void> {
    const rateOf = async (during: () => Promise<unknown>): Promise<number> => {
      const end = { until: false };
      const load = this.#loadUntil(session, end);
      const begin = performance.now();
      await during();
      const seconds = (performance.now() - begin) / 1000;
      end.until = true;
      return (await load) / seconds;
    };
    await rateOf(() => sleep(3000));
    const alone = await rateOf(() => sleep(5000));
    await sleep(forgottenMs);
    const name = "master-new";
    const process = await this.#cluster.define(name);
    await this.#cluster.startEmpty(name);
    const { host, raftPort, rpcPort } = this.#cluster.configs.at(-1)!;
    let seconds = 0;
    let pauseMs = 0;
    const beside = await rateOf(async () => {
      const cost = await this.#during(async () => {
        const request = { name, host, raftPort, rpcPort, promote: false };
        const options = { deadlineMs: startMs, idempotent: true };
        const { commitIndex } = await this.#members();
        await this.#connection.call(masterApi.addMember, request, options);
        await eventually("the new member to catch up", () => this.#has(name, commitIndex), startMs);
      });
      ({ seconds, pauseMs } = cost);
    });
    await process.ready(startMs);
    const how = "creates while a learner gets a snapshot, over those without";
    this.#row("snapshot-create-ratio", beside / alone, "×", how);
    this.#row(
      "snapshot",
      seconds,
      "s",
      "until the learner has all that was there when it was added",
    );
    this.#row("snapshot-pause-max", pauseMs, "ms", how);
  }

  async #members() {
    const options = { deadlineMs: 60_000, idempotent: true };
    return this.#connection.call(masterApi.clusterMembers, {}, options);
  }

  async #has(name: string, index: number): Promise<boolean> {
    const { members } = await this.#members();
    return (members.find((each) => each.name === name)?.matchIndex ?? 0) >= index;
  }

  /** Runs `use`, and tells what it cost the leader. */
  async #during(use: () => Promise<unknown>): Promise<Cost> {
    const place = await this.#cluster.leader(this.#connection);
    const { pid } = this.#cluster.masters[place]!;
    const before = await cpuUs(pid!);
    const begin = performance.now();
    const pauses = new PauseWatch(this.#connection.each[place]!);
    await use();
    const seconds = (performance.now() - begin) / 1000;
    const leaderUs = (await cpuUs(pid!)) - before;
    return { seconds, leaderUs, pauseMs: await pauses.end() };
  }

  #row(name: string, value: number, unit: string, how: string): void {
    this.#rows.push(figure("scale", name, value, unit, `${this.#setup}; ${how}`));
  }
}

/** Asks a master every second for its longest pause of the last ones. */
class PauseWatch {
  readonly #master: MasterConnection["each"][number];
  readonly #timer: NodeJS.Timeout;
  #longestMs = 0;

  constructor(master: MasterConnection["each"][number]) {
    this.#master = master;
    this.#timer = setInterval(() => void this.#look(), 1000);
  }

  async #look(): Promise<void> {
    const options = { deadlineMs: 30_000 };
    const status = await this.#master
      .call(masterApi.status, { exact: false }, options)
      // One that does not answer is told of by the calls that are measured.
      .catch(() => undefined);
    this.#longestMs = Math.max(this.#longestMs, status?.longestPauseMs ?? 0);
  }

  async end(): Promise<number> {
    clearInterval(this.#timer);
    await this.#look();
    return this.#longestMs;
  }
}

function keep(session: TestSession): NodeJS.Timeout {
  return setInterval(() => {
    session.connection
      .call(
        masterApi.keepSession,
        { session: session.id },
        { deadlineMs: 30_000, idempotent: true },
      )
      // While no master runs; each create keeps the session too.
      .catch(() => undefined);
  }, 5000);
}

async function directory(session: TestSession, name: string): Promise<InodeId> {
  return eventually(`"${name}" to be made`, async () => {
    return (await session.create(rootInodeId, name, "directory")).status!.inode;
  });
}

function create(parent: InodeId, name: string): ClientCommand {
  return { ...createCommand(parent, name), writeType: "MUST_CACHE" } as ClientCommand;
}

/** Of twelve characters, as names of people's files are on average. */
function nameOf(file: number): string {
  return `file${String(file).padStart(8, "0")}`;
}

/** MiB, as the kernel counts them (Linux). */
async function memoryOf(pid: number): Promise<{ resident: number; peak: number }> {
  const status = await readFile(`/proc/${String(pid)}/status`, "latin1");
  const field = (name: string) => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status);
    return Number(found?.[1]) / 1024;
  };
  return { resident: field("VmRSS"), peak: field("VmHWM") };
}

/** Bytes of all files below a directory; one that goes meanwhile counts nothing. */
async function sizeOf(path: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const found = await stat(join(entry.parentPath, entry.name)).catch(() => undefined);
    bytes += found?.size ?? 0;
  }
  return bytes;
}
