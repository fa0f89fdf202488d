/**
 * Extents as rows of the state: their encoding, which of them a change has to look at, and the account of what a change
 * adds and takes.
 *
 * Invariants
 * 1. Extents do not overlap: of all that begin before an offset only the last one can reach beyond it.
 * 2. A range is scanned only of a file whose count is not 0 when its entry begins: `rangesOf` relies on it.
 */
import type { WriteId } from "../../lib/ids.ts";
import { decode } from "../../lib/schema.ts";
import type { Extent } from "../../rpc/namespace.ts";
import type { KeyRange, KeyValue, ScanRange } from "../store/types.ts";
import { addReferences } from "./containers.ts";
import type { Context } from "./context.ts";
import { type ByteRange, coveredBy } from "./extents.ts";
import { type ExtentOwner, extentKey, extentRange, offsetOfExtent } from "./keys.ts";
import { type Inode, storedExtent } from "./model.ts";

/** Most extents that one command takes away because the file ends before them. */
export const clearStepLimit = 250;

/** Most stored extents in whose place one command puts others. */
export const replaceLimit = 1000;

/** A change of content, as far as it says which extents it meets: `added` are in order, the file gets `size`. */
export interface ContentChange {
  readonly added: readonly Extent[];
  readonly size: number;
}

/** An extent as it is stored. */
export function decodeExtent([key, value]: KeyValue): Extent {
  return { fileOffset: offsetOfExtent(key), ...decode(storedExtent, value, "extent") };
}

/** The keys of all extents that can reach `fromOffset` or what follows it. */
export function extentsFrom(of: ExtentOwner, fromOffset: number, blockSizeBytes: number): KeyRange {
  return extentRange(of, Math.max(0, fromOffset - blockSizeBytes + 1));
}

/** The extents that overlap bytes [from, to) or end where they begin, and the one before at most. */
function reaching(of: ExtentOwner, { from, to }: ByteRange, blockSizeBytes: number): ScanRange {
  const since = extentKey(of, Math.max(0, from - blockSizeBytes));
  return { ...extentRange(of, from, to), since };
}

/** The extents behind the new end of a file, one more than are taken away at once. */
function behind(of: Inode, size: number): ScanRange {
  const end = of.cleared?.tailFrom;
  return { ...extentRange(of, size, end), limit: clearStepLimit + 1 };
}

/** What lies where a change adds something: of each range one row more than are replaced at once. */
export function replacedRanges(
  of: Inode,
  { added }: ContentChange,
  blockSizeBytes: number,
): readonly ScanRange[] {
  const limit = replaceLimit + 1;
  return coveredBy(added).map((range) => ({ ...reaching(of, range, blockSizeBytes), limit }));
}

/** What a change cuts off, or shortens. */
export function cutRanges(
  of: Inode,
  { size }: ContentChange,
  blockSizeBytes: number,
): readonly ScanRange[] {
  if (size >= of.size) return [];
  const ranges = [reaching(of, { from: size, to: size }, blockSizeBytes)];
  if (size < (of.cleared?.tailFrom ?? of.size)) ranges.push(behind(of, size));
  return ranges;
}

/** What of a file's extents a change looks at. */
export function rangesOfChange(
  of: Inode,
  change: ContentChange,
  blockSizeBytes: number,
): readonly ScanRange[] {
  return [...replacedRanges(of, change, blockSizeBytes), ...cutRanges(of, change, blockSizeBytes)];
}

/** Whether no step is needed to take all extents away: then a command may scan all. */
export function isClearedAtOnce(of: Inode): boolean {
  return of.extentCount <= clearStepLimit && of.cleared?.tailFrom === undefined;
}

/** The rows of a file's extents while one command changes them. */
export class ExtentRows {
  readonly #context: Context;
  readonly #of: Inode;
  readonly #deltas = new Map<WriteId, number>();
  count: number;

  constructor(context: Context, of: Inode) {
    this.#context = context;
    this.#of = of;
    this.count = of.extentCount;
  }

  /** Adds a row, or puts another extent in the place of `before`, which begins at the same offset. */
  put(extent: Extent, before?: Extent): void {
    const { state } = this.#context;
    state.write(storedExtent, extentKey(this.#of, extent.fileOffset), extent);
    if (before?.writeId === extent.writeId) return;
    if (before === undefined) this.count++;
    else this.#add(before.writeId, -1);
    this.#add(extent.writeId, 1);
  }

  delete(extent: Extent): void {
    this.#context.state.delete(extentKey(this.#of, extent.fileOffset));
    this.#add(extent.writeId, -1);
    this.count--;
  }

  /** Enters into the containers how often they are named now. */
  settle(): void {
    addReferences(this.#context, this.#of.id, this.#deltas);
  }

  #add(writeId: WriteId, delta: number): void {
    this.#deltas.set(writeId, (this.#deltas.get(writeId) ?? 0) + delta);
  }
}
