/**
 * What the replicated state says, by point reads alone: for apply itself and for the services that answer clients. Lists
 * of unknown length are read by services/listings.ts.
 */
import assert from "node:assert";
import {
  type DataPolicyId,
  type InodeId,
  type LineageId,
  type MountId,
  rootInodeId,
  type SessionId,
  type TreeOpId,
  type UfsOpId,
  type WorkerId,
  type WriteId,
} from "../../lib/ids.ts";
import { mayAccess, permission } from "../../rpc/access.ts";
import { accessAclName, type Acl, decodeAcl, defaultAclName } from "../../rpc/acl.ts";
import type {
  Caller,
  DataPolicyInfo,
  FileStatus,
  InodeUsage,
  LineageInfo,
  MountInfo,
  TreeOpInfo,
} from "../../rpc/namespace.ts";
import type { MountTarget } from "../../rpc/tasks.ts";
import { withoutCredentials } from "../../rpc/credentials.ts";
import type { PointReader } from "../store/types.ts";
import { noUsage, weightOf } from "./usage.ts";
import {
  clockKey,
  clusterKey,
  containerKey,
  type CounterName,
  counterKey,
  dataPolicyIdsKey,
  dataPolicyKey,
  edgeKey,
  inodeCountKey,
  inodeKey,
  keptKey,
  levelKey,
  lineageKey,
  mountIdsKey,
  mountKey,
  parentKey,
  readingKey,
  sessionKey,
  treeKey,
  treeOpKey,
  ufsOpKey,
  workerKey,
  workerUuidKey,
  xattrKey,
} from "./keys.ts";
import {
  accessAclBit,
  type Cluster,
  cluster,
  type Container,
  container,
  count,
  type DataPolicy,
  dataPolicy,
  dataPolicyIds,
  defaultAclBit,
  type Edge,
  edge,
  type Inode,
  inode,
  type Lineage,
  type Link,
  type Links,
  lineage,
  links,
  type Mount,
  mount,
  mountIds,
  type Readings,
  readings,
  type Session,
  type StateClock,
  session,
  stateClock,
  storedId,
  type TreeOp,
  trashInodeId,
  type Tree,
  tree,
  treeOp,
  type UfsOp,
  ufsOp,
  type Worker,
  worker,
  xattrValue,
} from "./model.ts";

/** The cluster's identity, or undefined before `bootstrap`. */
export function clusterOf(reader: PointReader): Cluster | undefined {
  return reader.read(cluster, clusterKey);
}

const zeroClock: StateClock = { clusterTimeMs: 0, wallTime: { sec: 0, nsec: 0 } };
/** Cluster time and the last wall time, as of the last applied entry. */
export function clockOf(reader: PointReader): StateClock {
  return reader.read(stateClock, clockKey) ?? zeroClock;
}

/** The level of the state, from 1; see `levelOf` in rpc/commands.ts. */
export function levelOfState(reader: PointReader): number {
  return reader.read(count, levelKey) ?? 1;
}

export function inodeOf(reader: PointReader, id: InodeId): Inode | undefined {
  return reader.read(inode, inodeKey(id));
}

/** Number of inodes that exist, directories and what waits to be reclaimed included. */
export function inodeCount(reader: PointReader): number {
  return reader.read(count, inodeCountKey) ?? 0;
}

/** The id that the next thing of a kind will get. */
export function nextId(reader: PointReader, name: CounterName): number {
  return reader.read(storedId, counterKey(name)) ?? 1;
}

export function edgeOf(reader: PointReader, parent: InodeId, name: string): Edge | undefined {
  return reader.read(edge, edgeKey(parent, name));
}

/** All names of an inode; none for the root, the trash and what was unlinked. */
export function linksOf(reader: PointReader, id: InodeId): Links {
  const only = inodeOf(reader, id)?.link;
  return only === undefined ? (reader.read(links, parentKey(id)) ?? []) : [only];
}

/** The first of the names of an inode. */
export function firstLinkOf(reader: PointReader, id: InodeId): Link | undefined {
  if (id === rootInodeId) return undefined;
  return inodeOf(reader, id)?.link ?? reader.read(links, parentKey(id))?.[0];
}

