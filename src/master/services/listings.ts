/**
 * Lists read from the state, in pages or as a stream of pages: each page is the state at one moment, a stream of them is
 * not.
 */
import type {
  InodeId,
  LineageId,
  MountId,
  SessionId,
  TreeOpId,
  UfsOpId,
  WorkerId,
  WriteId,
} from "../../lib/ids.ts";
import { decode } from "../../lib/schema.ts";
import type { Extent, FileKind, FileStatus, LineageInfo } from "../../rpc/namespace.ts";
import { maxXattrs } from "../../rpc/xattr.ts";
import { type PathPolicy, pathPolicy } from "../../rpc/path-policy.ts";
import { decodeExtent, extentsFrom } from "../state/extent-rows.ts";
import { endOf } from "../state/extents.ts";
import {
  clearingOfKey,
  clearingRange,
  compactKey,
  compactRange,
  containerOfKept,
  containerRange,
  edgeKey,
  edgeRange,
  extentRange,
  garbageRange,
  inodeAtEnd,
  keptKey,
  keptRange,
  lineageOfKey,
  lineageRange,
  nameOfEdge,
  nameOfXattr,
  policyRange,
  recallRange,
  sessionKey,
  sessionOfKey,
  sessionRange,
  treeDirectoryRange,
  treeOpOfKey,
  treeOpRange,
  ufsOpRange,
  writeIdOfContainer,
  xattrRange,
} from "../state/keys.ts";
import {
  type Container,
  container,
  edge,
  lineage,
  type Session,
  session,
  type TreeOp,
  treeDirectory,
  treeOp,
  type UfsOp,
  ufsOp,
} from "../state/model.ts";
import {
  clusterOf,
  containerOf,
  inodeOf,
  inodeStatus,
  isContainerLost,
  lineageInfoOf,
  pathOf,
} from "../state/queries.ts";
import type { KeyValue, ReachingRange, StateReader } from "../store/types.ts";

/** Keys of one read of a stream. */
const pageSize = 1000;

/** The range without its keys up to and with `key`. */
function after(range: ReachingRange, key: string | undefined): ReachingRange {
  return key === undefined ? range : { from: `${key}\0`, to: range.to };
}

async function* keysOf(reader: StateReader, range: ReachingRange): AsyncGenerator<KeyValue, void> {
  let last: string | undefined;
  for (;;) {
    const page = await reader.iterate(after(range, last), pageSize);
    yield* page;
    if (page.length < pageSize) return;
    last = page[page.length - 1]![0];
  }
}

export interface NameBelow {
  readonly name: string;
  readonly child: InodeId;
  readonly kind: FileKind;
}

/** The first `limit` names in a directory after `name`, in byte order. */
export async function namesBelow(
  reader: StateReader,
  directory: InodeId,
  limit: number,
  name?: string,
): Promise<NameBelow[]> {
  const last = name === undefined ? undefined : edgeKey(directory, name);
  const page = await reader.iterate(after(edgeRange(directory), last), limit);
  return page.map(([key, value]) => ({ name: nameOfEdge(key), ...decode(edge, value, key) }));
}

/**
 * Names in a directory with what `stat` says of them, in byte order, `after` exclusive, `upTo` inclusive; `more` when the
 * page is full.
 */
export async function listDirectory(
  reader: StateReader,
  directory: InodeId,
  page: {
    readonly after: string | undefined;
    readonly limit: number;
    readonly upTo?: string | undefined;
  },
): Promise<{ entries: { name: string; status: FileStatus }[]; more: boolean }> {
  const { upTo } = page;
  const all = await namesBelow(reader, directory, page.limit + 1, page.after);
  const names = upTo === undefined ? all : all.filter(({ name }) => name <= upTo);
  const entries: { name: string; status: FileStatus }[] = [];
  for (const { name, child } of names.slice(0, page.limit)) {
    // A name that went since the page was read may have taken its inode along.
    const status = inodeStatus(reader, child);
    if (status !== undefined) entries.push({ name, status });
  }
  return { entries, more: names.length > page.limit };
}

