/**
 * A file's content as it changes: extents in the state, their containers' counts, and the two forms. Overwriting a part
 * of a store's object lets the rest of the object show between the extents; a persist turns extents into the source form
 * again.
 *
 * Invariants
 * 1. `extentCount` is the number of rows of its extents; in the source form it is 0.
 * 2. Bytes of `source` are in the file where they are in the object, those that show between extents and those of an extent
 *    that names `source.writeId`. So a later object of the same file has the same bytes there, as long as they show.
 * 3. A file whose source shows between extents has no extents that name the source.
 * 4. One command touches as many rows as it adds, and a bounded number besides: what it would take away beyond that goes in
 *    steps (clearing.ts), and what it would replace beyond that is replaced by the same command, sent again.
 */
import type { WriteId } from "../../lib/ids.ts";
import type { Extent } from "../../rpc/namespace.ts";
import { clearExtents, startClearing } from "./clearing.ts";
import { compactionAfter, withoutRunning } from "./compaction.ts";
import { type Context, patchInode, patchUnseen, refuse } from "./context.ts";
import {
  clearStepLimit,
  type ContentChange,
  cutRanges,
  decodeExtent,
  ExtentRows,
  extentsFrom,
  isClearedAtOnce,
  replacedRanges,
  replaceLimit,
} from "./extent-rows.ts";
import {
  type ByteRange,
  coveredBy,
  cut,
  endOf,
  follows,
  joined,
  partBefore,
  singleWriteOf,
  wholeBlocks,
} from "./extents.ts";
import { extentRange, offsetOfExtent } from "./keys.ts";
import type { Inode } from "./model.ts";
import { containerOf } from "./queries.ts";

/**
 * Most blocks of a store's object that may become extents at once below level 2, when a part of it is overwritten: each is
 * a row then, and the master that writes them serves nobody meanwhile. With blocks of 64 MiB, files of 16 TiB.
 */
const maxBlocksAtOnce = 2 ** 18;

/** Stored extents that each range of a change may overlap or touch and that do not count: a commit has few ranges. */
const rowsPerRange = 3;

/** All stored extents of a file. */
function storedExtents(context: Context, of: Inode): Extent[] {
  if (of.extentCount === 0) return [];
  return context.state.scan(extentRange(of)).map(decodeExtent);
}

/** The blocks of a store's object that may stay when the file gets `size`. */
function sourceBlocks(
  { blockSizeBytes }: Context,
  source: NonNullable<Inode["source"]>,
  size: number,
): Extent[] {
  const kept = Math.min(source.size, size);
  const blocks = Math.ceil(kept / blockSizeBytes);
  if (blocks > maxBlocksAtOnce) {
    const wanted = `at most ${maxBlocksAtOnce} to change a part of it`;
    refuse("NotSupported", `the file has ${blocks} blocks in the store, wanted ${wanted}`);
  }
  return wholeBlocks({ writeId: source.writeId, size: kept, blockSizeBytes });
}

interface Met {
  readonly extents: readonly Extent[];
  /** The change cuts off more than goes at once. */
  readonly isTailLong: boolean;
  /** From here on the change replaces more than goes at once. */
  readonly until?: number | undefined;
}

/** The stored extents that a change overlaps, and those that end where it begins. */
function met(context: Context, of: Inode, change: ContentChange): Met {
  const { state, blockSizeBytes, level } = context;
  if (of.extentCount === 0) return { extents: [], isTailLong: false };
  if (level < 2) {
    const begin = Math.min(change.added[0]?.fileOffset ?? change.size, change.size);
    const extents = state.scan(extentsFrom(of, begin, blockSizeBytes)).map(decodeExtent);
    return { extents, isTailLong: false };
  }
  const byOffset = new Map<number, Extent>();
  const inOrder = () => [...byOffset.values()].sort((a, b) => a.fileOffset - b.fileOffset);
  let left = replaceLimit;
  for (const range of replacedRanges(of, change, blockSizeBytes)) {
    const found = state.scan(range).map(decodeExtent);
    for (const row of found.slice(0, left)) byOffset.set(row.fileOffset, row);
    const next = found[left];
    if (next !== undefined) {
      const until = Math.max(next.fileOffset, offsetOfExtent(range.from));
      return { extents: inOrder(), isTailLong: false, until };
    }
    left -= Math.max(0, found.length - rowsPerRange);
  }
  let isTailLong = false;
  for (const range of cutRanges(of, change, blockSizeBytes)) {
    const found = state.scan(range);
    if (range.limit !== undefined && found.length > clearStepLimit) isTailLong = true;
    else for (const row of found.map(decodeExtent)) byOffset.set(row.fileOffset, row);
  }
  return { extents: inOrder(), isTailLong };
}

