/** Who may read and change which extended attributes: the rules of xattr(7) and acl(5), as Linux has them. */
import { isOwner, permission } from "../../rpc/access.ts";
import { defaultAclName } from "../../rpc/acl.ts";
import type { ErrorCode } from "../../lib/errors.ts";
import type { Caller } from "../../rpc/namespace.ts";
import { namespaceOf } from "../../rpc/xattr.ts";
import type { PointReader } from "../store/types.ts";
import type { Inode } from "./model.ts";
import { may } from "./queries.ts";

/** Why the caller cannot have an attribute; `detail` follows `Cannot VERB "OBJECT": `. */
interface XattrRefusal {
  readonly code: ErrorCode;
  readonly detail: string;
}

/**
 * Why the caller must not read or change this attribute, or undefined. Reading what he must not know of is answered as if
 * it were not there.
 */
export function xattrRefusal(
  reader: PointReader,
  caller: Caller | undefined,
  of: Inode,
  wanted: { readonly name: string; readonly isWrite: boolean },
): XattrRefusal | undefined {
  const { name, isWrite } = wanted;
  switch (namespaceOf(name)) {
    case "user":
      return userRefusal(reader, caller, of, wanted);
    case "trusted":
      if (caller === undefined) return undefined;
      return isWrite ? { code: "NotPermitted", detail: superuserOnly } : absent(name);
    case "security":
      if (caller === undefined || !isWrite) return undefined;
      return { code: "NotPermitted", detail: superuserOnly };
    case "acl":
      return aclRefusal(caller, of, wanted);
    case undefined:
      return name === "user." || name === "trusted." || name === "security."
        ? { code: "InvalidArgument", detail: `"${name}" has nothing after its namespace` }
        : { code: "NotSupported", detail: `"${name}" is in no namespace that there is` };
  }
}

const superuserOnly = "only the superuser may change it";

function absent(name: string): XattrRefusal {
  return { code: "NoData", detail: `it has no attribute "${name}"` };
}

function userRefusal(
  reader: PointReader,
  caller: Caller | undefined,
  of: Inode,
  { name, isWrite }: { readonly name: string; readonly isWrite: boolean },
): XattrRefusal | undefined {
  if (of.kind !== "file" && of.kind !== "directory") {
    // Permissions of these say who may use what is behind them, not who may fill a disk with attributes.
    if (!isWrite) return absent(name);
    return { code: "NotPermitted", detail: `a ${of.kind} has no attributes of users` };
  }
  const isSticky = of.kind === "directory" && (of.mode & 0o1000) !== 0;
  if (isWrite && isSticky && !isOwner(caller, of)) {
    return { code: "NotPermitted", detail: "the directory is sticky, and belongs to another user" };
  }
  const right = isWrite ? permission.write : permission.read;
  if (may(reader, caller, of, right)) return undefined;
  return {
    code: "PermissionDenied",
    detail: `the caller may not ${isWrite ? "write" : "read"} it`,
  };
}

function aclRefusal(
  caller: Caller | undefined,
  of: Inode,
  { name, isWrite }: { readonly name: string; readonly isWrite: boolean },
): XattrRefusal | undefined {
  if (of.kind === "symlink") {
    return { code: "NotSupported", detail: "a symbolic link has no access control list" };
  }
  if (!isWrite) return undefined;
  if (!isOwner(caller, of)) {
    return { code: "NotPermitted", detail: "only its owner may change its access control list" };
  }
  if (name === defaultAclName && of.kind !== "directory") {
    return { code: "PermissionDenied", detail: `a ${of.kind} has no default list` };
  }
  return undefined;
}

/** Whether the name is shown in listings to the caller. */
export function isListed(caller: Caller | undefined, name: string): boolean {
  return caller === undefined || namespaceOf(name) !== "trusted";
}