/** What `stat` shows of an inode. */
export function statusOf(of: Inode): FileStatus {
  return {
    inode: of.id,
    kind: of.kind,
    mode: of.mode,
    uid: of.uid,
    gid: of.gid,
    size:
      of.kind === "directory" ? of.childCount : of.kind === "symlink" ? of.target!.length : of.size,
    nlink: of.nlink,
    atime: of.atime,
    mtime: of.mtime,
    ctime: of.ctime,
    version: of.version,
    mountId: of.mountId,
    persistence: of.persistence,
    loaded: of.loaded,
    target: of.target,
    lineageId: of.lineageId,
    writeType: of.writeType,
    mountPoint: of.mountPoint,
    rdev: of.rdev,
    hasAcl: ((of.acl ?? 0) & accessAclBit) === 0 ? undefined : true,
    hasXattrs: of.xattrCount === undefined ? undefined : true,
  };
}

/** What holds for the tree as a whole; undefined below level 2. */
export function treeOf(reader: PointReader): Tree | undefined {
  return reader.read(tree, treeKey);
}

/** What lies below a directory, or what another inode is. */
export function inodeUsageOf(reader: PointReader, id: InodeId): InodeUsage | undefined {
  const of = inodeOf(reader, id);
  if (of === undefined) return undefined;
  if (of.kind !== "directory") return { inode: id, usage: weightOf(of), complete: true };
  const usage = of.usage ?? noUsage;
  const known = treeOf(reader);
  const isCounted = known !== undefined && known.countedBelow >= known.countedFrom;
  const complete = isCounted && of.loaded && usage.unloadedDirectories === 0;
  return { inode: id, usage, complete };
}

export function inodeStatus(reader: PointReader, id: InodeId): FileStatus | undefined {
  const found = inodeOf(reader, id);
  return found === undefined ? undefined : statusOf(found);
}

/** The value of an extended attribute, whoever asks. */
export function xattrOf(reader: PointReader, id: InodeId, name: string): Uint8Array | undefined {
  return reader.read(xattrValue, xattrKey(id, name));
}

/** The access control list of an inode; undefined where its mode says it all, which reads nothing. */
export function aclOf(reader: PointReader, of: Inode): Acl | undefined {
  return ((of.acl ?? 0) & accessAclBit) === 0 ? undefined : readAcl(reader, of.id, accessAclName);
}

/** What new names in a directory inherit; undefined, without a read, where there is no such list. */
export function defaultAclOf(reader: PointReader, of: Inode): Acl | undefined {
  return ((of.acl ?? 0) & defaultAclBit) === 0 ? undefined : readAcl(reader, of.id, defaultAclName);
}

function readAcl(reader: PointReader, id: InodeId, name: string): Acl {
  const decoded = decodeAcl(xattrOf(reader, id, name)!);
  assert("acl" in decoded, `inode ${id} has a list that is not valid`);
  return decoded.acl;
}

/** A name that a directory may have, whose names in the store are not all known. */
export interface Unknown {
  readonly directory: InodeId;
  readonly name: string;
}

/** When there is an `unloaded` name, the answer may be another once it is known. */
export type Found =
  | { readonly found: true; readonly inode: Inode; readonly parent: InodeId | undefined }
  | {
      readonly found: false;
      readonly code: "NotFound" | "NotDirectory" | "PermissionDenied";
      readonly unloaded: Unknown | undefined;
    };

/** Whether the caller (undefined: the superuser) has all of `wanted`, a sum of `permission`. */
export function may(
  reader: PointReader,
  caller: Caller | undefined,
  of: Inode,
  wanted: number,
): boolean {
  return mayAccess(caller, of, wanted, aclOf(reader, of));
}

/**
 * The inode at `name` in the directory `parent`, which the caller must be allowed to search. `.` and `..` are understood;
 * `..` of the root is the root.
 */
