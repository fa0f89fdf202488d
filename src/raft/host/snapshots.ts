/**
 * Snapshots between masters, each on a connection of its own: a header, chunks (each with its crc by the framing), an
 * empty frame, and the receiver's word that it is done.
 *
 * Invariants
 * 1. One snapshot at a time goes to a follower, and one at a time comes in.
 * 2. The state machine changes over only when all chunks are there; a broken transfer leaves it as it was.
 */
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { decode, encode } from "../../lib/schema.ts";
import type { Transport } from "../transport.ts";
import type { Index, NodeId, Term } from "../types.ts";
import type { Driver } from "./driver.ts";
import type { FramedSocket } from "./framed-socket.ts";
import { snapshotHeader } from "./handshake.ts";

/** Longest silence of the other side during a transfer. */
const stallTimeoutMs = 30_000;
/** Longest time that the receiver may take to change over once it has everything. */
const installTimeoutMs = 600_000;
const end = new Uint8Array(0);
const done = Buffer.from("done");

/** What a state machine offers: see StateMachineHost. */
export interface SnapshotMachine {
  readonly appliedIndex: number;
  snapshot(): Promise<{
    readonly meta: { readonly index: number; readonly term: number };
    chunks(): AsyncIterable<Uint8Array>;
    close(): Promise<void>;
  }>;
  install(meta: { index: number; term: number }, chunks: AsyncIterable<Uint8Array>): Promise<void>;
}

export class Snapshots {
  readonly #machine: SnapshotMachine;
  readonly #transport: Transport;
  readonly #driver: () => Driver;
  readonly #logger: Logger;
  readonly #onFatal: (error: unknown) => void;
  /** Followers that get one now, and at which index. */
  readonly #outgoing = new Map<NodeId, number>();
  readonly #sockets = new Set<FramedSocket>();
  #isReceiving = false;
  #isStopped = false;

  constructor(options: {
    machine: SnapshotMachine;
    transport: Transport;
    driver: () => Driver;
    logger: Logger;
    onFatal: (error: unknown) => void;
  }) {
    this.#machine = options.machine;
    this.#transport = options.transport;
    this.#driver = options.driver;
    this.#logger = options.logger;
    this.#onFatal = options.onFatal;
  }

  /** The log must not begin behind this: who just got a snapshot goes on from there. */
  get floor(): number {
    return Math.min(...this.#outgoing.values());
  }

  /** Sends the state machine's snapshot, and tells the core when the transfer is over, well or not. */
  send(to: NodeId): void {
    if (this.#outgoing.has(to) || this.#isStopped) return;
    this.#outgoing.set(to, Number.POSITIVE_INFINITY);
    this.#sendTo(to)
      .catch((error: unknown) => {
        this.#logger.warn({ to, error: String(error) }, "a snapshot could not be sent");
      })
      .finally(() => {
        this.#outgoing.delete(to);
        // If all went well the follower has said so itself by now, or will before this makes for another attempt.
        this.#driver().step({ kind: "snapshotDone", to, ok: false, index: 0 as Index });
      });
  }

  /** Takes a snapshot from a peer, and installs it when it brings this node forward. */
  receive(socket: FramedSocket, from: NodeId): void {
    if (this.#isReceiving || this.#isStopped) {
      socket.close();
      return;
    }
    this.#isReceiving = true;
    this.#sockets.add(socket);
    this.#receiveFrom(socket, from)
      .catch((error: unknown) => {
        this.#logger.warn({ from, error: String(error) }, "a snapshot did not arrive whole");
      })
      .finally(() => {
        this.#isReceiving = false;
        this.#sockets.delete(socket);
        socket.close();
      });
  }

  stop(): void {
    this.#isStopped = true;
    for (const socket of this.#sockets) socket.close();
  }

  async #sendTo(to: NodeId): Promise<void> {
    const peer = this.#transport.peerOf(to);
    if (peer === undefined) return;
    const { socket } = await this.#transport.connect(peer, "snapshot");
    this.#sockets.add(socket);
    try {
      const snapshot = await this.#machine.snapshot();
      try {
        const { index, term: indexTerm } = snapshot.meta;
        this.#outgoing.set(to, index);
        this.#logger.info({ to, index }, "sending a snapshot");
        const { term } = this.#driver().core;
        const header = encode(snapshotHeader, { term, index, indexTerm });
        await socket.writeSlowly(header, stallTimeoutMs);
        for await (const chunk of snapshot.chunks()) {
          if (chunk.length > 0) await socket.writeSlowly(chunk, stallTimeoutMs);
        }
        socket.write([end]);
      } finally {
        await snapshot.close();
      }
      await socket.next(installTimeoutMs);
    } finally {
      this.#sockets.delete(socket);
      socket.close();
    }
  }

  async #receiveFrom(socket: FramedSocket, from: NodeId): Promise<void> {
    const header = decode(snapshotHeader, await socket.next(stallTimeoutMs), "snapshotHeader");
    const meta = { index: header.index, term: header.indexTerm };
    const driver = this.#driver();
    if (header.term < driver.core.term) {
      throw new WeirError("Stale", `Cannot take a snapshot of term ${header.term}: it is over`);
    }
    await new Promise<void>((resolve, reject) => {
      driver.betweenApplies(() => this.#install(meta, socket).then(resolve, reject));
    });
    const index = meta.index as Index;
    driver.step({ kind: "installed", index, term: meta.term as Term, from });
    socket.write([done]);
    // The sender closes once it has read that.
    await socket.next(stallTimeoutMs).catch(() => undefined);
  }

  /** Runs while the state machine does nothing else, so that what is checked here still holds at the end. */
  async #install(meta: { index: number; term: number }, socket: FramedSocket): Promise<void> {
    if (meta.index <= this.#machine.appliedIndex) return;
    this.#logger.info({ index: meta.index }, "installing a snapshot");
    let isWhole = false;
    const chunks = (async function* () {
      for (;;) {
        const chunk = await socket.next(stallTimeoutMs);
        if (chunk.length === 0) break;
        yield chunk;
      }
      isWhole = true;
    })();
    try {
      await this.#machine.install(meta, chunks);
    } catch (error) {
      // With all chunks there, it is the state machine that failed.
      if (isWhole) this.#onFatal(error);
      throw error;
    }
    this.#logger.info({ index: meta.index }, "snapshot installed");
  }
}
