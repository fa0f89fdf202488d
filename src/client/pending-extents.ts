/**
 * Which bytes of a file were written and not yet committed, and where they lie in the write log. Pure.
 *
 * Invariants
 * 1. Pieces are sorted by file offset and do not overlap: the latest write of a byte wins.
 * 2. Neighbours that are contiguous in the file and in the log are one piece.
 */
import type { WriteId } from "../lib/ids.ts";
import type { Extent } from "../rpc/namespace.ts";

/** Bytes [fileOffset, fileOffset + length) of the file are at `logOffset` of the log. */
export interface Piece {
  readonly fileOffset: number;
  readonly length: number;
  readonly logOffset: number;
}

export class PendingExtents {
  #pieces: Piece[] = [];

  get count(): number {
    return this.#pieces.length;
  }

  /** File offset behind the last piece; 0 when there is none. */
  get end(): number {
    const last = this.#pieces[this.#pieces.length - 1];
    return last === undefined ? 0 : last.fileOffset + last.length;
  }

  /** All pieces by file offset. */
  get pieces(): readonly Piece[] {
    return this.#pieces;
  }

  /** Records a write; what it overlaps gives way. */
  insert(fileOffset: number, length: number, logOffset: number): void {
    if (length === 0) return;
    const end = fileOffset + length;
    const pieces = this.#pieces;
    const last = pieces[pieces.length - 1];
    if (last !== undefined && follows(last, fileOffset, logOffset)) {
      pieces[pieces.length - 1] = { ...last, length: last.length + length };
      return;
    }
    const from = this.#firstEndingAfter(fileOffset);
    let to = from;
    const replacement: Piece[] = [];
    while (to < pieces.length && pieces[to]!.fileOffset < end) {
      const old = pieces[to++]!;
      if (old.fileOffset < fileOffset) {
        replacement.push({ ...old, length: fileOffset - old.fileOffset });
      }
    }
    const before = replacement[0] ?? pieces[from - 1];
    if (before !== undefined && follows(before, fileOffset, logOffset)) {
      const merged = { ...before, length: before.length + length };
      if (replacement.length > 0) replacement[0] = merged;
      else pieces[from - 1] = merged;
    } else {
      replacement.push({ fileOffset, length, logOffset });
    }
    const lastOverlapped = to > from ? pieces[to - 1]! : undefined;
    if (lastOverlapped !== undefined) {
      const over = lastOverlapped.fileOffset + lastOverlapped.length - end;
      if (over > 0) {
        replacement.push({
          fileOffset: end,
          length: over,
          logOffset: lastOverlapped.logOffset + lastOverlapped.length - over,
        });
      }
    }
    pieces.splice(from, to - from, ...replacement);
  }

  /** The parts of [offset, offset + length) that were written, in order. */
  within(offset: number, length: number): Piece[] {
    const end = offset + length;
    const found: Piece[] = [];
    for (let i = this.#firstEndingAfter(offset); i < this.#pieces.length; i++) {
      const piece = this.#pieces[i]!;
      if (piece.fileOffset >= end) break;
      const from = Math.max(piece.fileOffset, offset);
      const to = Math.min(piece.fileOffset + piece.length, end);
      found.push({
        fileOffset: from,
        length: to - from,
        logOffset: piece.logOffset + from - piece.fileOffset,
      });
    }
    return found;
  }

  clear(): void {
    this.#pieces = [];
  }

  /** Index of the first piece whose end lies behind `offset`. */
  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const piece = this.#pieces[middle]!;
      if (piece.fileOffset + piece.length > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function follows(piece: Piece, fileOffset: number, logOffset: number): boolean {
  return (
    piece.fileOffset + piece.length === fileOffset && piece.logOffset + piece.length === logOffset
  );
}

/**
 * The extents of a commit: `pieces` lie in the container `writeId`, whose byte 0 is byte `containerBase` of the log, cut
 * so that none crosses a block boundary.
 */
export function extentsOf(
  pieces: readonly Piece[],
  container: { writeId: WriteId; base: number; blockSizeBytes: number },
): Extent[] {
  const extents: Extent[] = [];
  for (const piece of pieces) {
    let done = 0;
    while (done < piece.length) {
      const position = piece.logOffset + done - container.base;
      const offset = position % container.blockSizeBytes;
      const length = Math.min(piece.length - done, container.blockSizeBytes - offset);
      extents.push({
        fileOffset: piece.fileOffset + done,
        length,
        writeId: container.writeId,
        blockIndex: (position - offset) / container.blockSizeBytes,
        offset,
      });
      done += length;
    }
  }
  return extents;
}
