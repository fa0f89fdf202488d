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
import { FrameGatherer, FrameReader } from "../lib/framing.ts";
import {
  decodeFrame,
  encodeInParts,
  type Frame,
  longestHeadBytes,
  maxMessageBytes,
} from "./wire.ts";

/** A peer that leaves so many bytes of answers unread is cut off. */
const maxUnsentBytes = 64 * 1024 * 1024;
/** So much is handed to the kernel before the turn is over: the peer may begin with it. */
const gatheredBytes = 64 * 1024;

export class FrameConnection {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #onClose: (error: WeirError) => void;
  readonly #gatherer = new FrameGatherer();
  readonly #head = new Uint8Array(longestHeadBytes);
  readonly #flush = () => {
    this.#isFlushDue = false;
    if (!this.#closed) this.#write();
  };
  #isFlushDue = false;
  #closed = false;
  #receivedMs = performance.now();
  #sentMs = this.#receivedMs;

  /** Takes over `socket`, connected or about to be; frames sent before it is connected wait. */
  constructor(
    socket: Socket,
    options: {
      peer: string;
      onFrame: (frame: Frame) => void;
      /** The beginning of a frame has come, which takes so many bytes of memory until the rest is there. */
      onPart?: (bytes: number) => void;
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
      this.#receivedMs = performance.now();
      try {
        for (const payload of reader.push(chunk)) {
          if (this.#closed) return;
          options.onFrame(decodeFrame(payload, this.peer));
        }
        const { heldBytes } = reader;
        if (heldBytes > 0 && !this.#closed) options.onPart?.(heldBytes);
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

  /** When the frame that is handed to `onFrame` was read, on the clock of `performance.now`. */
  get receivedMs(): number {
    return this.#receivedMs;
  }

  /** When the first frame of the present turn was sent. */
  get sentMs(): number {
    return this.#sentMs;
  }

  /**
   * Sends a frame; without effect once closed.
   * @throws WeirError `InvalidArgument` when the message is larger than a frame may be
   */
  send(frame: Frame): void {
    if (this.#closed) return;
    const { bytes, body } = encodeInParts(frame, this.#head);
    if (bytes + body.length > maxMessageBytes) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot send a message of ${String(bytes + body.length)} bytes: wanted at most ${String(maxMessageBytes)}`,
      );
    }
    if (this.#socket.writableLength > maxUnsentBytes) {
      this.close(
        new WeirError("Unavailable", `Cannot talk to ${this.peer}: it does not read its answers`),
      );
      return;
    }
    this.#gatherer.add(this.#head, bytes, body);
    if (this.#gatherer.bytes >= gatheredBytes) this.#write();
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    this.#sentMs = performance.now();
    process.nextTick(this.#flush);
  }

  /** Hands what is gathered to the kernel. */
  #write(): void {
    const pieces = this.#gatherer.take();
    if (pieces.length === 1) {
      this.#socket.write(pieces[0]!);
    } else if (pieces.length > 1) {
      this.#socket.cork();
      for (const piece of pieces) this.#socket.write(piece);
      this.#socket.uncork();
    }
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
    this.#write();
    this.#closed = true;
    this.#socket.end(() => this.#socket.destroy());
    this.#onClose(error);
  }
}
