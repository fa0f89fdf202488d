/**
 * A file's content as it changes: extents in the state, their containers' counts, and the two forms. Overwriting a part
 * of a store's object first turns it into extents that name the object's blocks; a persist turns extents into the
 * source form again.
 *
 * Invariants
 * 1. `extentCount` is the number of `extent/<inode>/…` keys; in the source form it is 0.
 * 2. An extent that names `source.writeId` lies in the file where it lies in the object. So a later object of the same
 *    file has the same bytes there, as long as the extent exists.
 * 3. Extents are scanned only where the count is not 0: `rangesOf` relies on it.
 */
import type { InodeId, WriteId } from "../../lib/ids.ts";
import { decode } from "../../lib/schema.ts";
import type { Extent } from "../../rpc/namespace.ts";
import type { KeyRange, KeyValue } from "../store/types.ts";
import { addReferences, dropContainer } from "./containers.ts";
import { type Context, patchInode, refuse } from "./context.ts";
import { type ByteRange, cut, coveredBy, singleWriteOf, wholeBlocks } from "./extents.ts";
import { extentKey, extentRange, offsetOfExtent } from "./keys.ts";
import { type Inode, storedExtent } from "./model.ts";
import { containerOf } from "./queries.ts";

/**
 * Most blocks of a store's object that may become extents at once, when a part of it is overwritten: each is a row, and
 * the master that writes them serves nobody meanwhile. With blocks of 64 MiB, files of 16 TiB.
 */
export const maxBlocksAtOnce = 2 ** 18;

/** An extent as it is stored. */
export function decodeExtent([key, value]: KeyValue): Extent {
  return { fileOffset: offsetOfExtent(key), ...decode(storedExtent, value, "extent") };
}

/** The keys of all extents that can reach `fromOffset` or what follows it. */
export function extentsFrom(inode: InodeId, fromOffset: number, blockSizeBytes: number): KeyRange {
  return extentRange(inode, Math.max(0, fromOffset - blockSizeBytes + 1));
}

/** Where the changes of a commit begin. */
export function commitBegin(of: { readonly size: number; readonly extents: readonly Extent[] }) {
  return Math.min(of.extents[0]?.fileOffset ?? of.size, of.size);
}

function putExtent(context: Context, inode: InodeId, extent: Extent): void {
  context.state.write(storedExtent, extentKey(inode, extent.fileOffset), extent);
}

/** The stored extents that can reach `fromOffset` or what follows it. */
function storedFrom(context: Context, of: Inode, fromOffset: number): Extent[] {
  if (of.extentCount === 0) return [];
  const range = extentsFrom(of.id, fromOffset, context.blockSizeBytes);
  return context.state.scan(range).map(decodeExtent);
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

/**
 * The next version of a file: `added` (in order) replaces what it overlaps, all beyond `size` is cut. `begin` is the least
 * offset that changes. The link to a lineage is broken, the store has an older version.
 */
export function changeContent(
  context: Context,
  of: Inode,
  change: { readonly begin: number; readonly added: readonly Extent[]; readonly size: number },
): Inode {
  const { added, size } = change;
  const removed: ByteRange[] = [...coveredBy(added)];
  if (size < of.size) removed.push({ from: size, to: Number.MAX_SAFE_INTEGER });
  const deltas = new Map<WriteId, number>();
  const add = (writeId: WriteId, delta: number) => {
    deltas.set(writeId, (deltas.get(writeId) ?? 0) + delta);
  };

  let extentCount = of.extentCount;
  const isStored = of.form === "extents";
  const present = isStored
    ? storedFrom(context, of, change.begin)
    : sourceBlocks(context, of.source!, size);
  for (const { extent, pieces } of cut(present, removed)) {
    if (isStored && pieces[0] === extent) continue;
    if (isStored) {
      context.state.delete(extentKey(of.id, extent.fileOffset));
      add(extent.writeId, -1);
      extentCount--;
    }
    for (const piece of pieces) {
      putExtent(context, of.id, piece);
      add(piece.writeId, 1);
      extentCount++;
    }
  }
  for (const extent of added) {
    putExtent(context, of.id, extent);
    add(extent.writeId, 1);
    extentCount++;
  }
  addReferences(context, of.id, deltas);
  return patchInode(context, of.id, {
    form: "extents",
    extentCount,
    size,
    source: extentCount === 0 ? undefined : of.source,
    version: of.version + 1,
    persistence: of.persistOp === undefined ? "none" : "pending",
    lineageId: undefined,
    mtime: context.wallTime,
    ctime: context.wallTime,
  });
}

/** Takes all extents of a file away; their containers become garbage, but `except` (which loses its record at once). */
export function clearExtents(context: Context, of: Inode, except?: WriteId): void {
  const deltas = new Map<WriteId, number>();
  for (const extent of storedFrom(context, of, 0)) {
    context.state.delete(extentKey(of.id, extent.fileOffset));
    if (extent.writeId === except) continue;
    deltas.set(extent.writeId, (deltas.get(extent.writeId) ?? 0) - 1);
  }
  if (except !== undefined) dropContainer(context, of.id, except);
  addReferences(context, of.id, deltas);
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
    readonly writeId: WriteId;
  },
): void {
  clearExtents(context, of);
  for (const extent of content.extents) putExtent(context, of.id, extent);
  addReferences(context, of.id, new Map([[content.writeId, content.extents.length]]));
  const isSame = content.version === of.version;
  patchInode(context, of.id, {
    form: "extents",
    extentCount: content.extents.length,
    size: content.size,
    version: content.version,
    source: undefined,
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
    if (of.form === "extents") clearExtents(context, of, writeId);
    patchInode(context, of.id, {
      form: "source",
      extentCount: 0,
      source: { writeId, fingerprint, size: of.size },
      persistence: "persisted",
      persistedVersion: of.version,
    });
    return;
  }
  const source = moveToNewObject(context, of, persisted.size, fingerprint);
  patchInode(context, of.id, { source, persistedVersion: persisted.version });
}

/**
 * The write under whose id the present content may be read from the store: its container must be exactly the file, and
 * nobody may go on writing it.
 */
function adoptableWrite(context: Context, of: Inode): WriteId | undefined {
  if (of.form === "source") return of.source!.writeId;
  const { blockSizeBytes } = context;
  const writeId = singleWriteOf(storedFrom(context, of, 0), { size: of.size, blockSizeBytes });
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
  let named = false;
  for (const extent of storedFrom(context, of, 0)) {
    if (extent.writeId !== of.source.writeId) continue;
    putExtent(context, of.id, { ...extent, writeId });
    named = true;
  }
  return named ? { writeId, fingerprint, size } : undefined;
}
