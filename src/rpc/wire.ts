/**
 * What travels between an RPC client and server: one msgpack list per frame, the kind first, then the id of the call,
 * then the fields of the kind. Bodies are in the wire form of the method's schemas and are checked by whoever knows
 * the method.
 *
 * Compatibility: fields are only ever appended to a kind, and readers ignore what they do not know.
 */
import { Packr } from "msgpackr";
import { knownCode, type Outcome, WeirError } from "../lib/errors.ts";
import { Reader, unfit, Writer } from "../lib/msgpack.ts";
import type { Schema } from "../lib/schema.ts";
import { shortened } from "../lib/shortened.ts";

/** Largest message, in bytes: bulk data is paged, so that no message needs more. */
export const maxMessageBytes = 16 * 1024 * 1024;
/** Characters of the message of an error: it may quote what a stranger sent, and has to be answered all the same. */
const longestMessage = 1024;
/** Longest deadline of a call; longer ones are cut to it. */
export const maxDeadlineMs = 86_400_000;
/** Items of a stream that a server sends ahead of what its client has consumed. */
export const streamWindow = 256;

/** Bytes of one msgpack value, which the schemas of a method read and write. */
export type Body = Uint8Array;

/** The body of `value`; nobody writes to its bytes again. */
export function encodeBody<T>(schema: Schema<T>, value: T): Body {
  writer.begin();
  try {
    schema.write(writer, value);
    return writer.take();
  } catch (thrown) {
    if (thrown !== unfit) throw thrown;
    return packr.pack(schema.toWire(value));
  }
}

/**
 * The value of a body; `at` names it in errors.
 * @throws WeirError `ProtocolError` for what does not fit the schema
 */
export function decodeBody<T>(schema: Schema<T>, body: Body, at: string): T {
  reader.begin(body);
  try {
    const value = schema.read(reader);
    if (reader.isAtEnd) return value;
  } catch (thrown) {
    if (thrown !== unfit) throw thrown;
  } finally {
    reader.end();
  }
  // The long way, which knows all forms of msgpack and says what is wrong.
  let wire: unknown;
  try {
    wire = packr.unpack(body);
  } catch (cause) {
    throw new WeirError("ProtocolError", `Cannot decode "${at}": the bytes are no msgpack`, {
      cause,
    });
  }
  return schema.fromWire(wire, at);
}

const writer = new Writer();
const reader = new Reader();

export type Frame =
  /** `deadlineMs`: what is left of the caller's time when it sends; 0 means that there is no deadline (streams). */
  | { kind: "request"; id: number; method: string; deadlineMs: number; body: Body }
  | { kind: "reply"; id: number; body: Body }
  | { kind: "error"; id: number; error: WeirError }
  | { kind: "item"; id: number; body: Body }
  | { kind: "end"; id: number }
  /** The client no longer wants the answer. */
  | { kind: "cancel"; id: number }
  /** The client has consumed `count` more items of a stream. */
  | { kind: "credit"; id: number; count: number }
  | { kind: "ping"; id: number }
  | { kind: "pong"; id: number };

const kinds = [
  "request",
  "reply",
  "error",
  "item",
  "end",
  "cancel",
  "credit",
  "ping",
  "pong",
] as const satisfies readonly Frame["kind"][];

const packr = new Packr({ useRecords: false, int64AsType: "number", variableMapSize: true });

/** The bytes of a frame's payload. */
export function encodeFrame(frame: Frame): Uint8Array {
  return packr.pack([kinds.indexOf(frame.kind), frame.id, ...fieldsOf(frame)]);
}

/**
 * The same bytes in two parts, for the kinds that make the load: the head goes into `head`, of `longestHeadBytes`. The
 * body is the caller's own.
 */
