/**
 * Extents that go all at once for who reads the file, and in steps in the state: those behind a new end, those of a
 * content that was replaced as a whole, those of a file that is reclaimed.
 *
 * Invariants
 * 1. `clearing/<inode>/<generation>` exists exactly for what is still to be taken away, so that any leader goes on with it;
 *    the inode counts these keys, and is not reclaimed before.
 * 2. In the present generation nothing is added behind `tailFrom` until the tail is gone: a step takes no extent that
 *    counts.
 * 3. A container is named by every extent that is there, waiting or not: it becomes garbage when the last one is gone.
 */
import type { InodeId, WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { dropContainer } from "./containers.ts";
import { type Context, patchUnseen } from "./context.ts";
import { clearStepLimit, decodeExtent, ExtentRows, isClearedAtOnce } from "./extent-rows.ts";
import { clearingKey, extentRange, offsetOfExtent } from "./keys.ts";
import { clearing, type Inode } from "./model.ts";
import { inodeOf } from "./queries.ts";

type Cleared = Inode["cleared"];

/**
 * From now on none of the extents from `from` on counts; they are taken away in steps. From 0 the file has a new generation
 * of extents, where new ones may be put at once. The result is to be put into the inode.
 */
export function startClearing(context: Context, of: Inode, from: number): NonNullable<Cleared> {
  const { generation = 0, pending = 0 } = of.cleared ?? {};
  const key = clearingKey(of.id, generation);
  // What waits already lies behind: nothing was added there since.
  const isNew = context.state.get(key) === undefined;
  context.state.write(clearing, key, { from });
  const now = { pending: isNew ? pending + 1 : pending };
  return from === 0
    ? { ...now, generation: generation + 1, tailFrom: undefined }
    : { ...now, generation, tailFrom: from };
}

/**
 * Takes all extents of a file away, at once if they are few; their containers become garbage, but `except` (which loses its
 * record at once). The result is to be put into the inode, and its count is 0.
 */
export function clearExtents(context: Context, of: Inode, except?: WriteId): Cleared {
  if (except !== undefined) dropContainer(context, of.id, except);
  if (context.level >= 2 && !isClearedAtOnce(of)) return startClearing(context, of, 0);
  const rows = new ExtentRows(context, of);
  if (of.extentCount > 0) {
    for (const row of context.state.scan(extentRange(of))) rows.delete(decodeExtent(row));
  }
  rows.settle();
  return of.cleared;
}

/** The extents that one `clearExtents` takes away. */
export function clearingStep(of: { inode: InodeId; generation: number; from: number }) {
  const { inode: id, generation, from } = of;
  return { ...extentRange({ id, cleared: { generation } }, from), limit: clearStepLimit };
}

/** Result: `id` 1 while more is to do: then the same command is to be proposed again. */
export function clearExtentsStep(
  context: Context,
  command: Extract<Command, { kind: "clearExtents" }>,
): CommandResult {
  const { inode, generation } = command;
  const key = clearingKey(inode, generation);
  const from = context.state.read(clearing, key)?.from;
  const of = inodeOf(context.state, inode);
  if (from === undefined || of?.cleared === undefined) return { ok: true, id: 0 };
  const found = context.state.scan(clearingStep({ inode, generation, from }));
  const isPresent = of.cleared.generation === generation;
  const rows = new ExtentRows(context, { ...of, cleared: { ...of.cleared, generation } });
  for (const row of found) rows.delete(decodeExtent(row));
  rows.settle();
  if (isPresent) patchUnseen(context, inode, { extentCount: rows.count });
  if (found.length === clearStepLimit) {
    const last = offsetOfExtent(found[found.length - 1]![0]);
    context.state.write(clearing, key, { from: last + 1 });
    return { ok: true, id: 1 };
  }
  context.state.delete(key);
  const pending = of.cleared.pending - 1;
  const tailFrom = isPresent ? undefined : of.cleared.tailFrom;
  patchUnseen(context, inode, { cleared: { ...of.cleared, pending, tailFrom } });
  return { ok: true, id: 0 };
}
