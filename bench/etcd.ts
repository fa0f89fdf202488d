/**
 * The peer of the metadata bench: three etcd members on this machine (Debian's etcd-server), measured by etcd's own
 * load generator (`etcdctl check perf`).
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePorts } from "../test/lib/free-ports.ts";

export interface EtcdFigures {
  /** Puts per second over 60 s with 1,000 clients, each write synced by a majority. */
  readonly writesPerSecond: number;
  readonly slowestMs: number;
}

/** `--load=xl` stops at this rate: a result at the cap says nothing of the peer. */
const capPerSecond = 15_000;

/** @throws Error when etcd is missing, fails, or ran into its load generator's cap */
export async function measureEtcd(): Promise<EtcdFigures> {
  const directory = await mkdtemp(join(tmpdir(), "weir-bench-etcd-"));
  const members: ChildProcess[] = [];
  try {
    const ports = await freePorts(6);
    const peers = [0, 1, 2].map((i) => `http://127.0.0.1:${ports[2 * i]!}`);
    const clients = [0, 1, 2].map((i) => `http://127.0.0.1:${ports[2 * i + 1]!}`);
    const cluster = peers.map((url, i) => `m${i}=${url}`).join(",");
    for (const i of [0, 1, 2]) {
      const member = spawn(
        "etcd",
        [
          ...["--name", `m${i}`, "--data-dir", join(directory, `m${i}`)],
          ...["--listen-peer-urls", peers[i]!, "--initial-advertise-peer-urls", peers[i]!],
          ...["--listen-client-urls", clients[i]!, "--advertise-client-urls", clients[i]!],
          ...["--initial-cluster", cluster, "--initial-cluster-state", "new"],
        ],
        { stdio: "ignore" },
      );
      member.on("error", () => undefined);
      members.push(member);
    }
    const endpoints = `--endpoints=${clients.join(",")}`;
    await etcdctl([endpoints, "--command-timeout=30s", "--dial-timeout=30s", "put", "ready", "1"]);
    const report = await etcdctl([endpoints, "check", "perf", "--load=xl"], 120_000);
    const writesPerSecond = Number(/hroughput (?:is|too low:) (\d+)/.exec(report)?.[1]);
    const slowest = Number(/lowest request took (?:too long: )?([\d.]+)/.exec(report)?.[1]);
    if (!Number.isFinite(writesPerSecond)) {
      throw new Error(`Cannot read the report of "etcdctl check perf": ${report}`);
    }
    if (writesPerSecond > 0.99 * capPerSecond) {
      throw new Error(
        `Cannot compare with etcd: its load generator stopped at its cap (${writesPerSecond}/s)`,
      );
    }
    return { writesPerSecond, slowestMs: slowest * 1000 };
  } finally {
    for (const member of members) {
      if (member.exitCode === null && member.pid !== undefined) {
        member.kill("SIGKILL");
        await once(member, "exit");
      }
    }
    await rm(directory, { recursive: true, force: true });
  }
}

async function etcdctl(args: readonly string[], timeout = 60_000): Promise<string> {
  try {
    const environment = { ...process.env, ETCDCTL_API: "3" };
    const { stdout } = await promisify(execFile)("etcdctl", args, { env: environment, timeout });
    return stdout;
  } catch (error) {
    const failed = error as { code?: unknown; stdout?: string; stderr?: string };
    if (failed.code === "ENOENT") {
      throw new Error(
        "Cannot measure etcd: it is not installed: apt-get install etcd-server etcd-client",
        { cause: error },
      );
    }
    // "check perf" exits 1 when the rate is below its own aim: that is a result, not a failure.
    if (failed.stdout?.includes("hroughput")) return failed.stdout;
    throw new Error(`Cannot run etcdctl ${args.join(" ")}: ${failed.stderr ?? String(error)}`, {
      cause: error,
    });
  }
}
