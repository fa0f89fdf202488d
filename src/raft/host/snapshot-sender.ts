/**
 * Snapshots to followers that are behind the log, each on a connection of its own, so that heartbeats never wait behind
 * one.
 *
 * Invariants
 * 1. One at a time goes to a follower; several followers may be served at once.
 * 2. A transfer that breaks goes on with the same snapshot, for as long as attempts get further; the log is kept behind
 *    it, and then until the follower has caught up, for as long as it gets on with that.
 * 3. None goes to a node of the first version, which cannot read the rows of this one's state.
 * 4. In memory is what the socket has not taken of at most two chunks, plus `highWaterBytes` of FramedSocket.
 * 5. Commands go first: while the log grows, snapshots leave at a bounded rate, unless so much of the log has come behind
 *    one that it may be of no use when it arrives.
 */
import { randomUUID } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Clock, sleepOn } from "../../lib/clock.ts";
import { hasCode, WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { decode, encode } from "../../lib/schema.ts";
import type { Transport } from "../transport.ts";
import type { Index, NodeId } from "../types.ts";
import type { FramedSocket } from "./framed-socket.ts";
import {
  end,
  type HeldSnapshot,
  installSilenceMs,
  installTimeoutMs,
  keepMs,
  snapshotHeader,
  snapshotResume,
  stallTimeoutMs,
} from "./snapshot-protocol.ts";

/** The first version of the protocol between masters whose nodes can read a state as it is written now. */
const oldestReader = 2;

/**
 * Of all snapshots that are on their way, while commands come in: a sixth of what a core reads, sums up and sends in that
 * time.
 */
export const besideCommandsBytesPerSecond = 6 * 1024 * 1024;

export interface SnapshotSenderOptions {
  readonly take: () => Promise<HeldSnapshot>;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of this node, now. */
  readonly term: () => number;
  /** How much of the log a follower is known to hold; undefined when this node does not lead it. */
  readonly matchOf: (follower: NodeId) => Index | undefined;
  /** Of this node's log. */
  readonly lastIndex: () => Index;
  /** Whether so much of the log has come behind an index that a snapshot of it has to arrive soon. */
  readonly isUrgent: (index: number) => boolean;
  /** A transfer is over, well or not. */
  readonly onOver: (to: NodeId) => void;
}

interface Held {
  readonly id: string;
  readonly snapshot: HeldSnapshot;
  /** The furthest chunk that an attempt came to, and when that was. */
  furthest: number;
  advancedMs: number;
  /** Where the log ended when the last chunk left. */
  lastIndex: number;
  cancelExpiry: () => void;
}

/** A follower that has installed a snapshot, and goes on behind it. */
interface CatchingUp {
  /** What it holds of the log. */
  match: number;
  advancedMs: number;
}

export class SnapshotSender {
  readonly #options: SnapshotSenderOptions;
  readonly #running = new Map<NodeId, Promise<void>>();
  readonly #held = new Map<NodeId, Held>();
  readonly #catchingUp = new Map<NodeId, CatchingUp>();
  readonly #sockets = new Set<FramedSocket>();
  /** To whom none can be sent, as was said. */
  readonly #unread = new Set<NodeId>();
  readonly #stopping = new AbortController();

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
  }

  get #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  /**
   * The log should not begin behind this: who gets a snapshot, or just got one, goes on from there, until it holds the log
   * up to `caughtUp`. Infinite when there is nobody.
   */
  floor(caughtUp: number): number {
    let floor = Number.POSITIVE_INFINITY;
    for (const { snapshot } of this.#held.values()) floor = Math.min(floor, snapshot.meta.index);
    const nowMs = this.#options.clock.monotonicMs();
    for (const [to, progress] of this.#catchingUp) {
      const match = this.#options.matchOf(to);
      if (match !== undefined && match > progress.match) {
        progress.match = match;
        progress.advancedMs = nowMs;
      }
      const isStuck = nowMs - progress.advancedMs >= keepMs;
      if (match === undefined || match >= caughtUp || isStuck) this.#catchingUp.delete(to);
      else floor = Math.min(floor, progress.match);
    }
    return floor;
  }

  /** Sends the state machine's snapshot; without effect while one is on its way to that follower. */
  send(to: NodeId): void {
    if (this.#running.has(to) || this.#isStopped) return;
    const { logger, onOver } = this.#options;
    const running = this.#sendTo(to)
      .catch((error: unknown) => {
        // It is tried again and again: what a person has to change is said once.
        const isUnread = hasCode(error, "NotSupported");
        if (isUnread && this.#unread.has(to)) return;
        if (isUnread) this.#unread.add(to);
        logger.warn({ to, error: String(error) }, "a snapshot could not be sent whole");
      })
      .finally(() => {
        this.#running.delete(to);
        if (!this.#isStopped) onOver(to);
      });
    this.#running.set(to, running);
  }

  /** Ends all transfers; resolves when no snapshot is held any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const socket of this.#sockets) socket.close();
    await Promise.all(this.#running.values());
    await Promise.all([...this.#held.keys()].map((to) => this.#drop(to)));
  }

  async #sendTo(to: NodeId): Promise<void> {
    const { transport } = this.#options;
    const peer = transport.peerOf(to);
    if (peer === undefined) return;
    const { socket, accepted } = await transport.connect(peer, "snapshot");
    this.#sockets.add(socket);
    try {
      if ((accepted.version ?? 1) < oldestReader) {
        throw new WeirError(
          "NotSupported",
          `Cannot send a snapshot to "${peer.name}": it runs a version that cannot read it; upgrade it first`,
        );
      }
      const held = await this.#hold(to);
      try {
        await this.#stream(to, held, socket);
        const advancedMs = this.#options.clock.monotonicMs();
        this.#catchingUp.set(to, { match: held.snapshot.meta.index, advancedMs });
        await this.#drop(to);
      } finally {
        this.#expire(to, held);
      }
    } finally {
      this.#sockets.delete(socket);
      socket.close();
    }
  }

  async #stream(to: NodeId, held: Held, socket: FramedSocket): Promise<void> {
    const { id, snapshot } = held;
    const { index, term: indexTerm, hash } = snapshot.meta;
    const header = { term: this.#options.term(), index, indexTerm, id, hash };
    await socket.writeSlowly(encode(snapshotHeader, header), stallTimeoutMs);
    const reply = await socket.next(stallTimeoutMs);
    const { chunks: skip, crc } = decode(snapshotResume, reply, "snapshotResume");
    this.#options.logger.info({ to, index, fromChunk: skip }, "sending a snapshot");
    let place = 0;
    let ownCrc = 0;
    for await (const chunk of snapshot.chunks()) {
      if (chunk.length === 0) continue;
      await this.#giveWay(held, chunk.length);
      if (place++ >= skip) {
        await socket.writeSlowly(chunk, stallTimeoutMs);
        this.#advanced(held, place);
        continue;
      }
      ownCrc = crc32(chunk, ownCrc);
      if (place === skip) await this.#checkPrefix(to, ownCrc === crc);
    }
    if (place < skip) await this.#checkPrefix(to, false);
    socket.write([end]);
    this.#advanced(held, place + 1);
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + installTimeoutMs;
    // Empty frames say that it is there.
    while ((await socket.next(installSilenceMs)).length === 0) {
      if (clock.monotonicMs() >= untilMs) {
        throw new WeirError("Unavailable", `Cannot wait for ${to}: it installs for too long`);
      }
    }
  }

  /** Waits for as long as so many bytes take, if commands came in since the chunk before. */
  async #giveWay(held: Held, bytes: number): Promise<void> {
    const { clock, isUrgent } = this.#options;
    const lastIndex = this.#options.lastIndex();
    const isBusy = lastIndex > held.lastIndex;
    held.lastIndex = lastIndex;
    if (!isBusy || isUrgent(held.snapshot.meta.index)) return;
    const seconds = (bytes * this.#running.size) / besideCommandsBytesPerSecond;
    await sleepOn(clock, seconds * 1000, this.#stopping.signal);
  }

  #advanced(held: Held, place: number): void {
    if (place <= held.furthest) return;
    held.furthest = place;
    held.advancedMs = this.#options.clock.monotonicMs();
  }

  /** What the follower has must be what would be sent: else it gets another snapshot, from its beginning. */
  async #checkPrefix(to: NodeId, isSame: boolean): Promise<void> {
    if (isSame) return;
    await this.#drop(to);
    throw new WeirError("Corrupt", `Cannot go on with a snapshot to ${to}: it has other chunks`);
  }

  async #hold(to: NodeId): Promise<Held> {
    const kept = this.#held.get(to);
    if (kept !== undefined) {
      kept.cancelExpiry();
      return kept;
    }
    const snapshot = await this.#options.take();
    const held: Held = {
      id: randomUUID(),
      snapshot,
      furthest: 0,
      advancedMs: this.#options.clock.monotonicMs(),
      lastIndex: this.#options.lastIndex(),
      cancelExpiry: () => undefined,
    };
    this.#held.set(to, held);
    return held;
  }

  #expire(to: NodeId, held: Held): void {
    if (this.#held.get(to) !== held || this.#isStopped) return;
    const { clock } = this.#options;
    // An attempt that got no further than those before it does not prolong this.
    const restMs = held.advancedMs + keepMs - clock.monotonicMs();
    held.cancelExpiry = clock.after(Math.max(0, restMs), () => void this.#drop(to));
  }

  async #drop(to: NodeId): Promise<void> {
    const held = this.#held.get(to);
    if (held === undefined) return;
    this.#held.delete(to);
    held.cancelExpiry();
    await held.snapshot.close();
  }
}
