/**
 * The configuration of a local cluster: one weir.yaml for all its processes and clients, and the few values in which
 * one process differs from the next, as environment variables.
 */
import { join } from "node:path";
import { stringify } from "yaml";
import { type Config, loadConfig, type TierConfig } from "../../lib/config.ts";
import { fileUri, type Layout } from "./layout.ts";
import type { ClusterPorts } from "./ports.ts";

/** Space that the tiers may use, in bytes. */
export interface Space {
  /** Free on the tmpfs of the memory tiers; 0: there is none. */
  readonly memoryBytes: number;
  /** Free on the file system of the state directory. */
  readonly diskBytes: number;
}

export const workerNames = ["worker-1", "worker-2"] as const;

const mebibyte = 1024 ** 2;
const gibibyte = 1024 ** 3;
/** A smaller memory tier is not worth its directory. */
const leastMemoryTierBytes = 16 * mebibyte;

/** The text of weir.yaml. */
export function localConfigText(layout: Layout, ports: ClusterPorts, space: Space): string {
  const blockSizeBytes = Math.min(
    64 * mebibyte,
    Math.max(mebibyte, Math.floor(memoryQuotaBytes(space) / 8)),
  );
  const values = {
    masters: ports.masters.map((master, index) => ({
      name: `master-${String(index + 1)}`,
      host: "127.0.0.1",
      rpcPort: master.rpc,
      raftPort: master.raft,
    })),
    nats: { urls: [`nats://127.0.0.1:${String(ports.nats)}`] },
    master: {
      rootUri: fileUri(layout.root),
      // One machine, no network between: a silent worker is known to be gone sooner than the default.
      workerTimeoutMs: 5000,
      // Three masters share this disk; each fills a quarter of this before it opens the next segment.
      segmentBytes: 16 * mebibyte,
    },
    worker: {
      heartbeatMs: 500,
      blockSizeBytes: space.memoryBytes === 0 ? 64 * mebibyte : blockSizeBytes,
    },
    fuse: { mountPoint: layout.mountPoint },
  };
  return `# Made by "weir start"; made anew at each start.\n${stringify(values)}`;
}

/** The configuration that this text means, for the supervisor itself. */
export function localConfig(layout: Layout, text: string): Config {
  return loadConfig({ file: { path: layout.config, text } });
}

/** Variables of one master's process. */
export function masterEnvironment(layout: Layout, name: string): Record<string, string> {
  return { WEIR_MASTER_DATA_DIR: join(layout.state, name) };
}

/** Variables of one worker's process: its own tiers and scratch directory. */
export function workerEnvironment(
  layout: Layout,
  name: string,
  space: Space,
): Record<string, string> {
  return {
    WEIR_WORKER_TIERS: JSON.stringify(workerTiers(layout, name, space)),
    WEIR_WORKER_SCRATCH_DIR: join(layout.state, name, "jobs"),
  };
}

/** The tiers of one worker, memory first. */
export function workerTiers(layout: Layout, name: string, space: Space): TierConfig[] {
  const memory: TierConfig = {
    medium: "MEM",
    directories: [join(layout.memory, name)],
    quotaBytes: memoryQuotaBytes(space),
  };
  const disk: TierConfig = {
    medium: "SSD",
    directories: [join(layout.state, name, "blocks")],
    quotaBytes: Math.max(64 * mebibyte, Math.min(10 * gibibyte, Math.floor(space.diskBytes / 4))),
  };
  return memory.quotaBytes < leastMemoryTierBytes ? [disk] : [memory, disk];
}

/** Half of what is free, shared by the workers, at most 1 GiB each. */
function memoryQuotaBytes(space: Space): number {
  return Math.min(gibibyte, Math.floor(space.memoryBytes / 2 / workerNames.length));
}
