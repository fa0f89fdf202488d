/**
 * Messages and entries as bytes. The sender and the receiver of a message are known from the connection's handshake and
 * are not repeated. All numbers are big-endian; "number" is 8 bytes that hold an integer below 2^53.
 *
 * message: kind u8 | flags u8 | term number | fields of the kind
 * entry:   term number | kind u8 | payload length u32 | payload; its index follows from its place
 *
 * Decoded payloads are views of the frame that they came in.
 */
import { WeirError } from "../lib/errors.ts";
import { decodeConfiguration } from "./configuration-codec.ts";
import type { Entry, EntryKind, Index, Message, MessageBody, NodeId, Term } from "./types.ts";

const kinds = [
  "requestVote",
  "voteReply",
  "append",
  "appendReply",
  "heartbeat",
  "heartbeatReply",
  "snapshotDone",
  "timeoutNow",
  "readRequest",
  "readReply",
] as const satisfies readonly MessageBody["kind"][];
type Kind = (typeof kinds)[number];
const codeOf = Object.fromEntries(kinds.map((kind, code) => [kind, code])) as Readonly<
  Record<Kind, number>
>;
const entryKinds: readonly EntryKind[] = ["command", "noop", "configuration"];

/**
 * Flags: what is true. `first` is preVote or ok, `second` is granted or transfer. A heartbeat with `first` is the notice of
 * a commit: masters of earlier versions, which do not know it, take it for a heartbeat and answer, which does no harm.
 */
const first = 1;
const second = 2;

/** What the header tells. */
interface Headed {
  readonly kind: Kind;
  readonly term: Term;
}

const headerBytes = 10;
const numberBytes = 8;
const entryHeaderBytes = numberBytes + 1 + 4;

/** The bytes of a message, without sender and receiver. */
export function encodeMessage(message: Message): Buffer {
  switch (message.kind) {
    case "requestVote":
      return encode(
        message,
        (message.preVote ? first : 0) | (message.transfer ? second : 0),
        message.lastIndex,
        message.lastTerm,
      );
    case "voteReply":
      return encode(message, (message.preVote ? first : 0) | (message.granted ? second : 0));
    case "append":
      return encodeAppend(message);
    case "appendReply": {
      const { index, hintIndex, hintTerm } = message;
      return encode(message, message.ok ? first : 0, index, hintIndex, hintTerm);
    }
    case "heartbeat":
      return encode(message, 0, message.commit, message.readToken);
    case "commitNotice":
      return encode({ kind: "heartbeat", term: message.term }, first, message.commit, 0);
    case "heartbeatReply":
      return encode(message, 0, message.readToken);
    case "snapshotDone":
      return encode(message, message.ok ? first : 0, message.index);
    case "timeoutNow":
      return encode(message, 0);
    case "readRequest":
      return encode(message, 0, message.request);
    case "readReply":
      return encode(message, 0, message.request, message.index);
  }
}

/** Whether two messages have the same bytes, as a leader's appends to several followers mostly do. */
export function haveSameBytes(a: Message, b: Message): boolean {
  if (a.kind !== "append" || b.kind !== "append") return false;
  const count = a.entries.length;
  // Entries of one log: with equal ends, what lies between is equal too.
  return (
    a.term === b.term &&
    a.prevIndex === b.prevIndex &&
    a.prevTerm === b.prevTerm &&
    a.commit === b.commit &&
    count === b.entries.length &&
    a.entries[0] === b.entries[0] &&
    a.entries[count - 1] === b.entries[count - 1]
  );
}

function encode(message: Headed, flags: number, ...fields: readonly number[]): Buffer {
  const encoded = Buffer.allocUnsafe(headerBytes + fields.length * numberBytes);
  writeHeader(encoded, message, flags);
  fields.forEach((field, place) => {
    writeNumber(encoded, field, headerBytes + place * numberBytes);
  });
  return encoded;
}

function encodeAppend(message: Extract<Message, { kind: "append" }>): Buffer {
  let size = headerBytes + 3 * numberBytes + 4;
  for (const entry of message.entries) size += entryHeaderBytes + entry.payload.length;
  const encoded = Buffer.allocUnsafe(size);
  writeHeader(encoded, message, 0);
  let at = headerBytes;
  for (const field of [message.prevIndex, message.prevTerm, message.commit]) {
    at = writeNumber(encoded, field, at);
  }
  at = encoded.writeUInt32BE(message.entries.length, at);
  for (const entry of message.entries) {
    at = writeNumber(encoded, entry.term, at);
    at = encoded.writeUInt8(entryKinds.indexOf(entry.kind), at);
    at = encoded.writeUInt32BE(entry.payload.length, at);
    encoded.set(entry.payload, at);
    at += entry.payload.length;
  }
  return encoded;
}

function writeHeader(target: Buffer, message: Headed, flags: number): void {
  target.writeUInt8(codeOf[message.kind], 0);
  target.writeUInt8(flags, 1);
  writeNumber(target, message.term, 2);
}

