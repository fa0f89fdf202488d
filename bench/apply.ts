/**
 * `apply`: what one applied command costs a master, in this process alone: the entry is decoded, applied through the
 * state machine's host to a store on disk, told to the change feed, and flushed. No consensus, network or journal.
 *
 * `cpu-…` is CPU time of the whole process per command, the threads of LevelDB and the collector included. Entries are
 * encoded before the clock starts, and nothing of their commands is left in the heap; a measurement ends when all is on
 * disk.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../src/lib/clock.ts";
import {
  type InodeId,
  positionOf,
  rootInodeId,
  type SessionId,
  type WorkerId,
  type WriteId,
} from "../src/lib/ids.ts";
import { silentLogger } from "../src/lib/logger.ts";
import { encode } from "../src/lib/schema.ts";
import { ChangeFeed } from "../src/master/services/change-feed.ts";
import { MachineHost } from "../src/master/services/machine-host.ts";
import { lookup } from "../src/master/state/queries.ts";
import { openStateStore } from "../src/master/store/level-store.ts";
import type { StateStore } from "../src/master/store/types.ts";
import type { Entry, Index, Term } from "../src/raft/types.ts";
import { type Command, entryPayload, newestLevel, type Request } from "../src/rpc/commands.ts";
import { type Figure, figure } from "./figure.ts";
import type { BenchOptions } from "./main.ts";

/** Requests of one command that share an entry, as group commit makes them under load. */
const requestsPerEntry = 64;
/** Commands of one batched request. */
const batchSize = 64;
/** Commands between the newest request and what the client has the answers of. */
const outstanding = 1000;
const commandsPerSecond = 20_000;
/** Appends of which the cost is measured together: the second thousand, and the last before the 100,000th. */
const appendsMeasured = 1000;
const appendedBytes = 50;
const entriesPerCall = 4;

export async function run(options: BenchOptions): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), "weir-bench-apply-"));
  const store = await openStateStore({ directory, clock: systemClock, logger: silentLogger });
  try {
    return await measure(new Log(store), Math.ceil(options.seconds * commandsPerSecond));
  } finally {
    await store.close();
    await rm(directory, { recursive: true });
  }
}

async function measure(log: Log, count: number): Promise<Figure[]> {
  await log.begin();
  const single = `${requestsPerEntry} requests of one command per entry, one session, ${outstanding} outstanding, LevelDB flushed`;
  const batch = `requests of ${batchSize} commands, one session, ${outstanding} outstanding, LevelDB flushed`;
  const figures: Figure[] = [];
  const row = (name: string, { perSecond, cpuUs }: Cost, setup: string) => {
    figures.push(figure("apply", name, perSecond, "commands/s", setup));
    figures.push(figure("apply", `cpu-${name}`, cpuUs, "µs CPU/command", setup));
  };
  const nameOf = (i: number) => `f${String(i)}`;
  const createIn = (parent: InodeId) => (i: number) => create(parent, nameOf(i));
  const renameIn = (parent: InodeId) => (i: number) => rename(parent, nameOf(i), `r${nameOf(i)}`);
  const unlinkIn = (parent: InodeId) => (i: number) => unlink(parent, `r${nameOf(i)}`);
  const { parent, batched, warmUp } = log;
  for (const commandOf of [createIn, renameIn, unlinkIn]) {
    await log.apply(25_000, 1, commandOf(warmUp));
  }
  row("create", await log.apply(count, 1, createIn(parent)), single);
  row("create-batched", await log.apply(count, batchSize, createIn(batched)), batch);
  row("rename", await log.apply(count, 1, renameIn(parent)), single);
  row("delete", await log.apply(count, 1, unlinkIn(parent)), single);
  const appending =
    "one file, each append under a lease of its own, one per entry, LevelDB flushed";
  await log.append(appendsMeasured);
  row("append-1000", await log.append(appendsMeasured), appending);
  await log.append(100_000 - 3 * appendsMeasured);
  row("append-100000", await log.append(appendsMeasured), appending);
  return figures;
}

interface Cost {
  readonly perSecond: number;
  readonly cpuUs: number;
}

/** A log with its state machine, as a master has it behind consensus. */
class Log {
  parent!: InodeId;
  batched!: InodeId;
  warmUp!: InodeId;
  readonly #store: StateStore;
  readonly #host: MachineHost;
  #session = 0 as SessionId;
  #index = 0;
  #sequence = 0;
  #appended = 0;

