/** One outgoing connection for messages, kept alive: tried again when it ends, with growing pauses. */
import type { Clock } from "../../lib/clock.ts";
import { hasCode } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import type { NodeId } from "../types.ts";
import type { FramedSocket } from "./framed-socket.ts";
import type { Accepted } from "./handshake.ts";

const firstRetryMs = 20;
const longestRetryMs = 500;
/** A connection that lasted shorter than this is not tried again at once. */
const settledMs = 1000;
/** An empty frame goes both ways so often; after so many beats in silence a connection is given up. */
const beatMs = 500;
const maxSilentBeats = 6;
/** Messages are dropped while this much to one peer is unsent. */
const maxUnsentBytes = 16 * 1024 * 1024;
/** What keeps a quiet connection alive. */
export const beat = new Uint8Array(0);

/** Where a master listens for the others. */
export interface Peer {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** Where it listens for clients, as far as known; 0 otherwise. */
  readonly rpcPort?: number;
}

export interface LinkOptions {
  readonly peer: Peer;
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A connection whose handshake is done. */
  readonly connect: () => Promise<{
    readonly socket: FramedSocket;
    readonly accepted: Accepted;
  }>;
  /** A frame other than a beat came back. */
  readonly onFrame: (payload: Buffer) => void;
  /** The attempt failed for a reason other than that the peer is away. */
  readonly onFailure: (error: unknown) => void;
  /** Whether that error says that the peer does not want this node, however long it waits. */
  readonly isRefusal: (error: unknown) => boolean;
  /** After a connection ended nobody listens there any more: the peer's machine says that its process is gone. */
  readonly onGone: () => void;
  /** Another master than the one that is meant listens there. */
  readonly onStranger: (accepted: Accepted) => void;
}

export class Link {
  readonly peer: Peer;
  readonly #options: LinkOptions;
  #socket: FramedSocket | undefined;
  #version = 0;
  #wasOpen = false;
  #refusal: Error | undefined;
  #retryMs = firstRetryMs;
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(options: LinkOptions) {
    this.peer = options.peer;
    this.#options = options;
    void this.#open();
  }

  get takesMessages(): boolean {
    return takesMessages(this.#socket);
  }
  get isOpen(): boolean {
    return this.#socket !== undefined;
  }
  /** The version that is spoken with the peer, or was last; 0 while it has not been heard of. */
  get version(): number {
    return this.#version;
  }

  /** Why the peer does not want this node, by its answer to the last attempt, and unless it has called since. */
  get refusal(): Error | undefined {
    return this.#refusal;
  }

  write(payloads: readonly Uint8Array[]): void {
    this.#socket?.write(payloads);
  }

  /** The peer is known to be there, and to speak that version: try now. */
  hurry(version: number): void {
    if (!this.isOpen) this.#version = version;
    this.#refusal = undefined;
    this.#retryMs = firstRetryMs;
    if (this.#cancelRetry === undefined) return;
    this.#cancelRetry();
    this.#cancelRetry = undefined;
    void this.#open();
  }

  /** Ends the connection; a new one is tried. */
  breakOff(): void {
    this.#socket?.close();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#socket?.close();
  }

  async #open(): Promise<void> {
    const { nodeId, connect, onFailure, onStranger, onGone, isRefusal } = this.#options;
    try {
      const { socket, accepted } = await connect();
      this.#refusal = undefined;
      if (this.#isClosed) {
        socket.close();
      } else if (accepted.nodeId === nodeId) {
        this.#use(socket, accepted);
      } else {
        // Not for good: either side may have yet to learn who the members are.
        socket.close();
        onStranger(accepted);
        this.#retry();
      }
    } catch (error) {
      this.#refusal = isRefusal(error) ? (error as Error) : undefined;
      if (!hasCode(error, "Unavailable")) onFailure(error);
      else if (this.#wasOpen && !this.#isClosed && isRefused(error.cause)) onGone();
      this.#retry();
    }
  }

  #use(socket: FramedSocket, accepted: Accepted): void {
    const { clock, onFrame } = this.#options;
    this.#socket = socket;
    this.#wasOpen = true;
    this.#version = accepted.version ?? 1;
    this.#retryMs = firstRetryMs;
    const heard = watchSilence(socket, clock, () => socket.write([beat]));
    socket.onFrame((payload) => {
      heard();
      if (payload.length > 0) onFrame(payload);
    });
    const openedMs = clock.monotonicMs();
    socket.onClose(() => {
      this.#socket = undefined;
      if (this.#isClosed) return;
      if (clock.monotonicMs() - openedMs < settledMs) this.#retry();
      else void this.#open();
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

/** ECONNREFUSED: the machine is there and answers, and no process listens. */
function isRefused(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException | undefined)?.code === "ECONNREFUSED";
}

/** True when messages to the peer need not be dropped. */
export function takesMessages(socket: FramedSocket | undefined): boolean {
  return socket !== undefined && !socket.isClosed && socket.unsentBytes < maxUnsentBytes;
}

/** Closes the socket when `heard` was not called for some beats; counts beats, so that a pause of this process is one. */
export function watchSilence(socket: FramedSocket, clock: Clock, onBeat: () => void): () => void {
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
