/** RPC: what workers say, and what they are asked to do. */
import type { WorkerId } from "../../lib/ids.ts";
import { unwrap } from "../../rpc/commands.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { clusterOf, workerOf, workersOf } from "../state/queries.ts";
import { type MasterParts, readPoint } from "./parts.ts";

/** Longest that a heartbeat is held back, whatever the worker asks for: silence must not look like death. */
const longestWaitMs = 5000;

export function serveWorkers(server: RpcServer, parts: MasterParts): void {
  const { store, registry, leadership, proposer } = parts;

  server.handle(masterApi.registerWorker, async (request, { signal }) => {
    const [result] = await proposer.propose([{ kind: "registerWorker", ...request }], signal);
    const worker = unwrap(result!, `Cannot register worker "${request.uuid}"`).id as WorkerId;
    return { worker, clusterId: clusterOf(store)!.clusterId };
  });

  server.handle(masterApi.heartbeat, async (beat, { signal, connection }) => {
    const resync = !registry.report(beat);
    // Only a reigning leader knows for sure who is registered.
    const state = workerOf(store, beat.worker)?.state;
    const register = leadership.reign !== undefined && state !== "live";
    const waitMs = Math.min(beat.waitMs, longestWaitMs);
    const tasks =
      resync || register || waitMs === 0
        ? []
        : await registry.poll({ ...beat, waitMs }, connection.id, signal);
    return {
      term: leadership.status?.term ?? 0,
      leader: leadership.reign !== undefined,
      appliedIndex: store.appliedIndex,
      tasks,
      resync,
      register,
    };
  });

  server.handle(masterApi.taskResults, async ({ worker, results }, { signal }) => {
    const leader = await parts.leader(signal);
    leader.dispatcher.results(worker, results);
    return {};
  });

  server.handle(masterApi.workers, async ({ consistency }, { signal }) => {
    await readPoint(parts, consistency, signal);
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
