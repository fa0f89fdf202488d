/**
 * The rows of the product's session table in a simulated state: a value that is never changed, so that a whole state can
 * be kept, sent and gone back to at no cost.
 */
import type { Position, SessionId } from "../../src/lib/ids.ts";
import type { Schema } from "../../src/lib/schema.ts";
import { sessionKey } from "../../src/master/state/keys.ts";
import { session } from "../../src/master/state/model.ts";
import { admit, remember } from "../../src/master/state/session-table.ts";
import type { StateWriter } from "../../src/master/store/types.ts";
import type { Request } from "../../src/rpc/commands.ts";

export type Rows = ReadonlyMap<string, unknown>;

/** Sessions that every simulated cluster begins with: 1 to this. */
export const sessionCount = 4;

/** What came of a request: executed now, answered as before, or refused. */
export type Served = ReturnType<typeof admit>["kind"];

/** Takes a request to the product's session table; `position`: where it was executed, now or before. */
export function serve(
  rows: Rows,
  request: Pick<Request, "session" | "sequence" | "acknowledgedBelow">,
  place: Position,
  remembers: boolean,
): { readonly rows: Rows; readonly kind: Served; readonly position: Position } {
  const state = new ChangedRows(rows);
  const of: Request = { ...request, atomic: false, commands: [] };
  const admission = admit(state, of, 0);
  if (admission.kind === "execute" && remembers) {
    remember(state, of, { position: place, results: [] });
  }
  const position = admission.kind === "replay" ? admission.position : place;
  return { rows: state.rows, kind: admission.kind, position };
}

/** What the session table writes to: puts values into a copy. */
class ChangedRows implements StateWriter {
  rows: Rows;
  #copy: Map<string, unknown> | undefined;

  constructor(rows: Rows) {
    this.rows = rows;
  }

  read<T>(_schema: Schema<T>, key: string): T | undefined {
    return this.rows.get(key) as T | undefined;
  }

  write<T>(_schema: Schema<T>, key: string, value: T): void {
    this.#changed().set(key, value);
  }

  add<T>(schema: Schema<T>, key: string, value: T): void {
    this.write(schema, key, value);
  }

  delete(key: string): void {
    if (this.rows.has(key)) this.#changed().delete(key);
  }

  get(): never {
    throw new Error("The session table reads records only");
  }

  put(): never {
    throw new Error("The session table writes records only");
  }

  scan(): never {
    throw new Error("The session table scans nothing");
  }

  #changed(): Map<string, unknown> {
    this.#copy ??= new Map(this.rows);
    this.rows = this.#copy;
    return this.#copy;
  }
}

function openSessions(): Rows {
  const state = new ChangedRows(new Map());
  for (let id = 1; id <= sessionCount; id++) {
    state.write(session, sessionKey(id as SessionId), {
      clientName: `client ${id}`,
      timeoutMs: 10_000,
      expiresAtMs: 10_000,
      prunedBelow: 0,
      closing: false,
      executedBelow: 0,
    });
  }
  return state.rows;
}

export const openedRows = openSessions();
