/**
 * Frames over one TCP connection, the same on both ends. All frames sent in one turn of the event loop leave in one
 * write.
 *
 * Invariants
 * 1. `onClose` is called exactly once, and no `onFrame` after it.
 * 2. Bytes that are no frame end the connection; nothing that a peer sends throws out of here.
 */
import type { Socket } from "node:net";
import { toWeirError, WeirError } from "../lib/errors.ts";
import { FrameReader, frameHeader, frameHeaderBytes } from "../lib/framing.ts";
import { decodeFrame, encodeFrame, type Frame, maxMessageBytes } from "./wire.ts";

/** A peer that leaves so many bytes of answers unread is cut off. */
const maxUnsentBytes = 64 * 1024 * 1024;
/** Payloads up to this size are copied behind their header, so that the kernel gets fewer pieces. */
const copiedBytes = 16 * 1024;

export class FrameConnection {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #onClose: (error: WeirError) => void;
  #corked = false;
  #closed = false;

  /** Takes over `socket`, connected or about to be; frames sent before it is connected wait. */
  constructor(
    socket: Socket,
    options: {
      peer: string;
      onFrame: (frame: Frame) => void;
      /** `error` says why: the peer left, was silent, or sent nonsense. */
      onClose: (error: WeirError) => void;
    },
  ) {
    this.#socket = socket;
    this.peer = options.peer;
    this.#onClose = options.onClose;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    const reader = new FrameReader(maxMessageBytes);
    socket.on("data", (chunk: Buffer) => {
      try {
        for (const payload of reader.push(chunk)) {
          if (this.#closed) return;
          options.onFrame(decodeFrame(payload, this.peer));
        }
      } catch (error) {
        this.close(toWeirError(error, `Cannot read from ${this.peer}`));
      }
    });
    socket.on("error", (cause) => {
      this.close(
        new WeirError("Unavailable", `Cannot talk to ${this.peer}: ${cause.message}`, { cause }),
      );
    });
    socket.on("close", () => {
      this.close(
        new WeirError("Unavailable", `Cannot talk to ${this.peer}: the connection was closed`),
      );
    });
  }

  /**
   * Sends a frame; without effect once closed.
   * @throws WeirError `InvalidArgument` when the message is larger than a frame may be
   */
  send(frame: Frame): void {
    if (this.#closed) return;
    const payload = encodeFrame(frame);
    if (payload.length > maxMessageBytes) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot send a message of ${String(payload.length)} bytes: wanted at most ${String(maxMessageBytes)}`,
      );
    }
    if (this.#socket.writableLength > maxUnsentBytes) {
      this.close(
        new WeirError("Unavailable", `Cannot talk to ${this.peer}: it does not read its answers`),
      );
      return;
    }
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    const header = frameHeader(payload);
    if (payload.length > copiedBytes) {
      this.#socket.write(header);
      this.#socket.write(payload);
      return;
    }
    const whole = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
    header.copy(whole);
    whole.set(payload, frameHeaderBytes);
    this.#socket.write(whole);
  }

  /** Ends the connection at once. */
  close(error: WeirError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    this.#onClose(error);
  }

  /** Ends the connection after what was sent has left. */
  end(error: WeirError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.end(() => this.#socket.destroy());
    this.#onClose(error);
  }
}
