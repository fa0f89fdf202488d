/**
 * What travels between an RPC client and server: one msgpack list per frame, the kind first, then the id of the call,
 * then the fields of the kind. Bodies are in the wire form of the method's schemas and are checked by whoever knows
 * the method.
 *
 * Compatibility: fields are only ever appended to a kind, and readers ignore what they do not know.
 */
import { Packr } from "msgpackr";
import { type ErrorCode, errorCodes, type Outcome, WeirError } from "../lib/errors.ts";

/** Largest message, in bytes: bulk data is paged, so that no message needs more. */
export const maxMessageBytes = 16 * 1024 * 1024;
/** Longest deadline of a call; longer ones are cut to it. */
export const maxDeadlineMs = 86_400_000;
/** Items of a stream that a server sends ahead of what its client has consumed. */
export const streamWindow = 256;

export type Frame =
  /** `deadlineMs`: what is left of the caller's time when it sends; 0 means that there is no deadline (streams). */
  | { kind: "request"; id: number; method: string; deadlineMs: number; body: unknown }
  | { kind: "reply"; id: number; body: unknown }
  | { kind: "error"; id: number; error: WeirError }
  | { kind: "item"; id: number; body: unknown }
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

function fieldsOf(frame: Frame): unknown[] {
  switch (frame.kind) {
    case "request":
      return [frame.method, frame.deadlineMs, frame.body];
    case "reply":
    case "item":
      return [frame.body];
    case "error": {
      const { code, message, outcome } = frame.error;
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
      return { kind, id, method: first, deadlineMs: second, body: third };
    case "reply":
    case "item":
      return { kind, id, body: first };
    case "error": {
      if (typeof first !== "string" || typeof second !== "string") {
        return malformed(peer, "the code and message of an error");
      }
      const code = errorCodes.has(first) ? (first as ErrorCode) : "Internal";
      const outcome: Outcome = third === "notApplied" ? "notApplied" : "unknown";
      const leaderAddress = typeof fourth === "string" ? fourth : undefined;
      const cause = new RemoteCause(peer, leaderAddress);
      return { kind, id, error: new WeirError(code, second, { cause, outcome }) };
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
