/** Starts a real nats-server for a test, on a port that the system chooses, and ends it by its handle. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../src/lib/clock.ts";

export interface TestNatsServer {
  readonly url: string;
  readonly port: number;
  /** Ends it with SIGKILL; `start` brings it back at the same port. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT. */
  pause(): void;
  resume(): void;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

/** @throws Error when no nats-server can be run: install the package `nats-server` */
export async function startNatsServer(
  options: { config?: string | undefined } = {},
): Promise<TestNatsServer> {
  const directory = await mkdtemp(join(tmpdir(), "weir-nats-"));
  let child: ChildProcess | undefined;
  let port = -1;

  const start = async (): Promise<void> => {
    const args = ["-a", "127.0.0.1", "-p", String(port), "--ports_file_dir", directory];
    if (options.config !== undefined) {
      const file = join(directory, "nats.conf");
      await writeFile(file, options.config);
      args.push("-c", file);
    }
    const server = spawn("nats-server", args, { stdio: ["ignore", "ignore", "pipe"] });
    child = server;
    let log = "";
    server.stderr.on("data", (text: Buffer) => {
      log = (log + text.toString()).slice(-4000);
    });
    let failed: Error | undefined;
    server.on("error", (error) => {
      failed = error;
    });
    const until = performance.now() + 10_000;
    while (performance.now() < until && failed === undefined && server.exitCode === null) {
      const name = (await readdir(directory)).find((each) => each.endsWith(`${server.pid}.ports`));
      const ports = name === undefined ? "" : await readFile(join(directory, name), "utf8");
      if (ports !== "" && log.includes("Server is ready")) {
        const { nats } = JSON.parse(ports) as { nats: string[] };
        port = Number(new URL(nats[0]!).port);
        return;
      }
      await sleep(10);
    }
    server.kill("SIGKILL");
    throw new Error(`Cannot start nats-server: ${failed?.message ?? log}`);
  };

  const kill = async (): Promise<void> => {
    const server = child;
    child = undefined;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, "exit");
    server.kill("SIGKILL");
    await gone;
  };

  await start();
  return {
    get url() {
      return `nats://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    kill,
    start,
    pause: () => child?.kill("SIGSTOP"),
    resume: () => child?.kill("SIGCONT"),
    stop: async () => {
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
