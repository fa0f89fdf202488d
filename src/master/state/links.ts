/**
 * Names: edges from directories to inodes and the list of names that each inode keeps of itself, with the counts and times
 * of the directories that have them.
 *
 * Invariants
 * 1. `edge/<p>/<n>` is i exactly if (p, n) is in the links of i. Directories have one link, the root has none.
 * 2. An only name is in the inode, several are in `parent/<inode>`; never in both. Older versions kept an only one there
 *    too: it stays until it changes.
 * 3. `childCount` of a directory is the number of its edges; its `nlink` is 2 + the number of those to directories.
 */
import type { InodeId } from "../../lib/ids.ts";
import { retireInode } from "./containers.ts";
import {
  type Context,
  deleteInode,
  patchInode,
  patchKnown,
  patchUnseen,
  refuse,
} from "./context.ts";
import { edgeKey, parentKey } from "./keys.ts";
import { type Edge, edge, type Inode, type Link, type Links, links } from "./model.ts";
import { edgeOf, firstLinkOf, inodeOf, linksOf, ufsPathOfLink } from "./queries.ts";
import { forgetFailed, queueDelete, queueRename, storeMayHold } from "./ufsops.ts";

/** Most names that one inode may have. */
export const maxLinks = 1000;
export const maxNameBytes = 255;
/** Longest target of a symbolic link: what Linux takes. */
export const maxTargetBytes = 4095;

/** Whether `name` may stand in a directory. */
export function isValidName(name: string): boolean {
  return (
    name !== "" &&
    name !== "." &&
    name !== ".." &&
    name.length <= maxNameBytes &&
    !name.includes("/") &&
    !name.includes("\0")
  );
}

/** Refuses what cannot be a name. */
export function needValidName(name: string): void {
  if (isValidName(name)) return;
  if (name.length > maxNameBytes) {
    refuse("NameTooLong", `the name has ${name.length} bytes, wanted at most ${maxNameBytes}`);
  }
  refuse("InvalidArgument", `"${name}" is no name, wanted 1 to ${maxNameBytes} bytes without "/"`);
}

/** The edge of a name that a directory may well not have. */
export function edgeIfAny(context: Context, parent: InodeId, name: string): Edge | undefined {
  return context.newNames.isNew(parent, name) ? undefined : edgeOf(context.state, parent, name);
}

/** The edge, or `NotFound`; `Stale` where the store may have the name and was not asked yet. */
export function needEdge(context: Context, parent: Inode, name: string): Edge {
  const found = edgeOf(context.state, parent.id, name);
  if (found !== undefined) return found;
  needLoaded(parent);
  return refuse("NotFound", `"${name}" does not exist`);
}

/** Refuses with `Stale` while names in the store may be unknown. */
export function needLoaded(directory: Inode): void {
  if (!directory.loaded) {
    refuse("Stale", `the names in directory ${directory.id} are not loaded yet`);
  }
}

/** Refuses a name that exists, or may exist in the store. */
export function needFree(context: Context, parent: Inode, name: string): void {
  needValidName(name);
  if (edgeIfAny(context, parent.id, name) !== undefined) {
    refuse("AlreadyExists", `"${name}" exists already`);
  }
  needLoaded(parent);
}

/** Stores the names of an inode, an only one with the inode itself. With `nlink`, that and the time of the change too. */
function setLinks(context: Context, id: InodeId, all: Links, nlink?: number): void {
  const now = inodeOf(context.state, id)!;
  const from = firstLinkOf(context.state, id)?.parent;
  const [first, second] = all;
  const link = second === undefined ? first : undefined;
  if (second !== undefined) context.state.write(links, parentKey(id), all);
  else if (now.link === undefined) context.state.delete(parentKey(id));
  if (nlink !== undefined) patchKnown(context, now, { nlink, ctime: context.wallTime, link });
  else if (now.link !== link) patchUnseen(context, id, { link });
  if (from !== first?.parent) context.usage.moved(now, from, first?.parent);
}

/** Adds or takes one child of a directory. */
function countChild(context: Context, parent: InodeId, child: Inode, delta: 1 | -1): void {
  const directory = inodeOf(context.state, parent)!;
  patchKnown(context, directory, {
    childCount: directory.childCount + delta,
    nlink: directory.nlink + (child.kind === "directory" ? delta : 0),
    mtime: context.wallTime,
    ctime: context.wallTime,
  });
}

/** Gives an inode a name that is free. Its `nlink` is the caller's. */
export function addLink(context: Context, child: Inode, link: Link): void {
  setLinks(context, child.id, [...linksOf(context.state, child.id), link]);
  addEdge(context, child, link);
}

