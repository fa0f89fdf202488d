/**
 * What the records of a journal add up to: the state that a node starts with. Pure.
 *
 * Invariants
 * 1. Entries are contiguous: index i + 1 follows i, the first one follows the base. Whatever is missing in between
 *    makes the journal refuse to open, it is never skipped.
 * 2. While old segments are being removed the first entry may lie behind the base; a later base record must catch up.
 */
import {
  type Entry,
  type HardState,
  type Index,
  type Term,
  zeroIndex,
  zeroTerm,
} from "../raft/types.ts";
import type { JournalRecord } from "./format.ts";
import type { JournalIdentity, JournalState } from "./types.ts";

export class Replay {
  #identity: JournalIdentity | undefined;
  #hardState: HardState = { term: zeroTerm, vote: undefined };
  #entries: Entry[] = [];
  #baseIndex = zeroIndex;
  #baseTerm = zeroTerm;

  /**
   * Takes the next record.
   * @returns why it cannot follow the ones before, or undefined
   */
  add(record: JournalRecord): string | undefined {
    switch (record.type) {
      case "identity":
        if (this.#identity !== undefined && this.#identity.nodeId !== record.identity.nodeId) {
          return `it belongs to node "${record.identity.nodeId}", the one before to "${this.#identity.nodeId}"`;
        }
        this.#identity = record.identity;
        return undefined;
      case "hardState":
        if (record.term < this.#hardState.term) {
          return `its term ${record.term} is below ${this.#hardState.term}`;
        }
        this.#hardState = { term: record.term, vote: record.vote };
        return undefined;
      case "entry":
        return this.#addEntry(record.entry);
      case "base":
        this.#setBase(record.index, record.term);
        return undefined;
      case "reset":
        this.#entries = [];
        this.#baseIndex = record.index;
        this.#baseTerm = record.term;
        return undefined;
      case "link":
      case "next":
        return undefined;
    }
  }

  #addEntry(entry: Entry): string | undefined {
    if (entry.index <= this.#baseIndex) {
      return `entry ${entry.index} lies behind the base ${this.#baseIndex}`;
    }
    const first = this.#entries[0];
    if (first === undefined || entry.index < first.index) {
      this.#entries = [entry];
      return undefined;
    }
    const last = this.#entries[this.#entries.length - 1]!;
    if (entry.index > last.index + 1) {
      return `entry ${entry.index} follows entry ${last.index}`;
    }
    this.#entries.length = entry.index - first.index;
    this.#entries.push(entry);
    return undefined;
  }

  #setBase(index: Index, term: Term): void {
    const first = this.#entries[0];
    if (first !== undefined && index >= first.index) {
      this.#entries.splice(0, index - first.index + 1);
    }
    this.#baseIndex = index;
    this.#baseTerm = term;
  }

  /** The state, or why the records do not make one. */
  finish(): JournalState | string {
    const first = this.#entries[0];
    if (first !== undefined && first.index !== this.#baseIndex + 1) {
      return `its first entry is ${first.index}, wanted ${this.#baseIndex + 1}: the log has a gap`;
    }
    return {
      nodeId: this.#identity?.nodeId,
      clusterId: this.#identity?.clusterId,
      members: this.#identity?.members,
      admittedAt: this.#identity?.admittedAt,
      hardState: this.#hardState,
      entries: this.#entries,
      baseIndex: this.#baseIndex,
      baseTerm: this.#baseTerm,
    };
  }
}
