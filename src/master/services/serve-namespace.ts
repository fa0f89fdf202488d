/** RPC: reads of the namespace. */
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { type InodeId, rootInodeId } from "../../lib/ids.ts";
import { quoted } from "../../lib/shortened.ts";
import { permission } from "../../rpc/access.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { Caller, FileKind } from "../../rpc/namespace.ts";
import type { CallContext, RpcServer } from "../../rpc/server.ts";
import { maxNameBytes } from "../state/links.ts";
import {
  firstLinkOf,
  dataPoliciesOf,
  type Found,
  inodeCount,
  inodeOf,
  lookup,
  mountInfoOf,
  mountOf,
  mountsOf,
  mountTargetOf,
  pathOf,
  resolvePath,
  statusOf,
  treeOpInfoOf,
  type Unknown,
  ufsPathOf,
  workersOf,
  xattrOf,
} from "../state/queries.ts";
import { isListed, xattrRefusal } from "../state/xattr-rights.ts";
import { listDirectory, pendingUfsOps, treeOpsPage, xattrNames } from "./listings.ts";
import { answerFrom, freshen, isNeverSynced, type MasterParts, readPoint } from "./parts.ts";
import { copiesToFree, dropCopies } from "./cached-copies.ts";
import { nameOf, needReachable, needReadable, needRight, needSuperuser } from "./read-rights.ts";

/** Most names in one page of a listing. */
const longestPage = 10_000;
/** Longest path that is walked, in bytes: sixteen times what Linux takes, since names are relative to a mount there. */
const longestPathBytes = 65_536;