/** Enters the name that an inode was made with into its directory. */
export function addEdge(context: Context, child: Inode, link: Link): void {
  putEdge(context, child, link);
  countChild(context, link.parent, child, 1);
  context.notes.name(link.parent, link.name);
}

function putEdge({ state, newNames }: Context, { id, kind }: Inode, { parent, name }: Link): void {
  const key = edgeKey(parent, name);
  if (newNames.enter(parent, name)) state.add(edge, key, { child: id, kind });
  else state.write(edge, key, { child: id, kind });
}

/** Takes a name from an inode, which has `nlink` names then, where that is given. The store is the caller's. */
export function removeLink(context: Context, child: Inode, link: Link, nlink?: number): void {
  context.state.delete(edgeKey(link.parent, link.name));
  const rest = linksOf(context.state, child.id).filter((each) => !isSameLink(each, link));
  setLinks(context, child.id, rest, nlink);
  countChild(context, link.parent, child, -1);
  context.notes.name(link.parent, link.name);
}

function isSameLink(a: Link, b: Link): boolean {
  return a.parent === b.parent && a.name === b.name;
}

/**
 * Moves a name of an inode, which keeps its place among the inode's names; the new name is free. With
 * `isShown`, the inode's status tells of it.
 */
export function moveLink(
  context: Context,
  child: Inode,
  { from, to, isShown }: { readonly from: Link; readonly to: Link; readonly isShown: boolean },
): void {
  const moved = linksOf(context.state, child.id).map((each) =>
    isSameLink(each, from) ? to : each,
  );
  context.state.delete(edgeKey(from.parent, from.name));
  putEdge(context, child, to);
  setLinks(context, child.id, moved, isShown ? child.nlink : undefined);
  if (from.parent === to.parent) {
    patchInode(context, to.parent, { mtime: context.wallTime, ctime: context.wallTime });
  } else {
    countChild(context, from.parent, child, -1);
    countChild(context, to.parent, child, 1);
  }
  context.notes.name(from.parent, from.name);
  context.notes.name(to.parent, to.name);
}

/** Two names change their inodes. Each name of an inode keeps its place among the others. */
export function exchangeLinks(
  context: Context,
  first: { readonly inode: Inode; readonly link: Link },
  second: { readonly inode: Inode; readonly link: Link },
): void {
  for (const [{ inode: child, link: from }, { link: to }] of [
    [first, second],
    [second, first],
  ] as const) {
    const { id, kind, nlink } = child;
    const moved = linksOf(context.state, id).map((each) => (isSameLink(each, from) ? to : each));
    context.state.write(edge, edgeKey(to.parent, to.name), { child: id, kind });
    setLinks(context, id, moved, nlink);
    countChild(context, from.parent, child, -1);
    countChild(context, to.parent, child, 1);
    context.notes.name(from.parent, from.name);
  }
}

/**
 * Takes a name from a file, and queues what the store has to do: if it was the first of several names, the object moves to
 * the next one, whose content it is; else it is deleted. A name in a tree that was removed is none to move it to.
 */
export function dropFileLink(context: Context, child: Inode, link: Link): void {
  if (storeMayHold(child)) {
    const heir = heirOf(context, child, link);
    if (heir === undefined) queueDelete(context, child, link, "file");
    else queueRename(context, child, { from: link, to: heir });
  }
  forgetFileLink(context, child, link);
}

/** The name that the object at the first of several names moves to when that goes. */
function heirOf(context: Context, child: Inode, link: Link): Link | undefined {
  const [first, ...others] = linksOf(context.state, child.id);
  if (first === undefined || !isSameLink(first, link)) return undefined;
  if (context.level < 2) return others[0];
  return others.find((each) => ufsPathOfLink(context.state, each) !== undefined);
}

/** Takes a name from a file, whatever the store has. */
export function forgetFileLink(context: Context, child: Inode, link: Link): void {
  if (child.nlink === 1) forgetFailed(context, child);
  removeLink(context, child, link, child.nlink - 1);
  retireInode(context, child.id);
}

/**
 * Takes an empty directory away for good, whatever the store has. One with extended attributes is reaped like a file: they
 * are found by a scan, and what is to be scanned must be known before a name is looked up.
 */
export function forgetDirectory(context: Context, child: Inode, link: Link): void {
  forgetFailed(context, child);
  if (child.xattrCount === undefined) {
    removeLink(context, child, link);
    deleteInode(context, child.id);
    return;
  }
  removeLink(context, child, link, 0);
  retireInode(context, child.id);
}
