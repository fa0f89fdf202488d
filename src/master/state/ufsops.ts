/**
 * Side effects on stores, queued in the state and executed by workers. Each is recorded with the path that it is about as
 * of the command that queued it; those of one mount that touch the same path are executed in the order of their ids.
 *
 * Invariants
 * 1. What a store may hold under a name is gone from the namespace only together with a queued operation that takes it
 *    out of the store, and a tomb that keeps loading from bringing it back until then.
 * 2. A persist marks its inode with its id; only the latest counts (`isMoot`).
 * 3. A mount counts its queued operations, those given up included.
 * 4. A name that the store does not have yet for an inode that it has elsewhere (a rename, a further link), or has in the
 *    layer that the object is about to leave, has an arrival until the operation is done: what the store shows under it
 *    meanwhile does not tell how the inode is.
 * 5. An inode that lost its last name, and whose bytes may lie in the store alone, knows the operation that takes its
 *    object away (`removeOp`), or that the object lies aside (`aside`). It is removed from there when the inode is reaped.
 *
 * How operations end is in ufsop-ends.ts.
 */
import type { InodeId, MountId, UfsOpId } from "../../lib/ids.ts";
import { exchangePath, unlinkedPath } from "../../lib/store-names.ts";
import { type Context, patchInode, patchMount, patchUnseen, takeId } from "./context.ts";
import { arrivalKey, tombKey, ufsOpKey } from "./keys.ts";
import { type Inode, type Link, storedId, type UfsOp, type UfsOpAction, ufsOp } from "./model.ts";
import {
  firstLinkOf,
  inodeOf,
  linksOf,
  mountOf,
  nextId,
  ufsPathOf,
  ufsPathOfLink,
} from "./queries.ts";

/** Whether the store may hold something under the inode's name: it does, did, or will when its queue is executed. */
export function storeMayHold(of: Inode): boolean {
  return of.persistence !== "none" || of.persistedVersion > 0 || of.persistOp !== undefined;
}

/** Whether side effects on the mount make sense at all. */
export function isWritable(context: Context, mountId: MountId): boolean {
  const mount = mountOf(context.state, mountId);
  return mount !== undefined && !mount.readOnly;
}

interface Queued {
  readonly mountId: MountId;
  readonly action: UfsOpAction;
  readonly directories: readonly InodeId[];
  readonly tomb?: Link | undefined;
  readonly arrival?: Link;
  readonly moves?: boolean;
}

function queue(context: Context, wanted: Queued): UfsOpId {
  const id = takeId(context, "UfsOp") as UfsOpId;
  const { mountId, action, directories } = wanted;
  const tomb =
    wanted.tomb === undefined
      ? undefined
      : { directory: wanted.tomb.parent, name: wanted.tomb.name };
  const moves = wanted.moves ?? false;
  const arrival =
    wanted.arrival === undefined || context.level < 2
      ? undefined
      : { directory: wanted.arrival.parent, name: wanted.arrival.name };
  context.state.write(ufsOp, ufsOpKey(mountId, id), {
    id,
    mountId,
    action,
    directories,
    tomb,
    moves,
    queuedMs: context.level >= 2 ? context.clusterTimeMs : undefined,
    failed: undefined,
    arrival,
  });
  if (tomb !== undefined) {
    context.state.write(storedId, tombKey(tomb.directory, tomb.name), id);
  }
  if (arrival !== undefined) {
    context.state.write(storedId, arrivalKey(arrival.directory, arrival.name), id);
  }
  const pendingOps = mountOf(context.state, mountId)!.pendingOps + 1;
  patchMount(context, mountId, moves ? { pendingOps, movedIndex: context.index } : { pendingOps });
  context.notes.events.push({ kind: "ufsOpQueued", mount: mountId, op: id });
  return id;
}

/**
 * Queues the removal of what the store has at `link` (path as of now). `file`: exactly its object. `emptyDirectory`: the
 * directory, unless the store has something in it that is not known here. `tree`: with all below, known here or not.
 */
export function queueDelete(
  context: Context,
  child: Inode,
  link: Link,
  of: "file" | "emptyDirectory" | "tree",
): void {
  const path = ufsPathOfLink(context.state, link);
  if (path === undefined || !isWritable(context, child.mountId)) return;
  const isLast = of === "file" && isOnlyName(context, child, link);
  const inode = isLast && child.source !== undefined ? child.id : undefined;
  const removed =
    context.level >= 2 ? { of, inode, isKnown: inode !== undefined && isKnownObject(child) } : {};
  const op = queue(context, {
    mountId: child.mountId,
    action: { kind: "delete", path, ...removed },
    directories: [link.parent],
    tomb: link,
    moves: child.kind === "directory",
  });
  if (context.level >= 2 && inode !== undefined) patchUnseen(context, inode, { removeOp: op });
}

