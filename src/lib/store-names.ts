/** Names in stores that are ours: hidden from listings, and refused as names of files. */
import type { InodeId, UfsOpId } from "./ids.ts";

/** Names that a write in progress uses, and all other names of ours. */
export const temporaryPrefix = ".weir-tmp-";

/** In the root of a mount: objects that no name leads to any more, while somebody may read them. */
export const unlinkedDirectory = `${temporaryPrefix}unlinked`;

/** Where the object of a file lies that has no name any more. */
export function unlinkedPath(inode: InodeId): string {
  return `${unlinkedDirectory}/${inode}`;
}

const unlinked = new RegExp(`^${unlinkedDirectory.replaceAll(".", "\\.")}/[1-9][0-9]{0,15}$`);

/** Whether a path below the root of a mount is an `unlinkedPath`. */
export function isUnlinkedPath(path: string): boolean {
  return unlinked.test(path);
}

const exchangePrefix = `${temporaryPrefix}exchange-`;

/** Where an object lies while it and another one change places: beside its own place `path`, by the operation `op`. */
export function exchangePath(path: string, op: UfsOpId): string {
  return `${path.slice(0, path.lastIndexOf("/") + 1)}${exchangePrefix}${op}`;
}

const exchanged = new RegExp(`(^|/)${exchangePrefix.replaceAll(".", "\\.")}[1-9][0-9]{0,15}$`);

/** Whether a path, or a name, is an `exchangePath`. */
export function isExchangePath(path: string): boolean {
  return exchanged.test(path);
}