function writeNumber(target: Buffer, value: number, offset: number): number {
  target.writeUInt32BE(Math.floor(value / 2 ** 32), offset);
  return target.writeUInt32BE(value % 2 ** 32, offset + 4);
}

/**
 * The message of these bytes, with fields that fit each other.
 * @throws WeirError for bytes that are no message, or one that no node sends: mostly `ProtocolError`
 */
export function decodeMessage(encoded: Buffer, from: NodeId, to: NodeId): Message {
  const reader = new Reader(encoded);
  const kind = kinds[reader.byte()];
  if (kind === undefined) fail("an unknown kind");
  const flags = reader.byte();
  const term = reader.number() as Term;
  const body = decodeBody(kind, flags, reader);
  reader.end();
  checkFields(term, body);
  return { from, to, term, ...body };
}

/** What the core takes for granted, since its own log is made of it. Whether it fits that log is for the core to see. */
function checkFields(term: Term, body: MessageBody): void {
  switch (body.kind) {
    case "append": {
      const { prevIndex, prevTerm, entries } = body;
      checkPlace(prevIndex, prevTerm, term);
      let last: number = prevTerm;
      for (const entry of entries) {
        if (entry.term < last || entry.term > term) fail("an entry of a term that does not fit");
        if (!Number.isSafeInteger(entry.index)) fail("an index beyond 2^53");
        if (entry.kind === "configuration") decodeConfiguration(entry.payload);
        last = entry.term;
      }
      return;
    }
    case "requestVote":
      checkPlace(body.lastIndex, body.lastTerm, term);
      return;
    case "appendReply":
      checkPlace(body.hintIndex, body.hintTerm, term);
      return;
    case "voteReply":
    case "heartbeat":
    case "commitNotice":
    case "heartbeatReply":
    case "snapshotDone":
    case "timeoutNow":
    case "readRequest":
    case "readReply":
  }
}

/** A place in the log of a node that is in `term`: nothing lies before the first entry, which has a term. */
function checkPlace(index: Index, indexTerm: Term, term: Term): void {
  if ((index === 0) !== (indexTerm === 0)) fail("an entry without a term, or a term without one");
  if (indexTerm > term) fail("an entry of a term that has not begun");
}

function decodeBody(kind: Kind, flags: number, reader: Reader): MessageBody {
  const hasFirst = (flags & first) !== 0;
  const hasSecond = (flags & second) !== 0;
  switch (kind) {
    case "requestVote": {
      const lastIndex = reader.number() as Index;
      const lastTerm = reader.number() as Term;
      return { kind, preVote: hasFirst, transfer: hasSecond, lastIndex, lastTerm };
    }
    case "voteReply":
      return { kind, preVote: hasFirst, granted: hasSecond };
    case "append":
      return { kind, ...decodeAppend(reader) };
    case "appendReply": {
      const index = reader.number() as Index;
      const hintIndex = reader.number() as Index;
      const hintTerm = reader.number() as Term;
      return { kind, ok: hasFirst, index, hintIndex, hintTerm };
    }
    case "heartbeat": {
      const commit = reader.number() as Index;
      const readToken = reader.number();
      return hasFirst ? { kind: "commitNotice", commit } : { kind, commit, readToken };
    }
    case "heartbeatReply":
      return { kind, readToken: reader.number() };
    case "snapshotDone":
      return { kind, ok: hasFirst, index: reader.number() as Index };
    case "timeoutNow":
      return { kind };
    case "readRequest":
      return { kind, request: reader.number() };
    case "readReply": {
      const request = reader.number();
      return { kind, request, index: reader.number() as Index };
    }
  }
}

function decodeAppend(reader: Reader): {
  prevIndex: Index;
  prevTerm: Term;
  commit: Index;
  entries: readonly Entry[];
} {
  const prevIndex = reader.number() as Index;
  const prevTerm = reader.number() as Term;
  const commit = reader.number() as Index;
  const count = reader.unsigned();
  const entries: Entry[] = [];
  for (let place = 0; place < count; place++) {
    const term = reader.number() as Term;
    const kind = entryKinds[reader.byte()];
    if (kind === undefined) fail("an entry of an unknown kind");
    const payload = reader.bytes(reader.unsigned());
    entries.push({ index: (prevIndex + 1 + place) as Index, term, kind, payload });
  }
  return { prevIndex, prevTerm, commit, entries };
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  byte(): number {
    return this.#bytes[this.#skip(1)]!;
  }
  unsigned(): number {
    return this.#bytes.readUInt32BE(this.#skip(4));
  }
  number(): number {
    const at = this.#skip(numberBytes);
    const value = this.#bytes.readUInt32BE(at) * 2 ** 32 + this.#bytes.readUInt32BE(at + 4);
    if (!Number.isSafeInteger(value)) fail("a number beyond 2^53");
    return value;
  }
  bytes(length: number): Buffer {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }
  end(): void {
    if (this.#at !== this.#bytes.length) fail("bytes behind its end");
  }

  #skip(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) fail("less bytes than its fields need");
    this.#at += length;
    return at;
  }
}

function fail(what: string): never {
  throw new WeirError("ProtocolError", `Cannot decode a Raft message: it has ${what}`);
}
