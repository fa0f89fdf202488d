/** The worker's end of the block protocol: one subscription below its subject root, streams told apart by their inbox. */
import type { Msg } from "nats";
import { toWeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { createBlockClient } from "./client.ts";
import type { BlockConnection } from "./connection.ts";
import { decodeMessage, encodeMessage, streamOfInbox, workerSubject } from "./messages.ts";
import { serveRead } from "./serve-read.ts";
import { serveWrite } from "./serve-write.ts";
import { ServerStream } from "./server-stream.ts";
import type { BlockService } from "./types.ts";

export interface ServeBlocksOptions {
  readonly clusterName: string;
  readonly worker: WorkerId;
  readonly service: BlockService;
  readonly logger: Logger;
  /** Longest silence of the next worker of a chain; default 10 s. */
  readonly deadlineMs?: number | undefined;
}

/** Serves reads and writes of `worker` until it is closed; NATS may come and go meanwhile. */
export function serveBlocks(
  connection: BlockConnection,
  options: ServeBlocksOptions,
): { close(): Promise<void> } {
  const { worker, service, logger, deadlineMs } = options;
  const root = workerSubject(options.clusterName, worker);
  const client = createBlockClient(connection, options);
  const streams = new Map<string, { stream: ServerStream; done: Promise<void> }>();

  const start = (inbox: string, run: (stream: ServerStream) => Promise<void>): void => {
    const key = streamOfInbox(inbox);
    if (streams.has(key)) return;
    const stream = new ServerStream(connection, inbox, () => streams.delete(key));
    // The entry is made first: what follows the request must find its stream.
    const entry = { stream, done: Promise.resolve() };
    streams.set(key, entry);
    entry.done = run(stream).catch((error: unknown) => {
      stream.fail(toWeirError(error, "Cannot serve a block stream"));
    });
  };

  const onMessage = (received: Msg): void => {
    // A message that wants no answer (a cancel that comes late) has an empty reply subject.
    const reply = received.reply === "" ? undefined : received.reply;
    const action = received.subject.slice(root.length + 1);
    const message = decodeMessage(received.data);
    const { header } = message;
    if (action.startsWith("flow.")) {
      const entry = streams.get(action.slice("flow.".length));
      if (entry !== undefined) entry.stream.receive(message);
      else if (reply !== undefined) {
        const text = `worker ${worker} does not know the stream any more`;
        connection.send(
          reply,
          encodeMessage({ kind: "error", code: "Unavailable", message: text }),
        );
      }
    } else if (reply !== undefined && header.kind === "read") {
      start(reply, (stream) => serveRead(service, header, stream));
    } else if (reply !== undefined && header.kind === "open") {
      start(reply, async (stream) => {
        const { signal } = stream;
        const share = await connection.credit.open({ waitMs: deadlineMs ?? 10_000, signal });
        await serveWrite({ worker, service, client }, header, stream, share);
      });
    }
  };

  const unsubscribe = connection.subscribe(`${root}.>`, (received) => {
    try {
      onMessage(received);
    } catch (err) {
      logger.warn({ err, subject: received.subject }, "block message refused");
    }
  });
  const offBroken = connection.onBroken((error) => {
    for (const { stream } of [...streams.values()]) stream.abort(error);
  });
  return {
    close: async () => {
      unsubscribe();
      offBroken();
      const open = [...streams.values()];
      for (const { stream } of open) stream.abort(new Error("the worker stops"));
      await Promise.all(open.map(({ done }) => done));
      await client.close();
    },
  };
}
