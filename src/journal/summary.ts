/** What a stopped journal holds, damaged or not, in figures for people, and its log as far as it can be read. */
import { WeirError } from "../lib/errors.ts";
import { decodeConfiguration } from "../raft/configuration-codec.ts";
import type { Configuration, Entry, HardState, Index, Term } from "../raft/types.ts";
import type { ReadableFiles } from "./files.ts";
import type { JournalRecord } from "./format.ts";
import { inspectJournal, verifyJournal } from "./inspect.ts";
import type { JournalIdentity } from "./types.ts";

/** A closed range; absent where there is nothing. */
export type Span = { readonly first: number; readonly last: number } | undefined;

export interface SegmentSummary {
  readonly name: string;
  /** Of its format; undefined when its header cannot be read. */
  readonly version: number | undefined;
  readonly sizeBytes: number;
  readonly recordCount: number;
  /** Of the entries in it, replaced ones included. */
  readonly indexes: Span;
  readonly terms: Span;
}

export interface JournalProblem {
  readonly segment: string;
  /** Byte of the file. */
  readonly offset: number;
  readonly problem: string;
}

export interface JournalSummary {
  readonly directory: string;
  readonly identity: JournalIdentity | undefined;
  readonly hardState: HardState | undefined;
  readonly baseIndex: number;
  readonly baseTerm: number;
  /** Of the log: what was replaced or compacted is not in it. */
  readonly indexes: Span;
  readonly sizeBytes: number;
  readonly segments: readonly SegmentSummary[];
  /** Places that cannot be read, a torn tail among them. */
  readonly problems: readonly JournalProblem[];
  /** Why opening refuses; undefined when it does not. */
  readonly refusal: string | undefined;
}

export interface ReadableLog {
  readonly summary: JournalSummary;
  /** The log by rising index, with holes where frames cannot be read. */
  readonly entries: readonly Entry[];
}

/** Reads what can be read; of a sound journal that is what opening would find. */
export async function readLog(files: ReadableFiles): Promise<ReadableLog> {
  const log = new Log();
  const segments: Draft[] = [];
  const problems: JournalProblem[] = [];
  for await (const found of inspectJournal(files)) {
    const { segment: name } = found;
    switch (found.kind) {
      case "segment":
        segments.push(new Draft(name, found.header?.version, found.sizeBytes));
        break;
      case "record":
        segments[segments.length - 1]!.add(found.record);
        log.add(found.record);
        break;
      case "problem":
        problems.push({ segment: name, offset: found.offset, problem: found.problem });
        break;
    }
  }
  const entries = log.entries.filter(({ index }) => index > log.base.index);
  const first = entries[0];
  return {
    summary: {
      directory: files.directory,
      identity: log.identity,
      hardState: log.hardState,
      baseIndex: log.base.index,
      baseTerm: log.base.term,
      indexes: first && { first: first.index, last: entries[entries.length - 1]!.index },
      sizeBytes: segments.reduce((total, { sizeBytes }) => total + sizeBytes, 0),
      segments: segments.map((draft) => draft.summary),
      problems,
      refusal: await refusalOf(files),
    },
    entries,
  };
}

/**
 * The configuration that an entry of that kind carries.
 * @throws WeirError `ProtocolError` for a payload that is none
 */
export function configurationIn(entry: Entry): Configuration {
  return decodeConfiguration(entry.payload);
}

async function refusalOf(files: ReadableFiles): Promise<string | undefined> {
  try {
    await verifyJournal(files);
    return undefined;
  } catch (thrown) {
    if (thrown instanceof WeirError) return thrown.message;
    throw thrown;
  }
}

/** The log that records make, where some of them may be missing. */
class Log {
  identity: JournalIdentity | undefined;
  hardState: HardState | undefined;
  base = { index: 0 as Index, term: 0 as Term };
  entries: Entry[] = [];

  add(record: JournalRecord): void {
    switch (record.type) {
      case "identity":
        this.identity = record.identity;
        return;
      case "hardState":
        this.hardState = { term: record.term, vote: record.vote };
        return;
      case "entry":
        while ((this.entries[this.entries.length - 1]?.index ?? 0) >= record.entry.index) {
          this.entries.pop();
        }
        this.entries.push(record.entry);
        return;
      case "base":
      case "reset":
        this.base = { index: record.index, term: record.term };
        if (record.type === "reset") this.entries = [];
        return;
      case "link":
      case "next":
        return;
    }
  }
}

class Draft {
  readonly name: string;
  readonly version: number | undefined;
  readonly sizeBytes: number;
  #recordCount = 0;
  #indexes: Span;
  #terms: Span;

  constructor(name: string, version: number | undefined, sizeBytes: number) {
    this.name = name;
    this.version = version;
    this.sizeBytes = sizeBytes;
  }

  add(record: JournalRecord): void {
    this.#recordCount++;
    if (record.type !== "entry") return;
    this.#indexes = widened(this.#indexes, record.entry.index);
    this.#terms = widened(this.#terms, record.entry.term);
  }

  get summary(): SegmentSummary {
    const { name, version, sizeBytes } = this;
    const [recordCount, indexes, terms] = [this.#recordCount, this.#indexes, this.#terms];
    return { name, version, sizeBytes, recordCount, indexes, terms };
  }
}

function widened(span: Span, value: number): Span {
  if (span === undefined) return { first: value, last: value };
  return { first: Math.min(span.first, value), last: Math.max(span.last, value) };
}
