/** A worker's end of one stream, what reads and writes share: answering, signs of life, and how the stream ends. */
import { WeirError } from "../lib/errors.ts";
import type { BlockConnection } from "./connection.ts";
import { encodeMessage, type Header, type Message } from "./messages.ts";

/** A client that said nothing for so long is gone: it sends a sign of life each second. */
const clientSilenceMs = 30_000;
const aliveMs = 1000;

export class ServerStream {
  /** Takes what comes after the request; signs of life and cancels excepted. */
  onMessage: (message: Message) => void = () => undefined;
  readonly #connection: BlockConnection;
  readonly #inbox: string;
  readonly #onEnd: () => void;
  readonly #abort = new AbortController();
  readonly #ticker: NodeJS.Timeout;
  #heardAt = performance.now();
  #sentAt = performance.now();
  #ended = false;

  constructor(connection: BlockConnection, inbox: string, onEnd: () => void) {
    this.#connection = connection;
    this.#inbox = inbox;
    this.#onEnd = onEnd;
    this.#ticker = setInterval(() => {
      this.#tick();
    }, aliveMs / 2);
  }

  /** Aborted when the client cancelled, went away, or the connection broke. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get maxChunkBytes(): number {
    return this.#connection.maxChunkBytes;
  }

  receive(message: Message): void {
    this.#heardAt = performance.now();
    if (message.header.kind === "cancel") {
      this.abort(new WeirError("Cancelled", "The client let go of the stream"));
    } else if (message.header.kind !== "alive") {
      this.onMessage(message);
    }
  }

  /** Answers; when NATS is away the stream is over instead. */
  send(header: Header): void {
    if (this.#ended) return;
    this.#sentAt = performance.now();
    try {
      this.#connection.send(this.#inbox, encodeMessage(header));
    } catch (error) {
      this.abort(error as Error);
    }
  }

  async sendChunk(header: Header, payload: Uint8Array): Promise<void> {
    this.signal.throwIfAborted();
    this.#sentAt = performance.now();
    await this.#connection.sendBulk(this.#inbox, encodeMessage(header, payload));
  }

  /** Tells the client why the stream is over. */
  fail(error: WeirError): void {
    this.send({ kind: "error", code: error.code, message: error.message });
    this.abort(error);
  }

  abort(reason: Error): void {
    this.#abort.abort(reason);
    this.end();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#ticker);
    this.#onEnd();
  }

  #tick(): void {
    const now = performance.now();
    if (now - this.#heardAt > clientSilenceMs) {
      this.abort(new WeirError("Unavailable", "The client of the stream went silent"));
    } else if (now - this.#sentAt >= aliveMs / 2) {
      this.send({ kind: "alive" });
    }
  }
}
