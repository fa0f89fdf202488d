/**
 * LevelDB's table files (doc/table_format.md of its sources): blocks of data | compression (1) | crc (4), one behind the
 * other, and a footer that says where the index of the data blocks and that of the others are. Pure.
 */
import { crc32c } from "./crc32c.ts";
import { unmasked } from "./leveldb-log.ts";

const trailerBytes = 5;
const footerBytes = 48;
const magic = Buffer.from("57fb808b247547db", "hex");
const snappy = 1;

interface Handle {
  readonly offset: number;
  readonly size: number;
}

/** The offset of what is damaged; undefined for a table of which every byte is as it was written. */
export function damageOf(table: Buffer): number | undefined {
  const footerAt = table.length - footerBytes;
  if (footerAt < 0 || !table.subarray(-magic.length).equals(magic)) return Math.max(0, footerAt);
  const footer = new Bytes(table.subarray(footerAt, -magic.length));
  const indexes = [footer.handle(), footer.handle()];
  if (footer.rest().some((byte) => byte !== 0)) return footerAt;
  const handles = [...indexes];
  for (const index of indexes) {
    if (!isSound(table, index)) return index.offset;
    handles.push(...handlesIn(contentOf(table, index)));
  }
  handles.sort((a, b) => a.offset - b.offset);
  let at = 0;
  for (const handle of handles) {
    // Blocks leave no byte between them that none of their sums covers.
    if (handle.offset !== at || !isSound(table, handle)) return at;
    at += handle.size + trailerBytes;
  }
  return at === footerAt ? undefined : at;
}

function isSound(table: Buffer, { offset, size }: Handle): boolean {
  const end = offset + size + 1;
  if (end + 4 > table.length - footerBytes) return false;
  return crc32c(table, offset, end) === unmasked(table.readUInt32LE(end));
}

function contentOf(table: Buffer, { offset, size }: Handle): Buffer {
  const block = table.subarray(offset, offset + size);
  return table[offset + size] === snappy ? decompressed(block) : block;
}

/** The values of an index block, which are handles: entries of (shared, own, value length, own part of the key, value). */
function handlesIn(block: Buffer): Handle[] {
  const restarts = block.readUInt32LE(block.length - 4);
  const entries = new Bytes(block.subarray(0, block.length - 4 * (restarts + 1)));
  const handles: Handle[] = [];
  while (!entries.isAtEnd) {
    entries.number();
    const keyBytes = entries.number();
    const valueBytes = entries.number();
    entries.take(keyBytes);
    handles.push(new Bytes(entries.take(valueBytes)).handle());
  }
  return handles;
}

/** What snappy made smaller (format_description.txt of its sources). Only for what is sound. */
function decompressed(input: Buffer): Buffer {
  const bytes = new Bytes(input);
  const output = Buffer.alloc(bytes.number());
  let at = 0;
  while (!bytes.isAtEnd) {
    const tag = bytes.number8();
    const kind = tag & 3;
    if (kind === 0) {
      const short = tag >>> 2;
      const length = 1 + (short < 60 ? short : bytes.little(short - 59));
      bytes.take(length).copy(output, at);
      at += length;
      continue;
    }
    const length = kind === 1 ? 4 + ((tag >>> 2) & 7) : 1 + (tag >>> 2);
    const back =
      kind === 1 ? ((tag >>> 5) << 8) | bytes.number8() : bytes.little(kind === 2 ? 2 : 4);
    // Byte by byte: what is copied may be what is being written.
    for (const end = at + length; at < end; at++) output[at] = output[at - back]!;
  }
  return output;
}

/** Reads what LevelDB writes: numbers of seven bits a byte, the lowest first. */
export class Bytes {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  number8(): number {
    return this.#bytes[this.#at++] ?? 0;
  }

  number(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.number8();
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }

  little(size: number): number {
    return this.take(size).readUIntLE(0, size);
  }

  handle(): Handle {
    return { offset: this.number(), size: this.number() };
  }

  take(size: number): Buffer {
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at);
  }
}
