/** RPC: recorded jobs, running them, and rebuilding what was lost. */
import { WeirError } from "../../lib/errors.ts";
import type { LineageId } from "../../lib/ids.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { LineageInfo } from "../../rpc/namespace.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { inodeOf, lineageInfoOf, lineageOf } from "../state/queries.ts";
import { lineagesPage } from "./listings.ts";
import { type MasterParts, readPoint } from "./parts.ts";
import { needReadable, needSuperuser } from "./read-rights.ts";

const longestPage = 1000;

export function serveLineage(server: RpcServer, parts: MasterParts): void {
  const { store } = parts;

  const infoOf = (id: LineageId): LineageInfo => {
    const record = lineageOf(store, id);
    if (record === undefined) {
      throw new WeirError("NotFound", `Cannot find lineage ${String(id)}: it does not exist`);
    }
    return lineageInfoOf(id, record);
  };

  server.handle(masterApi.lineageOf, async ({ lineage, caller }, { signal }) => {
    needSuperuser(caller, `Cannot show lineage ${String(lineage)}`);
    await readPoint(parts, "linearizable", { signal });
    return { appliedIndex: store.appliedIndex, lineage: infoOf(lineage) };
  });

  server.handle(masterApi.lineages, async (request, { signal }) => {
    needSuperuser(request.caller, "Cannot list lineages");
    await readPoint(parts, "linearizable", { signal });
    const limit = Math.min(Math.max(request.limit, 1), longestPage);
    const reflects = store.appliedIndex;
    const page = await lineagesPage(store, { after: request.after, limit });
    return { appliedIndex: reflects, ...page };
  });

  server.handle(masterApi.runLineage, async ({ lineage, caller }, { signal }) => {
    needSuperuser(caller, `Cannot run lineage ${String(lineage)}`);
    await readPoint(parts, "linearizable", { signal });
    infoOf(lineage);
    const leader = await parts.leader(signal);
    await leader.recovery.run(lineage, signal);
    return { lineage: infoOf(lineage) };
  });

  server.handle(masterApi.recover, async ({ inode, caller }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    needReadable(store, caller, inode, false);
    if (inodeOf(store, inode) === undefined) {
      throw new WeirError("NotFound", `Cannot recover inode ${String(inode)}: it does not exist`);
    }
    const leader = await parts.leader(signal);
    const { jobs } = await leader.recovery.recover(inode, signal);
    return { jobs };
  });
}
