/** Commands of names and attributes, with the results of POSIX. Whether the caller may do it, permissions.ts says. */
import type { InodeId, WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { setGroupId } from "../../rpc/access.ts";
import type { FileKind } from "../../rpc/namespace.ts";
import { noPolicy, type PathPolicy } from "../../rpc/path-policy.ts";
import { exchange } from "./exchange.ts";
import { firstLease, grantLease, noteFirstLease } from "./leases.ts";
import {
  type Context,
  makeInode,
  needDirectory,
  needInode,
  needWritable,
  patchInode,
  patchKnown,
  refuse,
} from "./context.ts";
import { holdInode } from "./containers.ts";
import {
  addEdge,
  addLink,
  dropFileLink,
  edgeIfAny,
  forgetDirectory,
  forgetFileLink,
  maxLinks,
  maxTargetBytes,
  moveLink,
  needEdge,
  needFree,
  needLoaded,
  needValidName,
} from "./links.ts";
import { type Inode, type Link, trashInodeId } from "./model.ts";
import {
  modeAfter,
  needLinkable,
  needMayChown,
  needMovable,
  needOwner,
  needRemovable,
  needSearch,
  needWriteOrOwn,
  needWrite,
  needWriteIn,
  ownMode,
} from "./permissions.ts";
import { needPrivate } from "./private-mounts.ts";
import { defaultsBelow, leasedStatusOf } from "./path-policies.ts";
import { ancestorsOf, inodeOf, isReachable, linksOf, mountsOf, statusOf } from "./queries.ts";
import {
  persistByWriteType,
  persistLink,
  queueAttributes,
  queueDelete,
  queueMake,
  queueRename,
  storeMayHold,
} from "./ufsops.ts";
import { timesOf } from "./times.ts";
import { chmodList, putNewRights, rightsOfNew } from "./xattrs.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** The result that shows an inode as it is now. */
export function shown(context: Context, id: InodeId, writeId?: WriteId): CommandResult {
  const of = inodeOf(context.state, id)!;
  const status = writeId === undefined ? statusOf(of) : leasedStatusOf(context.state, of);
  return { ok: true, status, writeId };
}

/** A directory in which names can come and go, and in which the caller may look for one. */
function needWritableDirectory(context: Context, id: InodeId): Inode {
  const directory = needDirectory(context, id);
  needWritable(context, directory);
  needSearch(context, directory);
  return directory;
}

function needInTree(context: Context, directory: InodeId): void {
  if (!isReachable(context.state, directory)) {
    refuse("NotFound", `directory ${directory} was removed`);
  }
}

/** Result: the status; `writeId` of the lease, if it was asked for. */
export function create(context: Context, command: Of<"create">): CommandResult {
  needValidName(command.name);
  const existing = edgeIfAny(context, command.parent, command.name);
  if (existing !== undefined && !command.exclusive && command.fileKind === "file") {
    needSearch(context, inodeOf(context.state, command.parent)!);
    return openExisting(context, existing.child, existing.kind, command.lease);
  }
  const parent = needWritableDirectory(context, command.parent);
  if (existing !== undefined) refuse("AlreadyExists", `"${command.name}" exists already`);
  needWriteIn(context, parent);
  needLoaded(parent);
  needInTree(context, parent.id);
  if ((command.fileKind === "symlink") !== (command.target !== undefined)) {
    refuse("InvalidArgument", "a symbolic link has a target, and nothing else has one");
  }
  needIds(context, command);
  if (context.level >= 2 && (command.target === "" || command.target?.includes("\0") === true)) {
    refuse("InvalidArgument", "the target is empty or has a zero byte in it");
  }
  if (command.target !== undefined && command.target.length > maxTargetBytes) {
    const detail = `the target has ${command.target.length} bytes, wanted at most ${maxTargetBytes}`;
    refuse("NameTooLong", detail);
  }
  if (command.rdev !== undefined && !isDevice(command.fileKind)) {
    refuse("InvalidArgument", `a ${command.fileKind} has no device numbers`);
  }
  if (command.lease && command.fileKind !== "file") {
    refuse("InvalidArgument", `a ${command.fileKind} has no write lease`);
  }
  const inherits = (parent.mode & setGroupId) !== 0;
  const setsGroup = inherits && command.fileKind === "directory" ? setGroupId : 0;
  const link: Link = { parent: parent.id, name: command.name };
  const lease = command.lease ? firstLease(context) : undefined;
  const { fileKind: kind, umask = 0 } = command;
  const gid = inherits ? parent.gid : command.gid;
  const { writeType, owner } =
    (context.usage.tree?.defaults ?? 0) > 0 ? defaultsBelow(context.state, parent.id) : noPolicy;
  const rights = rightsOfNew(context, parent, {
    kind,
    mode: owner === undefined ? command.mode : modeBelow(command, owner),
    umask: umask & ~(owner?.mode ?? 0),
  });
  const mode = ownMode(context, { kind, mode: rights.mode, uid: command.uid, gid }, inherits);
  let made = makeInode(
    context,
    {
      kind,
      mode: mode | setsGroup,
      uid: owner?.uid ?? command.uid,
      gid: owner?.gid ?? gid,
      mountId: parent.mountId,
      target: command.target,
      rdev: command.rdev,
    },
    { writeType: command.writeType ?? writeType ?? "ASYNC_THROUGH", link, lease },
  );
  if (rights.access !== undefined || rights.defaults !== undefined) {
    made = patchKnown(context, made, putNewRights(context, made.id, rights));
  }
  addEdge(context, made, link);
  if (lease !== undefined) noteFirstLease(context, made.id, lease);
  const writeId = lease?.writeId;
  // A file with a lease is not whole yet: it is persisted when the lease ends.
  if (made.writeType === "MUST_CACHE" || writeId !== undefined) {
    const status = writeId === undefined ? statusOf(made) : leasedStatusOf(context.state, made);
    return { ok: true, status, writeId, id: undefined };
  }
  if (made.kind === "directory" || made.kind === "symlink") queueMake(context, made);
  else persistByWriteType(context, made.id);
  return shown(context, made.id);
}

function isDevice(kind: FileKind): boolean {
  return kind === "charDevice" || kind === "blockDevice";
}

/** The mode of what a policy gives to somebody: it must not run as him because its maker said so. */
function modeBelow(
  { fileKind, mode }: Of<"create">,
  owner: NonNullable<PathPolicy["owner"]>,
): number {
  if (fileKind === "symlink") return mode;
  const isGiven = owner.uid !== undefined || owner.gid !== undefined;
  const own = isGiven && fileKind !== "directory" ? mode & 0o1777 : mode;
  return (own | (owner.mode ?? 0)) & ~(owner.umask ?? 0);
}

function openExisting(
  context: Context,
  id: InodeId,
  kind: FileKind,
  wantsLease: boolean,
): CommandResult {
  if (kind === "directory") refuse("IsDirectory", "a directory has this name");
  if (kind !== "file") refuse("AlreadyExists", `a ${kind} has this name`);
  if (!wantsLease) return shown(context, id);
  needWrite(context, inodeOf(context.state, id)!);
  return shown(context, id, grantLease(context, id));
}

/** Result: the status. */
export function link(context: Context, command: Of<"link">): CommandResult {
  const parent = needWritableDirectory(context, command.parent);
  const child = needInode(context, command.inode);
  if (child.kind === "directory") refuse("NotPermitted", "directories have one name");
  if (child.nlink === 0) refuse("NotFound", `inode ${child.id} was removed`);
  needFree(context, parent, command.name);
  needInTree(context, parent.id);
  if (child.mountId !== parent.mountId) refuse("CrossMount", "the directory is on another mount");
  needLinkable(context, child);
  needWriteIn(context, parent);
  if (child.nlink >= maxLinks) refuse("TooManyLinks", `the file has ${maxLinks} names`);
  const name: Link = { parent: parent.id, name: command.name };
  addLink(context, child, name);
  const linked = patchInode(context, child.id, {
    nlink: child.nlink + 1,
    ctime: context.wallTime,
  });
  if (linked.kind === "file" && storeMayHold(linked)) persistLink(context, linked, name, false);
  return shown(context, child.id);
}

/** Result: the status after it; `nlink` 0 says that it was the last name. */
export function unlink(context: Context, command: Of<"unlink">): CommandResult {
  const parent = needWritableDirectory(context, command.parent);
  const { child: id, kind } = needEdge(context, parent, command.name);
  needRemovable(context, parent, inodeOf(context.state, id)!);
  if (kind === "directory") refuse("IsDirectory", `"${command.name}" is a directory`);
  if (command.held && context.session !== 0) holdInode(context, id);
  dropFileLink(context, inodeOf(context.state, id)!, { parent: parent.id, name: command.name });
  return shown(context, id);
}

/** Refuses to remove a directory that is a mount point or not known to be empty. */
function needEmpty(directory: Inode, name: string): void {
  if (directory.mountPoint) refuse("Busy", `"${name}" is a mount point`);
  if (directory.childCount > 0) refuse("NotEmpty", `"${name}" is not empty`);
  needLoaded(directory);
}

export function rmdir(context: Context, command: Of<"rmdir">): CommandResult {
  const parent = needWritableDirectory(context, command.parent);
  const { child: id, kind } = needEdge(context, parent, command.name);
  const child = inodeOf(context.state, id)!;
  needRemovable(context, parent, child);
  if (kind !== "directory") refuse("NotDirectory", `"${command.name}" is a ${kind}`);
  needEmpty(child, command.name);
  dropDirectory(context, child, { parent: parent.id, name: command.name });
  return { ok: true };
}

/** Takes an empty directory away, from its store too. */
export function dropDirectory(context: Context, child: Inode, name: Link): void {
  if (storeMayHold(child)) queueDelete(context, child, name, "emptyDirectory");
  forgetDirectory(context, child, name);
}

/**
 * A file goes as by `unlink`; a directory goes to the trash with all below. The right to remove what is below would have to
 * be looked for in each directory there, which no bounded command can: for all but the superuser a directory with names in
 * it is `NotEmpty`, and to be removed name by name.
 */
export function deleteTree(context: Context, command: Of<"deleteTree">): CommandResult {
  const parent = needWritableDirectory(context, command.parent);
  const name: Link = { parent: parent.id, name: command.name };
  const child = inodeOf(context.state, needEdge(context, parent, command.name).child)!;
  needRemovable(context, parent, child);
  if (child.kind !== "directory") {
    dropFileLink(context, child, name);
    return { ok: true };
  }
  for (const mount of mountsOf(context.state)) {
    for (const ancestor of ancestorsOf(context.state, mount.root)) {
      if (ancestor === child.id) refuse("Busy", `"${mount.uri}" is mounted there`);
    }
  }
  if (context.caller !== undefined && (child.childCount > 0 || !child.loaded)) {
    refuse("NotEmpty", "all but the superuser remove the names in it first");
  }
  if (storeMayHold(child)) queueDelete(context, child, name, "tree");
  moveToTrash(context, child, name);
  return { ok: true };
}

/** Moves a directory out of the tree; it is reaped in the background. */
export function moveToTrash(context: Context, child: Inode, name: Link): void {
  const to: Link = { parent: trashInodeId, name: String(child.id) };
  moveLink(context, child, { from: name, to, isShown: false });
  context.notes.events.push({ kind: "trashAdded" });
}

/** rename(2). Result: the status of what was moved. */
export function rename(context: Context, command: Of<"rename">): CommandResult {
  const sourceParent = needWritableDirectory(context, command.sourceParent);
  const targetParent = needWritableDirectory(context, command.targetParent);
  const exchanges = command.exchange === true;
  if (exchanges && command.noReplace) {
    refuse("InvalidArgument", "an exchange replaces nothing, wanted one or the other");
  }
  needValidName(command.sourceName);
  needValidName(command.targetName);
  needInTree(context, sourceParent.id);
  needInTree(context, targetParent.id);
  const from: Link = { parent: sourceParent.id, name: command.sourceName };
  const to: Link = { parent: targetParent.id, name: command.targetName };
  const source = inodeOf(context.state, needEdge(context, sourceParent, from.name).child)!;
  const targetEdge = edgeIfAny(context, to.parent, to.name);
  if (targetEdge === undefined) needLoaded(targetParent);
  if (targetEdge === undefined && exchanges) refuse("NotFound", `"${to.name}" does not exist`);
  if (source.mountPoint) refuse("Busy", "the source is a mount point");
  if (sourceParent.mountId !== targetParent.mountId) {
    refuse("CrossMount", "the target is on another mount");
  }
  if (targetEdge !== undefined && command.noReplace) {
    refuse("AlreadyExists", `"${to.name}" exists already`);
  }
  if (targetEdge?.child === source.id) return shown(context, source.id);
  if (source.kind === "directory") {
    for (const ancestor of ancestorsOf(context.state, targetParent.id)) {
      if (ancestor === source.id) refuse("InvalidArgument", "the target is inside the source");
    }
  }
  const target = targetEdge === undefined ? undefined : inodeOf(context.state, targetEdge.child)!;
  if (exchanges) {
    const first = { directory: sourceParent, inode: source, link: from };
    exchange(context, first, { directory: targetParent, inode: target!, link: to });
    return shown(context, source.id);
  }
  needMovable(context, { sourceParent, source, targetParent, target });
  if (target !== undefined) needReplaceable(source, target, to.name);
  if (target?.kind === "directory") dropDirectory(context, target, to);
  const replaces = target?.kind === "file" && replacesObject(context, source, target);
  if (target !== undefined && target.kind !== "directory") {
    dropReplaced(context, { source, target, to });
  }
  if (storeMayHold(source)) {
    queueRename(context, source, { from, to, ...(replaces ? { replaces: target } : {}) });
  }
  moveLink(context, source, { from, to, isShown: true });
  return shown(context, source.id);
}

function needReplaceable(source: Inode, target: Inode, name: string): void {
  if (target.kind !== "directory") {
    if (source.kind === "directory") refuse("NotDirectory", `"${name}" is a ${target.kind}`);
    return;
  }
  if (target.mountPoint) refuse("Busy", `"${name}" is a mount point`);
  if (source.kind !== "directory") refuse("IsDirectory", `"${name}" is a directory`);
  needEmpty(target, name);
}

/** Whether the store's own rename takes the object of the file away that has the target's name. */
function replacesObject(context: Context, source: Inode, target: Inode): boolean {
  return storeMayHold(source) && linksOf(context.state, target.id).length === 1;
}

/** Takes the name from the file that a rename replaces. The store needs no delete where its own rename replaces. */
function dropReplaced(
  context: Context,
  of: { readonly source: Inode; readonly target: Inode; readonly to: Link },
): void {
  if (replacesObject(context, of.source, of.target)) forgetFileLink(context, of.target, of.to);
  else dropFileLink(context, of.target, of.to);
}

/** The largest user or group: the one above says "leave it as it is" to chown(2). */
const greatestId = 2 ** 32 - 2;

function needIds(
  context: Context,
  { uid, gid }: { readonly uid?: number | undefined; readonly gid?: number | undefined },
): void {
  if (context.level < 2) return;
  for (const id of [uid, gid]) {
    if (id === undefined || id <= greatestId) continue;
    refuse("InvalidArgument", `user or group ${id}, wanted at most ${greatestId}`);
  }
}

/** chown(2) that leaves both as they are, for one: it is allowed to everybody, and no time moves by it. */
function changesNothing(command: Of<"setAttributes">): boolean {
  const { mode, uid, gid, atime, mtime, touch } = command;
  return [mode, uid, gid, atime, mtime, touch].every((each) => each === undefined);
}

/** Result: the status. */
export function setAttributes(context: Context, command: Of<"setAttributes">): CommandResult {
  const of = needInode(context, command.inode);
  needWritable(context, of);
  const { uid, gid } = command;
  needIds(context, command);
  if (context.level >= 2 && changesNothing(command)) return shown(context, of.id);
  const { atime, mtime } = timesOf(context, command);
  if (command.touch === true) needWriteOrOwn(context, of);
  else if (atime !== undefined || mtime !== undefined) needOwner(context, of);
  if (command.mode !== undefined) needOwner(context, of);
  needMayChown(context, of, command);
  const modeNow = modeAfter(context, of, command);
  const mode = command.mode === undefined && modeNow === of.mode ? undefined : modeNow;
  if (mode !== undefined) needPrivate(context, of, mode);
  if (mode !== undefined) chmodList(context, of, mode);
  const changed = patchInode(context, of.id, {
    mode: modeNow,
    uid: uid ?? of.uid,
    gid: gid ?? of.gid,
    atime: atime ?? of.atime,
    mtime: mtime ?? of.mtime,
    ctime: context.wallTime,
  });
  if (mode !== undefined || uid !== undefined || gid !== undefined || mtime !== undefined) {
    queueAttributes(context, changed, { mode, uid, gid, mtime });
  }
  return shown(context, of.id);
}
