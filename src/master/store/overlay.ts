/**
 * What is applied and not on disk: an active generation, which takes the writes, and sealed ones, which wait until they
 * are written there. Pure.
 *
 * Invariant: a generation begins and ends between two entries, so the state under it and it make the state at exactly
 * one applied index.
 */
import assert from "node:assert/strict";
import type { Cell } from "./cell.ts";
import { Generation } from "./generation.ts";
import { Savepoints } from "./savepoints.ts";

/** A generation with the log position of the last entry in it. */
export interface Sealed {
  readonly generation: Generation;
  readonly index: number;
  readonly term: number;
}

export class Overlay {
  #active = new Generation(1);
  /** Oldest first. */
  readonly #sealed: Sealed[] = [];
  readonly #savepoints = new Savepoints();
  #appliedIndex: number;
  #appliedTerm: number;
  /** Where the last sealed generation ends, or where the state on disk does. */
  #sealedIndex: number;
  #isWithinEntry = false;

  /** Of a state that is on disk up to there. */
  constructor({ index, term }: { readonly index: number; readonly term: number }) {
    this.#appliedIndex = this.#sealedIndex = index;
    this.#appliedTerm = term;
  }

  /** The last entry of which all writes are there. */
  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  /** Whether writes came since the last `applied`. */
  get isWithinEntry(): boolean {
    return this.#isWithinEntry;
  }

  /** Bytes in the heap, roughly, of all that is not on disk. */
  get weight(): number {
    let { weight } = this.#active;
    for (const { generation } of this.#sealed) weight += generation.weight;
    return weight;
  }

  get activeWeight(): number {
    return this.#active.weight;
  }

  /** The oldest of the sealed generations. */
  get first(): Sealed | undefined {
    return this.#sealed[0];
  }

  /** Whether entries have been applied since the last sealing, and none is half applied. */
  get canSeal(): boolean {
    return this.#appliedIndex > this.#sealedIndex && !this.#isWithinEntry;
  }

  /** Called before a cell is changed: makes it one of the active generation's, with its weight. */
  begin(cell: Cell): void {
    this.#isWithinEntry = true;
    const { generation } = cell;
    const active = this.#active;
    if (this.#savepoints.areOpen) this.#savepoints.remember(cell);
    if (generation === active.number) return;
    if (generation !== 0) this.#sealedOf(generation)?.keep(cell);
    cell.generation = active.number;
    active.cells.push(cell);
    active.weight += cell.weight;
  }

  #sealedOf(number: number): Generation | undefined {
    return this.#sealed.find(({ generation }) => generation.number === number)?.generation;
  }

  /** Called after a cell was changed, with what it takes more than before, or less. */
  grew(bytes: number): void {
    this.#active.weight += bytes;
  }

  savepoint(): { rollback(): void; commit(): void } {
    return this.#savepoints.open(this.#active);
  }

  /** All writes since the call before belong to that entry. */
  applied(index: number, term: number): void {
    assert(index > this.#appliedIndex, `entry ${index} applied after ${this.#appliedIndex}`);
    assert(!this.#savepoints.areOpen, "applied within a savepoint");
    this.#appliedIndex = index;
    this.#appliedTerm = term;
    this.#isWithinEntry = false;
  }

  /** Ends the active generation with the last entry, and begins another. Only when `canSeal`. */
  seal(): void {
    const generation = this.#active;
    this.#sealed.push({ generation, index: this.#appliedIndex, term: this.#appliedTerm });
    this.#sealedIndex = this.#appliedIndex;
    this.#active = new Generation(generation.number + 1);
  }

  /** The first sealed generation is on disk; returns the keys of its deleted rows that were not written since. */
  removeFirst(): string[] {
    const { generation } = this.#sealed.shift()!;
    const gone: string[] = [];
    for (const cell of generation.cells) {
      if (cell.generation !== generation.number) continue;
      cell.generation = 0;
      if (cell.isAbsent) gone.push(cell.key);
    }
    return gone;
  }

  /** Oldest first; the last one is active. */
  generations(): Generation[] {
    return [...this.#sealed.map(({ generation }) => generation), this.#active];
  }

  /** Cells that are not on disk as they are, each at least once. */
  *cells(): Generator<Cell> {
    for (const { cells } of this.generations()) {
      for (const cell of cells) if (cell.generation !== 0) yield cell;
    }
  }

  /** Forgets all: what is on disk was replaced by the state as of that place. */
  restart({ index, term }: { readonly index: number; readonly term: number }): void {
    this.#active = new Generation(this.#active.number + 1);
    this.#sealed.length = 0;
    this.#appliedIndex = this.#sealedIndex = index;
    this.#appliedTerm = term;
    this.#isWithinEntry = false;
  }
}