export function serveNamespace(server: RpcServer, parts: MasterParts): void {
  const { store, config } = parts;
  const appliedIndex = () => store.appliedIndex;

  server.handle(masterApi.lookup, ({ parent, name, consistency, caller }, call) => {
    const answer = (found: Found) => {
      if (!found.found) throw missing(found.code, `Cannot look up ${quoted(name)}`, caller);
      return { appliedIndex: appliedIndex(), status: statusOf(found.inode) };
    };
    checkLength(name);
    const find = () => lookup(store, parent, name, caller);
    const read = () => whenLoaded(parts, find, call, answer);
    return answerFrom(parts, consistency, call, () =>
      isNeverSynced(parts) || consistency === "stale"
        ? read()
        : freshen(parts, parent, name, call.signal).then(read),
    );
  });

  server.handle(masterApi.resolve, ({ path, consistency, caller }, call) => {
    const answer = (found: Found) => {
      if (!found.found) throw missing(found.code, `Cannot find ${quoted(path)}`, caller);
      const { inode, parent } = found;
      checkEnd(path, inode);
      return { appliedIndex: appliedIndex(), status: statusOf(inode), parent };
    };
    checkLength(path);
    const find = () => resolvePath(store, path, caller);
    const read = () => whenLoaded(parts, find, call, answer);
    return answerFrom(parts, consistency, call, () =>
      isNeverSynced(parts) || consistency === "stale"
        ? read()
        : freshenAlong(parts, path, call.signal).then(read),
    );
  });

  server.handle(masterApi.getStatus, ({ inode, consistency, caller, access }, call) => {
    const read = () => {
      const of = inodeOf(store, inode);
      if (of === undefined) throw noInode(inode);
      if (access !== undefined) {
        needRight(store, caller, of, access, `Cannot open inode ${String(inode)}`);
      }
      const status = statusOf(of);
      return { appliedIndex: appliedIndex(), status, feedIndex: parts.feed.lastTold };
    };
    return answerFrom(parts, consistency, call, () => {
      if (isNeverSynced(parts) || consistency === "stale") return read();
      const link = firstLinkOf(store, inode);
      if (link === undefined) return read();
      return freshen(parts, link.parent, link.name, call.signal).then(read);
    });
  });

  server.handle(masterApi.getXattr, ({ inode, name, consistency, caller }, call) => {
    checkLength(name);
    return answerFrom(parts, consistency, call, () => {
      const of = inodeOf(store, inode);
      if (of === undefined) throw noInode(inode);
      const doing = `Cannot read attribute ${quoted(name)} of inode ${inode}`;
      const refusal = xattrRefusal(store, caller, of, { name, isWrite: false });
      if (refusal !== undefined) throw new WeirError(refusal.code, `${doing}: ${refusal.detail}`);
      const value = xattrOf(store, inode, name);
      if (value === undefined) throw new WeirError("NoData", `${doing}: it has no such attribute`);
      return { appliedIndex: appliedIndex(), value };
    });
  });

  server.handle(masterApi.listXattrs, async ({ inode, consistency, caller }, { signal }) => {
    await readPoint(parts, consistency, { signal });
    const of = inodeOf(store, inode);
    if (of === undefined) throw noInode(inode);
    const reflects = appliedIndex();
    const names = of.xattrCount === undefined ? [] : await xattrNames(store, inode);
    return { appliedIndex: reflects, names: names.filter((name) => isListed(caller, name)) };
  });

  server.handle(masterApi.list, async (request, { signal }) => {
    const { directory, after, consistency, caller } = request;
    await readPoint(parts, consistency, { signal });
    const found = inodeOf(store, directory);
    if (found === undefined) throw noInode(directory);
    if (found.kind !== "directory") {
      throw new WeirError(
        "NotDirectory",
        `Cannot list inode ${String(directory)}: it is a ${found.kind}`,
      );
    }
    // Each name comes with what stat(2) says of it, for which one has to search.
    const needed = permission.read | permission.execute;
    needRight(store, caller, found, needed, `Cannot list inode ${String(directory)}`);
    // The pages of one listing are read one after the other: only the first looks at its age.
    if (found.loaded && after === undefined && consistency !== "stale" && !isNeverSynced(parts)) {
      await freshen(parts, directory, undefined, signal);
    }
    const limit = Math.min(Math.max(request.limit, 1), longestPage);
    for (;;) {
      // While it is being loaded, what comes is answered as it comes.
      const upTo =
        inodeOf(store, directory)?.loaded === false
          ? await (await parts.leader(signal)).loader.reach(directory, after, signal)
          : undefined;
      const reflects = appliedIndex();
      const { entries, more } = await listDirectory(store, directory, { after, limit, upTo });
      // A page without names is an end to who reads it: what was known is gone again, and more will follow.
      if (entries.length === 0 && upTo !== undefined) continue;
      return { appliedIndex: reflects, entries, more: more || upTo !== undefined };
    }
  });

  server.handle(masterApi.layout, async (request, { signal }) => {
    const { inode, offset, length, consistency, caller, opened, changed, most } = request;
    await readPoint(parts, consistency, { signal });
    if (length > 0) needReadable(store, caller, inode, opened ?? false);
    const leader = await parts.leader(signal);
    if (changed !== undefined) await lookAgain(parts, inode, changed, signal);
    let reflects = appliedIndex();
    let layout = await leader.layouts.layoutOf(inode, offset, length, most);
    if (leader.layouts.isLost(layout)) {
      const patience = AbortSignal.timeout(config.master.recoveryWaitMs);
      await leader.recovery.recover(inode, AbortSignal.any([signal, patience]));
      reflects = appliedIndex();
      layout = await leader.layouts.layoutOf(inode, offset, length, most);
      if (leader.layouts.isLost(layout)) {
        throw new WeirError(
          "Lost",
          `Cannot read ${quoted(pathOf(store, inode) ?? "")}: it was lost again while it was being rebuilt`,
        );
      }
    }
    return { appliedIndex: reflects, layout };
  });

  server.handle(masterApi.pathOf, async ({ inode, caller }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    needReachable(store, caller, inode);
    const path = pathOf(store, inode);
    if (path === undefined) throw noInode(inode);
    return { path };
  });

  server.handle(masterApi.mounts, async (_request, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const mounts = mountsOf(store).map((mount) => ({
      ...mountInfoOf(store, mount),
      unhealthy: parts.registry.unhealthyAt(mount.id, config.master.workerTimeoutMs),
    }));
    return { mounts };
  });

  server.handle(
    masterApi.mountTargets,
    parts.proofs.only("mountTargets", async (_request, { signal }) => {
      await readPoint(parts, "linearizable", { signal });
      return { mounts: mountsOf(store).map(mountTargetOf) };
    }),
  );

  server.handle(masterApi.free, async ({ inode, caller }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const of = inodeOf(store, inode);
    if (of === undefined) throw noInode(inode);
    needRight(store, caller, of, permission.write, `Cannot free inode ${String(inode)}`);
    const containers = await dropCached(parts, inode, signal);
    return { containers };
  });

  server.handle(masterApi.pendingUfsOps, async ({ inode }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    if (inode === undefined) {
      return { count: mountsOf(store).reduce((sum, mount) => sum + mount.pendingOps, 0) };
    }
    const of = inodeOf(store, inode);
    const path = of === undefined ? undefined : ufsPathOf(store, of);
    if (of === undefined || path === undefined) return { count: 0 };
    if (mountOf(store, of.mountId)?.pendingOps === 0) return { count: 0 };
    let count = 0;
    for await (const { action } of pendingUfsOps(store, of.mountId)) {
      const at = action.kind === "rename" ? action.to : action.path;
      if (path === "" || at === path || at.startsWith(`${path}/`)) count++;
    }
    return { count };
  });

  server.handle(masterApi.treeOps, async ({ caller }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const reflects = appliedIndex();
    const page = await treeOpsPage(store);
    const shown =
      caller === undefined ? page : page.filter(({ of }) => of.caller?.uid === caller.uid);
    return {
      appliedIndex: reflects,
      treeOps: shown.map(({ id, of }) => treeOpInfoOf(store, id, of)),
    };
  });

  server.handle(masterApi.dataPolicies, async ({ caller }, { signal }) => {
    needSuperuser(caller, "Cannot show data policies");
    await readPoint(parts, "linearizable", { signal });
    return { appliedIndex: appliedIndex(), policies: dataPoliciesOf(store) };
  });

  server.handle(masterApi.statFs, async (_request, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const live = workersOf(store).filter((worker) => worker.state === "live");
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    return {
      inodes: inodeCount(store),
      capacityBytes: sum(live.flatMap(({ tiers }) => tiers.map((tier) => tier.quotaBytes))),
      usedBytes: sum(live.map(({ id }) => sum(parts.registry.usedBytes(id)))),
    };
  });
}

