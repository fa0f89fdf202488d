/**
 * Side effects on stores, queued in the state and executed by workers. Each is recorded with the path that it is about as
 * of the command that queued it; those of one mount that touch the same path are executed in the order of their ids.
 *
 * Invariants
 * 1. What a store may hold under a name is gone from the namespace only together with a queued operation that takes it
 *    out of the store, and a tomb that keeps loading from bringing it back until then.
 * 2. A persist marks its inode with its id; only the latest counts (`isMoot`).
 * 3. A mount counts its queued operations.
 */
import type { InodeId, MountId, UfsOpId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { type Context, patchInode, patchMount, patchUnseen, refuse, takeId } from "./context.ts";
import { markPersisted } from "./content.ts";
import { tombKey, ufsOpKey } from "./keys.ts";
import { type Inode, type Link, storedId, type UfsOp, type UfsOpAction, ufsOp } from "./model.ts";
import {
  firstLinkOf,
  inodeOf,
  linksOf,
  mountOf,
  ufsOpOf,
  ufsPathOf,
  ufsPathOfLink,
} from "./queries.ts";

/** Whether the store may hold something under the inode's name: it does, did, or will when its queue is executed. */
export function storeMayHold(of: Inode): boolean {
  return of.persistence !== "none" || of.persistedVersion > 0;
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
  context.state.write(ufsOp, ufsOpKey(mountId, id), {
    id,
    mountId,
    action,
    directories,
    tomb,
    moves,
  });
  if (tomb !== undefined) {
    context.state.write(storedId, tombKey(tomb.directory, tomb.name), id);
  }
  const pendingOps = mountOf(context.state, mountId)!.pendingOps + 1;
  patchMount(context, mountId, moves ? { pendingOps, movedIndex: context.index } : { pendingOps });
  context.notes.events.push({ kind: "ufsOpQueued", mount: mountId, op: id });
  return id;
}

/** Queues the removal of what the store has at `link` (path as of now). Directories go with all below. */
export function queueDelete(context: Context, of: Inode, link: Link): void {
  const path = ufsPathOfLink(context.state, link);
  if (path === undefined || !isWritable(context, of.mountId)) return;
  queue(context, {
    mountId: of.mountId,
    action: { kind: "delete", path },
    directories: [link.parent],
    tomb: link,
    moves: of.kind === "directory",
  });
}

/** Queues the move of what the store has at `from` to `to` (paths as of now). */
export function queueRename(context: Context, of: Inode, from: Link, to: Link): void {
  const source = ufsPathOfLink(context.state, from);
  const target = ufsPathOfLink(context.state, to);
  if (source === undefined || target === undefined || !isWritable(context, of.mountId)) return;
  ensureParents(context, to.parent);
  queue(context, {
    mountId: of.mountId,
    action: { kind: "rename", from: source, to: target, inode: of.id },
    directories: from.parent === to.parent ? [from.parent] : [from.parent, to.parent],
    tomb: from,
    moves: of.kind === "directory",
  });
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
  });
  if (primary) patchInode(context, of.id, { persistence: "pending", persistOp: op });
}

/** Whether the store has the file's present version, or will have it when its queue is executed. */
function isPersistedOrQueued(context: Context, of: Inode): boolean {
  if (of.persistedVersion === of.version) return true;
  if (of.persistOp === undefined) return false;
  const op = context.state.read(ufsOp, ufsOpKey(of.mountId, of.persistOp));
  return op?.action.kind === "persist" && op.action.version === of.version;
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

/** Queues attributes for what the store holds or will hold under the inode's first name. */
export function queueAttributes(
  context: Context,
  of: Inode,
  attributes: Pick<
    Extract<UfsOpAction, { kind: "setAttributes" }>,
    "mode" | "uid" | "gid" | "mtime"
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

/** A queued operation was executed, given up (`error`), or was moot (a persist without a fingerprint). */
export function ufsDone(
  context: Context,
  done: Extract<Command, { kind: "ufsDone" }>,
): CommandResult {
  const op = ufsOpOf(context.state, done.op);
  if (op === undefined) refuse("NotFound", `no operation ${done.op} is queued`);
  context.state.delete(ufsOpKey(op.mountId, op.id));
  const mount = mountOf(context.state, op.mountId)!;
  const pendingOps = mount.pendingOps - 1;
  patchMount(
    context,
    op.mountId,
    op.moves ? { pendingOps, movedIndex: context.index } : { pendingOps },
  );
  if (op.tomb !== undefined) {
    const key = tombKey(op.tomb.directory, op.tomb.name);
    if (context.state.read(storedId, key) === op.id) context.state.delete(key);
  }
  for (const directory of op.directories) {
    if (inodeOf(context.state, directory) !== undefined) {
      patchUnseen(context, directory, { removedIndex: context.index });
    }
  }
  settle(context, op, done);
  context.notes.events.push({ kind: "ufsOpDone", mount: op.mountId, op: op.id });
  return { ok: true };
}

/** What the end of an operation means for its inode. */
function settle(
  context: Context,
  op: UfsOp,
  done: { readonly fingerprint: string | undefined; readonly error: string | undefined },
): void {
  const { action } = op;
  if (action.kind === "delete") return;
  const of = inodeOf(context.state, action.inode);
  if (of === undefined || of.nlink === 0) return;
  switch (action.kind) {
    case "persist":
      if (done.error === undefined && done.fingerprint !== undefined && action.primary) {
        markPersisted(context, of, action, done.fingerprint);
      }
      break;
    case "mkdir":
    case "symlink":
      if (done.error === undefined) patchInode(context, of.id, { persistence: "persisted" });
      break;
    case "rename":
    case "setAttributes":
      // The object is the same, but what tells it from others may have changed with its name or times.
      if (done.error === undefined && done.fingerprint !== undefined && of.source !== undefined) {
        patchUnseen(context, of.id, { source: { ...of.source, fingerprint: done.fingerprint } });
      }
      return;
  }
  const now = inodeOf(context.state, of.id)!;
  if (now.persistOp !== op.id) return;
  const persistence = now.persistence === "pending" ? "none" : now.persistence;
  patchInode(context, of.id, { persistence, persistOp: undefined });
}
