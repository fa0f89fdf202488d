/** RPC: the cluster itself, and the change feed. */
import { masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { clusterOf, inodeCount } from "../state/queries.ts";
import type { MasterParts } from "./parts.ts";

export function serveCluster(server: RpcServer, parts: MasterParts): void {
  const { store, config, raft, leadership, machine } = parts;

  server.handle(masterApi.status, async () => {
    const { nodeId, role, term, leaderName, commitIndex } = raft.status;
    return {
      clusterId: clusterOf(store)?.clusterId ?? "",
      clusterName: config.clusterName,
      nodeId,
      role: role === "preCandidate" ? ("candidate" as const) : role,
      leader: leaderName,
      leaderAddress: leadership.leaderAddress,
      term,
      commitIndex,
      appliedIndex: store.appliedIndex,
      flushedIndex: machine.flushedIndex().index,
      stateHash: store.hash(),
      inodes: inodeCount(store),
      masters: config.masters.map(({ name, host, rpcPort }) => ({
        name,
        address: `${host}:${String(rpcPort)}`,
      })),
      natsUrl: withoutCredentials(config.nats.urls[0]!),
      version: parts.version,
    };
  });

  server.handle(masterApi.transferLeadership, async () => {
    await raft.transferLeadership();
    return { from: parts.name };
  });

  server.handleStream(masterApi.subscribe, ({ after }, { signal }) =>
    parts.feed.subscribe(after, signal),
  );
}

/** `nats://user:password@host:port` → `nats://host:port`. */
function withoutCredentials(url: string): string {
  return url.replace(/^([a-z]+:\/\/)[^@/]*@/, "$1");
}
