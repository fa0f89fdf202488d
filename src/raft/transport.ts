/**
 * Connections between masters: one per direction and peer for messages, one more for each snapshot.
 *
 * Invariants
 * 1. Nothing but a fitting handshake comes before the first message. Whoever has not got through it costs little: its
 *    frames are short, its time is limited, and when there are too many of its kind the oldest one goes.
 * 2. Messages to a peer that is away, or that reads too slowly, are dropped: the core repeats what matters, and the heap
 *    stays bounded.
 * 3. A connection on which nothing was heard for a while is given up, so that a healed network is used at once and not
 *    after the kernel's growing retransmission timeouts.
 * 4. Who is heard can be answered: where no link leads to a caller (its leader may be a member that this node has not
 *    heard of yet), the answer takes the caller's own connection.
 * 5. A member is looked for where the log says, and then where the configuration file has its name: all may have moved at
 *    once. The handshake tells whether it is the one.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../lib/clock.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { decode, encode } from "../lib/schema.ts";
import { shortened } from "../lib/shortened.ts";
import { FramedSocket } from "./host/framed-socket.ts";
import {
  type Accepted,
  agreedVersion,
  answerHello,
  type Hello,
  hello,
  helloOf,
  type HelloReply,
  helloReply,
  type Identity,
  type Roster,
  type Versions,
  versionsOf,
  versionsWith,
} from "./host/handshake.ts";
import { beat, Link, type Peer, takesMessages, watchSilence } from "./host/link.ts";
import type { Place } from "./member-change.ts";
import { decodeMessage, encodeMessage, haveSameBytes } from "./messages.ts";
import type { Message, NodeId } from "./types.ts";

export type { Peer } from "./host/link.ts";

const handshakeTimeoutMs = 2000;
/** Callers at a time that are not accepted yet, and of those that are but are no members. */
const maxStrangers = 64;
/** So many different complaints are known to have been said; callers choose what is in them. */
const maxComplaints = 1000;
/** Characters of a complaint that are kept. */
const longestReason = 1000;
/** Messages that a peer of the first version does not know. */
const sinceVersion2: ReadonlySet<Message["kind"]> = new Set(["readRequest", "readReply"]);

export interface TransportOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** All masters of the configuration file, this one included. */
  readonly peers: readonly Peer[];
  readonly clock: Clock;
  readonly logger: Logger;
  /** What it speaks. */
  readonly versions: Versions;
  readonly identity: () => Identity;
  readonly roster: () => Roster;
  readonly onMessage: (message: Message) => void;
  /** A peer wants to send a snapshot, in that version of the protocol; the receiver owns the socket. */
  readonly onSnapshot: (socket: FramedSocket, from: NodeId, version: number) => void;
  /** A peer asks about, or proposes, the forming of the cluster; the receiver owns the socket. */
  readonly onFormation: (socket: FramedSocket) => void;
  /** A leader has found this master at the address of one that is to be added; the receiver owns the socket. */
  readonly onAdmission: (socket: FramedSocket) => void;
  /** A member's process has ended: its connection was reset, and nobody listens where it was. */
  readonly onGone: (nodeId: NodeId) => void;
  /** A member does not accept this node, and waiting will not help: see `refusals`. */
  readonly onRefused: (peer: string, refusal: Refusal) => void;
}

/** The answer of a peer that does not accept us; `permanent` when waiting will not help. */
export class Refusal extends WeirError {
  readonly permanent: boolean;
  /** The peer knows that this node is no member any more. */
  readonly removed: boolean;
  /** The one that refuses has data: it is no master that nobody has admitted to anything. */
  readonly hasData: boolean;

  constructor(peer: string, refused: Extract<HelloReply, { kind: "refused" }>) {
    super("NotPermitted", `Cannot connect to "${peer}": it refused this master: ${refused.reason}`);
    this.permanent = refused.permanent;
    this.removed = refused.removed ?? false;
    this.hasData = refused.nodeId !== undefined;
  }
}

/** Somebody's connection to this node. */
interface Inbound {
  readonly socket: FramedSocket;
  readonly version: number;
  /** What the caller knew of its membership when it connected: see `Roster.knownAt`. */
  readonly knownAt: number | undefined;
  /** Where the caller says that it listens. */
  readonly place: Place | undefined;
}

