/**
 * The bytes of the journal. A journal is a row of segment files in one space of offsets; a segment is a header sector
 * and then frames; a frame is what one write and one sync made durable, and holds records.
 *
 *     segment: magic 8 | version 2 | headerCrc 4 | salt 4 | startOffset 6 | sizeBytes 6 | previousEnd 6 | zeros to 512
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
 *    it is durable. One valid frame therefore attests everything before it, whatever number of records it carries.
 *    (With a crc and an attestation per record, as the tempting layout has it, the inner records of the last
 *    acknowledged group would be attested by nobody, and a flipped bit there would pass for a torn tail.)
 * 3. blankSectors counts the sectors of the frame that are all zero by content, so that zeros left by a torn write are
 *    told from zeros in a payload. The mark keeps the last sector, of which a record may fill one byte, from becoming
 *    zero by one flipped bit.
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
const formatVersion = 1;

/** `base` forgets entries at and below its index; `reset` forgets all and starts behind its index. */
export type JournalRecord =
  | { readonly type: "identity"; readonly identity: JournalIdentity }
  | { readonly type: "hardState"; readonly term: Term; readonly vote: NodeId | undefined }
  | { readonly type: "entry"; readonly entry: Entry }
  | { readonly type: "base" | "reset"; readonly index: Index; readonly term: Term };

export interface SegmentHeader {
  /** Seeds every crc of the segment: nothing that a payload can spell is taken for a frame. */
  readonly salt: number;
  /** Journal offset of the segment's first byte. */
  readonly startOffset: number;
  readonly sizeBytes: number;
  /** Journal offset behind the last frame of the segment before this one: it attests that segment's end. */
  readonly previousEnd: number;
}

/** What lies at an offset of a segment. `torn`: some sectors of the frame were never written. */
export type FrameAt =
  | { readonly kind: "blank" }
  | { readonly kind: "valid"; readonly bytes: number; readonly records: readonly JournalRecord[] }
  | { readonly kind: "invalid"; readonly torn: boolean; readonly reason: string };

const typeCodes = { identity: 1, hardState: 2, entry: 3, base: 4, reset: 5 } as const;
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
  sector.writeUInt16BE(formatVersion, 8);
  sector.writeUInt32BE(header.salt, 14);
  sector.writeUIntBE(header.startOffset, 18, 6);
  sector.writeUIntBE(header.sizeBytes, 24, 6);
  sector.writeUIntBE(header.previousEnd, 30, 6);
  sector.writeUInt32BE(crc32(sector.subarray(14)), 10);
  return sector;
}

/** The header of a segment, or why its first sector is none. */
export function decodeSegmentHeader(sector: Buffer): SegmentHeader | string {
  if (sector.length < sectorBytes) return `it has ${sector.length} bytes, wanted ${sectorBytes}`;
  if (!sector.subarray(0, 8).equals(magic)) return "it does not begin like a segment";
  const version = sector.readUInt16BE(8);
  if (version !== formatVersion) return `its format is ${version}, wanted ${formatVersion}`;
  if (sector.readUInt32BE(10) !== crc32(sector.subarray(14, sectorBytes))) {
    return "the crc of its header is wrong";
  }
  return {
    salt: sector.readUInt32BE(14),
    startOffset: sector.readUIntBE(18, 6),
    sizeBytes: sector.readUIntBE(24, 6),
    previousEnd: sector.readUIntBE(30, 6),
  };
}

/** The encoded form of a record's payload; entries come encoded. */
function payloadOf(record: JournalRecord): Uint8Array {
  switch (record.type) {
    case "identity":
      return Buffer.from(JSON.stringify(record.identity));
    case "hardState":
      return Buffer.from(record.vote ?? "");
    case "entry":
      return record.entry.payload;
    case "base":
    case "reset":
      return new Uint8Array(0);
  }
}

/** Bytes of a record within a frame. */
export function recordBytes(record: JournalRecord): number {
  return recordHeaderBytes + payloadOf(record).length;
}

/** A frame of `records`, padded to whole sectors, for journal offset `offset` of a segment with `salt`. */
export function encodeFrame(
  records: readonly JournalRecord[],
  place: { readonly offset: number; readonly salt: number },
): Buffer {
  const payloads = records.map(payloadOf);
  let length = frameHeaderBytes;
  for (const payload of payloads) length += recordHeaderBytes + payload.length;
  const frame = Buffer.allocUnsafe(frameBytes(length - frameHeaderBytes));
  frame.fill(0, 0, frameHeaderBytes).fill(0, length);
  mark.copy(frame, frame.length - mark.length);
  let at = frameHeaderBytes;
  records.forEach((record, i) => {
    const payload = payloads[i]!;
    const { index, term } = placeOf(record);
    frame.writeUInt32BE(payload.length, at);
    frame[at + 4] = typeCodes[record.type];
    frame[at + 5] = record.type === "entry" ? kindCodes[record.entry.kind] : 0;
    frame.writeUIntBE(term, at + 6, 6);
    frame.writeUIntBE(index, at + 12, 6);
    frame.set(payload, at + recordHeaderBytes);
    at += recordHeaderBytes + payload.length;
  });
  frame.writeUInt32BE(length, 0);
  frame.writeUIntBE(place.offset, 8, 6);
  frame.writeUInt32BE(records.length, 14);
  frame.writeUInt32BE(crc32(frame.subarray(frameHeaderBytes, length), place.salt), 22);
  frame.writeUInt32BE(blankSectorsOf(frame), 18);
  frame.writeUInt32BE(headerCrcOf(frame, 0, place.salt), 4);
  return frame;
}

function placeOf(record: JournalRecord): { index: number; term: number } {
  switch (record.type) {
    case "identity":
      return { index: 0, term: 0 };
    case "hardState":
      return { index: 0, term: record.term };
    case "entry":
      return record.entry;
    case "base":
    case "reset":
      return record;
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

/** Whether a valid frame starts anywhere in [from, end of `bytes`), and where the first one does. */
export function findFrame(
  bytes: Buffer,
  from: number,
  header: Pick<SegmentHeader, "salt" | "startOffset">,
): number | undefined {
  for (let at = from; at < bytes.length; at += sectorBytes) {
    if (isBlank(bytes, at) || bytes.readUIntBE(at + 8, 6) !== header.startOffset + at) continue;
    if (decodeFrame(bytes, at, header).kind === "valid") return at;
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
        if (kind === undefined) throw unknownRecord(`an entry of kind ${kindCode}`);
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
      default:
        throw unknownRecord(`a record of type ${type}`);
    }
  }
  return records;
}

function unknownRecord(what: string): WeirError {
  return new WeirError("NotSupported", `Cannot read the journal: a newer version wrote ${what}`);
}
