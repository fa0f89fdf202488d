/**
 * The writing end of a container stream. Bytes go to the first worker of the chain, which passes them on; `flush` says
 * that all of them hold everything so far. Errors stick: after the first one every call fails with it.
 */
import { crc32 } from "node:zlib";
import { WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import { ClientStream } from "./client-stream.ts";
import type { BlockConnection } from "./connection.ts";
import { SendWindow } from "./credit.ts";
import type { Message } from "./messages.ts";
import { type ContainerId, containerName, type ContainerWriter } from "./types.ts";

export interface OpenOptions {
  readonly connection: BlockConnection;
  readonly clusterName: string;
  readonly chain: readonly WorkerId[];
  readonly container: ContainerId;
  readonly resumeAt: number;
  readonly degrade: boolean;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

interface Answer {
  readonly holders: readonly WorkerId[];
  readonly trouble: string | undefined;
}

/** Opens the container on the whole chain. @throws WeirError as `BlockClient.openContainer` says */
export async function openWriter(options: OpenOptions): Promise<ContainerWriter> {
  const { connection, chain, deadlineMs, signal } = options;
  if (chain.length === 0 || new Set(chain).size !== chain.length) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot write "${containerName(options.container)}" to workers [${chain.join(", ")}]: wanted one or more, each once`,
    );
  }
  await connection.ready(Math.min(deadlineMs, 1000), signal);
  const writer = new StreamWriter(options);
  const onAbort = (): void => {
    writer.stop(signal.reason as Error);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await writer.open();
    return writer;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

class StreamWriter implements ContainerWriter {
  readonly #options: OpenOptions;
  readonly #stream: ClientStream;
  readonly #window = new SendWindow(0);
  readonly #doing: string;
  readonly #waiting = new Map<
    number,
    { resolve(answer: Answer): void; reject(error: Error): void }
  >();
  #workers: readonly WorkerId[];
  #length: number;
  #calls = 0;
  #failure: Error | undefined;
  #closed = false;

  constructor(options: OpenOptions) {
    this.#options = options;
    this.#workers = options.chain;
    this.#length = options.resumeAt;
    this.#doing = `Cannot write container "${containerName(options.container)}"`;
    this.#stream = new ClientStream({
      ...options,
      worker: options.chain[0]!,
      doing: this.#doing,
      onMessage: (message) => {
        this.#receive(message);
      },
      onFailure: (error) => {
        this.stop(error);
      },
    });
  }

  get workers(): readonly WorkerId[] {
    return this.#workers;
  }

  get length(): number {
    return this.#length;
  }

  async open(): Promise<void> {
    const { container, resumeAt, chain } = this.#options;
    await this.#call((id) => {
      if (id !== 0) throw new WeirError("Internal", `${this.#doing}: it is open`);
      this.#stream.request("open", { kind: "open", container, resumeAt, chain: chain.slice(1) });
    });
  }

  async write(chunk: Uint8Array): Promise<void> {
    let at = 0;
    while (at < chunk.length) {
      const most = Math.min(chunk.length - at, this.#options.connection.maxChunkBytes);
      this.#check();
      const least = Math.min(most, smallestChunkBytes);
      if (this.#window.available < least) this.#stream.expecting = true;
      const taken = await this.#window.take(least, most);
      this.#expectIfDue();
      const piece = chunk.subarray(at, at + taken);
      const header = {
        kind: "chunk",
        offset: this.#length,
        crc: crc32(piece),
        last: false,
      } as const;
      this.#length += taken;
      at += taken;
      await this.#stream.sendChunk(header, piece).catch((error: unknown) => {
        this.stop(error as Error);
        throw error;
      });
    }
    this.#check();
  }

  async flush(options: { sync: boolean }): Promise<void> {
    this.#check();
    await this.#call((id) => {
      this.#stream.send({ kind: "flush", id, sync: options.sync });
    });
  }

  async close(options: { keep: boolean }): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      // After a failure the worker drops what was never flushed by itself, when it sees that the stream is over.
      if (this.#failure === undefined) {
        await this.#call((id) => {
          this.#stream.send({ kind: "close", id, keep: options.keep });
        });
      } else if (options.keep) throw this.#failure;
    } finally {
      this.#stream.end({ cancel: this.#failure !== undefined });
      this.#failure ??= new WeirError("InvalidArgument", `${this.#doing}: it is closed`);
    }
  }

  async abort(): Promise<void> {
    this.stop(new WeirError("Cancelled", `${this.#doing}: the writer let go`));
  }

  /** Ends the stream with an error that sticks. */
  stop(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#stream.end({ cancel: true });
    this.#window.abort(error);
    for (const call of this.#waiting.values()) call.reject(error);
    this.#waiting.clear();
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #expectIfDue(): void {
    this.#stream.expecting = this.#waiting.size > 0;
  }

  async #call(send: (id: number) => void): Promise<void> {
    const id = this.#calls++;
    const { holders, trouble } = await new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#stream.expecting = true;
      try {
        send(id);
      } catch (error) {
        this.stop(error as Error);
      }
    });
    if (holders.length < this.#workers.length && !this.#options.degrade) {
      const missing = this.#workers.filter((worker) => !holders.includes(worker)).join(", ");
      this.stop(
        new WeirError(
          "Unavailable",
          `${this.#doing} on worker ${missing}: ${trouble ?? "it is away"}`,
        ),
      );
      this.#workers = holders;
      this.#check();
    }
    this.#workers = holders;
  }

  #receive({ header }: Message): void {
    if (header.kind === "opened") {
      this.#window.grant(header.credit);
      this.#answer(0, header);
    } else if (header.kind === "done") {
      this.#answer(header.id, header);
    } else if (header.kind === "grant") {
      this.#window.grant(header.bytes);
    } else {
      throw new WeirError("ProtocolError", `${this.#doing}: got a "${header.kind}" message`);
    }
  }

  #answer(id: number, answer: Answer): void {
    const call = this.#waiting.get(id);
    this.#waiting.delete(id);
    this.#expectIfDue();
    call?.resolve(answer);
  }
}

/** Smaller chunks are not worth a message while more credit is on its way. */
const smallestChunkBytes = 32 * 1024;