export function lookup(reader: PointReader, parent: InodeId, name: string, caller?: Caller): Found {
  const directory = inodeOf(reader, parent);
  if (directory === undefined) return { found: false, code: "NotFound", unloaded: undefined };
  if (directory.kind !== "directory") {
    return { found: false, code: "NotDirectory", unloaded: undefined };
  }
  if (caller !== undefined && !may(reader, caller, directory, permission.execute)) {
    return { found: false, code: "PermissionDenied", unloaded: undefined };
  }
  if (name === "." || name === "..") {
    const up = name === "." ? parent : (firstLinkOf(reader, parent)?.parent ?? parent);
    return {
      found: true,
      inode: inodeOf(reader, up)!,
      parent: firstLinkOf(reader, up)?.parent,
    };
  }
  const child = edgeOf(reader, parent, name);
  if (child === undefined) {
    const unloaded = directory.loaded ? undefined : { directory: parent, name };
    return { found: false, code: "NotFound", unloaded };
  }
  return { found: true, inode: inodeOf(reader, child.child)!, parent };
}

/** Walks an absolute path, as `lookup` its names; symbolic links are not followed. `parent` is undefined for `/`. */
export function resolvePath(reader: PointReader, path: string, caller?: Caller): Found {
  let at = lookup(reader, rootInodeId, ".");
  for (const part of path.split("/")) {
    if (part === "" || !at.found) continue;
    at = lookup(reader, at.inode.id, part, caller);
  }
  return at;
}

/** The ancestors of a link's place, nearest first, from its directory up to the root or the trash. */
export function* ancestorsOf(reader: PointReader, directory: InodeId): Iterable<InodeId> {
  let at: InodeId | undefined = directory;
  while (at !== undefined) {
    yield at;
    at = firstLinkOf(reader, at)?.parent;
  }
}

/** Whether `directory` can be reached from the root. */
export function isReachable(reader: PointReader, directory: InodeId): boolean {
  let top = directory;
  for (let up = firstLinkOf(reader, top); up !== undefined; up = firstLinkOf(reader, top)) {
    top = up.parent;
  }
  return top === rootInodeId;
}

/** The absolute path of an inode by its first link, or undefined when no name leads there. */
export function pathOf(reader: PointReader, id: InodeId): string | undefined {
  const parts: string[] = [];
  let at = id;
  while (at !== rootInodeId) {
    const link = firstLinkOf(reader, at);
    if (link === undefined) return undefined;
    parts.push(link.name);
    at = link.parent;
  }
  return `/${parts.reverse().join("/")}`;
}

/** Whether the caller may search every directory on the way to the inode's first name. */
export function mayReach(reader: PointReader, id: InodeId, caller: Caller | undefined): boolean {
  if (caller === undefined) return true;
  for (let up = firstLinkOf(reader, id); up !== undefined; up = firstLinkOf(reader, up.parent)) {
    const directory = inodeOf(reader, up.parent)!;
    if (!may(reader, caller, directory, permission.execute)) return false;
  }
  return true;
}

/** The path of a link below the root of its mount, or undefined where the mount is gone or it lies in the trash. */
export function ufsPathOfLink(reader: PointReader, link: Link): string | undefined {
  const parts: string[] = [link.name];
  let at = link.parent;
  for (;;) {
    const directory = inodeOf(reader, at);
    if (directory === undefined || at === trashInodeId) return undefined;
    if (directory.mountPoint) break;
    const up = firstLinkOf(reader, at);
    if (up === undefined) return undefined;
    parts.push(up.name);
    at = up.parent;
  }
  if (!isReachable(reader, at)) return undefined;
  return parts.reverse().join("/");
}

/** The path below the root of its mount ("" is the root) by its first link, or undefined as above. */
export function ufsPathOf(reader: PointReader, of: Inode): string | undefined {
  if (of.mountPoint) return isReachable(reader, of.id) ? "" : undefined;
  const link = firstLinkOf(reader, of.id);
  return link === undefined ? undefined : ufsPathOfLink(reader, link);
}

export function mountOf(reader: PointReader, id: MountId): Mount | undefined {
  return reader.read(mount, mountKey(id));
}

/** All mounts, the root first, then in the order of their making. */
export function mountsOf(reader: PointReader): Mount[] {
  const ids = reader.read(mountIds, mountIdsKey) ?? [];
  return ids.map((id) => mountOf(reader, id)!);
}

