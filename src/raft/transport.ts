/**
 * Connections between masters: one per direction and peer for messages, one more for each snapshot.
 *
 * Invariants
 * 1. Nothing but a fitting handshake comes before the first message.
 * 2. Messages to a peer that is away, or that reads too slowly, are dropped: the core repeats what matters, and the heap
 *    stays bounded.
 * 3. A connection on which nothing was heard for a while is given up, so that a healed network is used at once and not
 *    after the kernel's growing retransmission timeouts.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../lib/clock.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { decode, encode } from "../lib/schema.ts";
import { FramedSocket } from "./host/framed-socket.ts";
import {
  type Accepted,
  answerHello,
  type Hello,
  hello,
  helloOf,
  helloReply,
  type Identity,
  type Member,
} from "./host/handshake.ts";
import { decodeMessage, encodeMessage } from "./messages.ts";
import type { Message, NodeId } from "./types.ts";

/** Where a master listens for the others. */
export interface Peer {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

const handshakeTimeoutMs = 2000;
/** Messages are dropped while this much to one peer is unsent. */
const maxUnsentBytes = 16 * 1024 * 1024;
const firstRetryMs = 20;
const longestRetryMs = 500;
/** An empty frame goes both ways so often; after so many beats in silence a connection is given up. */
const beatMs = 500;
const maxSilentBeats = 6;
const beat = new Uint8Array(0);

export interface TransportOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** All masters of the configuration, this one included. */
  readonly peers: readonly Peer[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly identity: () => Identity;
  readonly onMessage: (message: Message) => void;
  /** A peer wants to send a snapshot; the receiver owns the socket. */
  readonly onSnapshot: (socket: FramedSocket, from: NodeId) => void;
  /** A peer asks about, or proposes, the forming of the cluster; the receiver owns the socket. */
  readonly onFormation: (socket: FramedSocket) => void;
  /** A peer does not accept this node, and waiting will not help. */
  readonly onRefused: (peer: string, reason: string) => void;
}

/** The answer of a peer that does not accept us; `permanent` when waiting will not help. */
export class Refusal extends WeirError {
  readonly permanent: boolean;

  constructor(peer: string, reason: string, permanent: boolean) {
    super("NotPermitted", `Cannot connect to "${peer}": it refused this master: ${reason}`);
    this.permanent = permanent;
  }
}

export class Transport {
  readonly #options: TransportOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #links = new Map<NodeId, Link>();
  readonly #complaints = new Set<string>();
  #isClosed = false;

