/**
 * Stands between the product's journal and its user, and knows what the journal has promised: everything that it has
 * reported as written must be found again, and nothing may be found that was never handed to it.
 */
import type {
  Journal,
  JournalBatch,
  JournalIdentity,
  JournalState,
} from "../../src/journal/types.ts";
import { hasCode } from "../../src/lib/errors.ts";
import type { HardState, Index, Term } from "../../src/raft/types.ts";
import { require } from "./violation.ts";

/** A log without its payloads. */
interface LogShape {
  hardState: HardState;
  baseIndex: number;
  baseTerm: number;
  /** Terms of the entries behind the base. */
  terms: number[];
}

type Change = (shape: LogShape) => void;

/** What one machine's journal has promised, over all restarts. */
export class Promised {
  #shape: LogShape = {
    hardState: { term: 0 as Term, vote: undefined },
    baseIndex: 0,
    baseTerm: 0,
    terms: [],
  };
  #pending: Change[] = [];

  get hardState(): HardState {
    return this.#shape.hardState;
  }

  /** Whether this version of the entry is durable here. */
  holds(index: number, term: number): boolean {
    const { baseIndex, terms } = this.#shape;
    return index <= baseIndex || terms[index - baseIndex - 1] === term;
  }

  begin(change: Change): void {
    this.#pending.push(change);
  }

  /** The change was refused as a whole. */
  drop(change: Change): void {
    this.#pending = this.#pending.filter((each) => each !== change);
  }

  complete(change: Change): void {
    this.drop(change);
    change(this.#shape);
  }

  /** A restart found this: all that was promised, and of what was under way a part from the front. */
  recover(id: string, state: JournalState): void {
    const found: LogShape = { ...state, terms: state.entries.map(({ term }) => term) };
    const promised = shown(this.#shape);
    let isFound = equals(this.#shape, found);
    for (const change of this.#pending) {
      if (isFound) break;
      change(this.#shape);
      isFound = equals(this.#shape, found);
    }
    require(isFound, () => `${id} starts with ${shown(found)}, promised was ${promised}`);
    this.#pending = [];
  }
}

function equals(a: LogShape, b: LogShape): boolean {
  return (
    a.hardState.term === b.hardState.term &&
    a.hardState.vote === b.hardState.vote &&
    a.baseIndex === b.baseIndex &&
    a.baseTerm === b.baseTerm &&
    a.terms.length === b.terms.length &&
    a.terms.every((term, place) => term === b.terms[place])
  );
}

function shown({ hardState, baseIndex, terms }: LogShape): string {
  const { term, vote } = hardState;
  return `term ${term}, vote ${vote ?? "none"}, entries ${baseIndex + 1} to ${baseIndex + terms.length}`;
}

export class WatchedJournal implements Journal {
  readonly #journal: Journal;
  readonly #promised: Promised;

  constructor(journal: Journal, promised: Promised) {
    this.#journal = journal;
    this.#promised = promised;
  }

  get state(): JournalState {
    return this.#journal.state;
  }
  get diskFull(): boolean {
    return this.#journal.diskFull;
  }

  initialize(identity: JournalIdentity): Promise<void> {
    return this.#journal.initialize(identity);
  }

  append(batch: JournalBatch): Promise<void> {
    return this.#do(
      () => this.#journal.append(batch),
      (shape) => {
        const { hardState, entries } = batch;
        if (hardState !== undefined) shape.hardState = hardState;
        const first = entries[0];
        if (first !== undefined) shape.terms.length = first.index - shape.baseIndex - 1;
        for (const { term } of entries) shape.terms.push(term);
      },
    );
  }

  oldestWriteAgeMs(): number {
    return this.#journal.oldestWriteAgeMs();
  }

  compact(index: Index, term: Term): Promise<void> {
    return this.#do(
      () => this.#journal.compact(index, term),
      (shape) => {
        if (index <= shape.baseIndex) return;
        shape.terms = shape.terms.slice(index - shape.baseIndex);
        shape.baseIndex = index;
        shape.baseTerm = term;
      },
    );
  }

  reset(baseIndex: Index, baseTerm: Term): Promise<void> {
    return this.#do(
      () => this.#journal.reset(baseIndex, baseTerm),
      (shape) => {
        shape.terms = [];
        shape.baseIndex = baseIndex;
        shape.baseTerm = baseTerm;
      },
    );
  }

  sizeBytes(): number {
    return this.#journal.sizeBytes();
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  async #do(work: () => Promise<void>, change: Change): Promise<void> {
    this.#promised.begin(change);
    try {
      await work();
    } catch (error) {
      // A full disk is told before anything is written.
      if (hasCode(error, "DiskFull")) this.#promised.drop(change);
      throw error;
    }
    this.#promised.complete(change);
  }
}