/** A mount as clients see it. */
export function mountInfoOf(reader: PointReader, of: Mount): MountInfo {
  return {
    id: of.id,
    path: pathOf(reader, of.root) ?? "/",
    uri: of.uri,
    readOnly: of.readOnly,
    options: withoutCredentials(of.options),
    ...(of.layers === undefined
      ? {}
      : {
          layers: of.layers.map((layer) => ({
            ...layer,
            options: withoutCredentials(layer.options),
          })),
          writeLayer: of.writeLayer,
        }),
    shared: of.sharedMode === undefined,
    pendingOps: of.pendingOps,
  };
}

/** A mount as workers need it. */
export function mountTargetOf(of: Mount): MountTarget {
  const { id, uri, readOnly, options, layers, writeLayer } = of;
  return { id, uri, readOnly, options, ...(layers === undefined ? {} : { layers, writeLayer }) };
}

export function sessionOf(reader: PointReader, id: SessionId): Session | undefined {
  return reader.read(session, sessionKey(id));
}

/** Whether a session's requests are served and its leases count. */
export function isOpen(reader: PointReader, id: SessionId): boolean {
  const found = sessionOf(reader, id);
  return found !== undefined && !found.closing;
}

export function workerOf(reader: PointReader, id: WorkerId): Worker | undefined {
  return reader.read(worker, workerKey(id));
}

export function workerByUuid(reader: PointReader, uuid: string): Worker | undefined {
  const id = reader.read(storedId, workerUuidKey(uuid));
  return id === undefined ? undefined : workerOf(reader, id as WorkerId);
}

/** All workers that ever registered, in the order of their ids. */
export function workersOf(reader: PointReader): Worker[] {
  const workers: Worker[] = [];
  const end = nextId(reader, "Worker");
  for (let id = 1; id < end; id++) workers.push(workerOf(reader, id as WorkerId)!);
  return workers;
}

export function containerOf(
  reader: PointReader,
  of: InodeId,
  writeId: WriteId,
): Container | undefined {
  return reader.read(container, containerKey(of, writeId));
}

/** The versions of an inode that sessions read. */
export function readingsOf(reader: PointReader, id: InodeId): Readings {
  return reader.read(readings, readingKey(id)) ?? [];
}

/** Up to where the store's object shows wherever the file has no extent; undefined where it does not. */
export function shownSource({
  form,
  source,
}: Inode): { readonly writeId: WriteId; readonly end: number } | undefined {
  const end = form === "source" ? source?.size : source?.shown;
  return source === undefined || end === undefined ? undefined : { writeId: source.writeId, end };
}

/** Keepers that are not lost. */
export function liveKeepersOf(reader: PointReader, of: Container): WorkerId[] {
  return of.keepers.filter((keeper) => workerOf(reader, keeper)?.state === "live");
}

/**
 * True while extents name the container and no keeper of it is live: all are lost, which heals when one of them comes
 * back, or none is left that has the bytes.
 */
export function isContainerLost(reader: PointReader, of: Container): boolean {
  return of.references > 0 && liveKeepersOf(reader, of).length === 0;
}

/** Whether the worker must not drop the container (inode, writeId). */
export function isKept(
  reader: PointReader,
  of: { worker: WorkerId; inode: InodeId; writeId: WriteId },
): boolean {
  return reader.get(keptKey(of.worker, of.inode, of.writeId)) !== undefined;
}

/**
 * What the state knows of a container that some worker holds: `kept` (the only copies, by its keepers), `source` (blocks
 * of a store's object), `writing` (its write lease or its attempt is under way), `unknown` (nothing names it: it may be
 * dropped, if the state has applied at least the entry of its write id).
 */
export function containerUse(
  reader: PointReader,
  of: { inode: InodeId; writeId: WriteId },
): "kept" | "source" | "writing" | "unknown" {
  if (containerOf(reader, of.inode, of.writeId) !== undefined) return "kept";
  const owner = inodeOf(reader, of.inode);
  if (owner === undefined) return "unknown";
  if (owner.source?.writeId === of.writeId) return "source";
  if (owner.lease?.writeId === of.writeId) return "writing";
  if (owner.compaction?.running?.writeId === of.writeId) return "writing";
  if (owner.lineageId === undefined) return "unknown";
  const running = lineageOf(reader, owner.lineageId)?.running;
  return running?.epoch === of.writeId ? "writing" : "unknown";
}

