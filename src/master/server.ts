/**
 * A master: journal, state, consensus and RPC put together. Clients see it once it listens; it answers `NotLeader`
 * until it leads.
 */
import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, sleep, systemClock, systemRandom } from "../lib/clock.ts";
import { type ClusterSecret, readClusterSecret } from "../lib/cluster-secret.ts";
import type { Config, MasterAddress } from "../lib/config.ts";
import { WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { packageVersion } from "../lib/version.ts";
import { openThreadedFiles } from "../journal/files.ts";
import { openJournal } from "../journal/journal.ts";
import { RaftNode } from "../raft/node.ts";
import { RpcServer } from "../rpc/server.ts";
import { checkRestored } from "./backup/restore.ts";
import { ChangeFeed } from "./services/change-feed.ts";
import { Identities } from "./services/identities.ts";
import { LeaderServices } from "./services/leader-services.ts";
import { Leadership, type Reign } from "./services/leadership.ts";
import { Locations } from "./services/locations.ts";
import { type AppliedEvent, MachineHost } from "./services/machine-host.ts";
import type { MasterParts } from "./services/parts.ts";
import { Pauses } from "./services/pauses.ts";
import { PendingMoves } from "./services/pending-moves.ts";
import { Proposer } from "./services/proposer.ts";
import { serveBackup } from "./services/serve-backup.ts";
import { serveFsck } from "./services/serve-fsck.ts";
import { serveCluster } from "./services/serve-cluster.ts";
import { serveEffects } from "./services/serve-effects.ts";
import { serveLineage } from "./services/serve-lineage.ts";
import { serveNamespace } from "./services/serve-namespace.ts";
import { servePaths } from "./services/serve-paths.ts";
import { serveSessions } from "./services/serve-sessions.ts";
import { serveSync } from "./services/serve-sync.ts";
import { serveWorkers } from "./services/serve-workers.ts";
import { serveWorkerProofs, WorkerProofs } from "./services/worker-proofs.ts";
import { WorkerRegistry } from "./services/worker-registry.ts";
import { clockOf, clusterOf } from "./state/queries.ts";
import { openStateStore } from "./store/level-store.ts";

/** Longest wait for the next leader to decide what this one had under way. */
const handOverMs = 1000;
/** So long a leader that goes stays as a follower: closing takes a core and cuts connections, just when the heir needs both. */
const lingerMs = 300;

export interface RunningMaster {
  readonly rpcPort: number;
  readonly raftPort: number;
  /** Resolves when the master serves, or begins a cluster; not while it waits to be added to one that is there. */
  readonly ready: Promise<void>;
  /** Resolves when the master cannot go on; the process is to exit. */
  readonly failure: Promise<Error>;
  /** Closes connections, flushes the state and closes all files. */
  stop(): Promise<void>;
}

/**
 * Starts the master `name` of the configuration, with its files in `master.dataDir`, which no other master may share.
 * @throws WeirError `ConfigInvalid` for an unknown name; `Corrupt` for a damaged journal; `Unavailable` for a port or a
 *   directory in use
 */
export async function startMaster(
  config: Config,
  name: string,
  logger: Logger,
): Promise<RunningMaster> {
  const own = config.masters.find((master) => master.name === name);
  if (own === undefined) {
    const known = config.masters.map((master) => master.name).join(", ");
    throw new WeirError(
      "ConfigInvalid",
      `Cannot start master "${name}": the configuration names ${known}`,
    );
  }
  const { secretFile } = config.security;
  const secret = secretFile === undefined ? undefined : readClusterSecret(secretFile);
  const opened: { close(): Promise<void> }[] = [];
  try {
    return await start({ config, own, secret, logger }, opened);
  } catch (error) {
    for (const each of opened.reverse()) await each.close().catch(() => undefined);
    throw error;
  }
}

async function start(
  by: {
    readonly config: Config;
    readonly own: MasterAddress;
    readonly secret: ClusterSecret | undefined;
    readonly logger: Logger;
  },
  opened: { close(): Promise<void> }[],
): Promise<RunningMaster> {
  const { config, own, secret, logger } = by;
  const clock: Clock = systemClock;
  let fail: (error: Error) => void = () => undefined;
  const failure = new Promise<Error>((resolve) => {
    fail = resolve;
  });
  const end = (error: Error) => {
    // Nobody waits here for what will not come any more.
    leadership.stop();
    fail(error);
  };
  const directory = config.master.dataDir;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  checkRestored(directory);
  const journal = await openJournal({
    directory: join(directory, "journal"),
    openFiles: openThreadedFiles,
    segmentBytes: config.master.segmentBytes,
    reservedDiskBytes: config.master.reservedDiskBytes,
    clock,
    logger,
  });
  opened.push(journal);
  const store = await openStateStore({
    directory: join(directory, "state"),
    clock,
    logger,
    scrubs: true,
    onFailure: (error) => end(error),
  });
  opened.push(store);

  const feed = new ChangeFeed(store.appliedIndex);
  const locations = new Locations();
  const registry = new WorkerRegistry({ clock, locations });
  const moves = new PendingMoves(store);
  /** What comes to be after those who use it. */
  const late: { services: LeaderServices | undefined; raft: RaftNode | undefined } = {
    services: undefined,
    raft: undefined,
  };

  const machine = new MachineHost({
    store,
    onApplied: (event: AppliedEvent) => {
      const { index, term, applied } = event;
      leadership.applied(term);
      if (applied !== undefined) feed.publish(index, applied.changes);
      moves.applied(applied?.events ?? []);
      proposer.applied(event);
      late.services?.applied(event);
    },
    onInstalled: (index) => {
      feed.reset(index);
      moves.replaced();
      proposer.installed(index);
    },
  });
  const leadership: Leadership = new Leadership({
    clock,
    logger,
    lastClusterTimeMs: () => clockOf(store).clusterTimeMs,
    isBootstrapped: () => clusterOf(store) !== undefined,
    onEmpty: () => proposer.bootstrap(firstCommand(config)),
    onReign: (reign: Reign) => {
      late.services = new LeaderServices({
        config,
        reader: store,
        appliedIndex: () => store.appliedIndex,
        oldestVersion: () => late.raft?.oldestVersion ?? 0,
        proposer,
        leadership,
        locations,
        registry,
        moves,
        reign,
        clock,
        logger,
      });
      registry.releasePolls();
      reign.signal.addEventListener("abort", () => {
        late.services = undefined;
        proposer.leadershipLost();
        registry.releasePolls();
      });
    },
  });
  const proposer: Proposer = new Proposer({
    clock,
    leadership,
    propose: (payload) => {
      if (late.raft === undefined) throw leadership.error();
      return late.raft.propose(payload);
    },
    isStoreFull: () => store.full,
    isHandingOver: () => late.raft?.isHandingOver ?? false,
    beforeTurn: (callback) => {
      if (late.raft === undefined) setImmediate(callback);
      else late.raft.beforeTurn(callback);
    },
  });

  const node = await RaftNode.start({
    name: own.name,
    clusterName: config.clusterName,
    peers: config.masters.map((each) => ({
      name: each.name,
      host: each.host,
      port: each.raftPort,
      rpcPort: each.rpcPort,
    })),
    listen: { host: own.host, port: own.raftPort },
    journal,
    machine,
    clock,
    random: systemRandom,
    logger,
    tickMs: config.master.tickMs,
    heartbeatTicks: config.master.heartbeatTicks,
    electionTicks: config.master.electionTicks,
    retainedEntries: config.master.retainedEntries,
    retainedBytes: config.master.retainedBytes,
    snapshotDirectory: join(directory, "incoming"),
    onStatus: (status) => leadership.update(status),
    onFatal: end,
  });
  late.raft = node;
  opened.push({ close: () => node.stop() });

  const identities = await Identities.open({
    security: config.security,
    ownUid: process.geteuid?.() ?? 0,
    clock,
    logger,
  });
  const pauses = new Pauses(clock);
  const proofs = new WorkerProofs(secret);
  opened.push({ close: async () => pauses.close() });
  const server = await RpcServer.listen({
    host: own.host,
    port: own.rpcPort,
    logger,
    identify: (request) => identities.identified(request),
  });
  opened.push(server);
  const parts: MasterParts = {
    name: own.name,
    version: packageVersion(),
    config,
    store,
    machine,
    raft: node,
    leadership,
    proposer,
    feed,
    locations,
    registry,
    pauses,
    proofs,
    clock,
    logger,
    leader: async (signal) => {
      await leadership.whenReigning(signal);
      const { services } = late;
      if (services === undefined) throw leadership.error();
      await moves.ready;
      return services;
    },
    leading: () => (leadership.reign === undefined ? undefined : late.services),
  };
  serveEffects(server, parts);
  serveSessions(server, parts);
  serveNamespace(server, parts);
  servePaths(server, parts);
  serveSync(server, parts);
  serveWorkerProofs(server, proofs);
  serveWorkers(server, parts);
  serveLineage(server, parts);
  serveCluster(server, parts);
  serveBackup(server, parts);
  serveFsck(server, parts);

  return {
    rpcPort: server.port,
    raftPort: node.port,
    ready: node.ready,
    failure,
    async stop() {
      await handOver(node, machine);
      leadership.stop();
      registry.releasePolls();
      await server.close();
      pauses.close();
      await node.stop();
      await store.close();
      await journal.close();
    },
  };
}

/**
 * A planned end need not cost the clients an election timeout: another master leads first. What was proposed here before
 * is decided by that one and answered here, and who asks here meanwhile is told where to go.
 */
async function handOver(node: RaftNode, machine: MachineHost): Promise<void> {
  if (node.status.role !== "leader" || node.members().length === 1) return;
  try {
    await node.transferLeadership();
    const { lastIndex } = node.status;
    await machine.waitApplied(lastIndex, AbortSignal.timeout(handOverMs));
    await sleep(lingerMs);
  } catch {
    // Nobody took it, or nobody decided: the clients find the next leader by themselves.
  }
}

/** What makes a cluster: its identity and the mount of "/". */
function firstCommand(config: Config): Parameters<Proposer["bootstrap"]>[0] {
  return {
    kind: "bootstrap",
    clusterId: randomUUID(),
    clusterName: config.clusterName,
    blockSizeBytes: config.worker.blockSizeBytes,
    rootUri: config.master.rootUri,
    rootOptions: config.master.rootOptions,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
  };
}
