/**
 * The bytes of the journal. A journal is a row of segment files in one space of offsets; a segment is a header sector
 * and then frames; a frame is what one write and one sync made durable, and holds records.
 *
 *     segment: magic 8 | version 2 | headerCrc 4 | salt 4 | startOffset 6 | sizeBytes 6 | zeros to 512
 *     frame:   length 4 | headerCrc 4 | syncedOffset 6 | recordCount 4 | blankSectors 4 | bodyCrc 4 | zeros to 32
 *              | records | zeros | mark 8 (the end of the last sector)
 *     record:  length 4 | type 1 | kind 1 | term 6 | index 6 | payload
 *
 * All numbers are big-endian; lengths of frames include the header but not the padding, lengths of records only the
 * payload. Pure.
 *
 * Invariants
 * 1. A frame starts on a sector of 512 bytes and is padded with zeros to the next: no write touches a sector of an
 *    earlier frame, and the header never straddles two.
 * 2. A frame's syncedOffset is its own offset: one write is in flight at a time, so when a frame is written all before
 *    it is durable. One frame's header therefore attests everything before it, whatever number of records it carries.
 *    (With a crc and an attestation per record, as the tempting layout has it, the inner records of the last
 *    acknowledged group would be attested by nobody, and a flipped bit there would pass for a torn tail.)
 * 3. blankSectors counts the sectors of the frame that are all zero by content, so that zeros left by a torn write are
 *    told from zeros in a payload. The mark keeps the last sector, of which a record may fill one byte, from becoming
 *    zero by one flipped bit.
 *
 * Versions. 1: the segment's header also held where the segment before it ends (6 bytes, behind sizeBytes), its crc
 * left the version out, and a file got its name only with its first frame in it. 2: files are named ahead of their use;
 * the first frame links to the segment before it (`link`), and a frame of that one says that this one exists (`next`).
 */
import { crc32 } from "node:zlib";
import { WeirError } from "../lib/errors.ts";
import type { Entry, EntryKind, Index, NodeId, Term } from "../raft/types.ts";
import type { JournalIdentity } from "./types.ts";

export const sectorBytes = 512;
const frameHeaderBytes = 32;
const recordHeaderBytes = 18;
const mark = Buffer.from("~frame~\n", "latin1");
const magic = Buffer.from("WEIRJRNL", "latin1");
/** What is written; older ones are read. */
export const formatVersion = 2;

/**
 * `base` forgets entries at and below its index; `reset` forgets all and starts behind its index. `link`, in the first
 * frame of a segment, says where the frames of the segment before it end, and its salt; `next` says that the segment
 * that starts at an offset has its name.
 */
export type JournalRecord =
  | { readonly type: "identity"; readonly identity: JournalIdentity }
  | { readonly type: "hardState"; readonly term: Term; readonly vote: NodeId | undefined }
  | { readonly type: "entry"; readonly entry: Entry }
  | { readonly type: "base" | "reset"; readonly index: Index; readonly term: Term }
  | { readonly type: "link"; readonly previousEnd: number; readonly previousSalt: number }
  | { readonly type: "next"; readonly startOffset: number };

export interface SegmentHeader {
  readonly version: number;
  /** Seeds every crc of the segment: nothing that a payload can spell is taken for a frame. */
  readonly salt: number;
  /** Journal offset of the segment's first byte. */
  readonly startOffset: number;
  readonly sizeBytes: number;
  /** Version 1 only: journal offset behind the last frame of the segment before this one. */
  readonly previousEnd?: number;
}

/** Where a frame is to be written. */
export interface FramePlace {
  /** Journal offset, a multiple of 512. */
  readonly offset: number;
  readonly salt: number;
}

/** What lies at an offset of a segment. `torn`: some sectors of the frame were never written. */
export type FrameAt =
  | { readonly kind: "blank" }
  | { readonly kind: "valid"; readonly bytes: number; readonly records: readonly JournalRecord[] }
  | { readonly kind: "invalid"; readonly torn: boolean; readonly reason: string };

const typeCodes = {
  identity: 1,
  hardState: 2,
  entry: 3,
  base: 4,
  reset: 5,
  link: 6,
  next: 7,
} as const;
const kindCodes: Readonly<Record<EntryKind, number>> = { command: 0, noop: 1, configuration: 2 };
const kinds: readonly EntryKind[] = ["command", "noop", "configuration"];

/** Bytes on disk of a frame with `bodyBytes` of records: whole sectors. */
export function frameBytes(bodyBytes: number): number {
  const length = frameHeaderBytes + bodyBytes + mark.length;
  return Math.ceil(length / sectorBytes) * sectorBytes;
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const sector = Buffer.alloc(sectorBytes);
  magic.copy(sector, 0);
  sector.writeUInt16BE(header.version, 8);
  sector.writeUInt32BE(header.salt, 14);
  sector.writeUIntBE(header.startOffset, 18, 6);
  sector.writeUIntBE(header.sizeBytes, 24, 6);
  sector.writeUInt32BE(segmentCrcOf(sector), 10);
  return sector;
}