function isOnlyName(context: Context, of: Inode, { parent, name }: Link): boolean {
  const [first, second] = linksOf(context.state, of.id);
  return second === undefined && first?.parent === parent && first.name === name;
}

/** Whether the store's object has the fingerprint of `source` once all is executed that was queued before. */
function isKnownObject({
  form,
  persistence,
  persistOp,
  persistedVersion,
  version,
}: Inode): boolean {
  const isWhole = form === "source" && persistedVersion === version;
  return isWhole && persistence === "persisted" && persistOp === undefined;
}

/** Queues the removal of the object that lies aside for an inode that is gone. */
export function queueForgetAside(context: Context, mountId: MountId, inode: InodeId): void {
  if (!isWritable(context, mountId)) return;
  queue(context, {
    mountId,
    action: { kind: "delete", path: unlinkedPath(inode), of: "file" },
    directories: [],
  });
}

/**
 * Queues the move of what the store has at `from` to `to` (paths as of now). `replaces`: the file whose only name `to`
 * was, and whose object goes with this.
 */
export function queueRename(
  context: Context,
  of: Inode,
  { from, to, replaces }: { readonly from: Link; readonly to: Link; readonly replaces?: Inode },
): void {
  const source = ufsPathOfLink(context.state, from);
  const target = ufsPathOfLink(context.state, to);
  if (source === undefined || target === undefined || !isWritable(context, of.mountId)) return;
  ensureParents(context, to.parent);
  const replaced = replaces?.source === undefined ? undefined : replaces.id;
  const op = queue(context, {
    mountId: of.mountId,
    action: {
      kind: "rename",
      from: source,
      to: target,
      inode: of.id,
      ...(context.level >= 2 ? { of: kindOfMove(of), replaces: replaced } : {}),
    },
    directories: from.parent === to.parent ? [from.parent] : [from.parent, to.parent],
    tomb: from,
    arrival: to,
    moves: of.kind === "directory",
  });
  if (context.level >= 2 && replaced !== undefined) {
    patchUnseen(context, replaced, { removeOp: op });
  }
}

function kindOfMove({ kind }: Inode): "file" | "directory" {
  return kind === "directory" ? "directory" : "file";
}

/** What has a name, and which. */
interface Named {
  readonly inode: Inode;
  readonly link: Link;
}

/**
 * Queues that what the store has at two names changes places (paths as of now), the first of them by way of a name of
 * ours. Whatever ends between two of the moves, each object lies under one of the three names, and the rest of the queue
 * brings it on. Both names have arrivals until the store has under them what the namespace shows there.
 */
export function queueExchange(context: Context, first: Named, second: Named): void {
  const path = ufsPathOfLink(context.state, first.link);
  const other = ufsPathOfLink(context.state, second.link);
  const { mountId } = first.inode;
  if (path === undefined || other === undefined || !isWritable(context, mountId)) return;
  const between = exchangePath(path, nextId(context.state, "UfsOp") as UfsOpId);
  const move = ({ inode }: Named, from: string, to: string, of: Partial<Queued>) => {
    queue(context, {
      mountId,
      action: { kind: "rename", from, to, inode: inode.id, of: kindOfMove(inode) },
      directories: [first.link.parent, second.link.parent],
      moves: inode.kind === "directory",
      ...of,
    });
  };
  move(first, path, between, { directories: [first.link.parent] });
  move(second, other, path, { arrival: first.link });
  move(first, between, other, { arrival: second.link });
}

/** Queues directories that the store does not have yet, top first, since it will hold something below. */
function ensureParents(context: Context, directory: InodeId): void {
  const of = inodeOf(context.state, directory)!;
  if (of.mountPoint || storeMayHold(of)) return;
  queueMake(context, of);
}

/** Queues the making of a directory or a symbolic link that the store does not have. */
export function queueMake(context: Context, of: Inode): void {
  const link = firstLinkOf(context.state, of.id);
  if (link === undefined || !isWritable(context, of.mountId)) return;
  const path = ufsPathOfLink(context.state, link);
  if (path === undefined) return;
  ensureParents(context, link.parent);
  const { id: inode, mode, uid, gid } = of;
  const action: UfsOpAction =
    of.kind === "directory"
      ? { kind: "mkdir", path, inode, mode, uid, gid }
      : { kind: "symlink", path, inode, target: of.target! };
  const op = queue(context, { mountId: of.mountId, action, directories: [link.parent] });
  patchInode(context, of.id, { persistence: "pending", persistOp: op });
}

/** Queues the write of the file's present version under all its names. */
function queuePersist(context: Context, of: Inode): void {
  const names = linksOf(context.state, of.id);
  forgetFailed(context, of);
  if (names.length === 0 || !isWritable(context, of.mountId)) return;
  for (const [i, link] of names.entries()) persistLink(context, of, link, i === 0);
}