/**
 * Asks the store for a file whose object was found to be another one than it was known as, or none.
 * @throws WeirError `NotFound` when it is gone
 */
async function lookAgain(
  parts: MasterParts,
  inode: InodeId,
  known: string,
  signal: AbortSignal,
): Promise<void> {
  const { store, logger } = parts;
  const link = firstLinkOf(store, inode);
  if (link === undefined || inodeOf(store, inode)?.source?.fingerprint !== known) return;
  const { loader } = await parts.leader(signal);
  try {
    await loader.syncName(link.parent, link.name, signal);
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    const { message } = toWeirError(thrown, "Cannot ask the store");
    logger.warn({ inode, error: message }, "a changed object is shown as it was known");
  }
  if (firstLinkOf(store, inode) === undefined) {
    throw new WeirError("NotFound", `Cannot read ${quoted(link.name)}: it is gone from its store`);
  }
}

/** As `freshen`, for all directories that a path leads through. */
async function freshenAlong(parts: MasterParts, path: string, signal: AbortSignal): Promise<void> {
  const { store } = parts;
  let at = lookup(store, rootInodeId, ".");
  for (const name of path.split("/")) {
    if (name === "") continue;
    if (!at.found) return;
    if (name !== "." && name !== "..") await freshen(parts, at.inode.id, name, signal);
    at = lookup(store, at.inode.id, name);
  }
}

/** What `answer` makes of what `find` found, once no directory that decides it is unknown any more. */
function whenLoaded<T>(
  parts: MasterParts,
  find: () => Found,
  call: CallContext,
  answer: (found: Found) => T,
): T | Promise<T> {
  const found = find();
  if (found.found || found.unloaded === undefined) return answer(found);
  return known(parts, find, found.unloaded, call.signal).then(answer);
}

async function known(
  parts: MasterParts,
  find: () => Found,
  first: Unknown,
  signal: AbortSignal,
): Promise<Found> {
  let unknown = first;
  for (;;) {
    const { loader } = await parts.leader(signal);
    await loader.know(unknown.directory, unknown.name, signal);
    const found = find();
    if (found.found || found.unloaded === undefined) return found;
    const isSame = found.unloaded.directory === unknown.directory;
    if (isSame && found.unloaded.name === unknown.name) return found;
    unknown = found.unloaded;
  }
}

/** Asks the workers to drop what they hold of a file without having to keep it; resolves when they have. */
async function dropCached(
  parts: MasterParts,
  inode: InodeId,
  signal: AbortSignal,
): Promise<number> {
  const { store, locations } = parts;
  const file = inodeOf(store, inode);
  if (file === undefined) throw noInode(inode);
  if (file.kind !== "file") return 0;
  if (file.persistence !== "persisted") {
    throw new WeirError(
      "InvalidArgument",
      `Cannot free ${quoted(pathOf(store, inode) ?? "")}: its content is not in the under storage yet`,
    );
  }
  const leader = await parts.leader(signal);
  const copies = copiesToFree(store, locations, file);
  return await dropCopies(leader.dispatcher, locations, copies, signal);
}

/** Refuses a path, or a name, that nothing can have. */
function checkLength(path: string): void {
  if (path.length <= maxNameBytes) return;
  if (path.length > longestPathBytes) {
    throw new WeirError(
      "NameTooLong",
      `Cannot find ${quoted(path)}: it has ${String(path.length)} bytes, wanted at most ${String(longestPathBytes)}`,
    );
  }
  const long = path.split("/").find((name) => name.length > maxNameBytes);
  if (long === undefined) return;
  throw new WeirError(
    "NameTooLong",
    `Cannot find ${quoted(path)}: a name in it has ${String(long.length)} bytes, wanted at most ${String(maxNameBytes)}`,
  );
}

/** A path that ends in a slash is that of a directory. */
function checkEnd(path: string, { kind }: { readonly kind: FileKind }): void {
  if (kind === "directory" || !path.endsWith("/")) return;
  const wanted = 'wanted a directory, since the path ends in "/"';
  throw new WeirError("NotDirectory", `Cannot find ${quoted(path)}: it is a ${kind}, ${wanted}`);
}

function noInode(inode: InodeId): WeirError {
  return new WeirError("NotFound", `Cannot find inode ${String(inode)}: it does not exist`);
}

type Missing = Extract<Found, { found: false }>["code"];

function missing(code: Missing, doing: string, caller: Caller | undefined): WeirError {
  const why = {
    NotFound: "no such file or directory",
    NotDirectory: "a part of the path is no directory",
    PermissionDenied: `${nameOf(caller)} may not search a directory of the path`,
  };
  return new WeirError(code, `${doing}: ${why[code]}`);
}