  private constructor(options: TransportOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      this.#track(socket);
      void this.#accept(new FramedSocket(socket)).catch((error: unknown) => {
        options.logger.debug({ error: String(error) }, "a peer's connection failed");
        socket.destroy();
      });
    });
  }

  /** @throws WeirError `Unavailable` when the address cannot be listened on */
  static async listen(options: TransportOptions): Promise<Transport> {
    const transport = new Transport(options);
    const { host, port } = options.listen;
    transport.#server.listen(port, host);
    try {
      await once(transport.#server, "listening");
    } catch (cause) {
      throw new WeirError(
        "Unavailable",
        `Cannot listen on "${host}:${port}" for other masters: ${(cause as Error).message}`,
        { cause },
      );
    }
    return transport;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Begins to keep a connection to every other member. */
  openLinks(members: readonly Member[]): void {
    const { identity, peers } = this.#options;
    for (const { name, nodeId } of members) {
      if (name === identity().name || this.#isClosed) continue;
      const peer = peers.find((each) => each.name === name)!;
      this.#links.set(nodeId, new Link(this, peer, nodeId, this.#options));
    }
  }

  /** Sends what can be sent now, each peer's messages in order and in one write. */
  send(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    const payloads = new Map<NodeId, Uint8Array[]>();
    for (const message of messages) {
      const link = this.#links.get(message.to);
      if (link === undefined || !link.takesMessages) continue;
      const queued = payloads.get(message.to);
      if (queued === undefined) payloads.set(message.to, [encodeMessage(message)]);
      else queued.push(encodeMessage(message));
    }
    for (const [to, queued] of payloads) this.#links.get(to)!.write(queued);
  }

  /** Where the configuration says that a member is. */
  peerOf(id: NodeId): Peer | undefined {
    return this.#links.get(id)?.peer;
  }

  /**
   * A connection to `peer` whose handshake is done.
   * @throws Refusal when the peer does not accept this node
   * @throws WeirError `Unavailable` when it cannot be reached
   */
  async connect(
    peer: Peer,
    purpose: Hello["purpose"],
  ): Promise<{ socket: FramedSocket; accepted: Accepted }> {
    if (this.#isClosed) throw new WeirError("Unavailable", "Cannot connect: this master stops");
    const raw = connect({ host: peer.host, port: peer.port });
    this.#track(raw);
    const timer = setTimeout(() => raw.destroy(), handshakeTimeoutMs);
    try {
      await new Promise<void>((resolve, reject) => {
        raw.once("connect", resolve);
        raw.once("error", reject);
        raw.once("close", () => reject(new Error("no answer")));
      });
    } catch (cause) {
      raw.destroy();
      throw new WeirError(
        "Unavailable",
        `Cannot connect to "${peer.name}" at "${peer.host}:${peer.port}": ${(cause as Error).message}`,
        { cause },
      );
    } finally {
      clearTimeout(timer);
    }
    const socket = new FramedSocket(raw);
    try {
      const self = this.#options.identity();
      socket.write([encode(hello, helloOf(self, purpose, peer.name))]);
      const reply = decode(helloReply, await socket.next(handshakeTimeoutMs), "helloReply");
      if (reply.kind === "refused") throw new Refusal(peer.name, reply.reason, reply.permanent);
      return { socket, accepted: reply };
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Says once, and loudly, that somebody does not fit. */
  complain(peer: string, reason: string): void {
    const key = `${peer}: ${reason}`;
    if (this.#complaints.has(key)) return;
    this.#complaints.add(key);
    this.#options.logger.error({ peer, reason }, `Cannot work with master "${peer}": ${reason}`);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const link of this.#links.values()) link.close();
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, "close");
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
  }

  async #accept(socket: FramedSocket): Promise<void> {
    const { identity, peers, onSnapshot, onFormation } = this.#options;
    const caller = decode(hello, await socket.next(handshakeTimeoutMs), "hello");
    const names = peers.map((peer) => peer.name);
    const reply = answerHello(identity(), names, caller);
    socket.write([encode(helloReply, reply)]);
    if (reply.kind === "refused") {
      if (reply.permanent) this.complain(caller.name, reply.reason);
      // The caller ends the connection once it has read why.
      await socket.next(handshakeTimeoutMs).catch(() => undefined);
      socket.close();
    } else if (caller.purpose === "formation") {
      if (caller.nodeId === undefined && reply.stage === "member") {
        this.complain(
          caller.name,
          `it comes without data, but its name is bound to node ${reply.boundTo}`,
        );
      }
      onFormation(socket);
    } else if (caller.purpose === "snapshot") {
      onSnapshot(socket, caller.nodeId!);
    } else {
      this.#receive(socket, caller.nodeId!);
    }
  }

  #receive(socket: FramedSocket, from: NodeId): void {
    const { identity, onMessage, clock } = this.#options;
    const self = identity().nodeId!;
    // It is back: no need to wait for the next attempt.
    this.#links.get(from)?.hurry();
    const heard = watchSilence(socket, clock, () => undefined);
    socket.onFrame((payload) => {
      heard();
      if (payload.length === 0) socket.write([beat]);
      else onMessage(decodeMessage(payload, from, self));
    });
  }
}

/** Keeps one outgoing connection for messages alive. */
class Link {
  readonly peer: Peer;
  readonly #id: NodeId;
  readonly #transport: Transport;
  readonly #options: TransportOptions;
  #socket: FramedSocket | undefined;
  #retryMs = firstRetryMs;
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(transport: Transport, peer: Peer, id: NodeId, options: TransportOptions) {
    this.#transport = transport;
    this.peer = peer;
    this.#id = id;
    this.#options = options;
    void this.#open();
  }

  get takesMessages(): boolean {
    return this.#socket !== undefined && this.#socket.unsentBytes < maxUnsentBytes;
  }

  write(payloads: readonly Uint8Array[]): void {
    this.#socket?.write(payloads);
  }

  /** The peer is known to be there: try now. */
  hurry(): void {
    this.#retryMs = firstRetryMs;
    if (this.#cancelRetry === undefined) return;
    this.#cancelRetry();
    this.#cancelRetry = undefined;
    void this.#open();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#socket?.close();
  }

  async #open(): Promise<void> {
    try {
      const { socket, accepted } = await this.#transport.connect(this.peer, "messages");
      if (this.#isClosed) {
        socket.close();
        return;
      }
      if (accepted.nodeId !== this.#id) {
        socket.close();
        throw new Refusal(
          this.peer.name,
          `it is node ${accepted.nodeId}, but the name is bound to node ${this.#id}`,
          true,
        );
      }
      this.#use(socket);
    } catch (error) {
      if (error instanceof Refusal && error.permanent) {
        this.#transport.complain(this.peer.name, error.message);
        this.#options.onRefused(this.peer.name, error.message);
      } else if (!hasCode(error, "Unavailable", "NotPermitted")) {
        const { logger } = this.#options;
        logger.warn({ peer: this.peer.name, error: String(error) }, "a peer answers nonsense");
      }
      this.#retry();
    }
  }

  #use(socket: FramedSocket): void {
    const { clock } = this.#options;
    this.#socket = socket;
    this.#retryMs = firstRetryMs;
    const heard = watchSilence(socket, clock, () => socket.write([beat]));
    socket.onFrame(heard);
    socket.onClose(() => {
      this.#socket = undefined;
      this.#retry();
    });
  }

  #retry(): void {
    if (this.#isClosed) return;
    this.#cancelRetry = this.#options.clock.after(this.#retryMs, () => {
      this.#cancelRetry = undefined;
      void this.#open();
    });
    this.#retryMs = Math.min(longestRetryMs, this.#retryMs * 2);
  }
}

/** Closes the socket when `heard` was not called for some beats; counts beats, so that a pause of this process is one. */
function watchSilence(socket: FramedSocket, clock: Clock, onBeat: () => void): () => void {
  let silentBeats = 0;
  const check = () => {
    onBeat();
    if (++silentBeats > maxSilentBeats) socket.close();
    else cancel = clock.after(beatMs, check);
  };
  let cancel = clock.after(beatMs, check);
  socket.onClose(() => cancel());
  return () => {
    silentBeats = 0;
  };
}
