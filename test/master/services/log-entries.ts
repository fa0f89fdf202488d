/** Entries of the log as consensus hands them to a state machine. */
import { encode } from "../../../src/lib/schema.ts";
import type { Entry, EntryKind, Index, Term } from "../../../src/raft/types.ts";
import { type Command, entryPayload } from "../../../src/rpc/commands.ts";
import { requestOf } from "../state/machine-fixture.ts";

export function entryOf(index: number, kind: EntryKind, payload: Uint8Array): Entry {
  return { index: index as Index, term: 1 as Term, kind, payload };
}

/** One whose cluster time and wall time are its index. */
export function commandEntry(index: number, ...commands: Command[]): Entry {
  const wallTime = { sec: index, nsec: 0 };
  const requests = [requestOf(commands)];
  const payload = encode(entryPayload, { clusterTimeMs: index, wallTime, requests });
  return entryOf(index, "command", payload);
}
