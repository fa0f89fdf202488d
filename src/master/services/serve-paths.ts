/** RPC: what lies below paths, and the policies that hold there. */
import { WeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import { masterApi } from "../../rpc/master-api.ts";
import { noPolicy } from "../../rpc/path-policy.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { effectiveOf, ownPolicy } from "../state/path-policies.ts";
import { inodeOf, inodeUsageOf } from "../state/queries.ts";
import { policiesPage } from "./listings.ts";
import { answerFrom, type MasterParts, readPoint } from "./parts.ts";
import { needReachable, needSuperuser } from "./read-rights.ts";

/** Most inodes that are asked for at once, and most policies in one page. */
const longestPage = 1000;

export function servePaths(server: RpcServer, parts: MasterParts): void {
  const { store } = parts;

  server.handle(masterApi.usageOf, ({ inodes, consistency, caller }, call) =>
    answerFrom(parts, consistency, call, () => {
      if (inodes.length > longestPage) {
        throw new WeirError(
          "InvalidArgument",
          `Cannot tell the usage of ${String(inodes.length)} inodes: wanted at most ${String(longestPage)}`,
        );
      }
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

function noInode(inode: InodeId): WeirError {
  return new WeirError("NotFound", `Cannot find inode ${String(inode)}: it does not exist`);
}
