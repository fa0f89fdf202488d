/** The reading end of a block stream: checks order and crc of what arrives, and grants credit as it is consumed. */
import { crc32 } from "node:zlib";
import { WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import { ClientStream } from "./client-stream.ts";
import type { BlockConnection } from "./connection.ts";
import type { Message } from "./messages.ts";
import { type BlockRead, containerName } from "./types.ts";

export interface ReadOptions {
  readonly connection: BlockConnection;
  readonly clusterName: string;
  readonly worker: WorkerId;
  readonly request: BlockRead;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  /** The client is closed. */
  readonly closing: AbortSignal;
}

/** Grants below this are put together, unless the sender could stand still. */
const smallGrantBytes = 256 * 1024;

/**
 * The bytes of `request`, in chunks that the caller may keep.
 * @throws WeirError `Unavailable`, `Corrupt`, `NotFound`, `Busy` and what the worker answers; what was yielded before is
 * valid, so a caller may go on at that byte elsewhere
 */
export async function* readBlock(options: ReadOptions): AsyncIterable<Uint8Array> {
  const { connection, request, signal, deadlineMs } = options;
  const doing = `Cannot read block ${request.blockIndex} of "${containerName(request.container)}"`;
  await connection.ready(Math.min(deadlineMs, 1000), signal);
  const share = await connection.credit.open({ waitMs: deadlineMs, signal });
  const received: Uint8Array[] = [];
  const endOffset = request.offset + request.length;
  let nextOffset = request.offset;
  let finished = false;
  let failure: Error | undefined;
  let wake: (() => void) | undefined;

  const onMessage = ({ header, payload }: Message): void => {
    if (header.kind !== "chunk" || finished) {
      throw new WeirError("ProtocolError", `${doing}: a "${header.kind}" message came in between`);
    }
    if (header.offset !== nextOffset) {
      throw stream.unavailable(`byte ${nextOffset} was lost on the way`);
    }
    if (crc32(payload) !== header.crc) {
      throw new WeirError(
        "Corrupt",
        `${doing}: ${payload.length} bytes at ${header.offset} from worker ${options.worker} do not match their crc`,
      );
    }
    nextOffset += payload.length;
    if (nextOffset > endOffset || (header.last && nextOffset !== endOffset)) {
      throw new WeirError(
        "ProtocolError",
        `${doing}: got ${nextOffset}, wanted up to ${endOffset}`,
      );
    }
    if (payload.length > 0) received.push(payload);
    finished = header.last;
    stream.expecting = nextOffset < grantedTo && !finished;
    if (finished) stream.end({ cancel: false });
    wake?.();
  };
  let grantedTo = request.offset + share.take(request.length);
  const stream = new ClientStream({
    ...options,
    doing,
    onMessage,
    onFailure: (error) => {
      failure = error;
      wake?.();
    },
  });
  const onAbort = (event: Event): void => {
    failure ??= (event.target as AbortSignal).reason as Error;
    stream.end({ cancel: true });
    wake?.();
  };
  const signals = [signal, options.closing];
  for (const each of signals) each.addEventListener("abort", onAbort, { once: true });
  try {
    stream.request("read", {
      kind: "read",
      ...request,
      ufs: request.ufs,
      credit: grantedTo - request.offset,
    });
    for (;;) {
      const chunk = received.shift();
      if (chunk !== undefined) {
        yield chunk;
        share.give(chunk.length);
        // Whatever the others hold, a share that holds nothing gets something: the sender never starves.
        const wanted = endOffset - grantedTo;
        if (wanted > 0 && !stream.ended) {
          const idle = received.length === 0 && nextOffset === grantedTo;
          const more = share.take(wanted);
          if (more >= Math.min(smallGrantBytes, wanted) || idle) {
            grantedTo += more;
            stream.expecting = true;
            stream.send({ kind: "grant", bytes: more });
          } else share.give(more);
        }
      } else if (failure !== undefined) {
        throw failure;
      } else if (finished) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
      }
    }
  } finally {
    for (const each of signals) each.removeEventListener("abort", onAbort);
    stream.end({ cancel: !finished });
    share.close();
  }
}
