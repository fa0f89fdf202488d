/**
 * A worker: its tiers, the block service over NATS, the control RPC, and the line to the masters. This file puts the
 * parts together; none of them knows of the others' beginnings and ends.
 */
import { rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { createBlockClient } from "../blocks/client.ts";
import { connectBlocks } from "../blocks/connection.ts";
import { serveBlocks } from "../blocks/server.ts";
import { systemClock } from "../lib/clock.ts";
import { readClusterSecret } from "../lib/cluster-secret.ts";
import type { Config } from "../lib/config.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { LocalRunner } from "../lineage/local-runner.ts";
import { masterApi } from "../rpc/master-api.ts";
import { MasterConnection } from "../rpc/master-connection.ts";
import { RpcServer } from "../rpc/server.ts";
import { proveWorker } from "../rpc/worker-proof.ts";
import { openUfs } from "../ufs/open.ts";
import { BlockLoader } from "./block-loader.ts";
import { WorkerBlockService } from "./block-service.ts";
import { BlockStore } from "./block-store.ts";
import { bindToCluster } from "./cluster-binding.ts";
import { ContainerWriters } from "./container-sink.ts";
import { serveControl } from "./control-server.ts";
import { WorkerHeartbeat } from "./heartbeat.ts";
import { type LayoutSourceOptions, readRangeOf, readWholeFile } from "./layout-source.ts";
import { BlockLeases } from "./leases.ts";
import { TaskExecutor } from "./task-executor.ts";
import { openTiers, usageOf, workerUuid } from "./tiers.ts";
import { type PinsOptions, watchPins } from "./pins.ts";
import { UfsMounts } from "./ufs-mounts.ts";

export interface RunningWorker {
  /** Port of the control RPC. */
  readonly port: number;
  readonly uuid: string;
  /** Resolves when the masters know the worker and it serves blocks; rejects when it cannot. */
  readonly registered: Promise<WorkerId>;
  /** Resolves when the worker cannot go on; it is to be stopped then. */
  readonly failure: Promise<WeirError>;
  stop(): Promise<void>;
}

/** Tasks at once, jobs apart: listings and side effects on stores. The leader gives a part of them to each mount. */
const storeTaskSlots = 32;
/** How long the start waits for NATS. */
const natsWaitMs = 2000;
const pinsDeadlineMs = 5000;
const mountTargetsDeadlineMs = 10_000;
/** libuv's own choice. */
const threadsByDefault = 4;

/**
 * Starts a worker: takes over what its tiers hold, then registers and serves in the background. `threads` are those that
 * the process has for blocking calls.
 * @throws WeirError `Busy` when another worker uses a directory, and what the file system or the port say
 */
export async function startWorker(
  config: Config,
  logger: Logger,
  { threads }: { readonly threads: number } = { threads: threadsByDefault },
): Promise<RunningWorker> {
  const { clusterName, worker: own } = config;
  const { secretFile } = config.security;
  const introduce =
    secretFile === undefined ? undefined : proveWorker(readClusterSecret(secretFile));
  const tiers = await openTiers(own.tiers);
  const store = await BlockStore.open({ tiers, blockSizeBytes: own.blockSizeBytes, logger });
  const uuid = await workerUuid(tiers);
  // Other workers of this machine may use the same directory. Attempts that were cut short are of no use to anybody.
  const scratchDir = join(own.scratchDir, `worker-${uuid}`);
  await rm(scratchDir, { recursive: true, force: true });

  let rpc: RpcServer;
  try {
    rpc = await RpcServer.listen({ host: own.host, port: own.port, logger });
  } catch (error) {
    await store.close();
    throw error;
  }
  const masters = new MasterConnection({
    masters: config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort })),
    logger,
    clock: systemClock,
    introduce,
  });
  const { urls, user, password } = config.nats;
  const name = `weir-worker-${uuid.slice(0, 8)}`;
  const connection = await connectBlocks({ urls, user, password, name, logger });
  const client = createBlockClient(connection, { clusterName, logger });
  const mounts = new UfsMounts({
    targets: async () => {
      const options = { deadlineMs: mountTargetsDeadlineMs, idempotent: true };
      return (await masters.call(masterApi.mountTargets, {}, options)).mounts;
    },
    open: openUfs,
    clock: systemClock,
    // Some threads are left to the tiers and to the other mounts, whatever one store does.
    localInFlight: Math.max(3, Math.floor(threads / 4)),
  });
  const loader = new BlockLoader({ store, mounts, logger });
  const writers = new ContainerWriters(store);
  const service = new WorkerBlockService(store, loader, writers);
  const leases = new BlockLeases({ store, clock: systemClock, leaseMs: own.blockLeaseMs });

  let id: WorkerId | undefined;
  const sources: LayoutSourceOptions = {
    read: (request, ended) => service.read(request, ended),
    client,
    worker: () => id,
  };
  const executor = new TaskExecutor({
    store,
    writers,
    runner: new LocalRunner(),
    scratchDir,
    readFile: (layout, signal) => readWholeFile(layout, sources, signal),
    readRange: (layout, range, signal) => readRangeOf(layout, range, sources, signal),
    client,
    mounts,
    jobs: own.jobs,
    jobSlots: own.jobSlots,
    logger,
  });
  serveControl(rpc, {
    store,
    leases,
    uuid,
    worker: () => id,
    counters: () => [
      { name: "bytesStreamed", value: service.streamedBytes },
      { name: "bytesReadFromStores", value: loader.storeBytes },
      { name: "bytesWritten", value: writers.writtenBytes },
      { name: "evictions", value: store.evictions },
      { name: "jobsRun", value: executor.jobsRun },
    ],
  });

  let fail: (error: WeirError) => void = () => undefined;
  const failure = new Promise<WeirError>((resolve) => {
    fail = resolve;
  });
  const heartbeat = new WorkerHeartbeat({
    masters,
    store,
    identity: {
      uuid,
      host: hostname(),
      address: `${own.host}:${rpc.port}`,
      tiers: usageOf(tiers),
    },
    heartbeatMs: own.heartbeatMs,
    execute: (task, attempt) => executor.execute(task, attempt),
    slots: storeTaskSlots + (own.jobs ? own.jobSlots : 0),
    jobs: own.jobs,
    unhealthy: () => mounts.unhealthy(),
    blockSizeBytes: own.blockSizeBytes,
    logger,
    onFatal: fail,
  });

  let served: { close(): Promise<void> } | undefined;
  let stopped = false;
  const stopping = new AbortController();
  const askPins: PinsOptions["ask"] = async (inodes, signal) => {
    const options = { deadlineMs: pinsDeadlineMs, idempotent: true, from: "any", signal } as const;
    const { any, pinned } = await masters.call(masterApi.pinned, { inodes }, options);
    return any ? new Set(pinned) : undefined;
  };
  const begin = async (): Promise<WorkerId> => {
    const { worker, clusterId, blockSizeBytes } = await heartbeat.register();
    if (blockSizeBytes !== undefined && blockSizeBytes !== own.blockSizeBytes) {
      throw new WeirError(
        "ConfigInvalid",
        `Cannot join the cluster: "worker.blockSizeBytes" is ${own.blockSizeBytes}, and its blocks have ${blockSizeBytes} bytes for ever`,
      );
    }
    await bindToCluster(store, clusterId, logger);
    if (stopped) throw new WeirError("Cancelled", "The worker was stopped");
    id = worker;
    served = serveBlocks(connection, { clusterName, worker, service, logger });
    heartbeat.start();
    void watchPins({ store, ask: askPins, logger }, stopping.signal);
    // Who is told that the worker is there should reach it; without NATS it still serves local readers and tasks.
    await connection.subscribed(natsWaitMs).catch(() => undefined);
    return worker;
  };
  const registered = begin();
  registered.catch((error: unknown) => {
    if (!stopped) fail(toWeirError(error, "Cannot register the worker"));
  });

  return {
    port: rpc.port,
    uuid,
    registered,
    failure,
    stop: async () => {
      if (stopped) return;
      stopped = true;
      stopping.abort(new WeirError("Unavailable", "The worker stops"));
      await heartbeat.stop();
      await registered.catch(() => undefined);
      await served?.close();
      await rpc.close();
      leases.close();
      await client.close();
      await connection.close();
      await loader.close();
      masters.close();
      await mounts.close();
      await store.close();
      await rm(scratchDir, { recursive: true, force: true });
    },
  };
}
