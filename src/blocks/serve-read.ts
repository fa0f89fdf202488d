/** The sending end of a block stream: as much as the reader's credit allows, and no more. */
import { crc32 } from "node:zlib";
import { toWeirError, WeirError } from "../lib/errors.ts";
import { SendWindow } from "./credit.ts";
import type { Message, ReadHeader } from "./messages.ts";
import type { ServerStream } from "./server-stream.ts";
import { type BlockService, containerName } from "./types.ts";

const smallestChunkBytes = 64 * 1024;

/** Serves one read until it is sent, failed or cancelled. Never rejects. */
export async function serveRead(
  service: BlockService,
  request: ReadHeader,
  stream: ServerStream,
): Promise<void> {
  const doing = `Cannot send block ${request.blockIndex} of "${containerName(request.container)}"`;
  const window = new SendWindow(request.credit);
  stream.onMessage = ({ header }: Message): void => {
    if (header.kind === "grant") window.grant(header.bytes);
  };
  const onAbort = (): void => {
    window.abort(stream.signal.reason as Error);
  };
  stream.signal.addEventListener("abort", onAbort, { once: true });
  const endOffset = request.offset + request.length;
  let offset = request.offset;
  try {
    if (request.length === 0) {
      await stream.sendChunk({ kind: "chunk", offset, crc: 0, last: true }, new Uint8Array(0));
      return;
    }
    for await (const piece of service.read(request, stream.signal)) {
      let at = 0;
      while (at < piece.length) {
        const most = Math.min(piece.length - at, stream.maxChunkBytes);
        const taken = await window.take(Math.min(most, smallestChunkBytes), most);
        const chunk = piece.subarray(at, at + taken);
        const last = offset + taken >= endOffset;
        await stream.sendChunk({ kind: "chunk", offset, crc: crc32(chunk), last }, chunk);
        at += taken;
        offset += taken;
      }
    }
    if (offset !== endOffset) {
      throw new WeirError("Internal", `${doing}: it ends at ${offset}, wanted ${endOffset}`);
    }
  } catch (error) {
    if (!stream.signal.aborted) stream.fail(toWeirError(error, doing));
  } finally {
    stream.signal.removeEventListener("abort", onAbort);
    stream.end();
  }
}
