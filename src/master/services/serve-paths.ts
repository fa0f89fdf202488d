/** RPC: what lies below paths, and the policies that hold there. */
import { WeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import { masterApi } from "../../rpc/master-api.ts";
import { noPolicy } from "../../rpc/path-policy.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { ttlClockKey } from "../state/keys.ts";
import { stateClock } from "../state/model.ts";
import { effectiveOf, nearestValue, ownPolicy } from "../state/path-policies.ts";
import { clockDriftMs, clockToleranceMs, isClockTrusted } from "../state/time-to-live.ts";
import { clockOf, inodeOf, inodeUsageOf, treeOf } from "../state/queries.ts";
import { policiesPage } from "./listings.ts";
import { answerFrom, type MasterParts, readPoint } from "./parts.ts";
import { needReachable, needSuperuser } from "./read-rights.ts";

/** Most inodes that are asked for at once, and most policies in one page. */
const longestPage = 1000;

export function servePaths(server: RpcServer, parts: MasterParts): void {
  const { store } = parts;

  server.handle(masterApi.usageOf, ({ inodes, consistency, caller }, call) =>
    answerFrom(parts, consistency, call, () => {
      needFew(inodes.length);
      for (const id of inodes) needReachable(store, caller, id);
      const usages = inodes.flatMap((id) => inodeUsageOf(store, id) ?? []);
      return { appliedIndex: store.appliedIndex, usages };
    }),
  );

  server.handle(masterApi.policyOf, ({ inode, consistency, caller }, call) =>
    answerFrom(parts, consistency, call, () => {
      const of = inodeOf(store, inode);
      if (of === undefined) throw noInode(inode);
      needReachable(store, caller, inode);
      return {
        appliedIndex: store.appliedIndex,
        own: ownPolicy(store, of) ?? noPolicy,
        effective: effectiveOf(store, inode),
      };
    }),
  );

  server.handle(masterApi.ttlClock, async (_request, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const from = store.read(stateClock, ttlClockKey);
    const now = clockOf(store);
    const driftMs = from === undefined ? 0 : clockDriftMs(from, now);
    const trusted = from === undefined || isClockTrusted(from, now);
    return { trusted, driftMs, toleranceMs: clockToleranceMs };
  });

  server.handle(masterApi.pinned, ({ inodes }) => {
    needFew(inodes.length);
    const any = (treeOf(store)?.pins ?? 0) > 0;
    const isPinned = (inode: InodeId) => nearestValue(store, inode, "pin") !== undefined;
    return { any, pinned: any ? inodes.filter(isPinned) : [] };
  });

  server.handle(masterApi.policies, async ({ after, limit, caller }, { signal }) => {
    needSuperuser(caller, "Cannot list policies");
    await readPoint(parts, "linearizable", { signal });
    const { appliedIndex } = store;
    const page = await policiesPage(store, {
      after,
      limit: Math.min(Math.max(limit, 1), longestPage),
    });
    return { appliedIndex, ...page };
  });
}

function needFew(count: number): void {
  if (count <= longestPage) return;
  throw new WeirError(
    "InvalidArgument",
    `Cannot look at ${String(count)} inodes at once: wanted at most ${String(longestPage)}`,
  );
}

function noInode(inode: InodeId): WeirError {
  return new WeirError("NotFound", `Cannot find inode ${String(inode)}: it does not exist`);
}
