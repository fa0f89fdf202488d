/**
 * The serving end of the RPC: takes connections, checks what arrives, runs handlers under a deadline, and answers.
 *
 * Invariants
 * 1. Nothing that a client sends throws out of here: a bad field is answered with `ProtocolError`, a bad frame ends
 *    the connection.
 * 2. A call is answered at most once; after its deadline, its cancellation or its connection's end not at all (but for
 *    the `DeadlineExceeded` itself), and its signal is aborted.
 * 3. Handlers under way are bounded per connection; a call beyond that is answered `Busy`.
 */
import { createServer, type Server } from "node:net";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { FrameConnection } from "./connection.ts";
import type { Method, StreamMethod } from "./method.ts";
import { type Frame, maxDeadlineMs, streamWindow } from "./wire.ts";

export interface CallContext {
  /** Aborted when the client is gone, cancels, or the deadline passes. */
  readonly signal: AbortSignal;
  /** What was left of the caller's time when the call arrived. */
  readonly deadlineMs: number;
  /** `host:port` of the client. */
  readonly peer: string;
  /** One per connection, for state that lives as long. */
  readonly connection: { readonly id: number; onClose(callback: () => void): void };
}

/** Most handlers under way for one connection. */
const maxInFlight = 1024;

type Handler =
  | { readonly kind: "call"; run(body: unknown, context: CallContext): Promise<unknown> }
  | { readonly kind: "stream"; run(body: unknown, context: CallContext): AsyncIterable<unknown> };

export class RpcServer {
  readonly port: number;
  readonly #server: Server;
  readonly #logger: Logger;
  readonly #handlers = new Map<string, Handler>();
  readonly #connections = new Set<ServedConnection>();
  #nextConnection = 1;

  /** Listens at once; calls of methods without a handler are answered `NotSupported`. */
  static listen(options: { host: string; port: number; logger: Logger }): Promise<RpcServer> {
    return new Promise((resolve, reject) => {
      const server = createServer();
      server.once("error", (cause: NodeJS.ErrnoException) => {
        const why =
          cause.code === "EADDRINUSE" ? "the port is in use by another process" : cause.message;
        reject(
          new WeirError(
            "Unavailable",
            `Cannot listen on ${options.host}:${String(options.port)}: ${why}`,
            { cause },
          ),
        );
      });
      server.listen({ host: options.host, port: options.port, backlog: 1024 }, () => {
        server.removeAllListeners("error");
        resolve(new RpcServer(server, options.logger));
      });
    });
  }

  private constructor(server: Server, logger: Logger) {
    this.#server = server;
    this.#logger = logger;
    const address = server.address();
    this.port = typeof address === "object" && address !== null ? address.port : 0;
    server.on("error", (error) => logger.error({ error: error.message }, "RPC server"));
    server.on("connection", (socket) => {
      const peer = `${socket.remoteAddress ?? "?"}:${String(socket.remotePort ?? 0)}`;
      const served = new ServedConnection(this.#nextConnection++, this.#handlers, this.#logger);
      this.#connections.add(served);
      served.start(socket, peer, () => this.#connections.delete(served));
    });
  }

  handle<Q, S>(
    method: Method<Q, S>,
    handler: (request: Q, context: CallContext) => Promise<S>,
  ): void {
    this.#handlers.set(method.name, {
      kind: "call",
      run: async (body, context) =>
        method.response.toWire(await handler(method.request.fromWire(body, method.name), context)),
    });
  }

  handleStream<Q, I>(
    method: StreamMethod<Q, I>,
    handler: (request: Q, context: CallContext) => AsyncIterable<I>,
  ): void {
    this.#handlers.set(method.name, {
      kind: "stream",
      run: async function* (body, context) {
        for await (const item of handler(method.request.fromWire(body, method.name), context)) {
          yield method.item.toWire(item);
        }
      },
    });
  }

  /** Stops listening, lets answers that were sent leave, and ends all connections. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of [...this.#connections]) connection.end();
    await closed;
  }
}

interface ServedCall {
  readonly controller: AbortController;
  readonly timer: NodeJS.Timeout | undefined;
  /** Streams: how many more items may be sent, and who waits for more. */
  credit: number;
  wake: (() => void) | undefined;
}

class ServedConnection {
  readonly #id: number;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #logger: Logger;
  readonly #calls = new Map<number, ServedCall>();
  readonly #closeCallbacks: (() => void)[] = [];
  #running = 0;
  #closed = false;
  #connection!: FrameConnection;

  constructor(id: number, handlers: ReadonlyMap<string, Handler>, logger: Logger) {
    this.#id = id;
    this.#handlers = handlers;
    this.#logger = logger;
  }

