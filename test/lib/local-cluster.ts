/**
 * A whole cluster of real processes on loopback, for tests, the fault harness and benches: nats-server, masters,
 * workers, and a mount where asked. Ports are free ones, state lies under one directory.
 *
 * Invariant: every process is ended through the handle with which it was started; `close` leaves none, and no mount.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { type Config, loadConfig } from "../../src/lib/config.ts";
import { eventually } from "./eventually.ts";
import { freePorts } from "./free-ports.ts";
import { writeSecret } from "./secrets.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));

export interface LocalClusterOptions {
  readonly directory: string;
  readonly masters?: 1 | 3 | 5;
  readonly workers?: number;
  /** Values laid over the generated configuration of all processes, by section. */
  readonly overrides?: { readonly [Section in "master" | "worker" | "client" | "fuse"]?: object };
  /** Milliseconds to wait for a process to say READY. */
  readonly startTimeoutMs?: number;
}

export class LocalCluster {
  readonly directory: string;
  readonly configPath: string;
  readonly config: Config;
  readonly nats: ControlledProcess;
  readonly masters: readonly ControlledProcess[];
  readonly workers: readonly ControlledProcess[];

  private constructor(
    options: LocalClusterOptions,
    configPath: string,
    config: Config,
    natsPort: number,
  ) {
    this.directory = options.directory;
    this.configPath = configPath;
    this.config = config;
    this.nats = new ControlledProcess({
      name: "nats",
      command: natsServer(),
      args: ["-a", "127.0.0.1", "-p", String(natsPort)],
      logPath: join(options.directory, "nats.log"),
      environment: {},
    });
    this.masters = config.masters.map(({ name }) =>
      this.process(name, "master", ["--name", name], {
        WEIR_MASTER_DATA_DIR: join(options.directory, name),
      }),
    );
    this.workers = Array.from({ length: options.workers ?? 2 }, (_, i) => {
      const name = `worker-${i + 1}`;
      const tiers = [
        { medium: "MEM", directories: [join(options.directory, name, "mem")], quotaBytes: 2 ** 29 },
        { medium: "SSD", directories: [join(options.directory, name, "ssd")], quotaBytes: 2 ** 32 },
      ];
      return this.process(name, "worker", [], {
        WEIR_WORKER_TIERS: JSON.stringify(tiers),
        WEIR_WORKER_SCRATCH_DIR: join(options.directory, name, "scratch"),
      });
    });
  }

  /** Starts nats-server, all masters and all workers, and waits until each says READY. */
  static async start(options: LocalClusterOptions): Promise<LocalCluster> {
    const masterCount = options.masters ?? 3;
    const ports = await freePorts(2 * masterCount + 1);
    const natsPort = ports[2 * masterCount]!;
    await mkdir(join(options.directory, "root"), { recursive: true });
    const { master, worker, client, fuse } = options.overrides ?? {};
    const secretFile = join(options.directory, "secret");
    await writeSecret(secretFile);
    const text = stringify({
      masters: Array.from({ length: masterCount }, (_, i) => ({
        name: `master-${i + 1}`,
        rpcPort: ports[2 * i],
        raftPort: ports[2 * i + 1],
      })),
      nats: { urls: [`nats://127.0.0.1:${natsPort}`] },
      master: { rootUri: `file://${join(options.directory, "root")}`, ...master },
      worker: { ...worker },
      client: { ...client },
      security: { secretFile },
      fuse: { mountPoint: join(options.directory, "mnt"), ...fuse },
    });
    const configPath = join(options.directory, "weir.yaml");
    await writeFile(configPath, text);
    const config = loadConfig({ file: { path: configPath, text } });
    const cluster = new LocalCluster(options, configPath, config, natsPort);
    try {
      cluster.nats.start();
      await Promise.all(
        [...cluster.masters, ...cluster.workers].map(async (each) => {
          each.start();
          await each.ready(options.startTimeoutMs);
        }),
      );
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  /** A further process of ours (`src/<part>/main.ts`) on this cluster's configuration; not started yet. */
  process(
    name: string,
    part: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
  ): ControlledProcess {
    const program = programOf(part);
    return new ControlledProcess({
      name,
      command: process.execPath,
      args: [...program, "--config", this.configPath, ...args],
      logPath: join(this.directory, `${name}.log`),
      environment,
    });
  }

  /** Kills everything; the directory is the caller's. */
  async close(): Promise<void> {
    const all = [...this.workers, ...this.masters, this.nats];
    await Promise.all(all.map((each) => each.kill()));
  }
}

/** Built code where `WEIR_TEST_DIST` says that it is fresh (starts faster), else the sources. */
export function programOf(part: string): readonly string[] {
  if (process.env["WEIR_TEST_DIST"] === "1") return [join(repository, "dist/src", part, "main.js")];
  return ["--import", "tsx", join(repository, "src", part, "main.ts")];
}

function natsServer(): string {
  return existsSync("/usr/sbin/nats-server") ? "/usr/sbin/nats-server" : "nats-server";
}

interface ProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly logPath: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** A process that can be killed, paused and started again. Its output goes to its log file. */
export class ControlledProcess {
  readonly name: string;
  readonly #options: ProcessOptions;
  #child: ChildProcess | undefined;

  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.running ? this.#child!.pid : undefined;
  }

  get running(): boolean {
    const child = this.#child;
    return child?.pid !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** @throws Error when it runs already */
  start(): void {
    if (this.running) throw new Error(`Cannot start ${this.name}: it runs already`);
    const { command, args, logPath, environment } = this.#options;
    const log = openSync(logPath, "w");
    this.#child = spawn(command, args, {
      cwd: repository,
      stdio: ["ignore", log, log],
      env: { ...process.env, ...environment },
    });
    this.#child.on("error", () => undefined);
  }

  /** Waits for the READY line; what came with it. */
  async ready(timeoutMs = 30_000): Promise<Record<string, unknown>> {
    return await eventually(
      `${this.name} to be ready (see ${this.#options.logPath})`,
      async () => {
        const log = await readFile(this.#options.logPath, "utf8");
        const line = /^READY (.*)$/m.exec(log);
        if (line !== null) return JSON.parse(line[1]!) as Record<string, unknown>;
        if (!this.running) throw new Error(`${this.name} ended:\n${log.slice(-2000)}`);
        return undefined;
      },
      timeoutMs,
    );
  }

  /** Sends a signal and does not wait for what comes of it. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Resolves with the exit status when the process has ended, whoever ended it. */
  async gone(): Promise<number | null> {
    if (this.#child !== undefined && this.running) await once(this.#child, "exit");
    return this.#child?.exitCode ?? null;
  }

  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  /** kill -9, also of a paused process; resolves when it is gone. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** SIGTERM; resolves with the exit status when it has ended by itself. */
  async stop(): Promise<number | null> {
    await this.#end("SIGTERM");
    return this.#child?.exitCode ?? null;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }
}

/** Runs `use` on a cluster in a fresh directory, and takes both away. */
export async function withCluster<T>(
  options: LocalClusterOptions,
  use: (cluster: LocalCluster) => Promise<T>,
): Promise<T> {
  const cluster = await LocalCluster.start(options);
  try {
    return await use(cluster);
  } finally {
    await cluster.close();
    await rm(options.directory, { recursive: true, force: true });
  }
}
