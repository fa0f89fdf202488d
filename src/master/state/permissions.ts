/**
 * Whether the caller of a command may do it. What is refused where is as on Linux: first the search of the directory, then
 * what is there, then the right to change it (EACCES, `PermissionDenied`), then what belongs to owners alone (EPERM,
 * `NotPermitted`).
 *
 * Invariants
 * 1. It is decided while the command is applied: whatever was committed before counts.
 * 2. A context without a caller is the superuser's, or of the leader itself: nothing here costs it more than a comparison.
 * 3. Inodes are named by their ids, as by file handles of NFS: that the caller came to the directory by a path that he may
 *    search was decided when he walked it.
 */
import {
  chmodMode,
  isKeptBySticky,
  isMember,
  isOwner,
  permission,
  setGroupId,
  setUserId,
  withoutSetId,
} from "../../rpc/access.ts";
import type { FileKind } from "../../rpc/namespace.ts";
import { type Context, refuse } from "./context.ts";
import type { Inode } from "./model.ts";
import { may } from "./queries.ts";

const groupExecute = 0o010;

/** The caller, as refusals name him. */
function who({ caller }: Context): string {
  return caller === undefined ? "the superuser" : `user ${caller.uid}`;
}

/** Refuses who may not look for a name in the directory. */
export function needSearch(context: Context, directory: Inode): void {
  if (
    context.caller === undefined ||
    may(context.state, context.caller, directory, permission.execute)
  )
    return;
  refuse("PermissionDenied", `${who(context)} may not search directory ${directory.id}`);
}

/** Refuses who may not make or take names in the directory, which he may search. */
export function needWriteIn(context: Context, directory: Inode): void {
  if (
    context.caller === undefined ||
    may(context.state, context.caller, directory, permission.write)
  )
    return;
  refuse("PermissionDenied", `${who(context)} may not write in directory ${directory.id}`);
}

/** Refuses who may not change the content of the inode. */
export function needWrite(context: Context, of: Inode): void {
  if (context.caller === undefined || may(context.state, context.caller, of, permission.write))
    return;
  refuse("PermissionDenied", `${who(context)} may not write it`);
}

/**
 * As `needWrite`, or its owner: to set its times to now, and to write what was opened. That right is checked as a file is
 * opened, and a file may have been made or become read-only since; who opened it is not known here, so its owner is taken to
 * have.
 */
export function needWriteOrOwn(context: Context, of: Inode): void {
  if (!isOwner(context.caller, of)) needWrite(context, of);
}

/** Refuses who may not take the name of `child` out of `directory`, which he may search. */
export function needRemovable(context: Context, directory: Inode, child: Inode): void {
  if (context.caller === undefined) return;
  needWriteIn(context, directory);
  if (!isKeptBySticky(context.caller, directory, child)) return;
  refuse("NotPermitted", `the directory is sticky, and ${who(context)} owns neither it nor that`);
}

/** Refuses who may not move `source` to the place of `target`, or of nothing. */
export function needMovable(
  context: Context,
  move: {
    readonly sourceParent: Inode;
    readonly source: Inode;
    readonly targetParent: Inode;
    readonly target: Inode | undefined;
  },
): void {
  if (context.caller === undefined) return;
  const { sourceParent, source, targetParent, target } = move;
  needRemovable(context, sourceParent, source);
  if (target === undefined) needWriteIn(context, targetParent);
  else needRemovable(context, targetParent, target);
  // Its ".." becomes another one.
  if (source.kind === "directory" && sourceParent.id !== targetParent.id) {
    needWriteIn(context, source);
  }
}

/** Refuses who does not own the inode. */
export function needOwner(context: Context, of: Inode): void {
  if (isOwner(context.caller, of)) return;
  refuse("NotPermitted", `${who(context)} does not own it`);
}

/** Refuses everybody but the superuser. */
export function needSuperuser(context: Context): void {
  if (context.caller === undefined) return;
  refuse("NotPermitted", `${who(context)} is not the superuser`);
}

/** What a new inode is to be. */
interface NewOwnership {
  readonly kind: FileKind;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Refuses to make an inode for somebody else. `inherits`: it gets the group of its directory. Returns its mode: it must not
 * let others run with a group that its maker does not belong to.
 */
export function ownMode(context: Context, made: NewOwnership, inherits: boolean): number {
  const { caller } = context;
  if (caller === undefined) return made.mode;
  if (made.kind === "charDevice" || made.kind === "blockDevice") needSuperuser(context);
  if (made.uid !== caller.uid) {
    refuse("NotPermitted", `${who(context)} cannot make it for user ${made.uid}`);
  }
  if (isMember(caller, made.gid)) return made.mode;
  if (!inherits) {
    refuse("NotPermitted", `${who(context)} does not belong to group ${made.gid}`);
  }
  const runs = made.kind !== "directory" && (made.mode & groupExecute) !== 0;
  return runs ? made.mode & ~setGroupId : made.mode;
}

/** As Linux has it with `fs.protected_hardlinks`: who could neither read nor write a file must not hold on to it by a name. */
export function needLinkable(context: Context, of: Inode): void {
  if (isOwner(context.caller, of)) return;
  const isPlain = of.kind === "file" && of.mode === withoutSetId(of);
  if (isPlain && may(context.state, context.caller, of, permission.read | permission.write)) return;
  refuse("NotPermitted", `${who(context)} neither owns it nor may read and write it`);
}

/** What a change of attributes says of them. */
interface AttributesWanted {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
}

/** Refuses who may not give the inode this owner or group. */
export function needMayChown(context: Context, of: Inode, { uid, gid }: AttributesWanted): void {
  const { caller } = context;
  if (caller === undefined) return;
  if (uid !== undefined && (uid !== of.uid || caller.uid !== of.uid)) {
    refuse("NotPermitted", `${who(context)} cannot give it to user ${uid}`);
  }
  if (gid === undefined) return;
  needOwner(context, of);
  if (gid !== of.gid && !isMember(caller, gid)) {
    refuse("NotPermitted", `${who(context)} does not belong to group ${gid}`);
  }
}

/** The mode after a change of attributes that the caller may make. */
export function modeAfter(context: Context, of: Inode, wanted: AttributesWanted): number {
  const { mode, uid, gid } = wanted;
  if (mode !== undefined) return chmodMode(context.caller, mode & 0o7777, gid ?? of.gid);
  const isChown = uid !== undefined || gid !== undefined;
  return isChown && context.caller !== undefined ? withoutSetId(of) : of.mode;
}

/** The mode of a file whose content the caller has changed. */
export function modeAfterWrite(context: Context, of: Inode): number {
  const hasSetId = (of.mode & (setUserId | setGroupId)) !== 0;
  return hasSetId && context.caller !== undefined ? withoutSetId(of) : of.mode;
}
