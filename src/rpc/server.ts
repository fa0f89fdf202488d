/**
 * The serving end of the RPC: takes connections, checks what arrives, runs handlers under a deadline, and answers.
 *
 * Invariants
 * 1. Nothing that a client sends throws out of here: a bad field is answered with `ProtocolError`, a bad frame ends
 *    the connection. An answer that is larger than a message may be ends its own call alone.
 * 2. A call is answered at most once; after its deadline, its cancellation or its connection's end not at all (but for
 *    the `DeadlineExceeded` itself), and its signal is aborted.
 * 3. Handlers under way are bounded per connection; a call beyond that is answered `Busy`.
 * 4. Connections that have not sent a whole frame yet cost little: when there are too many of them, or all together hold too
 *    much memory, the oldest one goes, and so does one that sends too slowly.
 */
import { createServer, type Server } from "node:net";
import { DeadlineSweep } from "../lib/deadline-sweep.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { FrameConnection } from "./connection.ts";
import type { Method, StreamMethod } from "./method.ts";
import {
  type Body,
  decodeBody,
  encodeBody,
  type Frame,
  maxDeadlineMs,
  maxMessageBytes,
  streamWindow,
} from "./wire.ts";

export interface CallContext {
  /**
   * Aborted when the client is gone, cancels, or the deadline passes. It is made when it is first asked for: a handler
   * that has nothing to stop should not.
   */
  readonly signal: AbortSignal;
  /** What `signal.aborted` would say: nobody waits for the answer any more. */
  readonly aborted: boolean;
  /** What was left of the caller's time when the call arrived. */
  readonly deadlineMs: number;
  /** `host:port` of the client. */
  readonly peer: string;
  /** One per connection, for state that lives as long. */
  readonly connection: { readonly id: number; onClose(callback: () => void): void };
}

/** Most handlers under way for one connection. */
const maxInFlight = 1024;
/** Connections at a time that have not sent a whole frame yet, and the memory that their first frames may take together. */
const maxStrangers = 256;
const maxStrangerBytes = 4 * maxMessageBytes;
/** How long each may take to send a whole frame, or so many bytes more of one. */
const strangerMs = 5000;
const strangerPaceBytes = 64 * 1024;

/** The request as it is served: what it says of who asks may mean another one here. */
type Identify = <Q>(request: Q) => Q;
const asSent: Identify = (request) => request;

type Handler =
  | {
      readonly kind: "call";
      run(body: Body, context: CallContext): unknown;
      encode(answer: unknown): Body;
    }
  | { readonly kind: "stream"; run(body: Body, context: CallContext): AsyncIterable<Body> };

export class RpcServer {
  readonly port: number;
  readonly #server: Server;
  readonly #logger: Logger;
  readonly #identify: Identify;
  readonly #handlers = new Map<string, Handler>();
  readonly #connections = new Set<ServedConnection>();
  /** Those that have not sent a whole frame yet, the oldest first, and the memory that each takes in bytes. */
  readonly #strangers = new Map<ServedConnection, number>();
  #isCrowded = false;
  #nextConnection = 1;

