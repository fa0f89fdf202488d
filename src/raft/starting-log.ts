/** Which log a node starts with, given what its journal and its state machine hold. */
import type { Entry, Index, Term } from "./types.ts";

export interface StartingLog {
  readonly entries: readonly Entry[];
  readonly baseIndex: Index;
  readonly baseTerm: Term;
}

/**
 * The journal's log, or an empty one behind the state. A snapshot that was installed right before a crash may be ahead of
 * the log, or contradict its end; what the state machine holds is committed, so the log starts anew there: the journal is
 * to be reset then, which shows by the base being another one.
 */
export function startingLog(
  journal: StartingLog,
  applied: { readonly index: number; readonly term: number },
): StartingLog {
  const { entries, baseIndex, baseTerm } = journal;
  const term =
    applied.index === baseIndex ? baseTerm : entries[applied.index - baseIndex - 1]?.term;
  if (term === applied.term) return { entries, baseIndex, baseTerm };
  return { entries: [], baseIndex: applied.index as Index, baseTerm: applied.term as Term };
}
