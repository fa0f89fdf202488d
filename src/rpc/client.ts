/**
 * The calling end of the RPC: one TCP connection to one address, made at the first call, and again at the first call
 * after it was lost. It does not retry: it says by `outcome` whether the caller may.
 *
 * Invariants
 * 1. Every call ends at its deadline at the latest, whatever the peer does.
 * 2. A call that fails before its connection was there is `notApplied`; one whose connection is lost later is `unknown`.
 * 3. While anything is outstanding the peer is probed; one that has been silent for `silenceProbes` probes is given up.
 *    While a call that is `watched` is outstanding it is probed more often, and its owner is told of a short silence.
 */
import { connect } from "node:net";
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
  streamWindow,
} from "./wire.ts";

const connectTimeoutMs = 3000;
const introduceTimeoutMs = 5000;
const probeEveryMs = 500;
/** Counted in probes, not in time: a pause of our own process is no silence of the peer. */
const silenceProbes = 5;
const watchEveryMs = 100;
/**
 * As many looks in a row before which nothing was heard, and the first of which asked for a sign of life, are a silence to
 * tell of: some 300 ms. Counted, as probes are, in looks.
 */
const silentLooks = 3;

interface Pending {
  /** On the clock of `performance.now`; infinite for streams. */
  endMs: number;
  /** Its owner is to be told of a short silence. */
  readonly isWatched: boolean;
  /** It is a part of the introduction. */
  readonly isFirst: boolean;
  reply(body: Body | undefined): void;
  /** Only for streams. */
  item?(body: Body): void;
  fail(error: WeirError): void;
  late(): void;
}

/**
 * What is said first on each new connection. All other calls wait for its end, within their deadlines; when it fails the
 * connection ends, and they fail as it did.
 */
export type Introduce = (
  call: <Q, S>(method: Method<Q, S>, request: Q) => Promise<S>,
) => Promise<void>;

type RequestStart = { method: string; deadlineMs: number; body: Body };

/** A call that waits for its answer. */
class PendingCall<S> implements Pending {
  endMs = Number.POSITIVE_INFINITY;
  readonly isWatched: boolean;
  readonly isFirst: boolean;
  readonly #link: Link;
  readonly #method: Method<unknown, S>;
  readonly #deadlineMs: number;
  readonly #resolve: (answer: S) => void;
  readonly #reject: (error: WeirError) => void;
  #id = 0;
  #signal: AbortSignal | undefined;
  #onAbort: (() => void) | undefined;

