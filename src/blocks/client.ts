/** The client of the block protocol: reads blocks from workers and writes containers to chains of them. */
import { setMaxListeners } from "node:events";
import type { Logger } from "../lib/logger.ts";
import type { BlockConnection } from "./connection.ts";
import { readBlock } from "./read-stream.ts";
import type { BlockClient } from "./types.ts";
import { openWriter } from "./write-stream.ts";

export interface BlockClientOptions {
  readonly clusterName: string;
  readonly logger: Logger;
  /** Longest silence of a worker from which something is due; default 10 s. */
  readonly deadlineMs?: number | undefined;
}

/** Streams over `connection`, which stays the caller's: closing the client leaves it open. */
export function createBlockClient(
  connection: BlockConnection,
  options: BlockClientOptions,
): BlockClient {
  const { clusterName } = options;
  const deadlineMs = options.deadlineMs ?? 10_000;
  const closing = new AbortController();
  setMaxListeners(0, closing.signal);
  return {
    read: (worker, request, { signal }) =>
      readBlock({
        connection,
        clusterName,
        worker,
        request,
        deadlineMs,
        signal,
        closing: closing.signal,
      }),
    openContainer: (chain, container, { resumeAt, signal, degrade }) =>
      openWriter({
        connection,
        clusterName,
        chain,
        container,
        resumeAt,
        degrade: degrade ?? false,
        deadlineMs,
        signal,
      }),
    close: async () => {
      closing.abort();
    },
  };
}
