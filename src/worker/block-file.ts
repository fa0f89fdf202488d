/** Reading blocks from a data file, every 64 KiB of them checked. */
import type { FileHandle } from "node:fs/promises";
import { WeirError } from "../lib/errors.ts";
import { type BlockInfo, crcUnitBytes, unitIsIntact } from "./container.ts";

/** Most bytes in one piece. */
const pieceBytes = 512 * 1024;

/**
 * Bytes [offset, offset + length) of the block whose byte 0 is at `blockPosition` of the file; the caller may keep what
 * is yielded.
 * @throws WeirError `Corrupt` before the first wrong byte is handed on
 */
export async function* readBlockFile(
  file: FileHandle,
  blockPosition: number,
  block: BlockInfo,
  range: { readonly offset: number; readonly length: number },
): AsyncIterable<Uint8Array> {
  const end = range.offset + range.length;
  let at = range.offset;
  while (at < end) {
    const from = Math.floor(at / crcUnitBytes) * crcUnitBytes;
    const wanted = Math.ceil(Math.min(end, from + pieceBytes) / crcUnitBytes) * crcUnitBytes;
    const to = Math.min(wanted, block.length);
    const piece = Buffer.allocUnsafeSlow(to - from);
    await readFully(file, piece, blockPosition + from);
    for (let unit = 0; unit < piece.length; unit += crcUnitBytes) {
      const bytes = piece.subarray(unit, unit + crcUnitBytes);
      if (!unitIsIntact(block, (from + unit) / crcUnitBytes, bytes)) {
        throw new WeirError(
          "Corrupt",
          `Cannot read a block: ${bytes.length} bytes at ${from + unit} do not match their crc`,
        );
      }
    }
    const stop = Math.min(end, to);
    yield piece.subarray(at - from, stop - from);
    at = stop;
  }
}

async function readFully(file: FileHandle, buffer: Buffer, position: number): Promise<void> {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(
      buffer,
      filled,
      buffer.length - filled,
      position + filled,
    );
    if (bytesRead === 0) {
      throw new WeirError(
        "Corrupt",
        `Cannot read a block: its file ends at ${position + filled}, wanted ${position + buffer.length}`,
      );
    }
    filled += bytesRead;
  }
}
