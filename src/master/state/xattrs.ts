/**
 * Extended attributes and access control lists as the state has them.
 *
 * Invariants
 * 1. An inode counts its attributes and their bytes (`xattrCount`, `xattrBytes`), within `maxXattrs` and `maxXattrBytes`:
 *    one without any costs no read, and what an inode takes along when it goes is bounded.
 * 2. The bits of its `acl` say which of the two lists it has. A list that says no more than a mode is not kept.
 * 3. The mode and the access list agree: `modeOfAcl` of the list is the mode.
 */
import type { InodeId } from "../../lib/ids.ts";
import {
  accessAclName,
  type Acl,
  chmodAcl,
  defaultAclName,
  encodeAcl,
  inheritedAcl,
} from "../../rpc/acl.ts";
import type { FileKind } from "../../rpc/namespace.ts";
import { maxXattrBytes, maxXattrs, xattrBytesOf } from "../../rpc/xattr.ts";
import { type Context, refuse } from "./context.ts";
import { xattrKey, xattrRange } from "./keys.ts";
import { accessAclBit, defaultAclBit, type Inode, xattrValue } from "./model.ts";
import { aclOf, defaultAclOf, xattrOf } from "./queries.ts";

/** The fields of an inode that tell of its attributes. */
export type XattrFields = Pick<Inode, "xattrCount" | "xattrBytes" | "acl">;

/**
 * Sets an attribute of an inode, or takes it away (`undefined`), and returns the inode's fields as they are then, which
 * the caller puts. `NoSpace` beyond the bounds of one inode.
 */
export function putXattr(
  context: Context,
  of: Pick<Inode, "id"> & XattrFields,
  name: string,
  value: Uint8Array | undefined,
): XattrFields {
  const key = xattrKey(of.id, name);
  const before = xattrOf(context.state, of.id, name);
  let count = of.xattrCount ?? 0;
  let bytes = of.xattrBytes ?? 0;
  if (before !== undefined) {
    count--;
    bytes -= xattrBytesOf(name, before);
  }
  if (value !== undefined) {
    count++;
    bytes += xattrBytesOf(name, value);
    if (count > maxXattrs) refuse("NoSpace", `it has ${maxXattrs} extended attributes`);
    if (bytes > maxXattrBytes) {
      const detail = `its extended attributes would have ${bytes} bytes, wanted at most ${maxXattrBytes}`;
      refuse("NoSpace", detail);
    }
    // What a command carries is a part of its whole entry, which is not to be kept for it.
    context.state.write(xattrValue, key, Uint8Array.from(value));
  } else if (before !== undefined) context.state.delete(key);
  const bit = aclBitOf(name);
  const acl = value === undefined ? (of.acl ?? 0) & ~bit : (of.acl ?? 0) | bit;
  return { xattrCount: noZero(count), xattrBytes: noZero(bytes), acl: noZero(acl) };
}

function aclBitOf(name: string): number {
  return name === accessAclName ? accessAclBit : name === defaultAclName ? defaultAclBit : 0;
}

/** A plain inode has the same bytes, whatever it once had. */
function noZero(value: number): number | undefined {
  return value === 0 ? undefined : value;
}

/** Brings the access list of an inode into line with a mode that it is to get. */
export function chmodList(context: Context, of: Inode, mode: number): void {
  const acl = aclOf(context.state, of);
  if (acl !== undefined) putXattr(context, of, accessAclName, encodeAcl(chmodAcl(acl, mode)));
}

/** The rights of a new inode, and the lists that are to be entered once it is made. */
export interface NewRights {
  readonly mode: number;
  readonly access: Acl | undefined;
  readonly defaults: Acl | undefined;
}

/**
 * What an inode gets that is made in `parent` with this mode. As in Linux, a default list takes the place of the umask,
 * and symbolic links have no rights of their own.
 */
export function rightsOfNew(
  context: Context,
  parent: Inode,
  made: { readonly kind: FileKind; readonly mode: number; readonly umask: number },
): NewRights {
  const defaults = made.kind === "symlink" ? undefined : defaultAclOf(context.state, parent);
  if (defaults === undefined) {
    const mode = made.kind === "symlink" ? made.mode : made.mode & ~made.umask;
    return { mode, access: undefined, defaults: undefined };
  }
  const { mode, acl } = inheritedAcl(defaults, made.mode);
  return { mode, access: acl, defaults: made.kind === "directory" ? defaults : undefined };
}

/** Enters the lists of an inode that is being made; returns its fields. */
export function putNewRights(context: Context, id: InodeId, rights: NewRights): XattrFields {
  let fields: XattrFields = { xattrCount: undefined, xattrBytes: undefined, acl: undefined };
  const { access, defaults } = rights;
  if (access !== undefined) {
    fields = putXattr(context, { id, ...fields }, accessAclName, encodeAcl(access));
  }
  if (defaults !== undefined) {
    fields = putXattr(context, { id, ...fields }, defaultAclName, encodeAcl(defaults));
  }
  return fields;
}

/** Takes the attributes of an inode away that goes for good. `xattrRange` must be loaded if it has any. */
export function dropXattrs(context: Context, of: Inode): void {
  if (of.xattrCount === undefined) return;
  for (const [key] of context.state.scan(xattrRange(of.id))) context.state.delete(key);
}
