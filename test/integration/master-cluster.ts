/**
 * Three real master processes on loopback and what a test needs around them: a worker that only lists directories, and a
 * client that only speaks the RPC.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { stringify } from "yaml";
import { systemClock } from "../../src/lib/clock.ts";
import { toWeirError } from "../../src/lib/errors.ts";
import { type InodeId, rootInodeId, type SessionId, type WorkerId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { Infer } from "../../src/lib/schema.ts";
import { type ClientCommand, type CommandResult, unwrap } from "../../src/rpc/commands.ts";
import type { RpcClient } from "../../src/rpc/client.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { MasterConnection } from "../../src/rpc/master-connection.ts";
import type { FileStatus } from "../../src/rpc/namespace.ts";
import type { Task, TaskResult } from "../../src/rpc/tasks.ts";
import { openUfs } from "../../src/ufs/open.ts";
import { eventually } from "../lib/eventually.ts";
import { damageIn } from "../lib/fsck.ts";
import { freePorts } from "../lib/free-ports.ts";
import { ControlledProcess, programOf } from "../lib/local-cluster.ts";

export type MasterStatus = Infer<typeof masterApi.status.response>;

export interface MasterConfig {
  readonly name: string;
  readonly host: string;
  readonly rpcPort: number;
  readonly raftPort: number;
}

export class MasterCluster {
  readonly directory: string;
  readonly configPath: string;
  /** Both in the order in which the masters were defined. */
  readonly masters: ControlledProcess[] = [];
  readonly configs: MasterConfig[] = [];
  readonly #master: object;

  private constructor(directory: string, master: object) {
    this.directory = directory;
    this.configPath = join(directory, "weir.yaml");
    this.#master = master;
  }

  get addresses(): readonly { host: string; port: number }[] {
    return this.configs.map(({ host, rpcPort }) => ({ host, port: rpcPort }));
  }

  /** Starts `count` masters with their files below `directory`; the root is mounted on `directory`/root. */
  static async start(
    directory: string,
    options: { count?: number; master?: object } = {},
  ): Promise<MasterCluster> {
    const cluster = await MasterCluster.prepare(directory, options);
    try {
      await cluster.startAll();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  /** As `start`, but no process runs yet. */
  static async prepare(
    directory: string,
    options: { count?: number; master?: object } = {},
  ): Promise<MasterCluster> {
    const { count = 3, master = {} } = options;
    const ports = await freePorts(2 * count);
    await mkdir(join(directory, "root"), { recursive: true });
    const configs = Array.from({ length: count }, (_, i) => ({
      ...{ name: `master-${String(i + 1)}`, host: "127.0.0.1" },
      ...{ rpcPort: ports[i]!, raftPort: ports[count + i]! },
    }));
    const cluster = new MasterCluster(directory, {
      rootUri: `file://${directory}/root`,
      ...master,
    });
    for (const config of configs) cluster.#define(config);
    await cluster.writeConfig();
    return cluster;
  }

  /** Lists one more master in the configuration, at free ports; its process is not started. */
  async define(name: string): Promise<ControlledProcess> {
    const [rpcPort, raftPort] = await freePorts(2);
    const process = this.#define({
      name,
      host: "127.0.0.1",
      rpcPort: rpcPort!,
      raftPort: raftPort!,
    });
    await this.writeConfig();
    return process;
  }

  /** Writes the configuration with the masters defined so far, or those of these names only. */
  async writeConfig(names?: readonly string[]): Promise<void> {
    const masters = this.configs.filter(({ name }) => names?.includes(name) ?? true);
    await writeFile(this.configPath, stringify({ masters, master: this.#master }));
  }

  /** The data directory of the master at a place. */
  dataDir(place: number): string {
    return join(this.directory, this.configs[place]!.name);
  }

  /** Starts a master that has no data while others have: it listens for the others and says no READY until it is added. */
  async startEmpty(name: string): Promise<ControlledProcess> {
    const place = this.configs.findIndex((each) => each.name === name);
    const { host, raftPort: port } = this.configs[place]!;
    this.masters[place]!.start();
    await eventually(`${name} to listen`, async () => {
      const socket = connect({ host, port });
      const [event] = (await Promise.race([
        once(socket, "connect").then(() => ["connect"]),
        once(socket, "close").then(() => ["close"]),
      ])) as [string];
      socket.destroy();
      return event === "connect";
    });
    return this.masters[place]!;
  }

  /** What the master at a place has logged since it was last started. */
  async log(place: number): Promise<string> {
    return readFile(join(this.directory, `${this.configs[place]!.name}.log`), "utf8");
  }

  #define(config: MasterConfig): ControlledProcess {
    const { name } = config;
    const process_ = new ControlledProcess({
      name,
      command: process.execPath,
      args: [...programOf("master"), "--config", this.configPath, "--name", name],
      logPath: join(this.directory, `${name}.log`),
      environment: { WEIR_MASTER_DATA_DIR: join(this.directory, name) },
    });
    this.configs.push(config);
    this.masters.push(process_);
    return process_;
  }

  async startAll(): Promise<void> {
    await Promise.all(
      this.masters.map(async (each) => {
        if (!each.running) each.start();
        await each.ready();
      }),
    );
  }

  connect(): MasterConnection {
    return new MasterConnection({
      masters: this.addresses,
      logger: silentLogger,
      clock: systemClock,
    });
  }

  /** Place of the master that leads, as soon as one says so and is ready. */
  async leader(connection: MasterConnection): Promise<number> {
    return eventually("a leader", async () => {
      for (const [place, master] of connection.each.entries()) {
        const status = await statusOf(master);
        if (status?.role === "leader") return { place };
      }
      return undefined;
    }).then(({ place }) => place);
  }

  /**
   * What all masters say of themselves once they are at one index, with their state hashes as of it. No state of theirs may
   * have findings.
   */
  async settled(connection: MasterConnection): Promise<readonly MasterStatus[]> {
    const states = await this.#atOneIndex(connection);
    for (const master of connection.each) assert.deepEqual(await damageIn(master), []);
    return states;
  }

  #atOneIndex(connection: MasterConnection): Promise<readonly MasterStatus[]> {
    return eventually("equal applied indexes", async () => {
      const all = await Promise.all(connection.each.map((master) => statusOf(master, true)));
      const known = all.filter((status) => status !== undefined);
      const same = known.every(
        ({ appliedIndex, hashIndex }) =>
          appliedIndex === known[0]!.appliedIndex && hashIndex === appliedIndex,
      );
      return known.length === all.length && same ? known : undefined;
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.masters.map((each) => each.kill()));
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function statusOf(master: RpcClient, exact = false): Promise<MasterStatus | undefined> {
  return master.call(masterApi.status, { exact }, { deadlineMs: 2000 }).catch(() => undefined);
}

/** A worker that takes no work but listing directories of its stores. */
export class ListingWorker {
  readonly #connection: MasterConnection;
  readonly #stopping = new AbortController();
  #loops: Promise<void>[] = [];
  /** Paths that it listed, one for each page. */
  readonly listed: string[] = [];

  private constructor(connection: MasterConnection) {
    this.#connection = connection;
  }

  static async start(cluster: MasterCluster, uuid = "worker-1"): Promise<ListingWorker> {
    const worker = new ListingWorker(cluster.connect());
    const tiers = [{ medium: "MEM" as const, quotaBytes: 1024 }];
    const { worker: id } = await worker.#connection.call(
      masterApi.registerWorker,
      { uuid, host: "here", address: "127.0.0.1:1", tiers, blockSizeBytes: undefined },
      { deadlineMs: 20_000, idempotent: true },
    );
    worker.#loops = worker.#connection.each.map((master) => worker.#beat(master, id));
    return worker;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#connection.close();
    await Promise.all(this.#loops);
  }

  async #beat(master: RpcClient, worker: WorkerId): Promise<void> {
    const { signal } = this.#stopping;
    for (let sequence = 0; !signal.aborted; ) {
      try {
        const reply = await master.call(
          masterApi.heartbeat,
          {
            worker,
            incarnation: "only",
            sequence,
            full: sequence === 0,
            changed: [],
            removed: [],
            usedBytes: [0],
            freeSlots: 0,
            waitMs: 500,
            complete: undefined,
            jobs: undefined,
          },
          { deadlineMs: 5000, signal },
        );
        sequence = reply.resync ? 0 : sequence + 1;
        for (const task of reply.tasks) void this.#execute(worker, task);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async #execute(worker: WorkerId, task: Task): Promise<void> {
    const { taskId } = task;
    let result: TaskResult = {
      kind: "failed",
      taskId,
      code: "NotSupported",
      message: "it only lists",
    };
    if (task.kind === "listDirectory") {
      const { after, limit, path, mount } = task;
      this.listed.push(path);
      try {
        const store = await openUfs(mount);
        try {
          result = { kind: "listed", taskId, ...(await store.list(path, { after, limit })) };
        } finally {
          await store.close();
        }
      } catch (thrown) {
        const { code, message } = toWeirError(thrown, "Cannot list");
        result = { kind: "failed", taskId, code, message };
      }
    }
    await this.#connection
      .call(
        masterApi.taskResults,
        { worker, results: [result] },
        { deadlineMs: 5000, idempotent: true },
      )
      .catch(() => undefined);
  }
}

/** A session that numbers its requests and sends each again until it is answered. */
export class TestSession {
  readonly connection: MasterConnection;
  readonly id: SessionId;
  #sequence = 0;
  readonly #open = new Set<number>();

  private constructor(connection: MasterConnection, session: SessionId) {
    this.connection = connection;
    this.id = session;
  }

  static async open(connection: MasterConnection): Promise<TestSession> {
    const { session } = await connection.call(
      masterApi.openSession,
      { clientName: "test" },
      { deadlineMs: 20_000, idempotent: true },
    );
    return new TestSession(connection, session);
  }

  async send(
    commands: readonly ClientCommand[],
    deadlineMs = 20_000,
  ): Promise<{ position: number; results: readonly CommandResult[] }> {
    const sequence = this.#sequence++;
    this.#open.add(sequence);
    try {
      return await this.connection.call(
        masterApi.mutate,
        {
          session: this.id,
          sequence,
          acknowledgedBelow: Math.min(...this.#open),
          atomic: false,
          commands,
        },
        { deadlineMs, idempotent: true },
      );
    } finally {
      this.#open.delete(sequence);
    }
  }

  async do(command: ClientCommand): Promise<Extract<CommandResult, { ok: true }>> {
    const { results } = await this.send([command]);
    return unwrap(results[0]!, `Cannot ${command.kind}`);
  }

  create(parent: InodeId, name: string, kind: "file" | "directory" = "file") {
    return this.do(createCommand(parent, name, kind));
  }

  async list(directory: InodeId = rootInodeId): Promise<{ name: string; status: FileStatus }[]> {
    const all: { name: string; status: FileStatus }[] = [];
    for (let after: string | undefined; ; ) {
      const { entries, more } = await this.connection.call(
        masterApi.list,
        { directory, after, limit: 1000, consistency: "linearizable" },
        { deadlineMs: 20_000, idempotent: true },
      );
      all.push(...entries);
      if (!more) return all;
      after = entries[entries.length - 1]!.name;
    }
  }
}

export function createCommand(
  parent: InodeId,
  name: string,
  fileKind: "file" | "directory" = "file",
): ClientCommand {
  return {
    kind: "create",
    parent,
    name,
    fileKind,
    mode: fileKind === "file" ? 0o644 : 0o755,
    uid: 0,
    gid: 0,
    target: undefined,
    lease: false,
    exclusive: true,
    writeType: undefined,
  };
}
