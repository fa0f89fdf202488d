/**
 * Bugs that can be planted into the parts around a core, to show that the simulation finds them: a check that cannot fail
 * is none.
 */
import type { Output, RaftCore } from "../../src/raft/core.ts";
import type { Faults } from "./faults.ts";
import type { Journal } from "../../src/raft/journal.ts";
import type { Entry, Index, NodeId } from "../../src/raft/types.ts";

export interface PlantedBug {
  /** A world in which it shows soon, where most would have to be looked at for long. */
  readonly faults?: Partial<Faults>;
  /** What the host does with its journal goes through this. */
  readonly journal?: (journal: Journal) => Journal;
  /** What the core says is changed to this. */
  readonly output?: (output: Output, core: RaftCore) => Output;
  /** What the state machine is given instead. */
  readonly entry?: (entry: Entry, id: NodeId) => Entry;
  /** False: the state machine forgets what it has executed. */
  readonly remembers?: boolean;
}

/** A journal of which some methods are others. */
function altered(journal: Journal, changes: Partial<Journal>): Journal {
  return {
    get state() {
      return journal.state;
    },
    get diskFull() {
      return journal.diskFull;
    },
    initialize: (identity) => journal.initialize(identity),
    append: (batch) => journal.append(batch),
    oldestWriteAgeMs: () => journal.oldestWriteAgeMs(),
    compact: (index, term) => journal.compact(index, term),
    reset: (index, term) => journal.reset(index, term),
    sizeBytes: () => journal.sizeBytes(),
    close: () => journal.close(),
    ...changes,
  };
}

export const plantedBugs = {
  "acknowledges before the disk has it": {
    claim: /not on the disks of a quorum|its disk does not hold/u,
    journal: (journal) =>
      altered(journal, {
        append: (batch) => {
          void journal.append(batch).catch(() => undefined);
          return Promise.resolve();
        },
      }),
  },
  "does not write its vote": {
    claim: /votes for/u,
    faults: { harms: ["kill", "powerLoss"], harmEveryMs: 60 },
    journal: (journal) =>
      altered(journal, {
        append: ({ hardState, entries }) =>
          journal.append({
            hardState: hardState && { term: hardState.term, vote: undefined },
            entries,
          }),
      }),
  },
  "writes nothing of its term": {
    claim: /has another entry|votes for|lowers the term|of a term that has not begun/u,
    journal: (journal) =>
      altered(journal, { append: ({ entries }) => journal.append({ entries }) }),
  },
  "sends what waits for the disk at once": {
    claim: /not on the disks of a quorum/u,
    output: (output) => ({
      ...output,
      send: [...output.send, ...output.sendAfterPersist],
      sendAfterPersist: [],
    }),
  },
  "answers reads from what it has": {
    claim: /reads at/u,
    output: (output, core) => ({
      ...output,
      reads: output.reads.map(({ id }) => ({ id, index: Math.max(0, core.baseIndex) as Index })),
    }),
  },
  "applies something else than the others": {
    claim: /holds another state/u,
    entry: (entry, id) =>
      id === "n1" && entry.index % 50 === 49
        ? { ...entry, payload: Buffer.from([...entry.payload, 1]) }
        : entry,
  },
  "executes a retried request again": { claim: /executes request/u, remembers: false },
  "leaves an entry out of what it sends": {
    claim: /has (entry|another entry)|leaves a gap/u,
    output: (output) => ({
      ...output,
      send: output.send.map((message) =>
        message.kind === "append" && message.entries.length > 1
          ? { ...message, entries: message.entries.slice(1) }
          : message,
      ),
    }),
  },
  "never campaigns": {
    claim: /not within/u,
    output: (output) => ({
      ...output,
      send: output.send.filter(({ kind }) => kind !== "requestVote"),
    }),
  },
} as const satisfies Readonly<Record<string, PlantedBug & { readonly claim: RegExp }>>;