/**
 * The next version of a file: `added` (in order) replaces what it overlaps, all beyond `size` is cut. The link to a lineage
 * is broken, the store has an older version. Of a change that replaces too many extents only the first part is done:
 * `isWhole` false, and the file keeps its size.
 */
export function changeContent(
  context: Context,
  of: Inode,
  change: ContentChange,
): { readonly isWhole: boolean } {
  needOutsideTail(of, change.added);
  const isStored = of.form === "extents" || context.level >= 2;
  const found: Met = isStored
    ? met(context, of, change)
    : { extents: sourceBlocks(context, of.source!, change.size), isTailLong: false };
  const { extents, isTailLong, until } = found;
  const isWhole = until === undefined;
  const added = isWhole ? change.added : partBefore(change.added, until);
  const size = isWhole ? change.size : of.size;
  const removed: ByteRange[] = [...coveredBy(added)];
  if (size < of.size) removed.push({ from: size, to: Number.MAX_SAFE_INTEGER });

  const rows = new ExtentRows(context, of);
  const ends = new Map<number, Extent>();
  for (const { extent, pieces } of cut(extents, removed)) {
    for (const piece of pieces) ends.set(endOf(piece), piece);
    if (isStored && pieces[0] === extent) continue;
    const stays = isStored && pieces[0]?.fileOffset === extent.fileOffset;
    if (isStored && !stays) rows.delete(extent);
    for (const [i, piece] of pieces.entries())
      rows.put(piece, stays && i === 0 ? extent : undefined);
  }
  for (const extent of context.level < 2 ? added : joined(added)) {
    const before = context.level < 2 ? undefined : ends.get(extent.fileOffset);
    if (before === undefined || !follows(before, extent)) rows.put(extent);
    else rows.put({ ...before, length: before.length + extent.length }, before);
  }
  rows.settle();
  const cleared = isTailLong ? startClearing(context, of, size) : of.cleared;
  const extentCount = isTailLong && size === 0 ? 0 : rows.count;
  const compaction = compactionAfter(context, of, { removed, extentCount, size });
  patchInode(context, of.id, {
    form: "extents",
    extentCount,
    size,
    source: sourceAfter(context, of, { size, extentCount }),
    cleared,
    compaction,
    version: of.version + 1,
    persistence: of.persistOp === undefined ? "none" : "pending",
    lineageId: undefined,
    mtime: context.wallTime,
    ctime: context.wallTime,
  });
  return { isWhole };
}

/** Refuses to add extents where others wait to be taken away. */
function needOutsideTail(of: Inode, added: readonly Extent[]): void {
  const from = of.cleared?.tailFrom;
  const last = added[added.length - 1];
  if (from === undefined || last === undefined || endOf(last) <= from) return;
  refuse("Busy", `what was cut off at ${from} is still being taken away`);
}

/** What is left of the source when the file has changed. */
function sourceAfter(
  { level }: Context,
  { form, source }: Inode,
  now: { readonly size: number; readonly extentCount: number },
): Inode["source"] {
  if (source === undefined) return undefined;
  const shown = form === "source" && level >= 2 ? source.size : source.shown;
  if (shown === undefined) return now.extentCount === 0 ? undefined : source;
  return Math.min(shown, now.size) === 0
    ? undefined
    : { ...source, shown: Math.min(shown, now.size) };
}