function segmentCrcOf(sector: Buffer): number {
  return crc32(sector.subarray(14, sectorBytes), crc32(sector.subarray(0, 10)));
}

/**
 * The header of a segment, or why its first sector is none.
 * @throws WeirError `NotSupported`: a newer version wrote it
 */
export function decodeSegmentHeader(sector: Buffer): SegmentHeader | string {
  if (sector.length < sectorBytes) return `it has ${sector.length} bytes, wanted ${sectorBytes}`;
  if (!sector.subarray(0, 8).equals(magic)) return "it does not begin like a segment";
  const version = sector.readUInt16BE(8);
  const crc = version === 1 ? crc32(sector.subarray(14, sectorBytes)) : segmentCrcOf(sector);
  if (sector.readUInt32BE(10) !== crc) return "the crc of its header is wrong";
  if (version > formatVersion) throw newer(`a segment of format ${version}`);
  return {
    version,
    salt: sector.readUInt32BE(14),
    startOffset: sector.readUIntBE(18, 6),
    sizeBytes: sector.readUIntBE(24, 6),
    ...(version === 1 && { previousEnd: sector.readUIntBE(30, 6) }),
  };
}

const noBytes = new Uint8Array(0);

/** The encoded form of a record's payload; entries come encoded. */
function payloadOf(record: JournalRecord): Uint8Array {
  switch (record.type) {
    case "entry":
      return record.entry.payload;
    case "identity":
      return Buffer.from(JSON.stringify(record.identity));
    case "hardState":
      return Buffer.from(record.vote ?? "");
    case "base":
    case "reset":
    case "link":
    case "next":
      return noBytes;
  }
}

/** Bytes of a record within a frame. */
export function recordBytes(record: JournalRecord): number {
  return recordHeaderBytes + payloadOf(record).length;
}

/** A frame of `records`, padded to whole sectors; in `scratch`, where that is long enough. */
export function encodeFrame(
  records: readonly JournalRecord[],
  place: FramePlace,
  scratch?: Buffer,
): Buffer {
  let length = frameHeaderBytes;
  for (const record of records) length += recordBytes(record);
  const padded = frameBytes(length - frameHeaderBytes);
  const frame =
    scratch !== undefined && padded <= scratch.length
      ? scratch.subarray(0, padded)
      : Buffer.allocUnsafe(padded);
  frame.fill(0, 0, frameHeaderBytes).fill(0, length);
  mark.copy(frame, frame.length - mark.length);
  let at = frameHeaderBytes;
  for (const record of records) at = encodeRecord(frame, at, record);
  frame.writeUInt32BE(length, 0);
  writeUint48(frame, place.offset, 8);
  frame.writeUInt32BE(records.length, 14);
  frame.writeUInt32BE(crc32(frame.subarray(frameHeaderBytes, length), place.salt), 22);
  frame.writeUInt32BE(blankSectorsOf(frame), 18);
  frame.writeUInt32BE(headerCrcOf(frame, 0, place.salt), 4);
  return frame;
}

function encodeRecord(frame: Buffer, at: number, record: JournalRecord): number {
  const payload = payloadOf(record);
  frame.writeUInt32BE(payload.length, at);
  frame[at + 4] = typeCodes[record.type];
  frame[at + 5] = record.type === "entry" ? kindCodes[record.entry.kind] : 0;
  writeUint48(frame, termOf(record), at + 6);
  writeUint48(frame, indexOf(record), at + 12);
  frame.set(payload, at + recordHeaderBytes);
  return at + recordHeaderBytes + payload.length;
}

/** Three times as fast as `writeUIntBE(value, at, 6)`. */
function writeUint48(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt16BE(Math.floor(value / 2 ** 32), at);
  bytes.writeUInt32BE(value >>> 0, at + 2);
}

/** What the term of a record's header holds. */
function termOf(record: JournalRecord): number {
  switch (record.type) {
    case "entry":
      return record.entry.term;
    case "hardState":
    case "base":
    case "reset":
      return record.term;
    case "link":
      return record.previousSalt;
    case "identity":
    case "next":
      return 0;
  }
}

/** What the index of a record's header holds. */
function indexOf(record: JournalRecord): number {
  switch (record.type) {
    case "entry":
      return record.entry.index;
    case "base":
    case "reset":
      return record.index;
    case "link":
      return record.previousEnd;
    case "next":
      return record.startOffset;
    case "identity":
    case "hardState":
      return 0;
  }
}

function headerCrcOf(bytes: Buffer, at: number, salt: number): number {
  const length = crc32(bytes.subarray(at, at + 4), salt);
  return crc32(bytes.subarray(at + 8, at + frameHeaderBytes), length);
}

const blankSector = Buffer.alloc(sectorBytes);

