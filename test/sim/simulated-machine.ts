/**
 * The plain state machine of a simulated node. The product's session table, in its state, tells which requests of which session
 * it has executed, so that one that was proposed twice is executed once; a hash over everything that it did tells whether
 * two states are equal.
 */
import { indexOfPosition, positionOf, type SessionId } from "../../src/lib/ids.ts";
import { decodeConfiguration } from "../../src/raft/configuration-codec.ts";
import type { Configuration, Entry } from "../../src/raft/types.ts";
import { openedRows, type Rows, serve, type Served } from "./session-rows.ts";
import type { ClientRequest, Image, Outcome, StateMachine, Workload } from "./state-machine.ts";
import type { World } from "./world.ts";

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

/** States are values: one that is kept, sent or gone back to is the value itself. */
class PlainMachine implements StateMachine {
  readonly #remembers: boolean;
  #state = emptyState;
  #flushed = emptyState;

  constructor(remembers: boolean) {
    this.#remembers = remembers;
  }

  get index(): number {
    return this.#state.index;
  }
  get hash(): number {
    return this.#state.hash;
  }
  get configuration(): MachineState["configuration"] {
    return this.#state.configuration;
  }
  get flushed(): MachineState {
    return this.#flushed;
  }

  restart(): void {
    this.#state = this.#flushed;
  }

  async apply(entry: Entry): Promise<Outcome> {
    const { state, position, served } = applied(this.#state, entry, this.#remembers);
    this.#state = state;
    const of = served === undefined ? undefined : requestOf(entry.payload);
    return { of, served, position, answer: "" };
  }

  flush(): () => void {
    const state = this.#state;
    return () => {
      if (state.index > this.#flushed.index) this.#flushed = state;
    };
  }

  snapshot(whenTaken: (image: PlainImage) => void): void {
    const { index, term, hash } = this.#flushed;
    whenTaken({ index, term, hash, chunks: [], state: this.#flushed });
  }

  async install(image: Image): Promise<void> {
    const { state } = image as PlainImage;
    this.#state = state;
    this.#flushed = state;
  }
}

interface PlainImage extends Image {
  readonly state: MachineState;
}

/** Requests without content. `remembers`: false for a session table that forgets what was executed. */
export function plainWorkload({ random }: World, remembers = true): Workload {
  let unanswered = 0;
  return {
    newMachine: () => new PlainMachine(remembers),
    draw: () => (request) => encodeRequest(request, random.below(30)),
    drawUnanswered: () => {
      const request = { session: 0, sequence: ++unanswered, acknowledgedBelow: 0 };
      const size = random.below(40);
      // Some are longer than a sector, so that they can be torn.
      return encodeRequest(request, size > 36 ? 40 * size : size);
    },
    onApplied: () => undefined,
    onAnswered: () => undefined,
    look: () => undefined,
    check: async () => undefined,
  };
}
