/** RPC: what workers say, and what they are asked to do. */
import { WeirError } from "../../lib/errors.ts";
import { indexOfPosition, type WorkerId } from "../../lib/ids.ts";
import { unwrap } from "../../rpc/commands.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { effectLeasePart } from "../../rpc/tasks.ts";
import {
  clusterOf,
  containerOf,
  containerUse,
  inodeOf,
  isContainerLost,
  workerOf,
  workersOf,
} from "../state/queries.ts";
import { type MasterParts, readPoint } from "./parts.ts";
import type { Heartbeat } from "./worker-registry.ts";

/** Longest that a heartbeat is held back, whatever the worker asks for: silence must not look like death. */
const longestWaitMs = 5000;

export function serveWorkers(server: RpcServer, parts: MasterParts): void {
  const { store, registry, leadership, proposer, raft, config, proofs } = parts;

  server.handle(
    masterApi.registerWorker,
    proofs.only("registerWorker", async (request, { signal }) => {
      const { blockSizeBytes: own, ...command } = request;
      await leadership.whenReigning(signal);
      const { clusterId, blockSizeBytes } = clusterOf(store)!;
      if (own !== undefined && own !== blockSizeBytes) {
        throw new WeirError(
          "ConfigInvalid",
          `Cannot register worker "${request.uuid}": "worker.blockSizeBytes" is ${own}, and the blocks of the cluster have ${blockSizeBytes} bytes for ever`,
        );
      }
      const [result] = await proposer.propose([{ kind: "registerWorker", ...command }], signal);
      const worker = unwrap(result!, `Cannot register worker "${request.uuid}"`).id as WorkerId;
      return { worker, clusterId, blockSizeBytes };
    }),
  );

  server.handle(
    masterApi.heartbeat,
    proofs.only("heartbeat", async (beat, { signal, connection }) => {
      const resync = !registry.report(beat);
      // Only a reigning leader knows for sure who is registered.
      const state = workerOf(store, beat.worker)?.state;
      const register = leadership.reign !== undefined && state !== "live";
      const { reign } = leadership;
      const released = reign === undefined ? [] : releasedOf(store, beat);
      const waitMs = Math.min(beat.waitMs, longestWaitMs);
      // What it does for the leader before, it ends when it hears of this one: side effects wait for that.
      const isNews = reign !== undefined && beat.term !== undefined && beat.term < reign.term;
      const tasks =
        resync || register || released.length > 0 || isNews || waitMs === 0
          ? []
          : await registry.poll({ ...beat, waitMs }, connection.id, signal);
      return {
        term: leadership.status?.term ?? 0,
        leader: leadership.reign !== undefined,
        appliedIndex: store.appliedIndex,
        tasks,
        resync,
        register,
        released,
        effectLeaseMs: Math.floor(config.master.workerTimeoutMs * effectLeasePart),
        cancelled: parts.leading()?.dispatcher.cancelledOf(beat.worker) ?? [],
        ...mastersOf(raft),
      };
    }),
  );

  server.handle(
    masterApi.taskResults,
    proofs.only("taskResults", async ({ worker, results }, { signal }) => {
      const leader = await parts.leader(signal);
      leader.dispatcher.results(worker, results);
      return {};
    }),
  );

  server.handle(masterApi.workers, async ({ consistency }, { signal }) => {
    await readPoint(parts, consistency, { signal });
    const workers = workersOf(store).map(({ id, uuid, host, address, state, tiers }) => {
      const used = registry.usedBytes(id);
      return {
        id,
        uuid,
        host,
        address,
        state,
        tiers: tiers.map((tier, place) => ({ ...tier, usedBytes: used[place] ?? 0 })),
        silentMs: registry.silentMs(id),
      };
    });
    return { appliedIndex: store.appliedIndex, workers };
  });
}

/** The masters as this one knows them, for workers to report to. */
function mastersOf(raft: MasterParts["raft"]): {
  masters: string[];
  ownAddress: string | undefined;
} {
  const placed = raft.members().filter(({ rpcPort }) => rpcPort > 0);
  const addressOf = ({ host, rpcPort }: (typeof placed)[number]) => `${host}:${String(rpcPort)}`;
  const own = placed.find(({ nodeId }) => nodeId === raft.status.nodeId);
  return { masters: placed.map(addressOf), ownAddress: own && addressOf(own) };
}

/** What the worker says it keeps, and need not: the store has it, or other workers are the keepers. */
function releasedOf(store: MasterParts["store"], beat: Heartbeat) {
  return beat.changed
    .filter(({ kept, inode, writeId }) => {
      if (kept !== true || indexOfPosition(writeId) > store.appliedIndex) return false;
      const container = { inode, writeId };
      const use = containerUse(store, container);
      if (use !== "kept") return use === "source";
      if (inodeOf(store, inode)?.lease?.writeId === writeId) return false;
      const of = containerOf(store, inode, writeId);
      if (of === undefined || of.keepers.includes(beat.worker)) return false;
      // Nobody else has the bytes: such a copy may be the last one.
      return !isContainerLost(store, of);
    })
    .map(({ inode, writeId }) => ({ inode, writeId }));
}
