/**
 * The receiving end of a container stream: appends in order, passes each chunk on to the next worker of the chain, and
 * gives credit back for what both took.
 *
 * Invariant: messages are carried out one after the other, so a `flush` covers exactly what came before it.
 */
import { crc32 } from "node:zlib";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { CreditShare } from "./credit.ts";
import type { Message, OpenHeader } from "./messages.ts";
import type { ServerStream } from "./server-stream.ts";
import {
  type BlockClient,
  type BlockService,
  type ContainerSink,
  type ContainerWriter,
  containerName,
} from "./types.ts";

export interface WriteServer {
  readonly worker: WorkerId;
  readonly service: BlockService;
  /** For the rest of the chain. */
  readonly client: BlockClient;
}

/** Credit that a writer gets, if there is so much: more does not make a stream faster. */
const windowBytes = 4 * 1024 * 1024;

/** Serves one container stream until it is closed, failed or cancelled. Never rejects. */
export async function serveWrite(
  server: WriteServer,
  request: OpenHeader,
  stream: ServerStream,
  share: CreditShare,
): Promise<void> {
  const write = new ServedWrite(server, request, stream, share);
  const queue: Message[] = [];
  let wake: (() => void) | undefined;
  stream.onMessage = (message) => {
    queue.push(message);
    wake?.();
  };
  const onAbort = (): void => {
    write.letGoOfNext();
    wake?.();
  };
  stream.signal.addEventListener("abort", onAbort, { once: true });
  try {
    await write.open();
    while (!write.closed && !stream.signal.aborted) {
      const message = queue.shift();
      if (message === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
      } else await write.handle(message);
    }
  } catch (error) {
    stream.fail(toWeirError(error, write.doing));
  } finally {
    await write.end();
    share.close();
    stream.end();
  }
}

class ServedWrite {
  readonly doing: string;
  closed = false;
  readonly #server: WriteServer;
  readonly #request: OpenHeader;
  readonly #stream: ServerStream;
  readonly #share: CreditShare;
  #sink: ContainerSink | undefined;
  #next: ContainerWriter | undefined;
  /** Why the rest of the chain takes no part any more. */
  #trouble: string | undefined;

  constructor(server: WriteServer, request: OpenHeader, stream: ServerStream, share: CreditShare) {
    this.#server = server;
    this.#request = request;
    this.#stream = stream;
    this.#share = share;
    this.doing = `Cannot write container "${containerName(request.container)}"`;
  }

  async open(): Promise<void> {
    const { container, resumeAt, chain } = this.#request;
    this.#sink = await this.#server.service.openContainer(container, { resumeAt });
    if (chain.length > 0) {
      const { signal } = this.#stream;
      await this.#withNext(async () => {
        const options = { resumeAt, signal, degrade: true };
        this.#next = await this.#server.client.openContainer(chain, container, options);
      });
    }
    const credit = this.#share.take(windowBytes);
    this.#stream.send({ kind: "opened", credit, holders: this.#holders(), trouble: this.#trouble });
  }

  async handle({ header, payload }: Message): Promise<void> {
    if (header.kind === "chunk") {
      await this.#append(header, payload);
      return;
    }
    const sink = this.#sink!;
    if (header.kind === "flush") {
      await this.#both(
        () => sink.flush(header),
        (next) => next.flush(header),
      );
    } else if (header.kind === "close") {
      await this.#both(
        () => sink.close(header),
        (next) => next.close(header),
      );
      this.closed = true;
    } else {
      throw new WeirError("ProtocolError", `${this.doing}: got a "${header.kind}" message`);
    }
    const { id } = header;
    this.#stream.send({ kind: "done", id, holders: this.#holders(), trouble: this.#trouble });
  }

  /** Leaves nothing open: without a close, only what was flushed stays. */
  async end(): Promise<void> {
    if (this.closed) return;
    await Promise.allSettled([this.#sink?.abort(), this.#next?.abort()]);
  }

  /** Ends the waiting for a next worker that may be gone. */
  letGoOfNext(): void {
    void this.#next?.abort();
  }

  async #append(header: { offset: number; crc: number }, chunk: Uint8Array): Promise<void> {
    const sink = this.#sink!;
    if (header.offset !== sink.length) {
      throw new WeirError(
        "Unavailable",
        `${this.doing}: bytes from ${sink.length} to ${header.offset} were lost on the way`,
      );
    }
    if (crc32(chunk) !== header.crc) {
      throw new WeirError(
        "Corrupt",
        `${this.doing}: ${chunk.length} bytes at ${header.offset} do not match their crc`,
      );
    }
    await this.#both(
      () => sink.append(chunk),
      (next) => next.write(chunk),
    );
    this.#share.give(chunk.length);
    this.#stream.send({ kind: "grant", bytes: this.#share.take(windowBytes - this.#share.held) });
  }

  /** Here and at the next worker at once; a failure here ends the stream, one there ends only the chain. */
  async #both(
    here: () => Promise<void>,
    there: (next: ContainerWriter) => Promise<void>,
  ): Promise<void> {
    const next = this.#next;
    await Promise.all([here(), next === undefined ? undefined : this.#withNext(() => there(next))]);
  }

  async #withNext(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#trouble = toWeirError(error, this.doing).message;
      const next = this.#next;
      this.#next = undefined;
      await next?.abort().catch(() => undefined);
    }
  }

  #holders(): readonly WorkerId[] {
    return [this.#server.worker, ...(this.#next?.workers ?? [])];
  }
}