function isBlank(bytes: Buffer, at: number): boolean {
  return bytes[at] === 0 && blankSector.equals(bytes.subarray(at, at + sectorBytes));
}

function blankSectorsOf(bytes: Buffer): number {
  let blank = 0;
  for (let at = 0; at < bytes.length; at += sectorBytes) if (isBlank(bytes, at)) blank++;
  return blank;
}

/** What lies at byte `at` (a multiple of 512) of the segment file `bytes`. Payloads are copies. */
export function decodeFrame(
  bytes: Buffer,
  at: number,
  header: Pick<SegmentHeader, "salt" | "startOffset">,
): FrameAt {
  if (isBlank(bytes, at)) return { kind: "blank" };
  if (bytes.readUInt32BE(at + 4) !== headerCrcOf(bytes, at, header.salt)) {
    return { kind: "invalid", torn: false, reason: "the crc of a header is wrong" };
  }
  const length = bytes.readUInt32BE(at);
  const padded = frameBytes(length - frameHeaderBytes);
  const syncedOffset = bytes.readUIntBE(at + 8, 6);
  if (syncedOffset !== header.startOffset + at || at + padded > bytes.length) {
    return { kind: "invalid", torn: false, reason: "a header belongs elsewhere" };
  }
  const frame = bytes.subarray(at, at + padded);
  const body = frame.subarray(frameHeaderBytes, length);
  const isWhole =
    frame.readUInt32BE(22) === crc32(body, header.salt) &&
    isZero(frame.subarray(length, padded - mark.length)) &&
    frame.subarray(padded - mark.length).equals(mark);
  if (!isWhole) {
    const torn = blankSectorsOf(frame) > frame.readUInt32BE(18);
    return { kind: "invalid", torn, reason: "what it holds is not as it was written" };
  }
  return { kind: "valid", bytes: padded, records: decodeRecords(body) };
}

function isZero(bytes: Buffer): boolean {
  return blankSector.subarray(0, bytes.length).equals(bytes);
}

/**
 * The first header of a frame in [from, end of `bytes`): at its own place it attests, even if the frame is torn, that
 * all before it was durable; at another it was misdirected on its way to the disk.
 */
export function findFrame(
  bytes: Buffer,
  from: number,
  header: Pick<SegmentHeader, "salt" | "startOffset">,
): { readonly at: number; readonly offset: number; readonly isInPlace: boolean } | undefined {
  for (let at = from; at < bytes.length; at += sectorBytes) {
    if (isBlank(bytes, at) || bytes.readUInt32BE(at) < frameHeaderBytes) continue;
    if (bytes.readUInt32BE(at + 4) !== headerCrcOf(bytes, at, header.salt)) continue;
    const offset = bytes.readUIntBE(at + 8, 6);
    return { at, offset, isInPlace: offset === header.startOffset + at };
  }
  return undefined;
}

/** Offset behind the last byte of `bytes` that is not in a blank sector, at least `from`. */
export function endOfWritten(bytes: Buffer, from: number): number {
  let end = bytes.length;
  while (end > from && isBlank(bytes, end - sectorBytes)) end -= sectorBytes;
  return end;
}

/**
 * Records of a body whose crc was right: what does not decode is of a newer format.
 * @throws WeirError `NotSupported`
 */
function decodeRecords(body: Buffer): JournalRecord[] {
  const records: JournalRecord[] = [];
  let at = 0;
  while (at < body.length) {
    const length = body.readUInt32BE(at);
    const type = body[at + 4]!;
    const kindCode = body[at + 5]!;
    const kind = kinds[kindCode];
    const term = body.readUIntBE(at + 6, 6) as Term;
    const index = body.readUIntBE(at + 12, 6) as Index;
    const payload = body.subarray(at + recordHeaderBytes, at + recordHeaderBytes + length);
    at += recordHeaderBytes + length;
    switch (type) {
      case typeCodes.identity:
        records.push({
          type: "identity",
          identity: JSON.parse(payload.toString()) as JournalIdentity,
        });
        break;
      case typeCodes.hardState:
        records.push({
          type: "hardState",
          term,
          vote: length === 0 ? undefined : payload.toString(),
        });
        break;
      case typeCodes.entry:
        if (kind === undefined) throw newer(`an entry of kind ${kindCode}`);
        records.push({
          type: "entry",
          entry: { index, term, kind, payload: new Uint8Array(payload) },
        });
        break;
      case typeCodes.base:
        records.push({ type: "base", index, term });
        break;
      case typeCodes.reset:
        records.push({ type: "reset", index, term });
        break;
      case typeCodes.link:
        records.push({ type: "link", previousEnd: index, previousSalt: term });
        break;
      case typeCodes.next:
        records.push({ type: "next", startOffset: index });
        break;
      default:
        throw newer(`a record of type ${type}`);
    }
  }
  return records;
}

function newer(what: string): WeirError {
  return new WeirError("NotSupported", `Cannot read the journal: a newer version wrote ${what}`);
}
