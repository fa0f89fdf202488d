/**
 * Exactly once: which requests of a session were executed, and what they answered.
 *
 * Invariants
 * 1. The results of a session are those of executed sequences in [prunedBelow, prunedBelow + window), and of a few below
 *    that share a row with them. The shared row names every one of them: without results where they have their own row.
 * 2. A sequence below `prunedBelow` is never executed again: it is refused.
 * 3. No sequence from `executedBelow` on has results.
 */
import type { Position, SessionId } from "../../lib/ids.ts";
import type { CommandResult, Request } from "../../rpc/commands.ts";
import type { PointReader, StateWriter } from "../store/types.ts";
import { answersKey, nextAnswersRow, resultKey, sessionKey } from "./keys.ts";
import { type Session, session, storedAnswers, storedResults } from "./model.ts";
import { sessionOf } from "./queries.ts";

/** Sequences that a session may have beyond the oldest unacknowledged one. */
export const sequenceWindow = 4096;

/** No sequence may be this or more: so everything that is counted from one stays an integer that can be stored. */
export const sequenceEnd = 2 ** 53 - 8192;

/** An answer to so many commands shares a row with others; a longer one has a row of its own. */
const maxSharedResults = 8;

/** When a session that was heard of at a cluster time may be closed. */
export function expiryOf(clusterTimeMs: number, timeoutMs: number): number {
  return Math.min(clusterTimeMs + timeoutMs, Number.MAX_SAFE_INTEGER);
}

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
  if (of.sequence >= sequenceEnd) {
    return refusal("InvalidArgument", `sequence ${of.sequence}, wanted one below ${sequenceEnd}`);
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
  const expiresAtMs = Math.max(found.expiresAtMs, expiryOf(clusterTimeMs, found.timeoutMs));
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

/** Whether `admit` will not execute a request, whatever it asks for: it was executed before, or its session refuses it. */
export function isDecided(state: PointReader, of: Request): boolean {
  if (of.session === 0) return false;
  const found = sessionOf(state, of.session);
  if (found === undefined || found.closing || of.sequence < found.prunedBelow) return true;
  if (found.executedBelow !== undefined && of.sequence >= found.executedBelow) return false;
  return answerOf(state, found, of) !== undefined;
}

interface Answer {
  readonly position: number;
  readonly results: readonly CommandResult[];
}

function answerOf(state: PointReader, session: Session, of: Request): Answer | undefined {
  const answers = state.read(storedAnswers, answersKey(of.session, of.sequence));
  const answer = answers?.find(({ sequence }) => sequence === of.sequence);
  if (answer === undefined && session.executedBelow !== undefined) return undefined;
  if (answer !== undefined && answer.results.length > 0) return answer;
  return state.read(storedResults, resultKey(of.session, of.sequence)) ?? answer;
}

/** Forgets rows of answers that are wholly below `prunedBelow`; in others they are out of reach. */
function prune(state: StateWriter, session: Session, id: SessionId, prunedBelow: number): void {
  const end = Math.min(prunedBelow, nextAnswersRow(session.prunedBelow + sequenceWindow - 1));
  for (let first = session.prunedBelow; nextAnswersRow(first) <= end; ) {
    const key = answersKey(id, first);
    for (const { sequence, results } of state.read(storedAnswers, key) ?? []) {
      if (results.length === 0) state.delete(resultKey(id, sequence));
    }
    state.delete(key);
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
  const isShared = results.length <= maxSharedResults;
  if (!isShared) {
    state.write(storedResults, resultKey(of.session, sequence), { position, results });
  }
  state.write(storedAnswers, key, [
    ...before,
    { sequence, position, results: isShared ? results : [] },
  ]);
}