/** All operations on trees that are remembered, the newest last: their number is bounded. */
export async function treeOpsPage(reader: StateReader): Promise<{ id: TreeOpId; of: TreeOp }[]> {
  const page = await reader.iterate(treeOpRange, pageSize);
  return page.map(([key, value]) => ({ id: treeOpOfKey(key), of: decode(treeOp, value, key) }));
}

/** Some directories that an operation on a tree has not finished, and the name up to which each is done. */
export async function openTreeDirectories(
  reader: StateReader,
  id: TreeOpId,
  limit: number,
): Promise<{ directory: InodeId; after: string | undefined }[]> {
  const page = await reader.iterate(treeDirectoryRange(id), limit);
  return page.map(([key, value]) => ({
    directory: inodeAtEnd(key),
    after: decode(treeDirectory, value, key).after,
  }));
}

/** Names of all extended attributes of an inode, in byte order. */
export async function xattrNames(reader: StateReader, inode: InodeId): Promise<string[]> {
  const rows = await reader.iterate(xattrRange(inode), maxXattrs);
  return rows.map(([key]) => nameOfXattr(key));
}

/**
 * The stored extents that count and overlap bytes [from, to) of a file, in order; none for a file in the source form. They
 * are of one moment only as long as the file keeps its version.
 */
export async function extentsOf(
  reader: StateReader,
  inode: InodeId,
  range: { readonly from: number; readonly to: number; readonly limit?: number | undefined },
): Promise<Extent[]> {
  const { blockSizeBytes } = clusterOf(reader)!;
  const of = inodeOf(reader, inode);
  if (of === undefined) return [];
  const { from, limit = Number.MAX_SAFE_INTEGER } = range;
  const end = Math.min(range.to, of.cleared?.tailFrom ?? range.to);
  if (end <= from) return [];
  const since = extentsFrom(of, from, blockSizeBytes).from;
  const extents: Extent[] = [];
  for await (const stored of keysOf(reader, { ...extentRange(of, from, end), since })) {
    const extent = decodeExtent(stored);
    if (endOf(extent) > from) extents.push(extent);
    if (extents.length >= limit) break;
  }
  return extents;
}

/** Containers of a file that are in no store, garbage included. */
export async function containersOf(
  reader: StateReader,
  inode: InodeId,
): Promise<(Container & { writeId: WriteId })[]> {
  const containers: (Container & { writeId: WriteId })[] = [];
  for await (const [key, value] of keysOf(reader, containerRange(inode))) {
    containers.push({ writeId: writeIdOfContainer(key), ...decode(container, value, key) });
  }
  return containers;
}

/** Whether some of the file's bytes have lost all their keepers. */
export async function isLost(reader: StateReader, inode: InodeId): Promise<boolean> {
  const containers = await containersOf(reader, inode);
  return containers.some((each) => isContainerLost(reader, each));
}

/** Containers that a worker must keep, in the order of their inodes. */
export async function keptPage(
  reader: StateReader,
  worker: WorkerId,
  page: {
    readonly after: { readonly inode: InodeId; readonly writeId: WriteId } | undefined;
    readonly limit: number;
  },
): Promise<{ inode: InodeId; writeId: WriteId }[]> {
  const last =
    page.after === undefined ? undefined : keptKey(worker, page.after.inode, page.after.writeId);
  const keys = await reader.iterate(after(keptRange(worker), last), page.limit);
  return keys.map(([key]) => containerOfKept(key));
}

/** Files that have lost bytes because this worker and all other keepers of them are lost. */
export async function* lostFilesOf(
  reader: StateReader,
  worker: WorkerId,
): AsyncGenerator<InodeId, void> {
  let previous: InodeId | undefined;
  for await (const [key] of keysOf(reader, keptRange(worker))) {
    const { inode, writeId } = containerOfKept(key);
    const kept = containerOf(reader, inode, writeId);
    if (inode === previous || kept === undefined || !isContainerLost(reader, kept)) continue;
    previous = inode;
    yield inode;
  }
}