  constructor(
    link: Link,
    method: Method<unknown, S>,
    limits: { deadlineMs: number; isWatched: boolean; isFirst: boolean },
    resolve: (answer: S) => void,
    reject: (error: WeirError) => void,
  ) {
    this.#link = link;
    this.#method = method;
    this.#deadlineMs = limits.deadlineMs;
    this.isWatched = limits.isWatched;
    this.isFirst = limits.isFirst;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(request: unknown, signal: AbortSignal | undefined): void {
    const link = this.#link;
    const { name } = this.#method;
    const deadlineMs = this.#deadlineMs;
    const body = encodeBody(this.#method.request, request);
    this.#id = link.start({ method: name, deadlineMs, body }, this);
    if (signal === undefined) return;
    this.#signal = signal;
    this.#onAbort = () => link.cancel(this.#id, cancelled(name, link.outcome));
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  reply(body: Body | undefined): void {
    this.#over();
    const { name, response } = this.#method;
    try {
      if (body === undefined) throw new WeirError("ProtocolError", `Cannot take a stream's end`);
      this.#resolve(decodeBody(response, body, name));
    } catch (thrown) {
      this.#reject(toWeirError(thrown, `Cannot read the answer to "${name}"`));
    }
  }

  fail(error: WeirError): void {
    this.#over();
    this.#reject(error);
  }

  late(): void {
    const { name } = this.#method;
    const link = this.#link;
    const why = `Cannot call "${name}" at ${link.address}: no answer within ${String(this.#deadlineMs)} ms`;
    link.cancel(this.#id, new WeirError("DeadlineExceeded", why, { outcome: link.outcome }));
  }

  #over(): void {
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener("abort", this.#onAbort);
  }
}

export class RpcClient {
  /** `host:port`, as given. */
  readonly address: string;
  readonly #host: string;
  readonly #port: number;
  readonly #logger: Logger;
  readonly #onSilent: () => void;
  readonly #introduce: Introduce | undefined;
  #link: Link | undefined;
  #closed = false;

  /** `onSilent`: nothing was heard for some 300 ms although a watched call waits; said once for each silence. */
  constructor(options: {
    host: string;
    port: number;
    logger: Logger;
    onSilent?: () => void;
    introduce?: Introduce | undefined;
  }) {
    this.#host = options.host;
    this.#port = options.port;
    this.#logger = options.logger;
    this.#onSilent = options.onSilent ?? (() => undefined);
    this.#introduce = options.introduce;
    this.address = `${options.host}:${String(options.port)}`;
  }

  /**
   * Calls a method. `deadlineMs` is relative to now. `watched`: a short silence during this call is told of.
   * @throws WeirError what the server answered; `Unavailable` when there is no connection or it was lost;
   *   `DeadlineExceeded`; `Cancelled` when `signal` is aborted; `ProtocolError` for a malformed answer
   */
  call<Q, S>(
    method: Method<Q, S>,
    request: Q,
    options: { deadlineMs: number; signal?: AbortSignal | undefined; watched?: boolean },
  ): Promise<S> {
    const isWatched = options.watched === true;
    const deadlineMs = Math.max(1, Math.min(Math.ceil(options.deadlineMs), maxDeadlineMs));
    const { signal } = options;
    // A promise's executor that throws rejects it.
    return new Promise<S>((resolve, reject) => {
      if (signal?.aborted === true) throw cancelled(method.name, "notApplied");
      const link = this.#connected();
      const known = method as Method<unknown, S>;
      const limits = { deadlineMs, isWatched, isFirst: false };
      new PendingCall(link, known, limits, resolve, reject).start(request, signal);
    });
  }

  /**
   * Items of a stream until the server ends it or `signal` is aborted. The server is at most `streamWindow` items ahead.
   * @throws WeirError as `call` does, from the iterator
   */
  async *stream<Q, I>(
    method: StreamMethod<Q, I>,
    request: Q,
    options: { signal: AbortSignal },
  ): AsyncGenerator<I, void, undefined> {
    const { signal } = options;
    if (signal.aborted) throw cancelled(method.name, "notApplied");
    const link = this.#connected();
    const items: Body[] = [];
    let ended: { error: WeirError | undefined } | undefined;
    let wake: (() => void) | undefined;
    const end = (error: WeirError | undefined) => {
      ended ??= { error };
      wake?.();
    };
    const id = link.start(
      { method: method.name, deadlineMs: 0, body: encodeBody(method.request, request) },
      {
        endMs: Number.POSITIVE_INFINITY,
        isWatched: false,
        isFirst: false,
        late: () => undefined,
        item: (item) => {
          items.push(item);
          wake?.();
        },
        reply: () => end(undefined),
        fail: end,
      },
    );
    const onAbort = () => link.cancel(id, cancelled(method.name, link.outcome));
    signal.addEventListener("abort", onAbort, { once: true });
    let consumed = 0;
    try {
      for (;;) {
        const item = items.shift();
        if (item !== undefined) {
          yield decodeBody(method.item, item, method.name);
          if (++consumed >= streamWindow / 2) {
            link.send({ kind: "credit", id, count: consumed });
            consumed = 0;
          }
        } else if (ended !== undefined) {
          if (ended.error !== undefined) throw ended.error;
          return;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      link.cancel(id, cancelled(method.name, "unknown"));
    }
  }

  /** The silence that `onSilent` told of lasts: nothing has been heard, and the connection is still there. */
  get isSilent(): boolean {
    return this.#link?.isSilent ?? false;
  }

  /** Ends the connection, failing what is under way with `Unavailable`; the next call makes another one. */
  abandon(why: string): void {
    this.#link?.close(new WeirError("Unavailable", `Cannot talk to ${this.address}: ${why}`));
  }

  /** Ends the connection; calls under way fail, and later ones too. */
  close(): void {
    this.#closed = true;
    this.#link?.close(
      new WeirError("Unavailable", `Cannot talk to ${this.address}: it was closed`),
    );
  }

  #connected(): Link {
    if (this.#closed) {
      throw new WeirError("Unavailable", `Cannot talk to ${this.address}: this client is closed`);
    }
    if (this.#link === undefined) {
      const onClose = (error: WeirError) => {
        if (this.#link === link) this.#link = undefined;
        this.#logger.debug({ address: this.address, error: error.message }, "connection lost");
      };
      const link = new Link(
        { host: this.#host, port: this.#port, introduce: this.#introduce },
        { onClose, onSilent: this.#onSilent },
      );
      this.#link = link;
    }
    return this.#link;
  }
}

function cancelled(method: string, outcome: "notApplied" | "unknown"): WeirError {
  return new WeirError("Cancelled", `Cannot finish "${method}": it was cancelled`, { outcome });
}

/** One connection of a client, from the attempt to connect to its end. */
class Link {
  readonly address: string;
  readonly #connection: FrameConnection;
  readonly #pending = new Map<number, Pending>();
  readonly #deadlines = new DeadlineSweep<Pending>({
    open: () => this.#pending.values(),
    deadlineMs: (pending) => pending.endMs,
    onLate: (pending) => pending.late(),
  });
  #nextId = 1;
  #connected = false;
  #silentProbes = 0;
  #prober: NodeJS.Timeout | undefined;
  readonly #onSilent: () => void;
  /** Calls that wait for the end of the introduction; undefined after it, and without one. */
  #held: { readonly id: number; readonly request: RequestStart }[] | undefined;
  /** Whether anything was since the last look, and looks in a row before which nothing was. */
  #wasHeard = false;
  #silentLooks = 0;
  #watcher: NodeJS.Timeout | undefined;

  constructor(
    to: { host: string; port: number; introduce: Introduce | undefined },
    callbacks: { onClose: (error: WeirError) => void; onSilent: () => void },
  ) {
    const { host, port, introduce } = to;
    const address = `${host}:${String(port)}`;
    this.address = address;
    this.#onSilent = callbacks.onSilent;
    const socket = connect({ host, port });
    const connecting = setTimeout(() => {
      this.close(
        new WeirError(
          "Unavailable",
          `Cannot connect to ${address}: no answer within ${String(connectTimeoutMs)} ms`,
        ),
      );
    }, connectTimeoutMs);
    socket.once("connect", () => {
      clearTimeout(connecting);
      this.#connected = true;
    });
    this.#connection = new FrameConnection(socket, {
      peer: address,
      onFrame: (frame) => this.#receive(frame),
      onClose: (error) => {
        clearTimeout(connecting);
        clearInterval(this.#prober);
        clearInterval(this.#watcher);
        this.#deadlines.stop();
        callbacks.onClose(error);
        const { message, code } = error;
        const lost = new WeirError(code, message, { cause: error.cause, outcome: this.outcome });
        const pending = [...this.#pending.values()];
        this.#pending.clear();
        for (const each of pending) each.fail(lost);
      },
    });
    if (introduce !== undefined) this.#begin(introduce);
  }

  #begin(introduce: Introduce): void {
    this.#held = [];
    const first = <Q, S>(method: Method<Q, S>, request: Q) =>
      new Promise<S>((resolve, reject) => {
        const limits = { deadlineMs: introduceTimeoutMs, isWatched: false, isFirst: true };
        const known = method as Method<unknown, S>;
        new PendingCall(this, known, limits, resolve, reject).start(request, undefined);
      });
    introduce(first).then(
      () => {
        const held = this.#held ?? [];
        this.#held = undefined;
        for (const { id, request } of held) {
          if (this.#pending.has(id)) this.#connection.send({ kind: "request", id, ...request });
        }
      },
      (thrown: unknown) => this.close(toWeirError(thrown, `Cannot talk to ${this.address}`)),
    );
  }

  /** What is known of a call that gets no answer now. */
  get outcome(): "notApplied" | "unknown" {
    return this.#connected ? "unknown" : "notApplied";
  }

  /** Sends a request; `deadlineMs` is 0 for streams, which have none. */
  start(request: RequestStart, pending: Pending): number {
    const id = this.#nextId++;
    const { method, deadlineMs, body } = request;
    const isHeld = this.#held !== undefined && !pending.isFirst;
    this.#pending.set(id, pending);
    try {
      if (isHeld) this.#held!.push({ id, request });
      else this.#connection.send({ kind: "request", id, method, deadlineMs, body });
    } catch (error) {
      this.#pending.delete(id);
      throw error;
    }
    if (deadlineMs > 0) {
      pending.endMs = (isHeld ? performance.now() : this.#connection.sentMs) + deadlineMs;
      this.#deadlines.watch(pending.endMs);
    }
    this.#prober ??= setInterval(() => this.#probe(), probeEveryMs);
    if (pending.isWatched) this.#watcher ??= setInterval(() => this.#look(), watchEveryMs);
    return id;
  }

  get isSilent(): boolean {
    return !this.#wasHeard && this.#silentLooks >= silentLooks;
  }

  send(frame: Frame): void {
    this.#connection.send(frame);
  }

  /** Forgets a call that is still open, telling the server. */
  cancel(id: number, error: WeirError): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#connection.send({ kind: "cancel", id });
    pending.fail(error);
  }

  close(error: WeirError): void {
    this.#connection.close(error);
  }

  #receive(frame: Frame): void {
    this.#silentProbes = 0;
    this.#wasHeard = true;
    switch (frame.kind) {
      case "pong":
        return;
      case "item":
        this.#pending.get(frame.id)?.item?.(frame.body);
        return;
      case "reply":
      case "end":
      case "error": {
        const pending = this.#pending.get(frame.id);
        if (pending === undefined) return;
        this.#pending.delete(frame.id);
        if (frame.kind === "error") pending.fail(frame.error);
        else pending.reply(frame.kind === "reply" ? frame.body : undefined);
        return;
      }
      case "request":
      case "cancel":
      case "credit":
      case "ping":
        this.close(new WeirError("ProtocolError", `Cannot take a "${frame.kind}" from a server`));
    }
  }

  #probe(): void {
    if (this.#pending.size === 0) {
      clearInterval(this.#prober);
      this.#prober = undefined;
      this.#silentProbes = 0;
      return;
    }
    if (!this.#connected) return;
    if (this.#silentProbes++ >= silenceProbes) {
      this.close(
        new WeirError("Unavailable", `Cannot talk to ${this.#connection.peer}: it is silent`),
      );
      return;
    }
    this.#connection.send({ kind: "ping", id: 0 });
  }

  #look(): void {
    const wasHeard = this.#wasHeard;
    this.#wasHeard = false;
    if (wasHeard) this.#silentLooks = 0;
    if (!this.#isWatched()) {
      clearInterval(this.#watcher);
      this.#watcher = undefined;
      this.#silentLooks = 0;
    } else if (!wasHeard && ++this.#silentLooks === silentLooks) {
      this.#onSilent();
    } else if (this.#silentLooks === 1 && this.#connected) {
      this.#connection.send({ kind: "ping", id: 0 });
    }
  }

  #isWatched(): boolean {
    for (const pending of this.#pending.values()) if (pending.isWatched) return true;
    return false;
  }
}
