/**
 * Exactly once: which requests of a session were executed, and what they answered.
 *
 * Invariants
 * 1. The results of a session are those of executed sequences in [prunedBelow, prunedBelow + window).
 * 2. A sequence below `prunedBelow` is never executed again: it is refused.
 * 3. No sequence from `executedBelow` on has results.
 */
import type { Position } from "../../lib/ids.ts";
import type { CommandResult, Request } from "../../rpc/commands.ts";
import type { StateWriter } from "../store/types.ts";
import { resultKey, sessionKey } from "./keys.ts";
import { session, storedResults } from "./model.ts";
import { sessionOf } from "./queries.ts";

/** Sequences that a session may have beyond the oldest unacknowledged one. */
export const sequenceWindow = 4096;

/** What is to be done with a request. */
export type Admission =
  | { readonly kind: "execute" }
  | {
      readonly kind: "replay";
      readonly position: Position;
      readonly results: readonly CommandResult[];
    }
  | { readonly kind: "refuse"; readonly result: Extract<CommandResult, { ok: false }> };

function refusal(code: Extract<CommandResult, { ok: false }>["code"], detail: string): Admission {
  return { kind: "refuse", result: { ok: false, code, detail } };
}

const execute: Admission = { kind: "execute" };

/** Decides about a request; prunes what its client has the answers of. */
export function admit(state: StateWriter, of: Request, clusterTimeMs: number): Admission {
  if (of.session === 0) return execute;
  const found = sessionOf(state, of.session);
  if (found === undefined || found.closing) {
    return refusal("SessionExpired", `session ${of.session} is over`);
  }
  if (of.sequence < found.prunedBelow) {
    return refusal("SequenceForgotten", `the answer to sequence ${of.sequence} was acknowledged`);
  }
  // Most requests come in the order of their sequences: then there is nothing to look for.
  const isFirst = found.executedBelow !== undefined && of.sequence >= found.executedBelow;
  const known = isFirst ? undefined : state.read(storedResults, resultKey(of.session, of.sequence));
  if (known !== undefined) {
    return { kind: "replay", position: known.position as Position, results: known.results };
  }
  // The own sequence is not acknowledged, whatever the client says.
  const prunedBelow = Math.max(found.prunedBelow, Math.min(of.acknowledgedBelow, of.sequence));
  if (of.sequence >= prunedBelow + sequenceWindow) {
    return refusal(
      "Busy",
      `sequence ${of.sequence} is beyond the window of ${sequenceWindow} from ${prunedBelow}`,
    );
  }
  const end = Math.min(prunedBelow, found.prunedBelow + sequenceWindow);
  for (let sequence = found.prunedBelow; sequence < end; sequence++) {
    state.delete(resultKey(of.session, sequence));
  }
  const expiresAtMs = Math.max(found.expiresAtMs, clusterTimeMs + found.timeoutMs);
  state.write(session, sessionKey(of.session), {
    clientName: found.clientName,
    timeoutMs: found.timeoutMs,
    expiresAtMs,
    prunedBelow,
    closing: false,
    executedBelow: isFirst ? of.sequence + 1 : found.executedBelow,
  });
  return execute;
}

/** Keeps the answer to an executed request. */
export function remember(
  state: StateWriter,
  of: Request,
  answer: { readonly position: Position; readonly results: readonly CommandResult[] },
): void {
  if (of.session === 0) return;
  // What was executed now had no results: they would have been the answer.
  state.add(storedResults, resultKey(of.session, of.sequence), answer);
}