/** Keys of what was retired at `beforeMs` (cluster time) or earlier, oldest first. */
export async function garbageBefore(
  reader: StateReader,
  beforeMs: number,
  limit: number,
): Promise<string[]> {
  const page = await reader.iterate(garbageRange(beforeMs), limit);
  return page.map(([key]) => key);
}

/** Extents that wait to be taken away: the first `limit` files and generations that have some. */
export async function clearingsPage(
  reader: StateReader,
  limit: number,
): Promise<{ inode: InodeId; generation: number }[]> {
  const page = await reader.iterate(clearingRange, limit);
  return page.map(([key]) => clearingOfKey(key));
}

/** Files that are to be compacted, in the order of their ids, `after` exclusive. */
export async function inodesToCompact(
  reader: StateReader,
  page: { readonly after: InodeId | undefined; readonly limit: number },
): Promise<InodeId[]> {
  const last = page.after === undefined ? undefined : compactKey(page.after);
  const found = await reader.iterate(after(compactRange, last), page.limit);
  return found.map(([key]) => inodeAtEnd(key));
}

/** The first `limit` inodes whose write lease is recalled. */
export async function recalledPage(reader: StateReader, limit: number): Promise<InodeId[]> {
  const page = await reader.iterate(recallRange, limit);
  return page.map(([key]) => inodeAtEnd(key));
}

/** Sessions in the order of their ids, `after` exclusive. */
export async function sessionsPage(
  reader: StateReader,
  page: { readonly after: SessionId | undefined; readonly limit: number },
): Promise<{ id: SessionId; session: Session }[]> {
  const last = page.after === undefined ? undefined : sessionKey(page.after);
  const found = await reader.iterate(after(sessionRange, last), page.limit);
  return found.map(([key, value]) => ({
    id: sessionOfKey(key),
    session: decode(session, value, key),
  }));
}

/** The first `limit` queued operations of a mount after `after`, in the order of their ids. */
export async function pendingUfsOpsPage(
  reader: StateReader,
  mount: MountId,
  page: { readonly after: UfsOpId | undefined; readonly limit: number },
): Promise<UfsOp[]> {
  const found = await reader.iterate(ufsOpRange(mount, page.after), page.limit);
  return found.map(([key, value]) => decode(ufsOp, value, key));
}

/** All queued operations of a mount, in the order of their ids. */
export async function* pendingUfsOps(
  reader: StateReader,
  mount: MountId,
): AsyncGenerator<UfsOp, void> {
  for await (const [key, value] of keysOf(reader, ufsOpRange(mount))) {
    yield decode(ufsOp, value, key);
  }
}

/** Inodes in the tree that have a policy of their own, in the order of their ids, `after` exclusive. */
export async function policiesPage(
  reader: StateReader,
  page: { readonly after: InodeId | undefined; readonly limit: number },
): Promise<{ policies: { inode: InodeId; path: string; policy: PathPolicy }[]; more: boolean }> {
  const found = await reader.iterate(policyRange(page.after), page.limit + 1);
  const policies = found.slice(0, page.limit).map(([key, value]) => {
    const inode = inodeAtEnd(key);
    // In the trash, or unlinked and still open: nothing of it is to be found by a path.
    const path = pathOf(reader, inode) ?? "";
    return { inode, path, policy: decode(pathPolicy, value, key) };
  });
  return { policies, more: found.length > page.limit };
}

/** Lineages in the order of their ids, `after` exclusive; `more` when the page is full. */
export async function lineagesPage(
  reader: StateReader,
  page: { readonly after: LineageId | undefined; readonly limit: number },
): Promise<{ lineages: LineageInfo[]; more: boolean }> {
  const found = await reader.iterate(lineageRange(page.after), page.limit + 1);
  const lineages = found.slice(0, page.limit).map(([key, value]) => {
    return lineageInfoOf(lineageOfKey(key), decode(lineage, value, key));
  });
  return { lineages, more: found.length > page.limit };
}
