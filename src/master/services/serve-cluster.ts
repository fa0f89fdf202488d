/** RPC: the cluster itself, and the change feed. */
import { hasCode } from "../../lib/errors.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { Caller } from "../../rpc/namespace.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { clusterOf, inodeCount } from "../state/queries.ts";
import type { MasterParts } from "./parts.ts";
import { needSuperuser } from "./read-rights.ts";

export function serveCluster(server: RpcServer, parts: MasterParts): void {
  const { store, config, raft, leadership } = parts;

  server.handle(masterApi.status, async ({ exact }) => {
    // In slices, as every flush. To sum up all that is not flushed in this turn would hold up heartbeats.
    if (exact === true) await store.flush();
    const { nodeId, role, term, leaderName, commitIndex } = raft.status;
    const members = raft.members();
    const isLearner = members.some((each) => each.nodeId === nodeId && each.role === "learner");
    // Before there is a cluster, those that are to begin it.
    const masters = members.length > 0 ? members : config.masters;
    return {
      clusterId: clusterOf(store)?.clusterId ?? "",
      clusterName: config.clusterName,
      nodeId,
      role: isLearner
        ? ("learner" as const)
        : role === "preCandidate"
          ? ("candidate" as const)
          : role,
      leader: leaderName,
      leaderAddress: leadership.leaderAddress,
      term,
      commitIndex,
      appliedIndex: store.appliedIndex,
      flushedIndex: store.flushedIndex,
      stateHash: store.flushedHash,
      inodes: inodeCount(store),
      masters: masters.map(({ name, host, rpcPort }) => ({
        name,
        address: `${host}:${String(rpcPort)}`,
      })),
      natsUrl: withoutCredentials(config.nats.urls[0]!),
      version: parts.version,
      hashIndex: store.flushedIndex,
      longestPauseMs: parts.pauses.longestMs,
    };
  });

  server.handle(masterApi.otherLeader, async ({ than, waitMs }, { signal }) => ({
    leaderAddress: await leadership.otherLeader(than, waitMs, signal),
  }));

  /** Does what only the leader can; elsewhere, and where the lead is lost, the answer says who leads. */
  const leading = async <T>(signal: AbortSignal, act: () => T | Promise<T>): Promise<T> => {
    await leadership.whenReigning(signal);
    try {
      return await act();
    } catch (thrown) {
      throw hasCode(thrown, "NotLeader") ? leadership.error() : thrown;
    }
  };

  /** As `leading`, for the superuser alone. */
  const administering = <T>(
    caller: Caller | undefined,
    signal: AbortSignal,
    act: () => Promise<T>,
  ): Promise<T> => {
    needSuperuser(caller, "Cannot change the masters");
    return leading(signal, act);
  };

  server.handle(masterApi.clusterMembers, (_, { signal }) =>
    leading(signal, () => {
      const { term, lastIndex, commitIndex } = raft.status;
      const clusterId = raft.clusterId ?? "";
      const members = raft.members().map((member) => {
        const { matchIndex, isActive } = member;
        return { ...member, matchIndex, isActive };
      });
      return { clusterId, term, lastIndex, commitIndex, members };
    }),
  );

  server.handle(masterApi.addMember, ({ caller, ...member }, { signal }) =>
    administering(caller, signal, async () => {
      const { nodeId } = await raft.addMember(member);
      return { nodeId };
    }),
  );

  server.handle(masterApi.removeMember, ({ name, caller }, { signal }) =>
    administering(caller, signal, async () => {
      await raft.removeMember(name);
      return {};
    }),
  );

  server.handle(masterApi.promoteMember, ({ name, caller }, { signal }) =>
    administering(caller, signal, async () => {
      await raft.promoteMember(name);
      return {};
    }),
  );

  server.handle(masterApi.replaceMember, ({ name, caller, ...place }, { signal }) =>
    administering(caller, signal, async () => {
      const { nodeId } = await raft.replaceMember(name, place);
      return { nodeId };
    }),
  );

  server.handle(masterApi.transferLeadership, ({ to, caller }, { signal }) =>
    administering(caller, signal, async () => {
      if (to !== parts.name) await raft.transferLeadership(to);
      return { from: parts.name };
    }),
  );

  server.handleStream(masterApi.subscribe, ({ after }, { signal }) =>
    parts.feed.subscribe(after, signal),
  );
}

/** `nats://user:password@host:port` → `nats://host:port`. */
function withoutCredentials(url: string): string {
  return url.replace(/^([a-z]+:\/\/)[^@/]*@/, "$1");
}
