/**
 * A client's end of one stream, what reads and writes share: the inbox, the deadline on silence, the signs of life, and
 * how a stream ends. Every way in which a worker can go away ends in an `Unavailable` that names it.
 */
import { knownCode, WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { BlockConnection, Inbox } from "./connection.ts";
import {
  decodeMessage,
  encodeMessage,
  type Header,
  inboxRoot,
  type Message,
  streamOfInbox,
  workerSubject,
} from "./messages.ts";

export interface StreamOptions {
  readonly connection: BlockConnection;
  readonly clusterName: string;
  readonly worker: WorkerId;
  /** Opens the messages of errors: `Cannot read block 1 of "5.77"`. */
  readonly doing: string;
  /** Longest silence of a worker from which something is due. */
  readonly deadlineMs: number;
  /** Takes what arrives, but errors and signs of life. */
  onMessage(message: Message): void;
  /** Called once, when the stream cannot go on. */
  onFailure(error: WeirError): void;
}

export class ClientStream {
  readonly #options: StreamOptions;
  readonly #inbox: Inbox;
  readonly #root: string;
  readonly #flow: string;
  readonly #ticker: NodeJS.Timeout;
  #heardAt = performance.now();
  #expecting = true;
  #ended = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    const { connection, clusterName, worker, deadlineMs } = options;
    this.#inbox = connection.openInbox(inboxRoot(clusterName), {
      message: (body) => {
        this.#receive(body);
      },
      noResponders: () => {
        this.fail(this.unavailable("it is not there"));
      },
      disconnected: (error) => {
        this.fail(this.unavailable(error.message, error));
      },
    });
    this.#root = workerSubject(clusterName, worker);
    this.#flow = `${this.#root}.flow.${streamOfInbox(this.#inbox.subject)}`;
    this.#ticker = setInterval(
      () => {
        this.#tick();
      },
      Math.max(50, Math.min(1000, deadlineMs / 4)),
    );
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Whether the worker has something to send; its silence counts only then. */
  set expecting(value: boolean) {
    if (value && !this.#expecting) this.#heardAt = performance.now();
    this.#expecting = value;
  }

  /** Opens the stream at the worker. @throws WeirError `Unavailable` */
  request(kind: "read" | "open", header: Header): void {
    this.#options.connection.send(
      `${this.#root}.${kind}`,
      encodeMessage(header),
      this.#inbox.subject,
    );
  }

  /** @throws WeirError `Unavailable` */
  send(header: Header): void {
    this.#options.connection.send(this.#flow, encodeMessage(header), this.#inbox.subject);
  }

  /** @throws WeirError `Unavailable` */
  sendChunk(header: Header, payload: Uint8Array): Promise<void> {
    const body = encodeMessage(header, payload);
    return this.#options.connection.sendBulk(this.#flow, body, this.#inbox.subject);
  }

  unavailable(why: string, cause?: unknown): WeirError {
    const { doing, worker } = this.#options;
    return new WeirError("Unavailable", `${doing}: worker ${worker} does not answer: ${why}`, {
      cause,
      outcome: "unknown",
    });
  }

  fail(error: WeirError): void {
    if (this.#ended) return;
    this.end({ cancel: true });
    this.#options.onFailure(error);
  }

  /** Lets go of the stream; `cancel` tells the worker to do so as well. */
  end(options: { cancel: boolean }): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#ticker);
    this.#inbox.close();
    if (options.cancel && this.#options.connection.connected) {
      try {
        this.#options.connection.send(this.#flow, encodeMessage({ kind: "cancel" }));
      } catch {
        // The worker notices by the silence.
      }
    }
  }

  #receive(body: Uint8Array): void {
    this.#heardAt = performance.now();
    const { doing, worker } = this.#options;
    try {
      const message = decodeMessage(body);
      const { header } = message;
      if (header.kind === "alive") return;
      if (header.kind === "error") {
        const code = knownCode(header.code);
        this.fail(new WeirError(code, `${doing} at worker ${worker}: ${header.message}`));
      } else {
        this.#options.onMessage(message);
      }
    } catch (error) {
      const known =
        error instanceof WeirError ? error : new WeirError("Internal", doing, { cause: error });
      this.fail(known);
    }
  }

  #tick(): void {
    const silentMs = performance.now() - this.#heardAt;
    if (this.#expecting && silentMs >= this.#options.deadlineMs) {
      this.fail(this.unavailable(`it was silent for ${Math.round(silentMs)} ms`));
      return;
    }
    try {
      this.send({ kind: "alive" });
    } catch (error) {
      this.fail(this.unavailable("NATS is away", error));
    }
  }
}
