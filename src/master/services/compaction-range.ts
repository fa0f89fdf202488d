/** Which extents of a file are worth to be put together. */
import type { Extent } from "../../rpc/namespace.ts";
import { endOf } from "../state/extents.ts";
import type { Inode } from "../state/model.ts";
import type { StateReader } from "../store/types.ts";
import { extentsOf } from "./listings.ts";

/** Bytes [from, to) of a file, which have `extentCount` extents. */
export interface Range {
  readonly from: number;
  readonly to: number;
  readonly extentCount: number;
}

/** What lies between extents, a hole or what shows of the store's object, becomes a part of the container up to so much. */
const longestGapBytes = 64 * 1024;
/** Most blocks of a container, and fewest extents for each of them. */
const mostBlocks = 4;
const fewestPerBlock = 8;
/** Extents of such a part of a block are large ones, and stay. */
const largePart = 16;

/**
 * The first range from an offset on that is worth it, of at most `limit` extents; undefined when there is none up to the end
 * of the file.
 */
export async function nextRange(
  reader: StateReader,
  of: Inode,
  wanted: { readonly from: number; readonly limit: number; readonly blockSizeBytes: number },
): Promise<Range | undefined> {
  const { limit, blockSizeBytes } = wanted;
  for (let at = wanted.from; at < of.size; ) {
    const page = { from: at, to: of.size, limit };
    const extents = await extentsOf(reader, of.id, page);
    const found = firstRange(extents, blockSizeBytes);
    if (found !== undefined || extents.length < limit) return found;
    at = endOf(extents[extents.length - 1]!);
  }
  return undefined;
}

/** The first run of small extents close to each other that is worth it. Pure. */
export function firstRange(extents: readonly Extent[], blockSizeBytes: number): Range | undefined {
  let run: Range | undefined;
  for (const extent of extents) {
    const { fileOffset: begin } = extent;
    const end = endOf(extent);
    const isLarge = extent.length * largePart >= blockSizeBytes;
    const goesOn =
      run !== undefined &&
      !isLarge &&
      begin - run.to <= longestGapBytes &&
      end - run.from <= mostBlocks * blockSizeBytes;
    if (run !== undefined && goesOn) {
      run = { from: run.from, to: end, extentCount: run.extentCount + 1 };
      continue;
    }
    if (isWorthIt(run, blockSizeBytes)) return run;
    run = isLarge ? undefined : { from: begin, to: end, extentCount: 1 };
  }
  return isWorthIt(run, blockSizeBytes) ? run : undefined;
}

function isWorthIt(run: Range | undefined, blockSizeBytes: number): boolean {
  if (run === undefined) return false;
  const blocks = Math.ceil((run.to - run.from) / blockSizeBytes);
  return run.extentCount >= fewestPerBlock * blocks;
}
