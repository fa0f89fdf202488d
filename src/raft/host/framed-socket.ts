/**
 * Frames over one socket, pulled one by one (`next`) or pushed to a handler (`onFrame`).
 *
 * Invariants
 * 1. While frames are pulled, the socket is paused when some wait: a slow reader slows the sender, not the heap.
 * 2. A damaged frame, or one that is too long, ends the connection.
 */
import type { Socket } from "node:net";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { FrameGatherer, FrameReader, maxFrameBytes } from "../../lib/framing.ts";

/** Frames that may wait to be pulled before the socket is paused. */
const maxWaitingFrames = 4;
/** Above this many unsent bytes a writer that waits should wait. */
const highWaterBytes = 1024 * 1024;

/** A connection on which nothing passes for so long is asked whether the other machine is still there. */
const keepAliveMs = 10_000;

const noHead = new Uint8Array(0);

export class FramedSocket {
  readonly #socket: Socket;
  readonly #reader: FrameReader;
  readonly #gatherer = new FrameGatherer();
  #waiting: Buffer[] = [];
  #handler: ((payload: Buffer) => void) | undefined;
  #wake: (() => void) | undefined;
  #isClosed = false;
  /** What was wrong with the frame that ended the connection. */
  #damage: WeirError | undefined;
  #closeCallbacks: (() => void)[] = [];

  /** Takes over a connected socket, whose first `strangerFrames` frames are to be short: see `FrameReader`. */
  constructor(socket: Socket, strangerFrames = 0) {
    this.#socket = socket;
    this.#reader = new FrameReader(maxFrameBytes, strangerFrames);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => this.close());
    socket.on("end", () => this.close());
    socket.on("close", () => this.close());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }
  /** Bytes that the kernel has not taken yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  onClose(callback: () => void): void {
    if (this.#isClosed) callback();
    else this.#closeCallbacks.push(callback);
  }

  /** It is known who is there: frames may be long from now on. */
  trust(): void {
    this.#reader.trust();
  }

  /** From now on every frame goes to `handler`, those that wait first. */
  onFrame(handler: (payload: Buffer) => void): void {
    this.#handler = handler;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const payload of waiting) handler(payload);
    this.#socket.resume();
  }

  /**
   * The next frame.
   * @throws WeirError `Unavailable` when the connection ends first, or after `timeoutMs`; its cause is what was wrong with a
   *   frame, if that was why
   */
  async next(timeoutMs: number): Promise<Buffer> {
    const timer = setTimeout(() => this.close(), timeoutMs);
    try {
      for (;;) {
        const payload = this.#waiting.shift();
        if (payload !== undefined) return payload;
        if (this.#isClosed) {
          const why = "Cannot read: the connection ended";
          throw new WeirError("Unavailable", why, { cause: this.#damage });
        }
        this.#socket.resume();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Sends frames in one write, at once, as far as the kernel takes them; without effect once closed. The payloads must
   * not change any more.
   */
  write(payloads: readonly Uint8Array[]): void {
    if (this.#isClosed) return;
    for (const payload of payloads) this.#gatherer.add(noHead, 0, payload);
    const pieces = this.#gatherer.take();
    if (pieces.length > 1) this.#socket.cork();
    for (const piece of pieces) this.#socket.write(piece);
    if (pieces.length > 1) this.#socket.uncork();
  }

  /** Sends one frame, and waits while too much is unsent. */
  async writeSlowly(payload: Uint8Array, timeoutMs: number): Promise<void> {
    this.write([payload]);
    if (this.unsentBytes > highWaterBytes) await this.#drained(timeoutMs);
    if (this.#isClosed) throw new WeirError("Unavailable", "Cannot write: the connection ended");
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    this.#wake?.();
    const callbacks = this.#closeCallbacks;
    this.#closeCallbacks = [];
    for (const callback of callbacks) callback();
  }

  #take(chunk: Buffer): void {
    try {
      for (const payload of this.#reader.push(chunk)) {
        if (this.#isClosed) return;
        if (this.#handler !== undefined) this.#handler(payload);
        else this.#waiting.push(payload);
      }
    } catch (error) {
      this.#damage = toWeirError(error, "Cannot read a frame");
      this.close();
      return;
    }
    if (this.#waiting.length > maxWaitingFrames) this.#socket.pause();
    if (this.#waiting.length > 0) this.#wake?.();
  }

  #drained(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.close(), timeoutMs);
      const done = () => {
        clearTimeout(timer);
        this.#socket.off("drain", done);
        resolve();
      };
      this.#socket.on("drain", done);
      this.onClose(done);
    });
  }
}
