/** Whether a caller may have what a call answers: as permissions of commands are decided, for what enters no log. */
import { WeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import { isOwner, permission } from "../../rpc/access.ts";
import type { Caller } from "../../rpc/namespace.ts";
import type { Inode } from "../state/model.ts";
import { inodeOf, may, mayReach } from "../state/queries.ts";
import type { PointReader } from "../store/types.ts";

const names = [
  [permission.read, "read"],
  [permission.write, "write"],
  [permission.execute, "execute or search"],
] as const;

/** Refuses who has not all of `wanted`, a sum of `permission`; `doing` opens the message. */
export function needRight(
  reader: PointReader,
  caller: Caller | undefined,
  of: Inode,
  wanted: number,
  doing: string,
): void {
  if (may(reader, caller, of, wanted)) return;
  const lacking = names.filter(([bit]) => (wanted & bit) !== 0 && !may(reader, caller, of, bit));
  // What each class of a list grants for itself need not be granted together.
  const what = (lacking.length > 0 ? lacking : names.filter(([bit]) => (wanted & bit) !== 0))
    .map(([, name]) => name)
    .join(" and ");
  throw new WeirError("PermissionDenied", `${doing}: ${nameOf(caller)} may not ${what} it`);
}

/**
 * Refuses who may not read the content. `opened`: he says that he has opened the file; its owner is believed, since the
 * right is checked as a file is opened, and may have changed since.
 */
export function needReadable(
  reader: PointReader,
  caller: Caller | undefined,
  inode: InodeId,
  opened: boolean,
): void {
  if (caller === undefined) return;
  const of = inodeOf(reader, inode);
  if (of === undefined || (opened && isOwner(caller, of))) return;
  needRight(reader, caller, of, permission.read, `Cannot read inode ${inode}`);
}

/** Refuses who may not search some directory on the way to the inode. */
export function needReachable(
  reader: PointReader,
  caller: Caller | undefined,
  inode: InodeId,
): void {
  if (mayReach(reader, inode, caller)) return;
  throw new WeirError(
    "PermissionDenied",
    `Cannot tell the path of inode ${inode}: ${nameOf(caller)} may not search a directory of it`,
  );
}

/** Refuses everybody but the superuser. */
export function needSuperuser(caller: Caller | undefined, doing: string): void {
  if (caller === undefined) return;
  throw new WeirError(
    "NotPermitted",
    `${doing}: ${nameOf(caller)} is not the superuser (security.superusers)`,
  );
}

/** The caller in messages. */
export function nameOf(caller: Caller | undefined): string {
  return caller === undefined ? "the superuser" : `user ${caller.uid}`;
}
