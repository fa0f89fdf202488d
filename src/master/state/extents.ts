/**
 * Arithmetic of extents: which parts stay when ranges of a file are replaced, how a store's object reads as extents, and
 * when extents are as good as one object. Lists are in the order of their file offsets and do not overlap.
 */
import type { WriteId } from "../../lib/ids.ts";
import type { Extent } from "../../rpc/namespace.ts";

/** Bytes [from, to) of a file. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/** The first byte after the extent. */
export function endOf(extent: Extent): number {
  return extent.fileOffset + extent.length;
}

/** Bytes [0, size) of the container of `writeId`, at equal offsets, one extent per block. */
export function wholeBlocks(of: {
  readonly writeId: WriteId;
  readonly size: number;
  readonly blockSizeBytes: number;
}): Extent[] {
  const extents: Extent[] = [];
  for (let at = 0; at < of.size; at += of.blockSizeBytes) {
    extents.push({
      fileOffset: at,
      length: Math.min(of.blockSizeBytes, of.size - at),
      writeId: of.writeId,
      blockIndex: at / of.blockSizeBytes,
      offset: 0,
    });
  }
  return extents;
}

/** Extents of bytes [from, to) of a file with those of a store's object that show between them. */
export function withSource(
  extents: readonly Extent[],
  source: { readonly writeId: WriteId; readonly end: number } | undefined,
  of: ByteRange & { readonly blockSizeBytes: number },
): readonly Extent[] {
  if (source === undefined) return extents;
  const { writeId, end } = source;
  const all: Extent[] = [];
  let at = of.from;
  const showUpTo = (to: number) => {
    while (at < to) {
      const blockIndex = Math.floor(at / of.blockSizeBytes);
      const offset = at - blockIndex * of.blockSizeBytes;
      const length = Math.min(of.blockSizeBytes - offset, to - at);
      all.push({ fileOffset: at, length, writeId, blockIndex, offset });
      at += length;
    }
  };
  for (const extent of extents) {
    showUpTo(Math.min(extent.fileOffset, end));
    all.push(extent);
    at = endOf(extent);
  }
  showUpTo(Math.min(of.to, end));
  return all;
}

/** The part [from, to) of an extent, which must lie in it. */
function part(of: Extent, from: number, to: number): Extent {
  const skipped = from - of.fileOffset;
  return { ...of, fileOffset: from, length: to - from, offset: of.offset + skipped };
}

/** What of the extents lies before an offset of the file. */
export function partBefore(extents: readonly Extent[], end: number): Extent[] {
  return extents
    .filter(({ fileOffset }) => fileOffset < end)
    .map((extent) => part(extent, extent.fileOffset, Math.min(endOf(extent), end)));
}

/** The ranges that `extents` cover, joined where they touch. */
export function coveredBy(extents: readonly Extent[]): ByteRange[] {
  const ranges: { from: number; to: number }[] = [];
  for (const extent of extents) {
    const last = ranges[ranges.length - 1];
    if (last?.to === extent.fileOffset) last.to = endOf(extent);
    else ranges.push({ from: extent.fileOffset, to: endOf(extent) });
  }
  return ranges;
}

/** For each extent what stays of it when `removed` (in order, disjoint) is cut out: itself, pieces, or nothing. */
export function cut(
  extents: readonly Extent[],
  removed: readonly ByteRange[],
): { readonly extent: Extent; readonly pieces: readonly Extent[] }[] {
  let first = 0;
  return extents.map((extent) => {
    const end = endOf(extent);
    while (first < removed.length && removed[first]!.to <= extent.fileOffset) first++;
    const pieces: Extent[] = [];
    let from = extent.fileOffset;
    for (let i = first; i < removed.length && removed[i]!.from < end; i++) {
      const range = removed[i]!;
      if (range.from > from) pieces.push(part(extent, from, range.from));
      from = Math.max(from, range.to);
    }
    if (from === extent.fileOffset && pieces.length === 0) return { extent, pieces: [extent] };
    if (from < end) pieces.push(part(extent, from, end));
    return { extent, pieces };
  });
}

/** Whether `extent` goes on where `before` ends, in the file and in its block. */
export function follows(before: Extent, extent: Extent): boolean {
  return (
    endOf(before) === extent.fileOffset &&
    before.writeId === extent.writeId &&
    before.blockIndex === extent.blockIndex &&
    before.offset + before.length === extent.offset
  );
}

/** The same bytes in as few extents as can be. */
export function joined(extents: readonly Extent[]): readonly Extent[] {
  const all: Extent[] = [];
  for (const extent of extents) {
    const last = all[all.length - 1];
    if (last === undefined || !follows(last, extent)) all.push(extent);
    else all[all.length - 1] = { ...last, length: last.length + extent.length };
  }
  return all;
}

/** What is wrong with the extents of a commit, or undefined if nothing is. */
export function flawOf(
  extents: readonly Extent[],
  wanted: { readonly writeId: WriteId; readonly size: number; readonly blockSizeBytes: number },
): string | undefined {
  let end = 0;
  for (const extent of extents) {
    const at = `the extent at ${extent.fileOffset}`;
    if (extent.length === 0) return `${at} is empty`;
    if (extent.writeId !== wanted.writeId) {
      return `${at} names write ${extent.writeId}, wanted ${wanted.writeId}`;
    }
    if (extent.fileOffset < end) return `${at} overlaps the one before or is out of order`;
    if (extent.offset + extent.length > wanted.blockSizeBytes) {
      return `${at} crosses the end of its block`;
    }
    if (!Number.isSafeInteger(reachOf([extent], wanted.blockSizeBytes))) {
      return `${at} lies in block ${extent.blockIndex}, beyond what a container can hold`;
    }
    end = endOf(extent);
  }
  return end > wanted.size
    ? `the extents end at ${end}, beyond the size ${wanted.size}`
    : undefined;
}

/** The bytes of the container that the extents reach: the end of the last one in it. */
export function reachOf(extents: readonly Extent[], blockSizeBytes: number): number {
  let reach = 0;
  for (const { blockIndex, offset, length } of extents) {
    reach = Math.max(reach, blockIndex * blockSizeBytes + offset + length);
  }
  return reach;
}

/**
 * The one write whose container has the bytes [0, size) at equal offsets, or undefined where the file is made of several,
 * has holes, or is empty.
 */
export function singleWriteOf(
  extents: readonly Extent[],
  file: { readonly size: number; readonly blockSizeBytes: number },
): WriteId | undefined {
  const writeId = extents[0]?.writeId;
  let end = 0;
  for (const extent of extents) {
    const place = extent.blockIndex * file.blockSizeBytes + extent.offset;
    if (extent.writeId !== writeId || extent.fileOffset !== end || place !== end) return undefined;
    end = endOf(extent);
  }
  return end === file.size ? writeId : undefined;
}
