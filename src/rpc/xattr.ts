/**
 * Extended attributes: what names mean, and how much an inode may have of them. Names are latin1 strings, one character
 * per byte, with their namespace, as in `user.comment`. See xattr(7).
 */
import { accessAclName, defaultAclName } from "./acl.ts";

/** As in Linux: a name with its namespace, and one value. */
export const maxXattrNameBytes = 255;
export const maxXattrValueBytes = 65_536;
/** All attributes of one inode: their number, and the bytes of their names and values. */
export const maxXattrs = 128;
export const maxXattrBytes = 262_144;

/**
 * Who may use an attribute: `user` goes by the permissions of the file, `trusted` is for the superuser alone, `security`
 * is his to change and everybody's to read, `acl` is the owner's to change and everybody's to read.
 */
export type XattrNamespace = "user" | "trusted" | "security" | "acl";

/** The namespace of a name; undefined for one that has none that there is, or nothing after it. */
export function namespaceOf(name: string): XattrNamespace | undefined {
  if (name === accessAclName || name === defaultAclName) return "acl";
  for (const namespace of ["user", "trusted", "security"] as const) {
    if (name.startsWith(`${namespace}.`) && name.length > namespace.length + 1) return namespace;
  }
  return undefined;
}

/** What an attribute counts for `maxXattrBytes`. */
export function xattrBytesOf(name: string, value: Uint8Array): number {
  return name.length + value.length;
}
