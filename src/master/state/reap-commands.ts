/**
 * What left the namespace goes for good, in bounded steps. The leader says when (grace, in cluster time); each step looks
 * again whether the thing is still unused.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { ScanRange } from "../store/types.ts";
import { clearExtents } from "./clearing.ts";
import { withoutRunning } from "./compaction.ts";
import { dropContainer, isInodeUnused, reapContainer } from "./containers.ts";
import { type Context, deleteInode, needDirectory, patchUnseen, refuse } from "./context.ts";
import { clearStepLimit, isClearedAtOnce } from "./extent-rows.ts";
import {
  compactKey,
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
import { persistUnderNewFirstName, queueAttributes, queueForgetAside } from "./ufsops.ts";
import { dropXattrs } from "./xattrs.ts";

/** Rows that one `reapGarbage` takes away, roughly; what is left is garbage still. */
const reapedRows = 2000;

/** Keys that are no garbage are passed over, and the last ones when the rows of those before are too many. */
export function reapGarbage(
  context: Context,
  command: Extract<Command, { kind: "reapGarbage" }>,
): CommandResult {
  let left = context.level < 2 ? Number.MAX_SAFE_INTEGER : reapedRows;
  for (const key of command.keys) {
    const garbage = parseGarbageKey(key);
    if (garbage === undefined || context.state.get(key) === undefined) continue;
    if (left <= 0) break;
    left--;
    if (garbage.writeId !== wholeInode) {
      reapContainer(context, garbage.inode, garbage.writeId);
    } else {
      const of = inodeOf(context.state, garbage.inode);
      if (of !== undefined && isInodeUnused(of)) {
        const reaped = reapInode(context, of);
        left -= reaped.rows;
        if (!reaped.isGone) continue;
      }
    }
    context.state.delete(key);
  }
  return { ok: true };
}

/** Takes an inode away with all that it has; of one that has too much a part of it, and then it is not gone. */
function reapInode(context: Context, of: Inode): { rows: number; isGone: boolean } {
  const isWhole = context.level < 2;
  if (!isWhole && (!isClearedAtOnce(of) || (of.cleared?.pending ?? 0) > 0)) {
    // The steps that take the extents away come first; the inode stays garbage.
    if (of.extentCount > 0) {
      const compaction = withoutRunning(of.compaction);
      patchUnseen(context, of.id, {
        cleared: clearExtents(context, of),
        extentCount: 0,
        compaction,
      });
    }
    return { rows: 1, isGone: false };
  }
  const containers = context.state.scan(containersToReap(of.id, isWhole));
  const isGone = isWhole || containers.length <= clearStepLimit;
  if (!isGone) {
    clearExtents(context, of);
    patchUnseen(context, of.id, { extentCount: 0, compaction: withoutRunning(of.compaction) });
  } else if (of.extentCount > 0) {
    for (const [key] of context.state.scan(extentRange(of))) context.state.delete(key);
  }
  for (const [key] of isGone ? containers : containers.slice(0, clearStepLimit)) {
    dropContainer(context, of.id, writeIdOfContainer(key));
  }
  if (isGone) {
    dropXattrs(context, of);
    if (of.compaction?.isWanted === true) context.state.delete(compactKey(of.id));
    if (of.aside === true) queueForgetAside(context, of.mountId, of.id);
    deleteInode(context, of.id);
  }
  return { rows: of.extentCount + 3 * containers.length, isGone };
}

/** The containers of an inode that is reclaimed, one more than go at once. */
export function containersToReap(inode: InodeId, isWhole: boolean): ScanRange {
  const range = containerRange(inode);
  return isWhole ? range : { ...range, limit: clearStepLimit + 1 };
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
 * name has an object of its own: setting its attributes tells what that is recognised by. A version that was persisted
 * while the first name lay in the trash is not known to be in the store.
 */
function takeOutFile(context: Context, child: Inode, link: Link): void {
  forgetFileLink(context, child, link);
  if (child.nlink === 1) return;
  if (context.level >= 2 && persistUnderNewFirstName(context, child.id)) return;
  if (child.source === undefined) return;
  const { mode, uid, gid, mtime } = child;
  queueAttributes(context, inodeOf(context.state, child.id)!, {
    ...{ mode, uid, gid, mtime },
    isAnother: context.level >= 2 || undefined,
  });
}