  constructor(store: StateStore) {
    this.#store = store;
    const feed = new ChangeFeed(0);
    this.#host = new MachineHost({
      store,
      onApplied: ({ index, applied }) => {
        if (applied === undefined) return;
        feed.publish(index, applied.changes);
        const failed = applied.results.flat().find((result) => !result.ok);
        if (failed !== undefined) throw new Error(`Cannot go on: ${JSON.stringify(failed)}`);
      },
      onInstalled: () => undefined,
    });
  }

  /** Makes the cluster, the session and three directories. */
  async begin(): Promise<void> {
    const cluster = { clusterId: "bench", clusterName: "bench", blockSizeBytes: 64 * 1024 * 1024 };
    const root = { rootUri: "file:///bench", rootOptions: {}, uid: 0, gid: 0 };
    await this.#applyOne({ kind: "bootstrap", ...cluster, ...root });
    const page = { directory: rootInodeId, entries: [], listedAtIndex: this.#index, last: true };
    await this.#applyOne({ kind: "loadPage", ...page });
    await this.#applyOne({ kind: "raiseLevel", level: newestLevel });
    await this.#applyOne({ kind: "openSession", clientName: "bench", timeoutMs: 3_600_000 });
    this.#session = (this.#index * 1024) as SessionId;
    for (const name of ["parent", "batched", "warmUp"] as const) {
      await this.#applyOne({ ...create(rootInodeId, name), fileKind: "directory" });
      const found = lookup(this.#store, rootInodeId, name);
      if (!found.found) throw new Error(`Cannot go on: "${name}" was not made`);
      this[name] = found.inode.id;
    }
  }

  /** Appends a line so many times, as programs do that open the file for each. */
  async append(count: number): Promise<Cost> {
    if (this.#appended === 0) {
      await this.#applyOne(create(rootInodeId, "appended"));
      const worker = { uuid: "bench", host: "bench", address: "127.0.0.1:1", tiers: [] };
      const session = this.#session;
      this.#session = 0 as SessionId;
      await this.#applyOne({ kind: "registerWorker", ...worker });
      this.#session = session;
    }
    const found = lookup(this.#store, rootInodeId, "appended");
    if (!found.found) throw new Error("Cannot go on: the file was not made");
    const { id: inode } = found.inode;
    const entries = Array.from({ length: count }, () => {
      const fileOffset = appendedBytes * this.#appended;
      const writeId = positionOf(this.#index + 1, 0) as number as WriteId;
      const extent = { fileOffset, length: appendedBytes, writeId, blockIndex: 0, offset: 0 };
      return this.#entry([
        { kind: "lease", inode },
        {
          ...{ kind: "commit", inode, writeId, baseVersion: ++this.#appended },
          ...{ size: fileOffset + appendedBytes, extents: [extent], keepers: [1 as WorkerId] },
          ...{ mtime: undefined, release: true },
        },
      ]);
    });
    return await this.#measure(entries, count);
  }

  #entry(commands: readonly Command[]): Entry {
    const index = ++this.#index;
    const payload = encode(entryPayload, {
      ...{ clusterTimeMs: index, wallTime: { sec: 1_700_000_000 + index, nsec: 5 } },
      requests: [this.#request(commands)],
    });
    return { index: index as Index, term: 1 as Term, kind: "command", payload };
  }

  async #applyOne(command: Command): Promise<void> {
    await this.apply(1, 1, () => command);
  }

  /** Applies `count` commands, `perRequest` to a request, and waits until they are on disk. */
  async apply(count: number, perRequest: number, commandOf: (i: number) => Command): Promise<Cost> {
    return await this.#measure(this.#encode(count, perRequest, commandOf), count);
  }

  async #measure(entries: readonly Entry[], count: number): Promise<Cost> {
    const [cpu, startMs] = [process.cpuUsage(), performance.now()];
    for (let i = 0; i < entries.length; i += entriesPerCall) {
      await this.#host.apply(entries.slice(i, i + entriesPerCall));
      if (this.#store.full) await this.#store.flush();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.#store.flush();
    const seconds = (performance.now() - startMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { perSecond: count / seconds, cpuUs: (user + system) / count };
  }

  #encode(count: number, perRequest: number, commandOf: (i: number) => Command): Entry[] {
    const perEntry = perRequest > 1 ? perRequest : requestsPerEntry;
    const entries: Entry[] = [];
    for (let first = 0; first < count; first += perEntry) {
      const index = ++this.#index;
      const requests: Request[] = [];
      const end = Math.min(first + perEntry, count);
      for (let at = first; at < end; at += perRequest) {
        const length = Math.min(perRequest, end - at);
        requests.push(this.#request(Array.from({ length }, (_, i) => commandOf(at + i))));
      }
      const payload = encode(entryPayload, {
        clusterTimeMs: index,
        wallTime: { sec: 1_700_000_000 + index, nsec: 5 },
        requests,
      });
      entries.push({ index: index as Index, term: 1 as Term, kind: "command", payload });
    }
    return entries;
  }

  #request(commands: readonly Command[]): Request {
    const session = this.#session;
    const sequence = session === 0 ? 0 : ++this.#sequence;
    const acknowledgedBelow = Math.max(0, sequence - Math.ceil(outstanding / commands.length));
    return { session, sequence, acknowledgedBelow, atomic: false, commands };
  }
}

function create(parent: InodeId, name: string): Extract<Command, { kind: "create" }> {
  return {
    ...{ kind: "create", parent, name, fileKind: "file", mode: 0o644, uid: 0, gid: 0 },
    ...{ target: undefined, lease: false, exclusive: true, writeType: "MUST_CACHE" },
  };
}

function rename(parent: InodeId, from: string, to: string): Command {
  const [source, target] = [{ sourceParent: parent }, { targetParent: parent }];
  return {
    ...{ kind: "rename", ...source, sourceName: from, ...target, targetName: to },
    noReplace: false,
  };
}

function unlink(parent: InodeId, name: string): Command {
  return { kind: "unlink", parent, name, held: false };
}
