/**
 * Containers of content that is in no store: how many extents name each, who keeps it, and when it becomes garbage. The
 * same for inodes that no name leads to.
 *
 * Invariants
 * 1. `kept/<worker>/<inode>/<writeId>` exists exactly for the keepers in `container/<inode>/<writeId>`.
 * 2. A container without references, whose write lease is over, has a garbage key; so has an inode without names, holds
 *    and lease. A garbage key alone proves nothing: reaping looks again.
 */
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import { type Context, patchUnseen, refuse } from "./context.ts";
import { containerKey, garbageKey, keptKey, retainedKey, wholeInode } from "./keys.ts";
import { type Container, container, type Inode, presence } from "./model.ts";
import { containerOf, inodeOf, readingsOf, workerOf } from "./queries.ts";

/** Refuses keepers that are none: none at all, or workers that are not known. */
export function needKeepers(context: Context, keepers: readonly WorkerId[]): void {
  if (keepers.length === 0) refuse("InvalidArgument", "no worker keeps the bytes");
  for (const keeper of keepers) {
    if (workerOf(context.state, keeper) === undefined) {
      refuse("InvalidArgument", `no worker ${keeper} is registered`);
    }
  }
}

/** Says who keeps the container from now on, and how long it is; makes its record if there is none. */
export function setKeepers(
  context: Context,
  of: { readonly inode: InodeId; readonly writeId: WriteId },
  wanted: { readonly keepers: readonly WorkerId[]; readonly size: number },
): void {
  const before = containerOf(context.state, of.inode, of.writeId);
  for (const worker of before?.keepers ?? []) {
    context.state.delete(keptKey(worker, of.inode, of.writeId));
  }
  for (const worker of wanted.keepers) {
    context.state.put(keptKey(worker, of.inode, of.writeId), presence);
  }
  const version = context.level < 2 ? undefined : inodeOf(context.state, of.inode)?.version;
  context.state.write(container, containerKey(of.inode, of.writeId), {
    references: before?.references ?? 0,
    size: Math.max(before?.size ?? 0, wanted.size),
    keepers: wanted.keepers,
    since: before === undefined ? version : before.since,
    until: before?.until,
  });
}

/** Adds to the reference counts; what falls to 0 becomes garbage. The blocks of `source` are not counted. */
export function addReferences(
  context: Context,
  inode: InodeId,
  deltas: ReadonlyMap<WriteId, number>,
): void {
  for (const [writeId, delta] of deltas) {
    const before = containerOf(context.state, inode, writeId);
    if (before === undefined || delta === 0) continue;
    const references = before.references + delta;
    // The version that the command found may name it; where extents go in steps, that is later than need be.
    const until =
      context.level < 2 || references > 0 ? undefined : inodeOf(context.state, inode)!.version + 1;
    context.state.write(container, containerKey(inode, writeId), { ...before, references, until });
    retireContainer(context, inode, writeId);
  }
}

/** Whether nothing names or writes the container any more. */
function isUnused(owner: Inode | undefined, writeId: WriteId, of: Container): boolean {
  return of.references === 0 && owner?.lease?.writeId !== writeId;
}

/** Makes the container garbage if it is unused. */
export function retireContainer(context: Context, inode: InodeId, writeId: WriteId): void {
  const of = containerOf(context.state, inode, writeId);
  if (of === undefined || !isUnused(inodeOf(context.state, inode), writeId, of)) return;
  putGarbage(context, inode, writeId);
}

/** Makes the inode garbage if no name, hold or lease keeps it. */
export function retireInode(context: Context, id: InodeId): void {
  if (isInodeUnused(inodeOf(context.state, id))) putGarbage(context, id, wholeInode);
}

/** Holds an inode beyond its last name for the session, once. */
export function holdInode(context: Context, inode: InodeId): void {
  const key = retainedKey(context.session, inode);
  if (context.state.get(key) !== undefined) return;
  context.state.put(key, presence);
  patchUnseen(context, inode, { holds: inodeOf(context.state, inode)!.holds + 1 });
}

export function isInodeUnused(of: Inode | undefined): boolean {
  return of?.nlink === 0 && of.holds === 0 && of.lease === undefined;
}

function putGarbage(context: Context, inode: InodeId, writeId: WriteId): void {
  const key = garbageKey({ retiredAtMs: context.clusterTimeMs, inode, writeId });
  context.state.put(key, presence);
  const { events } = context.notes;
  if (events[events.length - 1]?.kind !== "garbageAdded") events.push({ kind: "garbageAdded" });
}

/** Takes the record away if the container is unused; while somebody reads a version that names it, it is garbage anew. */
export function reapContainer(context: Context, inode: InodeId, writeId: WriteId): void {
  const of = containerOf(context.state, inode, writeId);
  const owner = inodeOf(context.state, inode);
  if (of === undefined || !isUnused(owner, writeId, of)) return;
  if (owner !== undefined && isRead(context, owner, of)) putGarbage(context, inode, writeId);
  else dropContainer(context, inode, writeId);
}

/** Whether a session reads one of the versions that name the container. */
function isRead(context: Context, owner: Inode, { since = 0, until }: Container): boolean {
  if (owner.holds === 0) return false;
  const end = until ?? Number.MAX_SAFE_INTEGER;
  return readingsOf(context.state, owner.id).some(
    ({ version }) => version >= since && version < end,
  );
}

/** Takes the record away, and with it the duty of the keepers: their copies are mere caches, or nothing. */
export function dropContainer(context: Context, inode: InodeId, writeId: WriteId): void {
  const of = containerOf(context.state, inode, writeId);
  if (of === undefined) return;
  for (const worker of of.keepers) context.state.delete(keptKey(worker, inode, writeId));
  context.state.delete(containerKey(inode, writeId));
}
