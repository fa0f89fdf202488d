/**
 * Write leases: who may change a file's content, under which write id.
 *
 * Invariants
 * 1. `lease/<session>/<inode>` exists exactly if the inode's lease names the session.
 * 2. `recall/<inode>` exists exactly if the inode's lease is recalled, so that any leader finds those whose time is over.
 */
import type { InodeId, WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { retireContainer, retireInode } from "./containers.ts";
import { type Context, needWritable, patchUnseen, refuse } from "./context.ts";
import { leaseKey, recallKey } from "./keys.ts";
import { type Inode, presence } from "./model.ts";
import { inodeOf, isOpen } from "./queries.ts";
import { persistByWriteType } from "./ufsops.ts";

/** Refuses what has no content that could be written. */
export function needFile(of: Inode): void {
  if (of.kind === "directory") refuse("IsDirectory", "directories have no content");
  if (of.kind !== "file") refuse("InvalidArgument", `a ${of.kind} has no content`);
}

/** The write id of the lease that the session has or gets; `LeaseConflict` while another session holds it. */
export function grantLease(context: Context, id: InodeId): WriteId {
  const of = inodeOf(context.state, id)!;
  const { session } = context;
  needFile(of);
  needWritable(context, of);
  if (session === 0) refuse("InvalidArgument", "a write lease needs a session");
  if (of.lease?.session === session) return of.lease.writeId;
  needNoOtherLease(context, of);
  if (of.lease !== undefined) endLease(context, id);
  const writeId = context.position as number as WriteId;
  patchUnseen(context, id, { lease: { session, writeId } });
  context.state.put(leaseKey(session, id), presence);
  return writeId;
}

/** The lease that a file is made with; `noteFirstLease` completes it. */
export function firstLease(context: Context): NonNullable<Inode["lease"]> {
  const { session } = context;
  if (session === 0) refuse("InvalidArgument", "a write lease needs a session");
  return { session, writeId: context.position as number as WriteId };
}

export function noteFirstLease(
  context: Context,
  id: InodeId,
  lease: NonNullable<Inode["lease"]>,
): void {
  context.state.put(leaseKey(lease.session, id), presence);
}

/** `LeaseConflict` while the lease is held by another session that is not gone; that one is to let it go. */
export function needNoOtherLease(context: Context, of: Inode): void {
  const holder = of.lease?.session;
  if (holder === undefined || holder === context.session || !isOpen(context.state, holder)) return;
  refuse("LeaseConflict", `session ${holder} is writing the file`, (after) => {
    recall(after, of.id);
  });
}

/** Tells the holder that another session waits; that it was told before counts. */
function recall(context: Context, id: InodeId): void {
  const lease = inodeOf(context.state, id)?.lease;
  if (context.level < 2 || lease === undefined || lease.recalledAtMs !== undefined) return;
  patchUnseen(context, id, { lease: { ...lease, recalledAtMs: context.clusterTimeMs } });
  context.state.put(recallKey(id), presence);
  context.notes.changes.recalled.push(id);
}

/** Ends a lease whose holder did not let it go in time; one that is over, or another one by now, stays as it is. */
export function fenceLease(
  context: Context,
  command: Extract<Command, { kind: "fenceLease" }>,
): CommandResult {
  const lease = inodeOf(context.state, command.inode)?.lease;
  if (lease?.writeId === command.writeId && lease.recalledAtMs !== undefined) {
    endLease(context, command.inode);
  }
  return { ok: true };
}

/** Ends the lease: what was committed is persisted by the write type, what was not is nobody's. */
export function endLease(context: Context, id: InodeId): void {
  const { lease } = inodeOf(context.state, id)!;
  if (lease === undefined) return;
  context.state.delete(leaseKey(lease.session, id));
  if (lease.recalledAtMs !== undefined) context.state.delete(recallKey(id));
  patchUnseen(context, id, { lease: undefined });
  retireContainer(context, id, lease.writeId);
  persistByWriteType(context, id);
  retireInode(context, id);
}
