/**
 * RPC: bringing the namespace in line with stores when somebody asks for it. One call is about one directory: who wants a
 * tree walks it, and goes on where it was when another master leads.
 */
import { WeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import { permission } from "../../rpc/access.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { Caller } from "../../rpc/namespace.ts";
import type { RpcServer } from "../../rpc/server.ts";
import type { Inode } from "../state/model.ts";
import { inodeOf, levelOfState } from "../state/queries.ts";
import { syncIntervalOf } from "../state/sync-interval.ts";
import { noCounts } from "./directory-sync.ts";
import { namesBelow } from "./listings.ts";
import { type MasterParts, readPoint } from "./parts.ts";
import { needRight } from "./read-rights.ts";

/** Most names that are looked at for one page of directories. */
const longestScan = 10_000;
const longestWaitMs = 10_000;

export function serveSync(server: RpcServer, parts: MasterParts): void {
  const { store, config, leadership } = parts;

  server.handle(masterApi.syncDirectory, async (request, { signal }) => {
    const { directory, caller } = request;
    await readPoint(parts, "linearizable", { signal });
    const { loader } = await parts.leader(signal);
    needLevel(parts);
    const wanted = request.since ?? leadership.clusterTimeMs();
    const { loaded } = directoryFor(parts, caller, directory);
    if (wanted < 0 && loaded) return { since: wanted, done: true, ...noCounts() };
    // Any whole listing loads it.
    const since = Math.max(wanted, 0);
    const waitMs = Math.min(request.waitMs, longestWaitMs);
    const synced = await loader.sync(directory, { since, waitMs }, signal);
    return { since, done: synced.isDone, ...synced.counts };
  });

  server.handle(masterApi.syncName, async ({ parent, name, caller }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const { loader } = await parts.leader(signal);
    needLevel(parts);
    directoryFor(parts, caller, parent);
    return loader.syncName(parent, name, signal);
  });

  server.handle(masterApi.subdirectories, async (request, { signal }) => {
    const { directory, after, limit, caller } = request;
    await readPoint(parts, "linearizable", { signal });
    directoryFor(parts, caller, directory);
    const page = await namesBelow(store, directory, longestScan, after);
    const all = page.filter(({ kind }) => kind === "directory");
    const entries = all.slice(0, Math.max(limit, 1)).map(({ name, child: inode }) => {
      return { name, inode };
    });
    const isCut = entries.length < all.length;
    const last = isCut ? entries.at(-1)?.name : page.at(-1)?.name;
    return { entries, after: isCut || page.length === longestScan ? last : undefined };
  });

  server.handle(masterApi.syncInterval, async ({ directory, caller }, { signal }) => {
    await readPoint(parts, "linearizable", { signal });
    const { syncedAtMs } = directoryFor(parts, caller, directory);
    const interval = syncIntervalOf(store, directory, config.master.syncIntervalMs);
    const nowMs = leadership.clusterTimeMs();
    const ageMs = syncedAtMs === undefined ? undefined : Math.max(0, nowMs - syncedAtMs);
    return { ...interval, ageMs };
  });
}

/** A directory that the caller may list. */
function directoryFor({ store }: MasterParts, caller: Caller | undefined, id: InodeId): Inode {
  const found = inodeOf(store, id);
  if (found === undefined) {
    throw new WeirError("NotFound", `Cannot find inode ${String(id)}: it does not exist`);
  }
  if (found.kind !== "directory") {
    throw new WeirError("NotDirectory", `Cannot use inode ${String(id)}: it is a ${found.kind}`);
  }
  const needed = permission.read | permission.execute;
  needRight(store, caller, found, needed, `Cannot list inode ${String(id)}`);
  return found;
}

/** Below it, names are only ever added. */
function needLevel({ store }: MasterParts): void {
  if (levelOfState(store) >= 2) return;
  throw new WeirError(
    "Unavailable",
    "Cannot bring a directory in line with its store: a master of an earlier release, or one that is away, may not know how",
  );
}
