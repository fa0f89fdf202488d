/**
 * Bugs that can be planted into the parts around a core, to show that the simulation finds them: a check that cannot fail
 * is none.
 */
import { decode, encode } from "../../src/lib/schema.ts";
import { decodeChunk } from "../../src/master/store/chunk-codec.ts";
import { entryPayload, type Request } from "../../src/rpc/commands.ts";
import type { Output, RaftCore } from "../../src/raft/core.ts";
import type { Faults } from "./faults.ts";
import type { Image } from "./state-machine.ts";
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
  /** What it installs in place of a snapshot. */
  readonly image?: (image: Image) => Image;
  /** The state machine is the product's namespace. */
  readonly namespace?: boolean;
  /** False: the plain state machine forgets what it has executed. */
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

/** An entry of which the requests of sessions are others. */
function changed(entry: Entry, change: (request: Request) => Request): Entry {
  if (entry.kind !== "command") return entry;
  const payload = decode(entryPayload, entry.payload, "entry");
  const requests = payload.requests.map((each) => (each.session === 0 ? each : change(each)));
  return { ...entry, payload: encode(entryPayload, { ...payload, requests }) };
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
  "executes a retried command of the namespace again": {
    claim: /executes request|is told .* which ran at/u,
    namespace: true,
    entry: (entry) => changed(entry, (request) => ({ ...request, sequence: entry.index })),
  },
  "does something else than was asked for": {
    claim: /is answered .* wanted/u,
    namespace: true,
    entry: (entry) =>
      changed(entry, (request) => ({
        ...request,
        commands: request.commands.map((command) =>
          command.kind === "rename" ? { ...command, noReplace: !command.noReplace } : command,
        ),
      })),
  },
  "takes back nothing of an atomic request": {
    claim: /is answered .* wanted|is served by/u,
    namespace: true,
    entry: (entry) => changed(entry, (request) => ({ ...request, atomic: false })),
  },
  "installs a snapshot without looking at it": {
    claim: /holds another state/u,
    namespace: true,
    faults: { damageOneIn: 2, retainedEntries: 1, harms: ["kill", "partition"] },
    image: (image) => {
      try {
        for (const chunk of image.chunks) decodeChunk(chunk);
        return { ...image, hash: "" };
      } catch {
        // What its crc tells is another check.
        return image;
      }
    },
  },
  "campaigns for no reason": {
    claim: /elections within|not within/u,
    output: (output) => ({
      ...output,
      send: output.send.filter(
        (message) => message.kind !== "append" || message.entries.length > 0,
      ),
    }),
  },
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
