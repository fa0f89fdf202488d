/**
 * Reads backups. Everything that is said about one was checked before: nothing of a damaged file is handed out as good.
 */
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { frameHeaderBytes } from "../../lib/framing.ts";
import { decode } from "../../lib/schema.ts";
import {
  type BackupEnd,
  type BackupHeader,
  type BackupItem,
  backupItem,
} from "../../rpc/backup-items.ts";
import { decodeChunk } from "../store/chunk-codec.ts";
import { StateHash } from "../store/state-hash.ts";
import type { KeyValue } from "../store/types.ts";
import { backupMagic, backupSuffix, maxBackupFrameBytes } from "./format.ts";

/** A backup that was read to its end and found whole. */
export interface VerifiedBackup {
  readonly path: string;
  readonly bytes: number;
  readonly header: BackupHeader;
  readonly end: BackupEnd;
}

/** A file of a directory of backups, judged by its two ends alone. `damage` says why it is none that can be used. */
export interface ListedBackup {
  readonly path: string;
  readonly bytes: number;
  readonly header: BackupHeader | undefined;
  readonly end: BackupEnd | undefined;
  readonly damage: string | undefined;
}

/**
 * Reads a backup from end to end and compares crcs, counts, hashes and the order of keys.
 * @throws WeirError `Corrupt` with file and offset; `NotFound`
 */
export async function verifyBackup(path: string): Promise<VerifiedBackup> {
  return reading(path, async (file) => {
    const reader = new BackupReader(path, file);
    const header = await reader.header();
    // Going through the rows is what checks them.
    const rows = reader.rows();
    while ((await rows.next()).done !== true);
    return { path, bytes: reader.offset, header, end: reader.end! };
  });
}

/**
 * The rows of a backup, in the order of their keys.
 * @throws WeirError `Corrupt`, from the iterator, where the file is damaged: what came before is of no use then
 */
export async function* rowsOfBackup(path: string): AsyncGenerator<readonly KeyValue[]> {
  const file = await open(path, "r");
  try {
    const reader = new BackupReader(path, file);
    await reader.header();
    yield* reader.rows();
  } finally {
    await file.close();
  }
}

/** The backups of a directory, oldest first; nothing but their two ends is read. */
export async function listBackups(directory: string): Promise<ListedBackup[]> {
  const names = await readdir(directory).catch((thrown: unknown) => {
    throw toWeirError(thrown, `Cannot list the backups in "${directory}"`);
  });
  const found: ListedBackup[] = [];
  for (const name of names.sort()) {
    if (name.endsWith(backupSuffix)) found.push(await look(join(directory, name)));
  }
  return found.sort((a, b) => (a.header?.takenMs ?? 0) - (b.header?.takenMs ?? 0));
}

async function look(path: string): Promise<ListedBackup> {
  const { size: bytes } = await stat(path);
  let header: BackupHeader | undefined;
  let end: BackupEnd | undefined;
  try {
    await reading(path, async (file) => {
      header = await new BackupReader(path, file).header();
      end = await endOf(path, file, bytes);
    });
    return { path, bytes, header, end, damage: undefined };
  } catch (thrown) {
    const { message } = toWeirError(thrown, "Cannot read it");
    return { path, bytes, header, end, damage: message };
  }
}

/** What the last bytes say. A file that was cut short, or that something was appended to, does not end in an end. */
async function endOf(path: string, file: FileHandle, bytes: number): Promise<BackupEnd> {
  const length = (await readAt(file, bytes - 4, 4))?.readUInt32BE(0) ?? 0;
  const frame = await readAt(file, bytes - 4 - length, length);
  const item = frame !== undefined && isWholeFrame(frame) ? itemOf(frame) : undefined;
  if (item?.kind === "end") return item;
  throw damage(path, bytes, "it does not end as a whole backup does: it was cut short");
}

function itemOf(frame: Buffer): BackupItem | undefined {
  try {
    return decode(backupItem, frame.subarray(frameHeaderBytes), "backup");
  } catch {
    return undefined;
  }
}

function isWholeFrame(frame: Buffer): boolean {
  if (frame.length < frameHeaderBytes) return false;
  const payload = frame.subarray(frameHeaderBytes);
  return frame.readUInt32BE(0) === payload.length && frame.readUInt32BE(4) === crc32(payload);
}

async function reading<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, "r").catch((thrown: unknown) => {
    throw toWeirError(thrown, `Cannot open the backup "${path}"`);
  });
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Goes through a file once: `header`, then `rows` to their end. */
export class BackupReader {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #sum: Hash = createHash("sha256");
  #header: BackupHeader | undefined;
  /** Of what comes next. */
  offset = 0;
  /** There once all rows were read, and fit it. */
  end: BackupEnd | undefined;

  constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  async header(): Promise<BackupHeader> {
    const magic = await readAt(this.#file, 0, backupMagic.length);
    if (magic?.equals(backupMagic) !== true) {
      throw this.#damage("it does not begin as a backup of this version does");
    }
    this.#sum.update(magic);
    this.offset = magic.length;
    const item = await this.#next();
    if (item.kind !== "header") throw this.#damage("its first part is no header");
    this.#header = item;
    return item;
  }

  async *rows(): AsyncGenerator<readonly KeyValue[]> {
    const hash = new StateHash();
    let chunks = 0;
    let count = 0;
    let last = "";
    for (;;) {
      const at = this.offset;
      const item = await this.#next();
      if (item.kind === "header") throw this.#damage("it has a second header", at);
      if (item.kind === "end") {
        const sum = { chunks, rows: count, hash: hash.digest(), sha256: this.#sum.digest("hex") };
        await this.#finish(item, sum, at);
        return;
      }
      const rows = this.#rowsOf(item.chunk, at);
      for (const [key, value] of rows) {
        if (key <= last) throw this.#damage("its keys are not in order", at);
        last = key;
        hash.add(key, value);
      }
      chunks++;
      count += rows.length;
      yield rows;
    }
  }

  /** The rows of the part at an offset where `rows` gave some before. */
  async rowsAt(offset: number): Promise<readonly KeyValue[]> {
    const { item } = await this.#itemAt(offset);
    if (item.kind !== "rows") throw this.#damage("it has changed while it was read", offset);
    return this.#rowsOf(item.chunk, offset);
  }

  #rowsOf(chunk: Uint8Array, at: number): readonly KeyValue[] {
    try {
      return decodeChunk(chunk);
    } catch (cause) {
      throw this.#damage("the crc of a chunk is wrong", at, cause);
    }
  }

  async #finish(
    end: BackupEnd,
    found: { chunks: number; rows: number; hash: string; sha256: string },
    at: number,
  ): Promise<void> {
    const stated = { ...end, hash: this.#header!.stateHash };
    for (const what of ["chunks", "rows", "hash", "sha256"] as const) {
      if (stated[what] !== found[what]) {
        const wanted = String(stated[what]);
        throw this.#damage(`its ${what} are ${found[what]}, wanted ${wanted}`, at);
      }
    }
    const length = await readAt(this.#file, this.offset, 4);
    if (length?.readUInt32BE(0) !== this.offset - at) throw this.#damage("its last bytes are gone");
    this.offset += 4;
    if ((await this.#file.stat()).size !== this.offset) {
      throw this.#damage("something was appended to it");
    }
    this.end = end;
  }

  async #next(): Promise<BackupItem> {
    const { item, header, payload } = await this.#itemAt(this.offset);
    if (item.kind !== "end") this.#sum.update(header).update(payload);
    this.offset += header.length + payload.length;
    return item;
  }

  async #itemAt(at: number): Promise<{ item: BackupItem; header: Buffer; payload: Buffer }> {
    const header = await readAt(this.#file, at, frameHeaderBytes);
    if (header === undefined) throw this.#damage("it ends before its end: it was cut short");
    const length = header.readUInt32BE(0);
    if (length > maxBackupFrameBytes) throw this.#damage(`a part of ${length} bytes is announced`);
    const payload = await readAt(this.#file, at + frameHeaderBytes, length);
    if (payload === undefined) throw this.#damage("it ends within a part: it was cut short");
    if (crc32(payload) !== header.readUInt32BE(4)) throw this.#damage("the crc of a part is wrong");
    let item: BackupItem;
    try {
      item = decode(backupItem, payload, "backup");
    } catch (cause) {
      throw this.#damage("a part is none of this version", at, cause);
    }
    return { item, header, payload };
  }

  #damage(what: string, at = this.offset, cause?: unknown): WeirError {
    return damage(this.#path, at, what, cause);
  }
}

/** Exactly these bytes; undefined where the file ends before. */
async function readAt(
  file: FileHandle,
  position: number,
  length: number,
): Promise<Buffer | undefined> {
  if (position < 0) return undefined;
  const { size } = await file.stat();
  if (position + length > size) return undefined;
  const buffer = Buffer.allocUnsafe(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) return undefined;
    filled += bytesRead;
  }
  return buffer;
}

function damage(path: string, offset: number, what: string, cause?: unknown): WeirError {
  return new WeirError(
    "Corrupt",
    `Cannot use the backup "${path}": at byte ${offset} ${what}. Take another one: weir backup ls`,
    { cause },
  );
}
