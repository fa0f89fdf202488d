/** What a node starts with: whether its journal and its state belong together, and the log that they make. */
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Journal } from "../journal.ts";
import { type StartingLog, startingLog } from "../starting-log.ts";

/** Where the state stands. */
interface AppliedState {
  readonly appliedIndex: number;
  readonly appliedTerm: number;
}

/**
 * Refuses a journal and a state that cannot belong together.
 * @throws WeirError `Corrupt`, with what to do
 */
export function checkState(options: {
  readonly name: string;
  readonly journal: Journal;
  readonly machine: AppliedState;
}): void {
  const { journal, machine, name } = options;
  const { nodeId, baseIndex } = journal.state;
  const { appliedIndex } = machine;
  if (nodeId === undefined && appliedIndex > 0) {
    throw new WeirError(
      "Corrupt",
      `Cannot start "${name}": its journal is empty, but its state stands at entry ${appliedIndex}; ` +
        "the journal was lost: restore it, or remove the state too and replace the member",
    );
  }
  if (appliedIndex < baseIndex) {
    throw new WeirError(
      "Corrupt",
      `Cannot start "${name}": its state stands at entry ${appliedIndex}, but its journal begins ` +
        `behind entry ${baseIndex}; the state was lost: restore it, or replace the member`,
    );
  }
}

/** The log to start with; the journal is made to agree. */
export async function fittingLog(
  journal: Journal,
  machine: AppliedState,
  logger: Logger,
): Promise<StartingLog> {
  const { appliedIndex: index, appliedTerm: term } = machine;
  const log = startingLog(journal.state, { index, term });
  if (log.baseIndex !== journal.state.baseIndex) {
    logger.warn({ index, term }, "the log begins anew at the state");
    await journal.reset(log.baseIndex, log.baseTerm);
  }
  return log;
}
