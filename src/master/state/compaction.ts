/**
 * Very many small extents become few large ones, without another version: a worker puts the bytes of a range together in
 * one container, and that takes the place of what was there.
 *
 * Invariants
 * 1. `compact/<inode>` exists exactly if the inode says that compaction is wanted: so any leader finds the file.
 * 2. As long as `running` is there, the bytes of its range are those that the file had when it began: whatever changes a
 *    byte of it ends it, and then its container is nobody's. So bytes that were read since are the ones to put there.
 * 3. A compaction makes extents fewer, and `done` another: in one version, equal `done` means the same extents.
 */
import type { WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { Extent } from "../../rpc/namespace.ts";
import { needKeepers, setKeepers } from "./containers.ts";
import { type Context, needInode, patchUnseen, refuse } from "./context.ts";
import { decodeExtent, ExtentRows, replacedRanges, replaceLimit } from "./extent-rows.ts";
import { type ByteRange, coveredBy, cut } from "./extents.ts";
import { compactKey } from "./keys.ts";
import { type Inode, presence } from "./model.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;
type Compaction = Inode["compaction"];
type Running = NonNullable<NonNullable<Compaction>["running"]>;

/** Files with fewer extents are left as they are. */
export const fewExtents = 1000;

/** The extents of a container that holds the bytes of a range and nothing else. */
export function placesOf(running: Running, blockSizeBytes: number): Extent[] {
  const { writeId, from, to } = running;
  const extents: Extent[] = [];
  for (let at = from; at < to; at += blockSizeBytes) {
    const blockIndex = (at - from) / blockSizeBytes;
    const length = Math.min(blockSizeBytes, to - at);
    extents.push({ fileOffset: at, length, writeId, blockIndex, offset: 0 });
  }
  return extents;
}

/** What of the stored extents the end of a compaction looks at. */
export function rangesOfCompaction(of: Inode, writeId: WriteId, blockSizeBytes: number) {
  const running = of.compaction?.running;
  if (running?.writeId !== writeId) return [];
  const added = placesOf(running, blockSizeBytes);
  return replacedRanges(of, { added, size: of.size }, blockSizeBytes);
}

/** Of a file whose content is replaced as a whole: what was put together is of no use. */
export function withoutRunning(of: Compaction): Compaction {
  return of?.running === undefined ? of : { ...of, running: undefined };
}

/**
 * What a change of the ranges `removed` comes to: it ends a compaction of what it changes, and asks for one when the file
 * has become one of very many small extents. The result is to be put into the inode.
 */
export function compactionAfter(
  context: Context,
  of: Inode,
  now: {
    readonly removed: readonly ByteRange[];
    readonly extentCount: number;
    readonly size: number;
  },
): Compaction {
  const known = of.compaction;
  const running = known?.running;
  const isHit =
    running !== undefined &&
    now.removed.some(({ from, to }) => from < running.to && to > running.from);
  const after = isHit ? withoutRunning(known) : known;
  const { above = fewExtents, isWanted = false } = known ?? {};
  if (context.level < 2 || isWanted || now.extentCount <= above) return after;
  // Extents of a quarter of a block in the mean are large ones.
  if (now.size >= (now.extentCount * context.blockSizeBytes) / 4) return after;
  context.state.put(compactKey(of.id), presence);
  return { above, isWanted: true, running: after?.running, done: after?.done };
}

/** Result: `writeId` names the container. `Busy` while another range is being put together. */
export function startCompaction(context: Context, command: Of<"startCompaction">): CommandResult {
  const of = needInode(context, command.inode);
  const { compaction } = of;
  if (compaction?.isWanted !== true) refuse("InvalidArgument", "its extents are few, or large");
  if (compaction.running !== undefined) {
    refuse("Busy", `compaction ${compaction.running.writeId} is under way`);
  }
  const { from, to } = command;
  const end = Math.min(of.size, of.cleared?.tailFrom ?? of.size);
  if (of.form !== "extents" || from >= to || to > end) {
    refuse("InvalidArgument", `bytes ${from} to ${to} are no range of extents up to ${end}`);
  }
  const writeId = context.position as number as WriteId;
  patchUnseen(context, of.id, { compaction: { ...compaction, running: { writeId, from, to } } });
  return { ok: true, writeId };
}

/** Puts the container in the place of the range. The bytes are the same: the version stays. */
export function compactContent(context: Context, command: Of<"compactContent">): CommandResult {
  const of = needInode(context, command.inode);
  const { writeId } = command;
  const { compaction } = of;
  const running = compaction?.running;
  if (compaction === undefined || running?.writeId !== writeId) {
    refuse("Stale", `compaction ${writeId} is over`);
  }
  const keepers = [...new Set(command.keepers)];
  needKeepers(context, keepers);
  const added = placesOf(running, context.blockSizeBytes);
  setKeepers(context, { inode: of.id, writeId }, { keepers, size: running.to - running.from });
  const found = rangesOfCompaction(of, writeId, context.blockSizeBytes)
    .flatMap((range) => context.state.scan(range))
    .map(decodeExtent);
  if (found.filter(({ fileOffset }) => fileOffset >= running.from).length > replaceLimit) {
    refuse("InvalidArgument", `the range has more than ${replaceLimit} extents`);
  }
  const rows = new ExtentRows(context, of);
  for (const { extent, pieces } of cut(found, coveredBy(added))) {
    if (pieces[0] === extent) continue;
    rows.delete(extent);
    for (const piece of pieces) rows.put(piece);
  }
  for (const extent of added) rows.put(extent);
  if (rows.count >= of.extentCount) refuse("InvalidArgument", "the extents would not be fewer");
  rows.settle();
  patchUnseen(context, of.id, {
    extentCount: rows.count,
    compaction: { ...compaction, running: undefined, done: writeId },
  });
  return { ok: true };
}

/** One that is over already is fine. */
export function endCompaction(context: Context, command: Of<"endCompaction">): CommandResult {
  const { compaction, id, extentCount, version } = needInode(context, command.inode);
  if (compaction === undefined) return { ok: true };
  const { writeId } = command;
  if (writeId !== undefined) {
    if (compaction.running?.writeId === writeId) {
      patchUnseen(context, id, { compaction: withoutRunning(compaction) });
    }
    return { ok: true };
  }
  if (compaction.running !== undefined) {
    refuse("Busy", `compaction ${compaction.running.writeId} is under way`);
  }
  if (command.version !== undefined && command.version !== version) {
    refuse("Stale", `it has version ${version}, looked at was ${command.version}`);
  }
  context.state.delete(compactKey(id));
  // What could not be put together is not looked at again before there is much more of it.
  const above = Math.max(fewExtents, 2 * extentCount);
  patchUnseen(context, id, { compaction: { ...compaction, isWanted: false, above } });
  return { ok: true };
}
