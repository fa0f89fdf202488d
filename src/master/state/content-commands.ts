/** Commands of content: leases, commits, sizes, and what holds content beyond its name. */
import type { SessionId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { holdInode, needKeepers, retireInode, setKeepers } from "./containers.ts";
import { changeContent } from "./content.ts";
import {
  type Context,
  needInode,
  needWritable,
  patchInode,
  patchUnseen,
  refuse,
} from "./context.ts";
import { replaceLimit } from "./extent-rows.ts";
import { flawOf, reachOf } from "./extents.ts";
import { readingKey, retainedKey } from "./keys.ts";
import { endLease, grantLease, needFile, needNoOtherLease } from "./leases.ts";
import { type Inode, readings } from "./model.ts";
import { shown } from "./namespace-commands.ts";
import { modeAfterWrite, needWrite, needWriteOrOwn } from "./permissions.ts";
import { inodeOf, readingsOf, ufsPathOf } from "./queries.ts";
import {
  persistByWriteType,
  persistFile,
  queueAttributes,
  queueMake,
  storeMayHold,
} from "./ufsops.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Result: the status, and in `writeId` the write that the session may commit now. */
export function lease(context: Context, command: Of<"lease">): CommandResult {
  const of = needInode(context, command.inode);
  needWriteOrOwn(context, of);
  return shown(context, of.id, grantLease(context, of.id));
}

/** The file whose lease the session has under this write id, or `LeaseLost`. */
function needLease(context: Context, command: Of<"commit"> | Of<"releaseLease">): Inode {
  const of = needInode(context, command.inode);
  const { session, writeId } = of.lease ?? {};
  if (session !== context.session || writeId !== command.writeId) {
    refuse("LeaseLost", `write ${command.writeId} is over`);
  }
  return of;
}

/**
 * Result: the status with the new version. Without extents and at the old size the content stays as it is. One that
 * replaces more extents than go at once does the first part of it and answers `Busy`: sent again it goes on.
 */
export function commit(context: Context, command: Of<"commit">): CommandResult {
  const of = needLease(context, command);
  needWritable(context, of);
  const { writeId, size, extents } = command;
  const keepers = context.level < 2 ? command.keepers : [...new Set(command.keepers)];
  const part = of.lease?.part;
  const isRest = part?.of === command.baseVersion && part.is === of.version;
  if (command.baseVersion !== of.version && !isRest) {
    refuse("VersionConflict", `it has version ${of.version}, wanted ${command.baseVersion}`);
  }
  const { blockSizeBytes } = context;
  const flaw = flawOf(extents, { writeId, size, blockSizeBytes });
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  if (extents.length > 0) {
    needKeepers(context, keepers);
    const length = reachOf(extents, blockSizeBytes);
    setKeepers(context, { inode: of.id, writeId }, { keepers, size: length });
  }
  if (extents.length > 0 || size !== of.size) {
    const { isWhole } = changeContent(context, of, { added: extents, size });
    dropSetId(context, of);
    if (!isWhole) return partDone(context, of.id, command.baseVersion);
  }
  if (command.mtime !== undefined) patchInode(context, of.id, { mtime: command.mtime });
  if (command.release) endLease(context, of.id);
  return shown(context, of.id);
}

/** Notes for the rest of a commit, which comes with the same base, that the version moved on by its first part. */
function partDone(context: Context, id: Inode["id"], baseVersion: number): CommandResult {
  const { lease: held, version } = inodeOf(context.state, id)!;
  patchUnseen(context, id, { lease: { ...held!, part: { of: baseVersion, is: version } } });
  const detail = `it replaces more than ${replaceLimit} extents, the first part is done`;
  return { ok: false, code: "Busy", detail };
}

/** Nobody is to run with the owner's rights what somebody else has written. */
function dropSetId(context: Context, of: Inode): void {
  const mode = modeAfterWrite(context, of);
  if (mode === of.mode) return;
  const changed = patchInode(context, of.id, { mode });
  queueAttributes(context, changed, {
    mode,
    uid: undefined,
    gid: undefined,
    mtime: undefined,
  });
}

/** Result: the status with the new version. A session that holds the lease itself keeps it, and has shown its right. */
export function truncate(context: Context, command: Of<"truncate">): CommandResult {
  const of = needInode(context, command.inode);
  needFile(of);
  needWritable(context, of);
  if (of.lease?.session !== context.session) needWrite(context, of);
  needNoOtherLease(context, of);
  const { size } = command;
  if (size === of.size) {
    patchInode(context, of.id, { mtime: context.wallTime, ctime: context.wallTime });
    return shown(context, of.id);
  }
  changeContent(context, of, { added: [], size });
  dropSetId(context, of);
  if (of.lease === undefined) persistByWriteType(context, of.id);
  return shown(context, of.id);
}

/** Result: the status. */
export function releaseLease(context: Context, command: Of<"releaseLease">): CommandResult {
  needLease(context, command);
  endLease(context, command.inode);
  return shown(context, command.inode);
}

/** Most versions of one file that are held, all sessions together. */
export const maxReadings = 1000;

/**
 * Holds a version of a file for its readers, and with it the inode, until `release` or the end of the session. Where what
 * it is made of is gone already, beyond the grace, that shows when it is read. Result: the status.
 */
export function retain(context: Context, command: Of<"retain">): CommandResult {
  const { session } = context;
  const of = needInode(context, command.inode);
  needFile(of);
  if (session === 0) refuse("InvalidArgument", "a hold needs a session");
  const { version } = command;
  if (version === 0 || version > of.version) {
    refuse("InvalidArgument", `it has version ${of.version}, wanted no later one than that`);
  }
  const known = readingsOf(context.state, of.id);
  const isKnown = known.some((each) => each.session === session && each.version === version);
  if (!isKnown) {
    if (known.length >= maxReadings) refuse("Busy", `${known.length} versions of it are held`);
    context.state.write(readings, readingKey(of.id), [...known, { session, version }]);
    holdInode(context, of.id);
  }
  return shown(context, of.id);
}

/** A hold that is not there is released already. With a version that alone; the inode stays held. */
export function release(context: Context, command: Of<"release">): CommandResult {
  const { inode, version } = command;
  if (version === undefined) releaseHold(context, context.session, inode);
  else dropReadings(context, inode, (each) => each.version === version);
  return { ok: true };
}

/** Ends readings of the session. */
function dropReadings(
  context: Context,
  inode: Inode["id"],
  isOver: (each: { readonly version: number }) => boolean,
  session = context.session,
): void {
  const known = readingsOf(context.state, inode);
  const left = known.filter((each) => each.session !== session || !isOver(each));
  if (left.length === known.length) return;
  if (left.length === 0) context.state.delete(readingKey(inode));
  else context.state.write(readings, readingKey(inode), left);
}

/** Ends the session's hold of an inode beyond its last name. */
export function releaseHold(context: Context, session: SessionId, inode: Inode["id"]): void {
  const key = retainedKey(session, inode);
  if (context.state.get(key) === undefined) return;
  context.state.delete(key);
  dropReadings(context, inode, () => true, session);
  patchUnseen(context, inode, { holds: inodeOf(context.state, inode)!.holds - 1 });
  retireInode(context, inode);
}

/** Result: the status; `persistence` is `pending` unless the store has the present version. */
export function persist(context: Context, command: Of<"persist">): CommandResult {
  const of = needInode(context, command.inode);
  needWritable(context, of);
  needWrite(context, of);
  if (ufsPathOf(context.state, of) === undefined) refuse("NotFound", "no name leads to it");
  if (of.kind === "file") persistFile(context, of);
  else if (of.kind !== "directory" && of.kind !== "symlink") {
    refuse("NotSupported", `stores have no ${of.kind}`);
  } else if (!of.mountPoint && !storeMayHold(of)) queueMake(context, of);
  return shown(context, of.id);
}