export function lineageOf(reader: PointReader, id: LineageId): Lineage | undefined {
  return reader.read(lineage, lineageKey(id));
}

/** A lineage as clients see it: the attempt under way is the last of its attempts. */
export function lineageInfoOf(id: LineageId, of: Lineage): LineageInfo {
  const under = of.running;
  const attempts =
    under === undefined
      ? of.attempts
      : [
          ...of.attempts,
          { ...under, durationMs: undefined, exitCode: undefined, error: undefined },
        ].slice(-8);
  const { inputs, outputs, job, state, failures } = of;
  return { id, inputs, outputs, job, state, attempts, failures };
}

/** True of an output whose lineage never committed an attempt: its bytes were never made. */
export function isUnmade(reader: PointReader, of: Inode): boolean {
  return of.lineageId !== undefined && lineageOf(reader, of.lineageId)?.committed === false;
}

export function treeOpOf(reader: PointReader, id: TreeOpId): TreeOp | undefined {
  return reader.read(treeOp, treeOpKey(id));
}

export function dataPolicyOf(reader: PointReader, id: DataPolicyId): DataPolicy | undefined {
  return reader.read(dataPolicy, dataPolicyKey(id));
}

/** All data policies, in the order of their making. */
export function dataPoliciesOf(reader: PointReader): DataPolicyInfo[] {
  const ids = reader.read(dataPolicyIds, dataPolicyIdsKey) ?? [];
  return ids.map((id) => {
    const { name, root, migration, everyMs, nextRunAt, running, runs } = dataPolicyOf(reader, id)!;
    return { id, name, path: pathOf(reader, root), migration, everyMs, nextRunAt, running, runs };
  });
}

/** An operation on a tree as clients see it. */
export function treeOpInfoOf(reader: PointReader, id: TreeOpId, of: TreeOp): TreeOpInfo {
  const { root, ...shown } = of;
  return { id, path: pathOf(reader, root), ...shown };
}

/** A queued side effect of any mount. */
export function ufsOpOf(reader: PointReader, id: UfsOpId): UfsOp | undefined {
  for (const mountId of reader.read(mountIds, mountIdsKey) ?? []) {
    const found = reader.read(ufsOp, ufsOpKey(mountId, id));
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * True when executing a persist would be wasted or wrong: its file is gone, was queued again, or no longer has the
 * name. The leader then proposes `ufsDone` without a fingerprint at once.
 */
export function isMoot(reader: PointReader, op: UfsOp): boolean {
  const { action } = op;
  if (action.kind !== "persist" && action.kind !== "migrate") return false;
  const file = inodeOf(reader, action.inode);
  if (file === undefined || file.nlink === 0 || file.version !== action.version) return true;
  if (action.kind === "migrate") {
    const isWhole = file.form === "source" && file.persistedVersion === file.version;
    return !isWhole || treeOpOf(reader, action.treeOp)?.state === "cancelled";
  }
  if (action.primary) return file.persistOp !== op.id;
  // Where the first name went with its tree, the further ones are all that the store will have.
  return ufsPathOf(reader, file) === action.path;
}

/** The paths below the mount that an operation reads or changes. */
function pathsOf(op: UfsOp): readonly string[] {
  return op.action.kind === "rename" ? [op.action.from, op.action.to] : [op.action.path];
}

/** True when one of the paths is the other or lies below it. */
function overlap(a: string, b: string): boolean {
  return a === b || a.startsWith(`${b}/`) || b.startsWith(`${a}/`) || a === "" || b === "";
}

/** Whether a listing or a read at `path` would meet the effects of `op` half-way. */
export function touchesPath(op: UfsOp, path: string): boolean {
  return pathsOf(op).some((each) => overlap(each, path));
}

/**
 * Where the store has what the namespace shows at `path`, while none of `pending` (in order) was executed.
 */
export function pathInStore(path: string, pending: readonly UfsOp[]): string {
  let at = path;
  for (let i = pending.length - 1; i >= 0; i--) {
    const { action } = pending[i]!;
    if (action.kind !== "rename") continue;
    if (at === action.to || at.startsWith(`${action.to}/`)) {
      at = action.from + at.slice(action.to.length);
    }
  }
  return at;
}