/**
 * Replaces the whole content by that of one attempt of its lineage. `version` is said by the caller, who knows whether
 * the bytes are the same.
 */
export function setContent(
  context: Context,
  of: Inode,
  content: {
    readonly extents: readonly Extent[];
    readonly size: number;
    readonly version: number;
  },
): void {
  const cleared = clearExtents(context, of);
  const rows = new ExtentRows(context, { ...of, cleared, extentCount: 0 });
  for (const extent of content.extents) rows.put(extent);
  rows.settle();
  const isSame = content.version === of.version;
  patchInode(context, of.id, {
    form: "extents",
    extentCount: rows.count,
    size: content.size,
    version: content.version,
    source: undefined,
    cleared,
    compaction: withoutRunning(of.compaction),
    persistence: isSame || of.persistOp !== undefined ? of.persistence : "none",
    mtime: isSame ? of.mtime : context.wallTime,
    ctime: context.wallTime,
  });
}

/**
 * The store's object has the bytes of `persisted.version` now. While the file is still at that version, it takes the
 * source form: cached copies of a content that came from one write stay valid under its id. If it moved on, the parts of
 * the old object that it still names are found in the new one (invariant 2), under a new write id, since the blocks as a
 * whole differ.
 *
 * The object is replaced by an atomic write of the whole, after its source was read: nobody ever reads a half of each.
 */
export function markPersisted(
  context: Context,
  of: Inode,
  persisted: { readonly version: number; readonly size: number },
  fingerprint: string,
): void {
  if (of.version === persisted.version) {
    const writeId = adoptableWrite(context, of) ?? (context.position as number as WriteId);
    const cleared = of.form === "extents" ? clearExtents(context, of, writeId) : of.cleared;
    patchInode(context, of.id, {
      form: "source",
      extentCount: 0,
      cleared,
      compaction: withoutRunning(of.compaction),
      source: { writeId, fingerprint, size: of.size },
      persistence: "persisted",
      persistedVersion: of.version,
    });
    return;
  }
  moveSource(context, of, persisted.size, fingerprint);
  patchInode(context, of.id, { persistedVersion: persisted.version });
}

/** The store's object is another one: what the file still names of the old one is found in it. */
export function moveSource(context: Context, of: Inode, size: number, fingerprint: string): void {
  const source = moveToNewObject(context, of, size, fingerprint);
  patchUnseen(context, of.id, { source });
}

/**
 * The write under whose id the present content may be read from the store: its container must be exactly the file, and
 * nobody may go on writing it.
 */
function adoptableWrite(context: Context, of: Inode): WriteId | undefined {
  if (of.form === "source") return of.source!.writeId;
  // A file of so many extents gets another id: cached copies are loaded anew.
  if (context.level >= 2 && !isClearedAtOnce(of)) return undefined;
  const { blockSizeBytes } = context;
  const writeId = singleWriteOf(storedExtents(context, of), { size: of.size, blockSizeBytes });
  if (writeId === undefined || of.lease?.writeId === writeId) return undefined;
  const length =
    writeId === of.source?.writeId
      ? of.source.size
      : containerOf(context.state, of.id, writeId)?.size;
  return length === of.size ? writeId : undefined;
}

function moveToNewObject(
  context: Context,
  of: Inode,
  size: number,
  fingerprint: string,
): Inode["source"] {
  if (of.form === "source" || of.source === undefined) return of.source;
  const writeId = context.position as number as WriteId;
  const { shown } = of.source;
  if (shown !== undefined) return { writeId, fingerprint, size, shown };
  let isNamed = false;
  for (const extent of storedExtents(context, of)) {
    if (extent.writeId !== of.source.writeId) continue;
    // Neither the old object nor the new one is a container that counts.
    new ExtentRows(context, of).put({ ...extent, writeId }, extent);
    isNamed = true;
  }
  return isNamed ? { writeId, fingerprint, size } : undefined;
}
