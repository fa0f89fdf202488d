/** What is written and not published, laid over what is read. */
import type { PendingExtents } from "./pending-extents.ts";
import type { WriteLog } from "./write-log.ts";

/** A range of a file. */
interface Range {
  readonly offset: number;
  readonly length: number;
}

/**
 * Copies what the layers have, the newest first, to where it belongs in `target`, which stands for the file from `offset`
 * on; answers what they do not cover, in order.
 */
export function overlaid(
  target: Uint8Array,
  offset: number,
  of: { readonly layers: readonly (PendingExtents | undefined)[]; readonly log: WriteLog },
): Range[] {
  let gaps: Range[] = [{ offset, length: target.length }];
  for (const layer of of.layers) {
    if (layer === undefined || layer.count === 0) continue;
    const left: Range[] = [];
    for (const gap of gaps) {
      let position = gap.offset;
      for (const piece of layer.within(gap.offset, gap.length)) {
        const from = piece.fileOffset - offset;
        of.log.copy(piece.logOffset, target.subarray(from, from + piece.length));
        if (piece.fileOffset > position) {
          left.push({ offset: position, length: piece.fileOffset - position });
        }
        position = piece.fileOffset + piece.length;
      }
      const end = gap.offset + gap.length;
      if (position < end) left.push({ offset: position, length: end - position });
    }
    gaps = left;
  }
  return gaps;
}
