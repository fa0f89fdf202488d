/**
 * Who may do what with an inode: the access check of POSIX 1003.1e (acl(5)), with the rules for owners, sticky directories
 * and the superuser. Masters decide by it, clients by the same for what they answer from their caches.
 *
 * Invariants
 * 1. Pure: a decision depends on the caller and on what is said of the inode, and on nothing else.
 * 2. Without a caller it is the superuser who asks, and nothing is refused but the execution of what nobody may execute.
 */
import type { AclEntry } from "./acl.ts";
import type { Caller, FileKind } from "./namespace.ts";

/** What is asked for; sums of them ask for all at once. Of a directory `execute` is the search for a name in it. */
export const permission = { execute: 1, write: 2, read: 4 } as const;

/** What of an inode decides. */
export interface Guarded {
  readonly kind: FileKind;
  /** Permission bits with setuid, setgid and sticky: 0 … 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export const setUserId = 0o4000;
export const setGroupId = 0o2000;
const sticky = 0o1000;
const groupExecute = 0o010;
const anyExecute = 0o111;

/** Whether the caller belongs to the group. */
export function isMember(caller: Caller, gid: number): boolean {
  return caller.gid === gid || caller.groups.includes(gid);
}

/** Whether the caller may change mode, times and lists of the inode: its owner and the superuser. */
export function isOwner(caller: Caller | undefined, of: Pick<Guarded, "uid">): boolean {
  return caller === undefined || caller.uid === of.uid;
}

/**
 * Whether the caller has all permissions of `wanted`, a sum of `permission`. `acl` is the access control list of an inode
 * that has one; the mode says all of the others.
 */
export function mayAccess(
  caller: Caller | undefined,
  of: Guarded,
  wanted: number,
  acl?: readonly AclEntry[],
): boolean {
  if (caller === undefined) {
    const executes = (wanted & permission.execute) !== 0 && of.kind !== "directory";
    return !executes || (of.mode & anyExecute) !== 0;
  }
  if (acl !== undefined) return grants(caller, of, wanted, acl);
  const shift = caller.uid === of.uid ? 6 : isMember(caller, of.gid) ? 3 : 0;
  return ((of.mode >> shift) & wanted) === wanted;
}

/** The algorithm of acl(5): the first class of entries that means the caller decides, whatever the later ones say. */
function grants(caller: Caller, of: Guarded, wanted: number, acl: readonly AclEntry[]): boolean {
  const entryOf = (tag: AclEntry["tag"]) => acl.find((entry) => entry.tag === tag);
  const allows = (permissions: number) => (permissions & wanted) === wanted;
  const mask = entryOf("mask")?.permissions ?? 7;
  if (caller.uid === of.uid) return allows(entryOf("userObj")!.permissions);
  const user = acl.find(({ tag, id }) => tag === "user" && id === caller.uid);
  if (user !== undefined) return allows(user.permissions & mask);
  const groups = acl.filter(
    ({ tag, id }) =>
      (tag === "groupObj" && isMember(caller, of.gid)) ||
      (tag === "group" && isMember(caller, id!)),
  );
  // One entry must grant all of it: two that grant a half each do not add up.
  if (groups.length > 0) return groups.some(({ permissions }) => allows(permissions & mask));
  return allows(entryOf("other")!.permissions);
}

/** Whether the sticky bit of a directory keeps the caller from removing or renaming `child` in it, write permission or not. */
export function isKeptBySticky(
  caller: Caller | undefined,
  directory: Pick<Guarded, "mode" | "uid">,
  child: Pick<Guarded, "uid">,
): boolean {
  if ((directory.mode & sticky) === 0) return false;
  return !isOwner(caller, child) && !isOwner(caller, directory);
}

/**
 * The mode that chmod(2) leaves when the owner asks for `mode`: who does not belong to the group of the inode cannot make
 * others run with it.
 */
export function chmodMode(caller: Caller | undefined, mode: number, gid: number): number {
  return caller === undefined || isMember(caller, gid) ? mode : mode & ~setGroupId;
}

/**
 * The mode after a write to the content, or after a change of owner or group, by anybody but the superuser: nobody runs
 * with the rights of one user what another one made of it. Without execution by the group, setgid means something else; of
 * a directory it means that names in it belong to its group.
 */
export function withoutSetId(of: Guarded): number {
  if (of.kind === "directory") return of.mode;
  const isSetGroup = (of.mode & groupExecute) !== 0;
  return of.mode & ~(isSetGroup ? setUserId | setGroupId : setUserId);
}
