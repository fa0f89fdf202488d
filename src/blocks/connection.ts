/**
 * One connection to NATS, which comes and goes: it connects in the background, again for ever, and tells the streams
 * that run over it when it breaks (messages in flight are lost then, so they cannot go on).
 *
 * Invariants
 * 1. Nothing is queued while NATS is down: a send fails with `Unavailable`, and starts anew with the next connection.
 * 2. At most `unsentLimitBytes` of bulk data wait in this process for the server to take them.
 */
import { connect, type Msg, type NatsConnection, nuid, type Subscription } from "nats";
import { sleep } from "../lib/clock.ts";
import { WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { CreditPool } from "./credit.ts";
import { headerReserveBytes } from "./messages.ts";

export interface ConnectBlocksOptions {
  readonly urls: readonly string[];
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Shown by the NATS server's monitoring. */
  readonly name: string;
  readonly logger: Logger;
}

/** What arrives at an inbox. */
export interface InboxHandler {
  message(body: Uint8Array): void;
  /** Nobody listens at the subject that was written to. */
  noResponders(): void;
  /** The connection broke. */
  disconnected(error: WeirError): void;
}

/** Where answers to one stream go. */
export interface Inbox {
  readonly subject: string;
  close(): void;
}

const largestChunkBytes = 512 * 1024;
const unsentLimitBytes = 8 * 1024 * 1024;
const flushEveryBytes = 1024 * 1024;
const retryMs = 200;

/**
 * Starts connecting. Resolves at once, whether NATS is there or not.
 */
export async function connectBlocks(options: ConnectBlocksOptions): Promise<BlockConnection> {
  return new BlockConnection(options);
}

export class BlockConnection {
  /** Credit for everything that is received over this connection. */
  readonly credit = new CreditPool();
  readonly #options: ConnectBlocksOptions;
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  readonly #subscriptions = new Set<{
    subject: string;
    callback: (message: Msg) => void;
    live?: Subscription | undefined;
  }>();
  readonly #inboxes = new Map<string, InboxHandler>();
  readonly #inboxRoots = new Set<string>();
  readonly #broken = new Set<(error: WeirError) => void>();
  readonly #id = nuid.next();
  #streams = 0;
  /** The connection that may be used. */
  #nats: NatsConnection | undefined;
  /** The connection that takes subscriptions: already while it is being set up. */
  #newest: NatsConnection | undefined;
  #waiting: (() => void)[] = [];
  #unsentBytes = 0;
  #sinceFlushBytes = 0;
  #unsentWaiting: (() => void)[] = [];

  constructor(options: ConnectBlocksOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  get connected(): boolean {
    return this.#nats !== undefined;
  }

  /** Largest payload of one message, in bytes. */
  get maxChunkBytes(): number {
    const limit = this.#nats?.info?.max_payload ?? largestChunkBytes;
    return Math.max(1024, Math.min(largestChunkBytes, limit - headerReserveBytes));
  }

  /** The error of a call while NATS is down. */
  unreachable(cause?: unknown): WeirError {
    const urls = this.#options.urls.join(", ");
    return new WeirError("Unavailable", `NATS at ${urls} cannot be reached`, { cause });
  }

  /** Waits for the connection. @throws WeirError `Unavailable` after `waitMs`; the signal's reason */
  async ready(waitMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#nats !== undefined) return;
    await new Promise<void>((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#waiting = this.#waiting.filter((each) => each !== onReady);
      };
      const onReady = (): void => {
        end();
        if (this.#nats === undefined) reject(this.unreachable());
        else resolve();
      };
      const onAbort = (): void => {
        end();
        reject(signal!.reason as Error);
      };
      const timer = setTimeout(onReady, waitMs);
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(onReady);
    });
  }

  /** Waits until the server has all subscriptions that were made before. @throws WeirError `Unavailable` as `ready` */
  async subscribed(waitMs: number): Promise<void> {
    await this.ready(waitMs);
    await Promise.race([
      this.#nats?.flush().catch(() => undefined),
      sleep(waitMs, this.#closing.signal).catch(() => undefined),
    ]);
  }

  /**
   * Sends a small message.
   * @throws WeirError `Unavailable`; `InvalidArgument` without a subject, as of a message that wants no answer
   */
  send(subject: string, body: Uint8Array, reply?: string): void {
    if (subject === "" || reply === "") {
      throw new WeirError("InvalidArgument", "Cannot send over NATS: the subject is empty");
    }
    const nats = this.#nats;
    if (nats === undefined) throw this.unreachable();
    try {
      nats.publish(subject, body, reply === undefined ? {} : { reply });
    } catch (cause) {
      // What the client refuses while it is connected is wrong with the message, and no outage.
      if (nats.isClosed() || nats.isDraining()) throw this.unreachable(cause);
      throw new WeirError("Internal", `Cannot send over NATS to "${subject}": ${String(cause)}`, {
        cause,
      });
    }
  }

  /** Sends bulk data; resolves when there is room for more. @throws WeirError `Unavailable` */
  async sendBulk(subject: string, body: Uint8Array, reply?: string): Promise<void> {
    this.send(subject, body, reply);
    this.#unsentBytes += body.length;
    this.#sinceFlushBytes += body.length;
    if (this.#sinceFlushBytes >= flushEveryBytes) this.#flush();
    while (this.#unsentBytes > unsentLimitBytes && this.#nats !== undefined) {
      await new Promise<void>((resolve) => this.#unsentWaiting.push(resolve));
    }
  }

  /** Listens at a subject, over reconnections as well, until the returned function is called. */
  subscribe(subject: string, callback: (message: Msg) => void): () => void {
    const subscription: { subject: string; callback: typeof callback; live?: Subscription } = {
      subject,
      callback,
    };
    this.#subscriptions.add(subscription);
    if (this.#newest !== undefined) this.#attach(this.#newest, subscription);
    return () => {
      this.#subscriptions.delete(subscription);
      if (this.#newest !== undefined) subscription.live?.unsubscribe();
    };
  }

  /** Makes an inbox below `root`; all inboxes of a root share one subscription. */
  openInbox(root: string, handler: InboxHandler): Inbox {
    if (!this.#inboxRoots.has(root)) {
      this.#inboxRoots.add(root);
      this.subscribe(`${root}.${this.#id}.*`, (message) => {
        const handler = this.#inboxes.get(message.subject);
        if (message.headers?.code === 503) handler?.noResponders();
        else handler?.message(message.data);
      });
    }
    this.#streams += 1;
    const subject = `${root}.${this.#id}.${this.#streams}`;
    this.#inboxes.set(subject, handler);
    return {
      subject,
      close: () => {
        this.#inboxes.delete(subject);
      },
    };
  }

  /** Calls back when the connection breaks, until the returned function is called. */
  onBroken(callback: (error: WeirError) => void): () => void {
    this.#broken.add(callback);
    return () => {
      this.#broken.delete(callback);
    };
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    // What was sent last (cancels, answers) should still leave; a server that is gone must not hold us up.
    const nats = this.#nats;
    if (nats !== undefined) {
      await Promise.race([nats.flush().catch(() => undefined), sleep(500)]);
      await nats.close();
    }
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { logger, urls, user, password, name } = this.#options;
    const { signal } = this.#closing;
    let complained = false;
    while (!signal.aborted) {
      try {
        const nats = await connect({
          servers: [...urls],
          name,
          ...(user === undefined ? {} : { user }),
          ...(password === undefined ? {} : { pass: password }),
          // A new connection starts clean; the client's own would replay what was pending into a stream that is over.
          reconnect: false,
          timeout: 2000,
          pingInterval: 5000,
          maxPingOut: 2,
        });
        if (signal.aborted) {
          await nats.close();
          return;
        }
        complained = false;
        this.#newest = nats;
        for (const subscription of this.#subscriptions) this.#attach(nats, subscription);
        // Once the server answered, it has our subscriptions: who is told that we are here can reach us.
        await nats.flush();
        // `close` may have come meanwhile, and found no connection to end.
        if (signal.aborted) {
          await nats.close();
          return;
        }
        this.#nats = nats;
        logger.info({ server: nats.getServer() }, "NATS connected");
        this.#wakeReady();
        const reason = await nats.closed();
        this.#lost(reason instanceof Error ? reason : undefined);
        if (!signal.aborted) logger.warn({ urls, err: reason }, "NATS connection lost");
      } catch (err) {
        this.#newest = undefined;
        if (!complained) logger.warn({ urls, err }, "NATS cannot be reached; will keep trying");
        complained = true;
      }
      await sleep(retryMs, signal).catch(() => undefined);
    }
  }

  #attach(
    nats: NatsConnection,
    subscription: {
      subject: string;
      callback: (message: Msg) => void;
      live?: Subscription | undefined;
    },
  ): void {
    subscription.live = nats.subscribe(subscription.subject, {
      callback: (error, message) => {
        if (error === null) subscription.callback(message);
        else this.#options.logger.warn({ err: error }, "NATS refused a subscription");
      },
    });
  }

  #lost(cause: Error | undefined): void {
    this.#nats = undefined;
    this.#newest = undefined;
    this.#unsentBytes = 0;
    this.#sinceFlushBytes = 0;
    this.#wakeUnsent();
    const error = this.unreachable(cause);
    for (const handler of [...this.#inboxes.values()]) handler.disconnected(error);
    for (const callback of [...this.#broken]) callback(error);
    if (this.#closing.signal.aborted) this.#wakeReady();
  }

  #wakeReady(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  #wakeUnsent(): void {
    const waiting = this.#unsentWaiting;
    this.#unsentWaiting = [];
    for (const wake of waiting) wake();
  }

  /** The answer to a ping says that the server has taken all that was sent before it. */
  #flush(): void {
    const nats = this.#nats;
    const bytes = this.#sinceFlushBytes;
    this.#sinceFlushBytes = 0;
    nats?.flush().then(
      () => {
        if (this.#nats !== nats) return;
        this.#unsentBytes -= bytes;
        this.#wakeUnsent();
      },
      () => undefined,
    );
  }
}