export function encodeInParts(frame: Frame, head: Uint8Array): { bytes: number; body: Uint8Array } {
  if (frame.id <= largestCount) {
    if (frame.kind === "reply" || frame.kind === "item") {
      head[0] = listOf3;
      head[1] = frame.kind === "reply" ? replyKind : itemKind;
      return { bytes: writeCount(head, frame.id, 2), body: frame.body };
    }
    if (frame.kind === "request" && isShortAscii(frame.method)) {
      const { method } = frame;
      head[0] = listOf5;
      head[1] = requestKind;
      let at = writeCount(head, frame.id, 2);
      head[at++] = shortText | method.length;
      for (let i = 0; i < method.length; i++) head[at++] = method.charCodeAt(i);
      return { bytes: writeCount(head, frame.deadlineMs, at), body: frame.body };
    }
  }
  return { bytes: 0, body: encodeFrame(frame) };
}

// Heads are written and read here, byte by byte, in the few forms of msgpack that they take.
const requestKind = kinds.indexOf("request");
const replyKind = kinds.indexOf("reply");
const itemKind = kinds.indexOf("item");
const listOf3 = 0x93;
const listOf5 = 0x95;
const shortText = 0xa0;
const uint8 = 0xcc;
const uint16 = 0xcd;
const uint32 = 0xce;
const largestCount = 0xffffffff;
/** Longest name of a method in a head. */
const longestMethod = 31;
/** Bytes of the longest head: list, kind, id, name of the method, deadline. */
export const longestHeadBytes = 1 + 1 + 5 + (1 + longestMethod) + 5;