  /**
   * Listens at once; calls of methods without a handler are answered `NotSupported`. `identify` is what every request goes
   * through before its handler gets it.
   */
  static listen(options: {
    host: string;
    port: number;
    logger: Logger;
    identify?: Identify;
  }): Promise<RpcServer> {
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
        resolve(new RpcServer(server, options.logger, options.identify ?? asSent));
      });
    });
  }

  private constructor(server: Server, logger: Logger, identify: Identify) {
    this.#server = server;
    this.#logger = logger;
    this.#identify = identify;
    const address = server.address();
    this.port = typeof address === "object" && address !== null ? address.port : 0;
    server.on("error", (error) => logger.error({ error: error.message }, "RPC server"));
    server.on("connection", (socket) => {
      const peer = `${socket.remoteAddress ?? "?"}:${String(socket.remotePort ?? 0)}`;
      const served = new ServedConnection(this.#nextConnection++, this.#handlers, this.#logger);
      this.#connections.add(served);
      this.#strangers.set(served, 0);
      served.start(socket, peer, {
        onPart: (bytes) => {
          this.#strangers.set(served, bytes);
          this.#boundStrangers();
        },
        onKnown: () => this.#strangers.delete(served),
        onClose: () => {
          this.#connections.delete(served);
          this.#strangers.delete(served);
        },
      });
      this.#boundStrangers();
    });
  }

  /**
   * Clients speak at once, and are done before others have sent as much as makes them too many: who has been here longest
   * goes first. The longest frame has room beside others.
   */
  #boundStrangers(): void {
    let bytes = 0;
    for (const held of this.#strangers.values()) bytes += held;
    const { size } = this.#strangers;
    if (size <= maxStrangers / 2 && bytes <= maxStrangerBytes / 2) this.#isCrowded = false;
    if (size > maxStrangers) {
      const [oldest] = this.#strangers.keys();
      this.#drop(oldest!, `more than ${String(maxStrangers)} connections have sent nothing yet`);
    }
    if (bytes <= maxStrangerBytes) return;
    for (const [stranger, held] of this.#strangers) {
      if (held === 0) continue;
      this.#drop(stranger, `first frames take more than ${String(maxStrangerBytes)} bytes`);
      bytes -= held;
      if (bytes <= maxStrangerBytes) return;
    }
  }

  #drop(stranger: ServedConnection, why: string): void {
    stranger.drop(new WeirError("Busy", `Cannot wait for a first frame: ${why}`));
    if (!this.#isCrowded) this.#logger.warn({ error: why }, "closed a connection");
    this.#isCrowded = true;
  }

  /** An answer that is no promise leaves at once: what needs not wait should not. */
  handle<Q, S extends object>(
    method: Method<Q, S>,
    handler: (request: Q, context: CallContext) => S | Promise<S>,
  ): void {
    this.#handlers.set(method.name, {
      kind: "call",
      run: (body, context) =>
        handler(this.#identify(decodeBody(method.request, body, method.name)), context),
      encode: (answer) => encodeBody(method.response, answer as S),
    });
  }

  handleStream<Q, I>(
    method: StreamMethod<Q, I>,
    handler: (request: Q, context: CallContext) => AsyncIterable<I>,
  ): void {
    const identify = this.#identify;
    this.#handlers.set(method.name, {
      kind: "stream",
      run: async function* (body, context) {
        const request = identify(decodeBody(method.request, body, method.name));
        for await (const item of handler(request, context)) yield encodeBody(method.item, item);
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

/** One call, as its handler sees it. */
class ServedCall implements CallContext {
  readonly id: number;
  readonly method: string;
  readonly deadlineMs: number;
  readonly connection: ServedConnection;
  /** When it is late, on the clock of `performance.now`; infinite for streams without a deadline. */
  readonly endMs: number;
  /** Streams: how many more items may be sent, and who waits for more. */
  credit = streamWindow;
  wake: (() => void) | undefined;
  #controller: AbortController | undefined;
  #reason: WeirError | undefined;

  constructor(
    frame: { id: number; method: string },
    connection: ServedConnection,
    limits: { deadlineMs: number; endMs: number },
  ) {
    this.id = frame.id;
    this.method = frame.method;
    this.connection = connection;
    this.deadlineMs = limits.deadlineMs;
    this.endMs = limits.endMs;
  }

  get peer(): string {
    return this.connection.peer;
  }

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  abort(reason: WeirError): void {
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}

class ServedConnection {
  readonly id: number;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #logger: Logger;
  readonly #calls = new Map<number, ServedCall>();
  readonly #deadlines = new DeadlineSweep<ServedCall>({
    open: () => this.#calls.values(),
    deadlineMs: (call) => call.endMs,
    onLate: (call) => this.#late(call),
  });
  readonly #closeCallbacks: (() => void)[] = [];
  #running = 0;
  #closed = false;
  #connection!: FrameConnection;

  constructor(id: number, handlers: ReadonlyMap<string, Handler>, logger: Logger) {
    this.id = id;
    this.#handlers = handlers;
    this.#logger = logger;
  }

  get peer(): string {
    return this.#connection.peer;
  }

  /** `onPart`: a piece of its first frame has come, which takes so many bytes by now; `onKnown`: all of it has. */
  start(
    socket: ConstructorParameters<typeof FrameConnection>[0],
    peer: string,
    owner: { onPart: (bytes: number) => void; onKnown: () => void; onClose: () => void },
  ) {
    const late = setTimeout(() => {
      const why = `it sent no whole frame within ${String(strangerMs)} ms`;
      this.#connection.close(new WeirError("ProtocolError", `Cannot take a connection: ${why}`));
    }, strangerMs);
    let isKnown = false;
    let nextPace = strangerPaceBytes;
    this.#connection = new FrameConnection(socket, {
      peer,
      onPart: (bytes) => {
        if (isKnown) return;
        if (bytes >= nextPace) {
          nextPace = bytes + strangerPaceBytes;
          late.refresh();
        }
        owner.onPart(bytes);
      },
      onFrame: (frame) => {
        if (!isKnown) {
          isKnown = true;
          clearTimeout(late);
          owner.onKnown();
        }
        this.#receive(frame);
      },
      onClose: (error) => {
        this.#closed = true;
        clearTimeout(late);
        this.#deadlines.stop();
        if (error.code === "ProtocolError") {
          this.#logger.warn({ peer, error: error.message }, "closed a connection");
        }
        const gone = new WeirError("Cancelled", "the client is gone", { outcome: "unknown" });
        for (const call of [...this.#calls.values()]) this.#finish(call, gone);
        for (const callback of this.#closeCallbacks.splice(0)) callback();
        owner.onClose();
      },
    });
  }

  drop(error: WeirError): void {
    this.#connection.close(error);
  }

  end(): void {
    this.#connection.end(new WeirError("Cancelled", "the server stops"));
  }

  onClose(callback: () => void): void {
    if (this.#closed) callback();
    else this.#closeCallbacks.push(callback);
  }

  #receive(frame: Frame): void {
    switch (frame.kind) {
      case "request":
        this.#accept(frame);
        return;
      case "cancel": {
        const call = this.#calls.get(frame.id);
        if (call === undefined) return;
        this.#finish(
          call,
          new WeirError("Cancelled", "the client cancelled the call", { outcome: "unknown" }),
        );
        return;
      }
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

  #accept(frame: Extract<Frame, { kind: "request" }>): void {
    const { id, method } = frame;
    const handler = this.#handlers.get(method);
    if (handler === undefined) {
      const why = `Cannot call "${method}": there is no such method`;
      this.#refuse(id, new WeirError("NotSupported", why));
      return;
    }
    if (this.#running >= maxInFlight) {
      const why = `Cannot call "${method}": ${String(maxInFlight)} calls of this connection are under way`;
      this.#refuse(id, new WeirError("Busy", why));
      return;
    }
    if (this.#calls.has(id)) {
      this.#connection.close(
        new WeirError("ProtocolError", `Cannot take call ${String(id)}: its id is in use`),
      );
      return;
    }
    const deadlineMs = frame.deadlineMs === 0 ? maxDeadlineMs : frame.deadlineMs;
    const limitMs = Math.min(deadlineMs, maxDeadlineMs);
    const endMs =
      handler.kind === "stream" && frame.deadlineMs === 0
        ? Number.POSITIVE_INFINITY
        : this.#connection.receivedMs + limitMs;
    const call = new ServedCall(frame, this, { deadlineMs: limitMs, endMs });
    this.#calls.set(id, call);
    this.#deadlines.watch(endMs);
    this.#running++;
    if (handler.kind === "stream") {
      void this.#stream(handler, frame.body, call);
      return;
    }
    try {
      const answer = handler.run(frame.body, call);
      if (answer instanceof Promise) {
        answer.then(
          (value) => this.#answer(call, handler, value),
          (thrown: unknown) => this.#fail(call, thrown),
        );
      } else {
        this.#answer(call, handler, answer);
      }
    } catch (thrown) {
      this.#fail(call, thrown);
    }
  }

  #answer(call: ServedCall, handler: Extract<Handler, { kind: "call" }>, value: unknown): void {
    if (call.aborted) {
      this.#running--;
      return;
    }
    try {
      this.#connection.send({ kind: "reply", id: call.id, body: handler.encode(value) });
    } catch (thrown) {
      this.#fail(call, thrown);
      return;
    }
    this.#running--;
    this.#finish(call, undefined);
  }

  async #stream(
    handler: Extract<Handler, { kind: "stream" }>,
    body: Body,
    call: ServedCall,
  ): Promise<void> {
    const { id } = call;
    try {
      for await (const item of handler.run(body, call)) {
        if (call.aborted) break;
        this.#connection.send({ kind: "item", id, body: item });
        call.credit--;
        while (call.credit <= 0 && !call.aborted) {
          await new Promise<void>((resolve) => {
            call.wake = resolve;
          });
        }
        if (call.aborted) break;
      }
      if (!call.aborted) this.#connection.send({ kind: "end", id });
      this.#running--;
      this.#finish(call, undefined);
    } catch (thrown) {
      this.#fail(call, thrown);
    }
  }

  /** The handler, or the encoding of its answer, failed. */
  #fail(call: ServedCall, thrown: unknown): void {
    this.#running--;
    const error = toWeirError(thrown, `Cannot answer "${call.method}"`);
    if (error.code === "Internal") {
      this.#logger.error(
        {
          method: call.method,
          error: error.message,
          stack: thrown instanceof Error ? thrown.stack : "",
        },
        "a call failed",
      );
    }
    if (this.#finish(call, undefined)) this.#refuse(call.id, error);
  }

  #late(call: ServedCall): void {
    const error = new WeirError(
      "DeadlineExceeded",
      `Cannot answer "${call.method}" within ${String(call.deadlineMs)} ms`,
      { outcome: "unknown" },
    );
    if (this.#finish(call, error)) this.#refuse(call.id, error);
  }

  /** Never throws: nobody is left to hear of it. */
  #refuse(id: number, error: WeirError): void {
    try {
      this.#connection.send({ kind: "error", id, error });
    } catch (thrown) {
      this.#connection.close(toWeirError(thrown, "Cannot answer with an error"));
    }
  }

  /** Forgets a call, aborting it for `reason`; false when it was over before. */
  #finish(call: ServedCall, reason: WeirError | undefined): boolean {
    if (this.#calls.get(call.id) !== call) return false;
    this.#calls.delete(call.id);
    if (reason !== undefined) call.abort(reason);
    call.wake?.();
    return true;
  }
}
