/** Commands of extended attributes (xattr(7)) and, as attributes of their own, of access control lists (acl(5)). */
import { chmodMode } from "../../rpc/access.ts";
import {
  accessAclName,
  type Acl,
  decodeAcl,
  encodeAcl,
  isEquivalentToMode,
  modeOfAcl,
} from "../../rpc/acl.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { maxXattrNameBytes, maxXattrValueBytes } from "../../rpc/xattr.ts";
import { type Context, needInode, needWritable, patchInode, Refusal, refuse } from "./context.ts";
import type { Inode } from "./model.ts";
import { shown } from "./namespace-commands.ts";
import { needPrivate } from "./private-mounts.ts";
import { xattrOf } from "./queries.ts";
import { queueAttributes } from "./ufsops.ts";
import { xattrRefusal } from "./xattr-rights.ts";
import { putXattr } from "./xattrs.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** The inode, if the caller may change this attribute of it. */
function needChangeable(context: Context, command: Of<"setXattr"> | Of<"removeXattr">): Inode {
  const of = needInode(context, command.inode);
  needWritable(context, of);
  const { name } = command;
  if (name.length > maxXattrNameBytes) {
    refuse("NameTooLong", `the name has ${name.length} bytes, wanted at most ${maxXattrNameBytes}`);
  }
  if (name.includes("\0")) refuse("InvalidArgument", "the name has a byte of zero");
  const refusal = xattrRefusal(context.state, context.caller, of, { name, isWrite: true });
  if (refusal !== undefined) throw new Refusal(refusal.code, refusal.detail);
  return of;
}

/** Result: the status. */
export function setXattr(context: Context, command: Of<"setXattr">): CommandResult {
  const of = needChangeable(context, command);
  const { name, value, how } = command;
  if (value.length > maxXattrValueBytes) {
    const wanted = `wanted at most ${maxXattrValueBytes}`;
    refuse("TooLarge", `the value of "${name}" has ${value.length} bytes, ${wanted}`);
  }
  const exists = xattrOf(context.state, of.id, name) !== undefined;
  if (exists && how === "create") refuse("AlreadyExists", `it has an attribute "${name}" already`);
  if (!exists && how === "replace") refuse("NoData", `it has no attribute "${name}"`);
  if (name.startsWith("system.")) return setAcl(context, of, name, needAcl(value));
  patchInode(context, of.id, { ...putXattr(context, of, name, value), ctime: context.wallTime });
  return shown(context, of.id);
}

/** Result: the status. */
export function removeXattr(context: Context, command: Of<"removeXattr">): CommandResult {
  const of = needChangeable(context, command);
  const { name } = command;
  if (xattrOf(context.state, of.id, name) === undefined) {
    // An access control list is always there: as a list, or as the mode that says the same.
    if (name.startsWith("system.")) return shown(context, of.id);
    refuse("NoData", `it has no attribute "${name}"`);
  }
  const fields = putXattr(context, of, name, undefined);
  patchInode(context, of.id, { ...fields, ctime: context.wallTime });
  return shown(context, of.id);
}

/** The list of its binary form, undefined for an empty one. */
function needAcl(value: Uint8Array): Acl | undefined {
  const decoded = decodeAcl(value);
  if ("fault" in decoded) refuse("InvalidArgument", `the list is not valid: ${decoded.fault}`);
  return decoded.acl.length === 0 ? undefined : decoded.acl;
}

function setAcl(context: Context, of: Inode, name: string, acl: Acl | undefined): CommandResult {
  const { caller, wallTime: ctime } = context;
  if (name !== accessAclName || acl === undefined) {
    const value = acl === undefined ? undefined : encodeAcl(acl);
    patchInode(context, of.id, { ...putXattr(context, of, name, value), ctime });
    return shown(context, of.id);
  }
  const mode = chmodMode(caller, modeOfAcl(acl, of.mode), of.gid);
  needPrivate(context, of, mode);
  const value = isEquivalentToMode(acl) ? undefined : encodeAcl(acl);
  const changed = patchInode(context, of.id, {
    ...putXattr(context, of, name, value),
    mode,
    ctime,
  });
  if (mode !== of.mode) {
    queueAttributes(context, changed, { mode, uid: undefined, gid: undefined, mtime: undefined });
  }
  return shown(context, of.id);
}