function isShortAscii(method: string): boolean {
  if (method.length > longestMethod) return false;
  for (let i = 0; i < method.length; i++) if (method.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** Writes an integer of up to 32 bits in its shortest form; where it ends. */
function writeCount(target: Uint8Array, value: number, at: number): number {
  let to = at;
  if (value >= 0x10000) {
    target[to++] = uint32;
    target[to++] = value >>> 24;
    target[to++] = value >>> 16;
    target[to++] = value >>> 8;
  } else if (value >= 0x100) {
    target[to++] = uint16;
    target[to++] = value >>> 8;
  } else if (value >= 0x80) {
    target[to++] = uint8;
  }
  target[to++] = value;
  return to;
}

/** Walks over a head. A form that `encodeInParts` does not write makes it `isLost`, and the general way is taken. */
class HeadReader {
  at = 1;
  isLost = false;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  count(): number {
    const bytes = this.#bytes;
    const first = bytes[this.at++]!;
    if (first < 0x80) return first;
    const width = first === uint8 ? 1 : first === uint16 ? 2 : first === uint32 ? 4 : 0;
    const end = this.at + width;
    if (width === 0 || end > bytes.length) {
      this.isLost = true;
      return 0;
    }
    let value = 0;
    while (this.at < end) value = value * 256 + bytes[this.at++]!;
    return value;
  }

  shortText(): string {
    const first = this.#bytes[this.at++]!;
    const end = this.at + (first & longestMethod);
    if ((first & 0xe0) !== shortText || end > this.#bytes.length) {
      this.isLost = true;
      return "";
    }
    let characters = "";
    while (this.at < end) {
      const code = this.#bytes[this.at++]!;
      if (code > 0x7f) this.isLost = true;
      characters += String.fromCharCode(code);
    }
    return characters;
  }
}

/** The kinds that make the load, their bodies as views of the payload; undefined for all others. */
function decodeCommon(payload: Uint8Array): Frame | undefined {
  const first = payload[0];
  if (first !== listOf3 && first !== listOf5) return undefined;
  const head = new HeadReader(payload);
  const kind = head.count();
  const id = head.count();
  if (first === listOf3) {
    if ((kind !== replyKind && kind !== itemKind) || head.isLost) return undefined;
    return { kind: kind === replyKind ? "reply" : "item", id, body: payload.subarray(head.at) };
  }
  if (kind !== requestKind) return undefined;
  const method = head.shortText();
  const deadlineMs = head.count();
  if (head.isLost) return undefined;
  return { kind: "request", id, method, deadlineMs, body: payload.subarray(head.at) };
}

function fieldsOf(frame: Frame): unknown[] {
  switch (frame.kind) {
    case "request":
      return [frame.method, frame.deadlineMs, packr.unpack(frame.body)];
    case "reply":
    case "item":
      return [packr.unpack(frame.body)];
    case "error": {
      const { code, outcome } = frame.error;
      const message = shortened(frame.error.message, longestMessage);
      return [code, message, outcome, leaderAddressOf(frame.error) ?? null];
    }
    case "credit":
      return [frame.count];
    case "end":
    case "cancel":
    case "ping":
    case "pong":
      return [];
  }
}

/**
 * The frame of a payload. An error arrives as a WeirError whose cause is a `RemoteCause` that names `peer`.
 * @throws WeirError `ProtocolError` for anything that is no frame
 */
export function decodeFrame(payload: Uint8Array, peer: string): Frame {
  const common = decodeCommon(payload);
  if (common !== undefined) return common;
  let wire: unknown;
  try {
    wire = packr.unpack(payload);
  } catch (cause) {
    throw new WeirError("ProtocolError", `Cannot read a message of ${peer}: it is no msgpack`, {
      cause,
    });
  }
  if (!Array.isArray(wire)) return malformed(peer, "a list");
  const [number, id, first, second, third, fourth] = wire as unknown[];
  const kind = typeof number === "number" ? kinds[number] : undefined;
  if (kind === undefined) return malformed(peer, "a known kind of message");
  if (!isCount(id)) return malformed(peer, "the id of a call");
  switch (kind) {
    case "request":
      if (typeof first !== "string") return malformed(peer, "the name of a method");
      if (!isCount(second)) return malformed(peer, "a deadline in milliseconds");
      return { kind, id, method: first, deadlineMs: second, body: packr.pack(third) };
    case "reply":
    case "item":
      return { kind, id, body: packr.pack(first) };
    case "error": {
      if (typeof first !== "string" || typeof second !== "string") {
        return malformed(peer, "the code and message of an error");
      }
      const outcome: Outcome = third === "notApplied" ? "notApplied" : "unknown";
      const leaderAddress = typeof fourth === "string" ? fourth : undefined;
      const cause = new RemoteCause(peer, leaderAddress);
      return { kind, id, error: new WeirError(knownCode(first), second, { cause, outcome }) };
    }
    case "credit":
      if (!isCount(first)) return malformed(peer, "a number of items");
      return { kind, id, count: first };
    case "end":
    case "cancel":
    case "ping":
    case "pong":
      return { kind, id };
  }
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function malformed(peer: string, wanted: string): never {
  throw new WeirError("ProtocolError", `Cannot read a message of ${peer}: wanted ${wanted}`);
}

/** The cause of an error that a server answered, as opposed to one of the connection to it. */
export class RemoteCause {
  /** `host:port` of the server that answered. */
  readonly peer: string;
  /** RPC address `host:port` of the leader, as far as the answering master knows. */
  readonly leaderAddress: string | undefined;

  constructor(peer: string, leaderAddress: string | undefined) {
    this.peer = peer;
    this.leaderAddress = leaderAddress;
  }
}

/** True when a server answered with this error; false for what happened on the way. */
export function isRemote(error: WeirError): boolean {
  return error.cause instanceof RemoteCause;
}

/** The leader that an answer `NotLeader` hints at. */
export function leaderAddressOf(error: WeirError): string | undefined {
  return error.cause instanceof RemoteCause ? error.cause.leaderAddress : undefined;
}

/** What a master that does not lead answers to what only the leader does. */
export function notLeader(leaderAddress: string | undefined): WeirError {
  return new WeirError(
    "NotLeader",
    `Cannot serve this call: this master does not lead, ${leaderAddress === undefined ? "and knows no leader" : `the leader is ${leaderAddress}`}`,
    { cause: new RemoteCause("here", leaderAddress) },
  );
}
