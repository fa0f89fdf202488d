/**
 * Frames on a byte stream: length (u32, big-endian, of what follows) | crc32 (u32) | payload. Both the RPC and the
 * Raft connections speak it; a frame that is too long or whose crc is wrong ends the connection.
 */
import { crc32 } from "node:zlib";
import { WeirError } from "./errors.ts";

export const frameHeaderBytes = 8;
/** Largest payload of one frame, in bytes. */
export const maxFrameBytes = 64 * 1024 * 1024;

/** The 8 header bytes that go before `payload`. */
export function frameHeader(payload: Uint8Array): Buffer {
  const header = Buffer.allocUnsafe(frameHeaderBytes);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt32BE(crc32(payload), 4);
  return header;
}

/**
 * Cuts a byte stream into payloads. The payloads are views of what was pushed where they lie in one chunk.
 * @throws WeirError `ProtocolError` from `push` for a frame that is too long or damaged
 */
export class FrameReader {
  readonly #maxBytes: number;
  readonly #chunks: Buffer[] = [];
  #buffered = 0;
  #wanted = frameHeaderBytes;
  #header: Buffer | undefined;

  constructor(maxBytes = maxFrameBytes) {
    this.#maxBytes = maxBytes;
  }

  /** Takes the next bytes of the stream and returns the payloads that they complete, in order. */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const payloads: Buffer[] = [];
    while (this.#buffered >= this.#wanted) {
      const piece = this.#take(this.#wanted);
      if (this.#header === undefined) {
        const length = piece.readUInt32BE(0);
        if (length > this.#maxBytes) {
          throw new WeirError(
            "ProtocolError",
            `Cannot read a frame: it announces ${String(length)} bytes, wanted at most ${String(this.#maxBytes)}`,
          );
        }
        this.#header = piece;
        this.#wanted = length;
      } else {
        if (crc32(piece) !== this.#header.readUInt32BE(4)) {
          throw new WeirError("ProtocolError", "Cannot read a frame: its crc is wrong");
        }
        this.#header = undefined;
        this.#wanted = frameHeaderBytes;
        payloads.push(piece);
      }
    }
    return payloads;
  }

  #take(length: number): Buffer {
    this.#buffered -= length;
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= length) {
      if (first.length === length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const whole = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      const next = this.#chunks[0]!;
      const taken = next.copy(whole, filled, 0, length - filled);
      filled += taken;
      if (taken === next.length) this.#chunks.shift();
      else this.#chunks[0] = next.subarray(taken);
    }
    return whole;
  }
}
