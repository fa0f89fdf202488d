/**
 * The state machine of a simulated node. It keeps, in its state, which requests of which session it has executed, so that
 * one that was proposed twice is executed once; and a hash over everything, which tells whether two states are equal.
 */
import type { Configuration, Entry } from "../../src/raft/types.ts";
import { decodeConfiguration } from "../../src/raft/configuration-codec.ts";

/** The last request of a session, and the log position at which it was executed. */
export interface Executed {
  readonly sequence: number;
  readonly position: number;
}

/** A whole state; never changed. */
export interface MachineState {
  readonly index: number;
  readonly term: number;
  readonly hash: number;
  readonly sessions: ReadonlyMap<number, Executed>;
  readonly configuration: { readonly index: number; readonly value: Configuration } | undefined;
}

export const emptyState: MachineState = {
  index: 0,
  term: 0,
  hash: 0,
  sessions: new Map(),
  configuration: undefined,
};

/** The request in a payload. Session 0: to be executed however often it comes. */
export function requestOf(payload: Uint8Array): { session: number; sequence: number } | undefined {
  if (payload.length < 6) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset);
  return { session: view.getUint16(0), sequence: view.getUint32(2) };
}

export function encodeRequest(session: number, sequence: number, paddingBytes: number): Buffer {
  const payload = Buffer.alloc(6 + paddingBytes, sequence & 0xff);
  payload.writeUInt16BE(session, 0);
  payload.writeUInt32BE(sequence, 2);
  return payload;
}

/** The state after an entry, and what its request is answered: where it was executed, now or before. */
export function applied(
  state: MachineState,
  entry: Entry,
  remembers = true,
): { state: MachineState; position: number; isExecuted: boolean } {
  const { index, term, kind, payload } = entry;
  let hash = Math.imul(state.hash ^ index, 0x01000193) ^ term;
  for (const byte of payload) hash = Math.imul(hash ^ byte, 0x01000193);
  const next = { ...state, index, term, hash: hash >>> 0 };
  if (kind === "configuration") {
    const configuration = { index, value: decodeConfiguration(payload) };
    return { state: { ...next, configuration }, position: index, isExecuted: false };
  }
  const request = kind === "command" ? requestOf(payload) : undefined;
  if (request === undefined || request.session === 0) {
    return { state: next, position: index, isExecuted: false };
  }
  const { session, sequence } = request;
  const known = state.sessions.get(session);
  if (remembers && known !== undefined && known.sequence >= sequence) {
    return { state: next, position: known.position, isExecuted: false };
  }
  const sessions = new Map(state.sessions).set(session, { sequence, position: index });
  return { state: { ...next, sessions }, position: index, isExecuted: true };
}