/** Queues the write of the file's present version under one name. */
export function persistLink(context: Context, of: Inode, link: Link, primary: boolean): void {
  const path = ufsPathOfLink(context.state, link);
  if (path === undefined) return;
  ensureParents(context, link.parent);
  const { id: inode, version, size } = of;
  const op = queue(context, {
    mountId: of.mountId,
    action: { kind: "persist", path, inode, version, size, primary },
    directories: [link.parent],
    ...(primary ? {} : { arrival: link }),
  });
  if (primary) patchInode(context, of.id, { persistence: "pending", persistOp: op });
}

/** Takes out the operation of an inode that was given up, and has become moot with another one or with the inode. */
export function forgetFailed(context: Context, { mountId, persistOp }: Inode): void {
  if (persistOp === undefined) return;
  const op = context.state.read(ufsOp, ufsOpKey(mountId, persistOp));
  if (op?.failed !== undefined) takeOut(context, op);
}

/** Takes an operation out of the queue, with its tomb and its arrival. */
export function takeOut(context: Context, op: UfsOp): void {
  context.state.delete(ufsOpKey(op.mountId, op.id));
  const pendingOps = mountOf(context.state, op.mountId)!.pendingOps - 1;
  const moved = op.moves ? { movedIndex: context.index } : {};
  patchMount(context, op.mountId, { pendingOps, ...moved });
  if (op.tomb !== undefined) {
    const key = tombKey(op.tomb.directory, op.tomb.name);
    if (context.state.read(storedId, key) === op.id) context.state.delete(key);
  }
  if (op.arrival !== undefined) {
    const key = arrivalKey(op.arrival.directory, op.arrival.name);
    if (context.state.read(storedId, key) === op.id) context.state.delete(key);
  }
  context.notes.events.push({ kind: "ufsOpDone", mount: op.mountId, op: op.id });
}

/** Whether the store has the file's present version, or will have it when its queue is executed. */
function isPersistedOrQueued(context: Context, of: Inode): boolean {
  if (of.persistedVersion === of.version) return true;
  if (of.persistOp === undefined) return false;
  const op = context.state.read(ufsOp, ufsOpKey(of.mountId, of.persistOp));
  if (op?.action.kind !== "persist" || op.failed !== undefined) return false;
  return op.action.version === of.version;
}

/** Queues the persist that the write type asks for, if the store does not have or get the present version. */
export function persistByWriteType(context: Context, id: InodeId): void {
  const of = inodeOf(context.state, id)!;
  if (of.writeType !== "MUST_CACHE") persistFile(context, of);
}

/** Queues the write of a file's present version, if the store does not have or get it. */
export function persistFile(context: Context, of: Inode): void {
  if (of.kind !== "file" || isPersistedOrQueued(context, of)) return;
  queuePersist(context, of);
}

/**
 * Queues the write of a file's present version under its first name, where that one is new and the version was written under
 * further names at most. False: the store has it, gets it, or is not to have it.
 */
export function persistUnderNewFirstName(context: Context, id: InodeId): boolean {
  const of = inodeOf(context.state, id)!;
  const link = firstLinkOf(context.state, id);
  if (of.kind !== "file" || of.writeType === "MUST_CACHE" || of.lease !== undefined) return false;
  if (link === undefined || !isWritable(context, of.mountId) || isPersistedOrQueued(context, of)) {
    return false;
  }
  forgetFailed(context, of);
  persistLink(context, of, link, true);
  return true;
}

/** Queues attributes for what the store holds or will hold under the inode's first name. */
export function queueAttributes(
  context: Context,
  of: Inode,
  attributes: Pick<
    Extract<UfsOpAction, { kind: "setAttributes" }>,
    "mode" | "uid" | "gid" | "mtime" | "isAnother"
  >,
): void {
  if (!storeMayHold(of) || !isWritable(context, of.mountId)) return;
  const path = ufsPathOf(context.state, of);
  if (path === undefined) return;
  const link = firstLinkOf(context.state, of.id);
  queue(context, {
    mountId: of.mountId,
    action: { kind: "setAttributes", path, inode: of.id, ...attributes },
    directories: link === undefined ? [] : [link.parent],
  });
}

/** Queues the way of a file's object to another layer of its union. False: no name leads to it, or its mount is read-only. */
export function queueMigration(
  context: Context,
  of: Inode,
  way: Pick<Extract<UfsOpAction, { kind: "migrate" }>, "from" | "to" | "keep" | "treeOp">,
): boolean {
  const link = firstLinkOf(context.state, of.id);
  const path = ufsPathOf(context.state, of);
  if (link === undefined || path === undefined || !isWritable(context, of.mountId)) return false;
  const { from, to, keep, treeOp } = way;
  const { id: inode, version } = of;
  queue(context, {
    mountId: of.mountId,
    action: { kind: "migrate", path, inode, version, from, to, keep, treeOp },
    directories: [link.parent],
    // What a listing shows meanwhile is the same content, though its object looks otherwise.
    arrival: link,
  });
  return true;
}
