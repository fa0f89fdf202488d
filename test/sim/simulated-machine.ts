/**
 * The state machine of a simulated node. The product's session table, in its state, tells which requests of which session
 * it has executed, so that one that was proposed twice is executed once; a hash over everything that it did tells whether
 * two states are equal.
 */
import { indexOfPosition, positionOf, type SessionId } from "../../src/lib/ids.ts";
import { decodeConfiguration } from "../../src/raft/configuration-codec.ts";
import type { Configuration, Entry } from "../../src/raft/types.ts";
import { openedRows, type Rows, serve, type Served } from "./session-rows.ts";

/** A whole state; never changed. */
export interface MachineState {
  readonly index: number;
  readonly term: number;
  readonly hash: number;
  readonly rows: Rows;
  readonly configuration: { readonly index: number; readonly value: Configuration } | undefined;
}

export const emptyState: MachineState = {
  index: 0,
  term: 0,
  hash: 0,
  rows: openedRows,
  configuration: undefined,
};

/** What a client asks for. Session 0: to be executed however often it comes. */
export interface ClientRequest {
  readonly session: number;
  readonly sequence: number;
  /** The client has the answers of all sequences below. */
  readonly acknowledgedBelow: number;
}

const headBytes = 10;

export function requestOf(payload: Uint8Array): ClientRequest | undefined {
  if (payload.length < headBytes) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset);
  return {
    session: view.getUint16(0),
    sequence: view.getUint32(2),
    acknowledgedBelow: view.getUint32(6),
  };
}

export function encodeRequest(request: ClientRequest, paddingBytes: number): Buffer {
  const payload = Buffer.alloc(headBytes + paddingBytes, request.sequence & 0xff);
  payload.writeUInt16BE(request.session, 0);
  payload.writeUInt32BE(request.sequence, 2);
  payload.writeUInt32BE(request.acknowledgedBelow, 6);
  return payload;
}

/** What an entry did: `served` only for the request of a session, `position` is where that was executed, now or before. */
export interface Applied {
  readonly state: MachineState;
  readonly position: number;
  readonly served: Served | undefined;
}

/** The state after an entry. */
export function applied(state: MachineState, entry: Entry, remembers = true): Applied {
  const { index, term, kind, payload } = entry;
  let hash = Math.imul(state.hash ^ index, 0x01000193) ^ term;
  for (const byte of payload) hash = Math.imul(hash ^ byte, 0x01000193);
  const { rows } = state;
  if (kind === "configuration") {
    const configuration = { index, value: decodeConfiguration(payload) };
    const next = { index, term, hash: hash >>> 0, rows, configuration };
    return { state: next, position: index, served: undefined };
  }
  const { configuration } = state;
  const request = kind === "command" ? requestOf(payload) : undefined;
  if (request === undefined || request.session === 0) {
    const next = { index, term, hash: hash >>> 0, rows, configuration };
    return { state: next, position: index, served: undefined };
  }
  const session = request.session as SessionId;
  const served = serve(rows, { ...request, session }, positionOf(index, 0), remembers);
  const position = indexOfPosition(served.position);
  hash = Math.imul(hash ^ position ^ served.kind.charCodeAt(2), 0x01000193);
  const next = { index, term, hash: hash >>> 0, rows: served.rows, configuration };
  return { state: next, position, served: served.kind };
}