export class Transport {
  readonly #options: TransportOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #links = new Map<NodeId, Link>();
  readonly #inbound = new Map<NodeId, Inbound>();
  /** Members that were last reached where the file has them, and not where the log has. */
  readonly #moved = new Map<NodeId, Peer>();
  /** Members that said, when their links opened, that this node's name is not bound to its data. */
  readonly #disowning = new Set<NodeId>();
  readonly #complaints = new Set<string>();
  /** Callers that are not accepted yet, the oldest first. */
  readonly #strangers = new Set<FramedSocket>();
  /** Callers that want something else than members do, the oldest first. */
  readonly #guests = new Set<FramedSocket>();
  #isClosed = false;

  private constructor(options: TransportOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      this.#track(socket);
      const stranger = new FramedSocket(socket, Number.POSITIVE_INFINITY);
      const from = socket.remoteAddress ?? "?";
      this.#bound(this.#strangers, stranger, "that do not say who they are");
      void this.#accept(stranger).catch((error: unknown) => {
        this.#noteFailed(from, error);
        stranger.close();
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

  /** Keeps a connection to each of these from now on, and to nobody else. */
  setLinks(targets: ReadonlyMap<NodeId, Peer>): void {
    for (const [id, link] of this.#links) {
      const peer = targets.get(id);
      if (peer !== undefined && isSamePlace(peer, link.peer)) continue;
      link.close();
      this.#links.delete(id);
    }
    if (this.#isClosed) return;
    for (const [id, peer] of targets) {
      if (!this.#links.has(id)) this.#links.set(id, this.#makeLink(id, peer));
    }
  }

  /** Whom it keeps a connection to. */
  get targets(): ReadonlyMap<NodeId, Peer> {
    return new Map([...this.#links].map(([id, { peer }]) => [id, peer]));
  }

  /**
   * Ends the connections of those that are known to be removed now, and of those whose version does not fit any more: they
   * are told when they come back.
   */
  dropUnfit(): void {
    const roster = this.#options.roster();
    const { oldest } = this.versions;
    for (const [id, { socket, knownAt, version }] of this.#inbound) {
      if (version < oldest || roster.wasRemoved(id, knownAt)) socket.close();
    }
    for (const link of this.#links.values()) {
      if (link.isOpen && link.version < oldest) link.breakOff();
    }
  }

  /** Members that do not accept this node now, and why. One that has no data of its own is nobody to go by. */
  get refusals(): ReadonlyMap<NodeId, Error> {
    const refusals = new Map<NodeId, Error>();
    for (const [id, { refusal }] of this.#links) {
      if (refusal !== undefined) refusals.set(id, refusal);
    }
    return refusals;
  }

  /** Sends what can be sent now, each peer's messages in order and in one write. */
  send(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    const payloads = new Map<NodeId, Uint8Array[]>();
    let last: { readonly message: Message; readonly encoded: Uint8Array } | undefined;
    for (const message of messages) {
      const version = this.#versionTo(message.to);
      if (version === 0 || (version < 2 && sinceVersion2.has(message.kind))) continue;
      if (last === undefined || !haveSameBytes(last.message, message)) {
        last = { message, encoded: encodeMessage(message) };
      }
      const queued = payloads.get(message.to);
      if (queued === undefined) payloads.set(message.to, [last.encoded]);
      else queued.push(last.encoded);
    }
    for (const [to, queued] of payloads) {
      const link = this.#links.get(to);
      if (link?.takesMessages === true) link.write(queued);
      else this.#inbound.get(to)!.socket.write(queued);
    }
  }

  /** Names of connected members that answered that this node's name is not bound to its data: it is no member as they know. */
  get disowning(): readonly string[] {
    const links = [...this.#links].filter(([id, { isOpen }]) => isOpen && this.#disowning.has(id));
    return links.map(([, { peer }]) => peer.name).sort();
  }

  /** This node has become a member since: what others knew before says nothing any more. */
  forgetDisowning(): void {
    this.#disowning.clear();
  }

  #noteBinding(peer: NodeId, { boundTo }: Accepted): void {
    if (boundTo === this.#options.identity().nodeId) this.#disowning.delete(peer);
    else this.#disowning.add(peer);
  }

  /** Where this node listens, by its configuration file. */
  get place(): Place | undefined {
    const { name } = this.#options.identity();
    const own = this.#options.peers.find((peer) => peer.name === name);
    if (own?.rpcPort === undefined) return undefined;
    return { host: own.host, raftPort: own.port, rpcPort: own.rpcPort };
  }

  /** Where those who are connected now say that they listen. */
  get claims(): ReadonlyMap<NodeId, Place> {
    const claims = new Map<NodeId, Place>();
    for (const [id, { place }] of this.#inbound) if (place !== undefined) claims.set(id, place);
    return claims;
  }

  /** Where a member that has a link was reached last, or is to be looked for. */
  peerOf(id: NodeId): Peer | undefined {
    const link = this.#links.get(id);
    return link === undefined ? undefined : (this.#moved.get(id) ?? link.peer);
  }

  /** The version that is spoken with a member; undefined while it is away. */
  versionOf(id: NodeId): number | undefined {
    const link = this.#links.get(id);
    return link?.isOpen === true ? link.version : this.#inbound.get(id)?.version;
  }

  /**
   * The version that was spoken with a member last, also before it went away; of one that nothing is known of, the oldest
   * that it may come back with.
   */
  oldestVersionOf(id: NodeId): number {
    const lastSpoken = this.#links.get(id)?.version ?? 0;
    return this.versionOf(id) ?? (lastSpoken > 0 ? lastSpoken : this.versions.oldest);
  }

  /** What it speaks now, with whoever comes. */
  get versions(): Versions {
    return versionsWith(this.#options.roster(), this.#options.versions);
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
    const socket = new FramedSocket(raw, 1);
    try {
      const { identity, roster } = this.#options;
      const { place } = this;
      const rest = { versions: this.versions, knownAt: roster().knownAt, place };
      socket.write([encode(hello, helloOf(identity(), purpose, peer.name, rest))]);
      const reply = decode(helloReply, await socket.next(handshakeTimeoutMs), "helloReply");
      if (reply.kind === "refused") {
        throw new Refusal(peer.name, reply);
      }
      if ((reply.version ?? 1) < this.versions.oldest && isOfMembers(purpose)) {
        // The members have changed meanwhile.
        throw new WeirError("Unavailable", `Cannot connect to "${peer.name}": upgrade it first`);
      }
      return { socket, accepted: reply };
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Says once, and loudly, that somebody does not fit. */
  complain(peer: string, reason: string): void {
    const who = shortened(peer);
    const why = shortened(reason, longestReason);
    if (!this.#isNews(`${who}: ${why}`)) return;
    this.#options.logger.error(
      { peer: who, reason: why },
      `Cannot work with master "${who}": ${why}`,
    );
  }

  /** Whether this was not said before. */
  #isNews(complaint: string): boolean {
    if (this.#complaints.has(complaint)) return false;
    if (this.#complaints.size >= maxComplaints) this.#complaints.clear();
    this.#complaints.add(complaint);
    return true;
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

  /** Takes one more of a kind. A master needs a moment for what it wants: who has been here longest is none. */
  #bound(kind: Set<FramedSocket>, caller: FramedSocket, what: string): void {
    kind.add(caller);
    caller.onClose(() => kind.delete(caller));
    if (kind.size <= maxStrangers) return;
    const [oldest] = kind;
    oldest!.close();
    const reason = `more than ${maxStrangers} callers at once ${what}`;
    if (this.#isNews(reason)) this.#options.logger.warn({ reason }, "closed a connection");
  }

  #noteFailed(from: string, thrown: unknown): void {
    const { logger } = this.#options;
    const isDamage = thrown instanceof Error && hasCode(thrown.cause, "ProtocolError");
    const error = isDamage ? thrown.cause : thrown;
    const message = error instanceof Error ? error.message : String(error);
    const known = { peer: from, error: shortened(message, longestReason) };
    const isNonsense = hasCode(error, "ProtocolError") && this.#isNews(`${from}: ${known.error}`);
    if (isNonsense) logger.warn(known, "closed a connection: it is no master's");
    else logger.debug(known, "a peer's connection failed");
  }

  async #accept(socket: FramedSocket): Promise<void> {
    const { identity, roster, versions, peers } = this.#options;
    const { onSnapshot, onFormation, onAdmission } = this.#options;
    const caller = decode(hello, await socket.next(handshakeTimeoutMs), "hello");
    const names = peers.map((peer) => peer.name);
    const reply = answerHello(identity(), { names, roster: roster(), versions }, caller);
    socket.write([encode(helloReply, reply)]);
    if (reply.kind === "refused") {
      if (reply.permanent) this.complain(caller.name, reply.reason);
      // The caller ends the connection once it has read why.
      await socket.next(handshakeTimeoutMs).catch(() => undefined);
      socket.close();
      return;
    }
    this.#strangers.delete(socket);
    const version = agreedVersion(this.versions, versionsOf(caller))!;
    if (isOfMembers(caller.purpose)) socket.trust();
    else this.#bound(this.#guests, socket, "that are no members");
    switch (caller.purpose) {
      case "formation":
        if (caller.nodeId === undefined && reply.boundTo !== undefined) {
          this.complain(
            caller.name,
            `it comes without data, but its name is bound to node ${reply.boundTo}: ` +
              `restore its data directory, or run "weir cluster replace ${caller.name}"`,
          );
        }
        onFormation(socket);
        return;
      case "admission":
        onAdmission(socket);
        return;
      case "address":
        await socket.next(handshakeTimeoutMs).catch(() => undefined);
        socket.close();
        return;
      case "snapshot":
        onSnapshot(socket, caller.nodeId!, version);
        return;
      case "messages": {
        const { knownAt, place } = caller;
        this.#receive(caller.nodeId!, { socket, version, knownAt, place });
      }
    }
  }

  #receive(from: NodeId, inbound: Inbound): void {
    const { identity, onMessage, clock } = this.#options;
    const { socket } = inbound;
    const self = identity().nodeId!;
    this.#inbound.set(from, inbound);
    socket.onClose(() => {
      if (this.#inbound.get(from) === inbound) this.#inbound.delete(from);
    });
    // It is back: no need to wait for the next attempt.
    this.#links.get(from)?.hurry(inbound.version);
    const heard = watchSilence(socket, clock, () => undefined);
    socket.onFrame((payload) => {
      heard();
      if (payload.length === 0) socket.write([beat]);
      else onMessage(decodeMessage(payload, from, self));
    });
  }

  #makeLink(nodeId: NodeId, peer: Peer): Link {
    const { clock, logger, identity, onMessage, onRefused } = this.#options;
    return new Link({
      peer,
      nodeId,
      clock,
      logger,
      connect: async () => {
        const reached = await this.#reach(nodeId, peer);
        if (reached.accepted.nodeId === nodeId) this.#noteBinding(nodeId, reached.accepted);
        return reached;
      },
      onFrame: (payload) => onMessage(decodeMessage(payload, nodeId, identity().nodeId!)),
      isRefusal: (error) => error instanceof Refusal && error.permanent && error.hasData,
      onFailure: (error) => {
        if (!(error instanceof Refusal)) {
          logger.warn({ peer: peer.name, error: String(error) }, "a peer answers nonsense");
        } else if (error.permanent) {
          this.complain(peer.name, error.message);
          onRefused(peer.name, error);
        }
      },
      onGone: () => this.#options.onGone(nodeId),
      onStranger: (accepted) => {
        this.complain(
          peer.name,
          accepted.nodeId === undefined
            ? `it has no data, but its name is bound to node ${nodeId}: restore its data directory, or ` +
                `run "weir cluster replace ${peer.name}"`
            : `it is node ${accepted.nodeId}, but its name is bound to node ${nodeId} here`,
        );
      },
    });
  }

  /** A connection to a member; what is thrown tells of the place where it was last. */
  async #reach(
    nodeId: NodeId,
    logged: Peer,
  ): Promise<{ socket: FramedSocket; accepted: Accepted }> {
    const filed = this.#options.peers.find(({ name }) => name === logged.name);
    if (filed === undefined || isSamePlace(filed, logged)) {
      this.#moved.delete(nodeId);
      return this.connect(logged, "messages");
    }
    const places = this.#moved.has(nodeId) ? [filed, logged] : [logged, filed];
    let failure: { readonly error: unknown } | undefined;
    let stranger: Awaited<ReturnType<Transport["connect"]>> | undefined;
    for (const place of places) {
      try {
        const reached = await this.connect(place, "messages");
        if (reached.accepted.nodeId === nodeId) {
          if (place === filed) this.#moved.set(nodeId, filed);
          else this.#moved.delete(nodeId);
          return reached;
        }
        reached.socket.close();
        stranger = reached;
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure === undefined && stranger !== undefined) return stranger;
    throw failure?.error;
  }

  /** The version of the best way to a node; 0 when there is none that takes messages. */
  #versionTo(id: NodeId): number {
    const link = this.#links.get(id);
    const { oldest } = this.versions;
    if (link?.takesMessages === true) return link.version < oldest ? 0 : link.version;
    const inbound = this.#inbound.get(id);
    // One of the first version does not listen on its own connection.
    if (inbound === undefined || inbound.version < 2 || !takesMessages(inbound.socket)) return 0;
    return inbound.version;
  }
}

function isOfMembers(purpose: Hello["purpose"]): boolean {
  return purpose === "messages" || purpose === "snapshot";
}

function isSamePlace(a: Peer, b: Peer): boolean {
  return a.name === b.name && a.host === b.host && a.port === b.port;
}
