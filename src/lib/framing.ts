/**
 * Frames on a byte stream: length (u32, big-endian, of what follows) | crc32 (u32) | payload. Both the RPC and the
 * Raft connections speak it; a frame that is too long or whose crc is wrong ends the connection.
 */
import { crc32 } from "node:zlib";
import { WeirError } from "./errors.ts";

export const frameHeaderBytes = 8;
/** Largest payload of one frame, in bytes. */
export const maxFrameBytes = 64 * 1024 * 1024;
/** Largest payload of a frame from somebody who has not shown yet that it speaks the protocol. */
export const strangerFrameBytes = 64 * 1024;

/** Small frames are gathered in blocks of this size. */
const blockBytes = 64 * 1024;
/** A larger payload goes its own way: copying it costs more than another piece of the write. */
const copiedBytes = 16 * 1024;

/** What the heap keeps for each piece of a frame, besides its bytes. */
const pieceBytes = 256;

const noBlock = Buffer.alloc(0);

/** The 8 header bytes that go before `payload`. */
export function frameHeader(payload: Uint8Array): Buffer {
  const header = Buffer.allocUnsafe(frameHeaderBytes);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt32BE(crc32(payload), 4);
  return header;
}

/** What is left of a block that nobody gathers in: a connection that is quiet holds none. */
let spare: { readonly block: Buffer; readonly from: number } | undefined;

/**
 * Gathers frames, so that all of one turn of the event loop leave in one write of few pieces. Memory that was handed out
 * is never written again: the kernel may not have taken it yet.
 */
export class FrameGatherer {
  #block: Buffer = noBlock;
  /** What is gathered lies in `#pieces` and behind them in [#from, #to) of the block. */
  #pieces: Uint8Array[] = [];
  #from = 0;
  #to = 0;
  #bytes = 0;

  /** Bytes that were added since the last `take`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds the frame whose payload is `head` and `body`, one after the other. A large body must not change any more. */
  add(head: Uint8Array, headBytes: number, body: Uint8Array): void {
    const length = headBytes + body.length;
    const isCopied = body.length <= copiedBytes;
    const inBlock = frameHeaderBytes + headBytes + (isCopied ? body.length : 0);
    if (this.#to + inBlock > this.#block.length) this.#startBlock(inBlock);
    const block = this.#block;
    const start = this.#to + frameHeaderBytes;
    const bodyAt = start + headBytes;
    for (let i = 0; i < headBytes; i++) block[start + i] = head[i]!;
    if (isCopied) block.set(body, bodyAt);
    let crc = crc32(block.subarray(start, this.#to + inBlock));
    if (!isCopied) crc = crc32(body, crc);
    writeUInt32(block, length, this.#to);
    writeUInt32(block, crc, this.#to + 4);
    this.#to += inBlock;
    this.#bytes += frameHeaderBytes + length;
    if (!isCopied) {
      this.#closePiece();
      this.#pieces.push(body);
    }
  }

  /** The pieces to write, in order. */
  take(): readonly Uint8Array[] {
    this.#closePiece();
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#bytes = 0;
    if (spare === undefined) spare = { block: this.#block, from: this.#to };
    this.#useBlock(noBlock, 0);
    return pieces;
  }

  #startBlock(atLeast: number): void {
    this.#closePiece();
    if (spare !== undefined && spare.from + atLeast <= spare.block.length) {
      this.#useBlock(spare.block, spare.from);
    } else {
      this.#useBlock(Buffer.allocUnsafeSlow(Math.max(blockBytes, atLeast)), 0);
    }
    spare = undefined;
  }

  #useBlock(block: Buffer, from: number): void {
    this.#block = block;
    this.#from = from;
    this.#to = from;
  }

  #closePiece(): void {
    if (this.#from === this.#to) return;
    this.#pieces.push(this.#block.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}

/**
 * Cuts a byte stream into payloads. The payloads are views of what was pushed where they lie in one chunk.
 * @throws WeirError `ProtocolError` from `push` for a frame that is too long or damaged
 */
export class FrameReader {
  readonly #maxBytes: number;
  /** Frames to come that are a stranger's. */
  #strangerFrames: number;
  /** The beginning of a frame that is not complete. */
  #chunks: Buffer[] = [];
  #buffered = 0;
  /** Bytes, its header included, of the frame that is not complete; the header's own as long as that is not there. */
  #wanted = frameHeaderBytes;

  /** The first `strangerFrames` frames may have `strangerFrameBytes` at most, unless `trust` is called before. */
  constructor(maxBytes = maxFrameBytes, strangerFrames = 0) {
    this.#maxBytes = maxBytes;
    this.#strangerFrames = strangerFrames;
  }

  /** What the beginning of a frame whose end has not come takes, in bytes of memory; 0 between frames. */
  get heldBytes(): number {
    return this.#buffered + this.#chunks.length * pieceBytes;
  }

  /** From the next frame on all may be of the full size. */
  trust(): void {
    this.#strangerFrames = 0;
  }

  /** Takes the next bytes of the stream and returns the payloads that they complete, in order. */
  push(chunk: Buffer): Buffer[] {
    const payloads: Buffer[] = [];
    let at = 0;
    while (this.#buffered > 0) {
      // Only what the frame that was begun still needs: what follows it stays in the chunk, and is not copied.
      const taken = chunk.subarray(at, at + this.#wanted - this.#buffered);
      this.#chunks.push(taken);
      this.#buffered += taken.length;
      at += taken.length;
      if (this.#buffered < this.#wanted) return payloads;
      const begun = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
      const wanted = frameHeaderBytes + this.#lengthAt(begun, 0);
      if (begun.length < wanted) {
        this.#chunks = [begun];
        this.#wanted = wanted;
        if (at === chunk.length) return payloads;
        continue;
      }
      payloads.push(payloadAt(begun, 0, wanted));
      if (this.#strangerFrames > 0) this.#strangerFrames--;
      this.#chunks = [];
      this.#buffered = 0;
      this.#wanted = frameHeaderBytes;
    }
    while (at + frameHeaderBytes <= chunk.length) {
      const end = at + frameHeaderBytes + this.#lengthAt(chunk, at);
      if (end > chunk.length) {
        this.#wanted = end - at;
        break;
      }
      payloads.push(payloadAt(chunk, at, end));
      if (this.#strangerFrames > 0) this.#strangerFrames--;
      at = end;
    }
    if (at < chunk.length) {
      this.#chunks.push(chunk.subarray(at));
      this.#buffered = chunk.length - at;
    }
    return payloads;
  }

  #lengthAt(bytes: Buffer, at: number): number {
    const length = readUInt32(bytes, at);
    const isStrangers = this.#strangerFrames > 0;
    const maxBytes = isStrangers ? Math.min(strangerFrameBytes, this.#maxBytes) : this.#maxBytes;
    if (length > maxBytes) {
      const first = isStrangers ? " before it is known who sends it" : "";
      throw new WeirError(
        "ProtocolError",
        `Cannot read a frame: it announces ${String(length)} bytes, wanted at most ${String(maxBytes)}${first}`,
      );
    }
    return length;
  }
}

/** The payload of the frame at [at, end). */
function payloadAt(bytes: Buffer, at: number, end: number): Buffer {
  const payload = bytes.subarray(at + frameHeaderBytes, end);
  if (crc32(payload) !== readUInt32(bytes, at + 4)) {
    throw new WeirError("ProtocolError", "Cannot read a frame: its crc is wrong");
  }
  return payload;
}

function readUInt32(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 0x1000000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
}

function writeUInt32(bytes: Uint8Array, value: number, at: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
