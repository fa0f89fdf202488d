/**
 * Exactly once: which requests of a session were executed, and what they answered.
 *
 * Invariants
 * 1. The results of a session are those of executed sequences in [prunedBelow, prunedBelow + window), and of a few below
 *    that share a row with them.
 * 2. A sequence below `prunedBelow` is never executed again: it is refused.
 * 3. No sequence from `executedBelow` on has results.
 */
import type { Position, SessionId } from "../../lib/ids.ts";
import type { CommandResult, Request } from "../../rpc/commands.ts";
import type { StateWriter } from "../store/types.ts";
import { answersKey, nextAnswersRow, resultKey, sessionKey } from "./keys.ts";
import { type Session, session, storedAnswers, storedResults } from "./model.ts";
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
  const known = isFirst ? undefined : answerOf(state, found, of);
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
  prune(state, found, of.session, prunedBelow);
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

interface Answer {
  readonly position: number;
  readonly results: readonly CommandResult[];
}

function answerOf(state: StateWriter, session: Session, of: Request): Answer | undefined {
  const answers = state.read(storedAnswers, answersKey(of.session, of.sequence));
  const answer = answers?.find(({ sequence }) => sequence === of.sequence);
  if (answer !== undefined || session.executedBelow !== undefined) return answer;
  return state.read(storedResults, resultKey(of.session, of.sequence));
}

/** Forgets rows of answers that are wholly below `prunedBelow`; in others they are out of reach. */
function prune(state: StateWriter, session: Session, id: SessionId, prunedBelow: number): void {
  const end = Math.min(prunedBelow, nextAnswersRow(session.prunedBelow + sequenceWindow - 1));
  for (let first = session.prunedBelow; nextAnswersRow(first) <= end; ) {
    state.delete(answersKey(id, first));
    first = nextAnswersRow(first);
  }
  if (session.executedBelow !== undefined) return;
  for (let sequence = session.prunedBelow; sequence < end; sequence++) {
    state.delete(resultKey(id, sequence));
  }
}

/** Keeps the answer to an executed request. */
export function remember(
  state: StateWriter,
  of: Request,
  {
    position,
    results,
  }: { readonly position: Position; readonly results: readonly CommandResult[] },
): void {
  if (of.session === 0) return;
  const key = answersKey(of.session, of.sequence);
  const before = state.read(storedAnswers, key) ?? [];
  const { sequence } = of;
  state.write(storedAnswers, key, [...before, { sequence, position, results }]);
}
