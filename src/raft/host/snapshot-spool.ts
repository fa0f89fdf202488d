/**
 * Chunks of a snapshot on their way in, in a file of their own until all are there: the heap stays small, and a transfer
 * that broke goes on where it stopped. Nothing depends on the file after a crash, so it is never synced.
 *
 * record: length u32 | crc32 u32 | chunk
 */
import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { WeirError } from "../../lib/errors.ts";

const headerBytes = 8;

export class SnapshotSpool {
  readonly #path: string;
  readonly #file: FileHandle;
  #count = 0;
  #bytes = 0;
  #crc = 0;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** An empty one; what was at `path` is gone. */
  static async create(path: string): Promise<SnapshotSpool> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    return new SnapshotSpool(path, await open(path, "w+", 0o600));
  }

  /** Chunks that it holds. */
  get count(): number {
    return this.#count;
  }
  /** Over all chunks that it holds. */
  get crc(): number {
    return this.#crc;
  }

  /** Takes the next chunk; resolves when the kernel has it. */
  async add(chunk: Uint8Array): Promise<void> {
    const header = Buffer.allocUnsafe(headerBytes);
    header.writeUInt32BE(chunk.length, 0);
    header.writeUInt32BE(crc32(chunk), 4);
    const record = Buffer.concat([header, chunk]);
    // At its place, so that a write that failed half-way leaves nothing behind.
    await writeAll(this.#file, record, this.#bytes);
    this.#bytes += record.length;
    this.#crc = crc32(chunk, this.#crc);
    this.#count++;
  }

  /**
   * All chunks, in order.
   * @throws WeirError `Corrupt` when the disk does not give back what was written
   */
  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < this.#bytes; ) {
      const header = await this.#read(at, headerBytes);
      const chunk = await this.#read(at + headerBytes, header.readUInt32BE(0));
      if (crc32(chunk) !== header.readUInt32BE(4)) throw this.#damaged(at);
      yield chunk;
      at += headerBytes + chunk.length;
    }
  }

  /** Closes the file and removes it. */
  async remove(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
  }

  async #read(at: number, length: number): Promise<Buffer> {
    if (at + length > this.#bytes) throw this.#damaged(at);
    const buffer = Buffer.allocUnsafe(length);
    for (let filled = 0; filled < length; ) {
      const { bytesRead } = await this.#file.read(buffer, filled, length - filled, at + filled);
      if (bytesRead === 0) throw this.#damaged(at);
      filled += bytesRead;
    }
    return buffer;
  }

  #damaged(at: number): WeirError {
    return new WeirError(
      "Corrupt",
      `Cannot read the snapshot that came in from "${this.#path}": it is damaged at byte ${at}`,
    );
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const rest = bytes.length - written;
    written += (await file.write(bytes, written, rest, at + written)).bytesWritten;
  }
}
