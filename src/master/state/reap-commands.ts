/**
 * What left the namespace goes for good, in bounded steps. The leader says when (grace, in cluster time); each step looks
 * again whether the thing is still unused.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { dropContainer, isInodeUnused, reapContainer } from "./containers.ts";
import { type Context, deleteInode, needDirectory, refuse } from "./context.ts";
import {
  containerRange,
  extentRange,
  parseGarbageKey,
  wholeInode,
  writeIdOfContainer,
} from "./keys.ts";
import { forgetDirectory, forgetFileLink } from "./links.ts";
import { type Inode, type Link, trashInodeId } from "./model.ts";
import { ancestorsOf, edgeOf, inodeOf } from "./queries.ts";
import { moveToTrash } from "./namespace-commands.ts";
import { queueAttributes } from "./ufsops.ts";
import { dropXattrs } from "./xattrs.ts";

/** Keys that are no garbage are passed over. */
export function reapGarbage(
  context: Context,
  command: Extract<Command, { kind: "reapGarbage" }>,
): CommandResult {
  for (const key of command.keys) {
    const garbage = parseGarbageKey(key);
    if (garbage === undefined || context.state.get(key) === undefined) continue;
    context.state.delete(key);
    if (garbage.writeId !== wholeInode) {
      reapContainer(context, garbage.inode, garbage.writeId);
    } else {
      const of = inodeOf(context.state, garbage.inode);
      if (of !== undefined && isInodeUnused(of)) reapInode(context, of);
    }
  }
  return { ok: true };
}

function reapInode(context: Context, of: Inode): void {
  const { id } = of;
  dropXattrs(context, of);
  for (const [key] of context.state.scan(extentRange(id))) context.state.delete(key);
  for (const [key] of context.state.scan(containerRange(id))) {
    dropContainer(context, id, writeIdOfContainer(key));
  }
  deleteInode(context, id);
}

/**
 * Takes names out of a directory in the trash (or out of the trash itself, once they are empty directories): files lose
 * the name, directories with names below move to the trash themselves.
 */
export function reapTrash(
  context: Context,
  command: Extract<Command, { kind: "reapTrash" }>,
): CommandResult {
  const directory = needDirectory(context, command.directory);
  if (!isInTrash(context, directory.id)) {
    refuse("InvalidArgument", `directory ${directory.id} is not in the trash`);
  }
  for (const name of command.names) {
    const link: Link = { parent: directory.id, name };
    const found = edgeOf(context.state, link.parent, name);
    if (found !== undefined) takeOut(context, inodeOf(context.state, found.child)!, link);
  }
  return { ok: true };
}

function isInTrash(context: Context, directory: InodeId): boolean {
  for (const ancestor of ancestorsOf(context.state, directory)) {
    if (ancestor === trashInodeId) return true;
  }
  return false;
}

function takeOut(context: Context, child: Inode, link: Link): void {
  if (child.kind !== "directory") takeOutFile(context, child, link);
  else if (child.childCount === 0) forgetDirectory(context, child, link);
  else if (link.parent !== trashInodeId) moveToTrash(context, child, link);
}

/**
 * A file may live on under a name elsewhere. If the store deleted the object under its first name with the tree, the next
 * name has an object of its own: setting its attributes tells what that is recognised by.
 */
function takeOutFile(context: Context, child: Inode, link: Link): void {
  forgetFileLink(context, child, link);
  if (child.nlink === 1 || child.source === undefined) return;
  const { mode, uid, gid, mtime } = child;
  queueAttributes(context, inodeOf(context.state, child.id)!, { mode, uid, gid, mtime });
}
