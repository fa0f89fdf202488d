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

/**
 * What the tiers and blocks of a local cluster measure, in bytes. The first start chooses; the block size is fixed from
 * then on by the masters' log, so a later start of the same state takes these from weir.yaml.
 */
export interface Sizes {
  /** A power of two. */
  readonly blockSizeBytes: number;
  /** Of one worker's memory tier; 0: it has none. */
  readonly memoryQuotaBytes: number;
  /** Of one worker's disk tier. */
  readonly diskQuotaBytes: number;
}

export const workerNames = ["worker-1", "worker-2"] as const;

const mebibyte = 1024 ** 2;
const gibibyte = 1024 ** 3;
const largestBlockBytes = 64 * mebibyte;
/** A smaller memory tier is not worth its directory. */
const leastMemoryTierBytes = 16 * mebibyte;

/** Sizes for a first start: half of the memory that is free, shared by the workers; a quarter of the disk each. */
export function sizesFor(space: Space): Sizes {
  const wanted = Math.min(gibibyte, Math.floor(space.memoryBytes / 2 / workerNames.length));
  const memoryQuotaBytes = wanted < leastMemoryTierBytes ? 0 : wanted;
  const eighth = memoryQuotaBytes === 0 ? largestBlockBytes : memoryQuotaBytes / 8;
  return {
    blockSizeBytes: 2 ** Math.floor(Math.log2(Math.min(largestBlockBytes, eighth))),
    memoryQuotaBytes,
    diskQuotaBytes: Math.max(
      64 * mebibyte,
      Math.min(10 * gibibyte, Math.floor(space.diskBytes / 4)),
    ),
  };
}

/** The sizes that an earlier start wrote into its weir.yaml. @throws WeirError `ConfigInvalid` */
export function sizesOf(layout: Layout, text: string): Sizes {
  const { blockSizeBytes, tiers } = localConfig(layout, text).worker;
  const quotaOf = (medium: TierConfig["medium"]) =>
    tiers.find((tier) => tier.medium === medium)?.quotaBytes ?? 0;
  return { blockSizeBytes, memoryQuotaBytes: quotaOf("MEM"), diskQuotaBytes: quotaOf("SSD") };
}

/** The text of weir.yaml. Its tiers are those of the first worker; each worker's own come by its environment. */
export function localConfigText(layout: Layout, ports: ClusterPorts, sizes: Sizes): string {
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
      blockSizeBytes: sizes.blockSizeBytes,
      tiers: workerTiers(layout, workerNames[0], sizes),
    },
    security: { secretFile: layout.secret },
    fuse: { mountPoint: layout.mountPoint },
  };
  return `# Made by "weir start"; made anew at each start; with --keep, the sizes stay.\n${stringify(values)}`;
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
  sizes: Sizes,
): Record<string, string> {
  return {
    WEIR_WORKER_TIERS: JSON.stringify(workerTiers(layout, name, sizes)),
    WEIR_WORKER_SCRATCH_DIR: join(layout.state, name, "jobs"),
  };
}

/** The tiers of one worker, memory first. */
export function workerTiers(layout: Layout, name: string, sizes: Sizes): TierConfig[] {
  const memory: TierConfig = {
    medium: "MEM",
    directories: [join(layout.memory, name)],
    quotaBytes: sizes.memoryQuotaBytes,
  };
  const disk: TierConfig = {
    medium: "SSD",
    directories: [join(layout.state, name, "blocks")],
    quotaBytes: sizes.diskQuotaBytes,
  };
  return sizes.memoryQuotaBytes === 0 ? [disk] : [memory, disk];
}