  start(socket: ConstructorParameters<typeof FrameConnection>[0], peer: string, done: () => void) {
    this.#connection = new FrameConnection(socket, {
      peer,
      onFrame: (frame) => this.#receive(frame),
      onClose: (error) => {
        this.#closed = true;
        if (error.code === "ProtocolError") {
          this.#logger.warn({ peer, error: error.message }, "closed a connection");
        }
        const gone = new WeirError("Cancelled", "the client is gone", { outcome: "unknown" });
        for (const id of [...this.#calls.keys()]) this.#finish(id, gone);
        for (const callback of this.#closeCallbacks.splice(0)) callback();
        done();
      },
    });
  }

  end(): void {
    this.#connection.end(new WeirError("Cancelled", "the server stops"));
  }

  #receive(frame: Frame): void {
    switch (frame.kind) {
      case "request":
        this.#accept(frame);
        return;
      case "cancel":
        this.#finish(
          frame.id,
          new WeirError("Cancelled", "the client cancelled the call", { outcome: "unknown" }),
        );
        return;
      case "credit": {
        const call = this.#calls.get(frame.id);
        if (call === undefined) return;
        call.credit = Math.min(call.credit + frame.count, streamWindow);
        call.wake?.();
        return;
      }
      case "ping":
        this.#connection.send({ kind: "pong", id: frame.id });
        return;
      case "reply":
      case "error":
      case "item":
      case "end":
      case "pong":
        this.#connection.close(
          new WeirError("ProtocolError", `Cannot take a "${frame.kind}" from a client`),
        );
    }
  }

  #accept({ id, method, deadlineMs, body }: Extract<Frame, { kind: "request" }>): void {
    const refuse = (error: WeirError) => this.#connection.send({ kind: "error", id, error });
    const handler = this.#handlers.get(method);
    if (handler === undefined) {
      refuse(new WeirError("NotSupported", `Cannot call "${method}": there is no such method`));
      return;
    }
    if (this.#running >= maxInFlight) {
      refuse(
        new WeirError(
          "Busy",
          `Cannot call "${method}": ${String(maxInFlight)} calls of this connection are under way`,
        ),
      );
      return;
    }
    if (this.#calls.has(id)) {
      this.#connection.close(
        new WeirError("ProtocolError", `Cannot take call ${String(id)}: its id is in use`),
      );
      return;
    }
    const controller = new AbortController();
    const limitMs = deadlineMs === 0 ? maxDeadlineMs : Math.min(deadlineMs, maxDeadlineMs);
    const timer =
      handler.kind === "stream" && deadlineMs === 0
        ? undefined
        : setTimeout(() => {
            const error = new WeirError(
              "DeadlineExceeded",
              `Cannot answer "${method}" within ${String(limitMs)} ms`,
              { outcome: "unknown" },
            );
            if (this.#finish(id, error)) refuse(error);
          }, limitMs);
    this.#calls.set(id, { controller, timer, credit: streamWindow, wake: undefined });
    const context: CallContext = {
      signal: controller.signal,
      deadlineMs: limitMs,
      peer: this.#connection.peer,
      connection: {
        id: this.#id,
        onClose: (callback) => {
          if (this.#closed) callback();
          else this.#closeCallbacks.push(callback);
        },
      },
    };
    this.#running++;
    void this.#run(id, method, handler, body, context).finally(() => this.#running--);
  }

  async #run(
    id: number,
    method: string,
    handler: Handler,
    body: unknown,
    context: CallContext,
  ): Promise<void> {
    try {
      if (handler.kind === "call") {
        const answer = await handler.run(body, context);
        if (this.#calls.has(id)) this.#connection.send({ kind: "reply", id, body: answer });
      } else {
        for await (const item of handler.run(body, context)) {
          const call = this.#calls.get(id);
          if (call === undefined) return;
          this.#connection.send({ kind: "item", id, body: item });
          call.credit--;
          while (call.credit <= 0 && !context.signal.aborted) {
            await new Promise<void>((resolve) => {
              call.wake = resolve;
            });
          }
          if (context.signal.aborted) return;
        }
        if (this.#calls.has(id)) this.#connection.send({ kind: "end", id });
      }
      this.#finish(id, undefined);
    } catch (thrown) {
      const error = toWeirError(thrown, `Cannot answer "${method}"`);
      if (error.code === "Internal") {
        this.#logger.error(
          { method, error: error.message, stack: thrown instanceof Error ? thrown.stack : "" },
          "a call failed",
        );
      }
      if (this.#finish(id, undefined)) this.#connection.send({ kind: "error", id, error });
    }
  }

  /** Forgets a call, aborting it for `reason`; false when it was over before. */
  #finish(id: number, reason: WeirError | undefined): boolean {
    const call = this.#calls.get(id);
    if (call === undefined) return false;
    this.#calls.delete(id);
    clearTimeout(call.timer);
    if (reason !== undefined) call.controller.abort(reason);
    call.wake?.();
    return true;
  }
}
