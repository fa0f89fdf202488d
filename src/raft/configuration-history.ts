/**
 * The configurations of one log: which one is active, and which one comes back when the end of the log is dropped.
 *
 * Invariants
 * 1. Never empty; indexes rise; the first one holds from the beginning of what is known.
 * 2. The last one is active, from the moment its entry is in the log.
 */
import { isVoter, membersOf } from "./configuration.ts";
import { decodeConfiguration } from "./configuration-codec.ts";
import { type Configuration, type Entry, type Index, type NodeId, zeroIndex } from "./types.ts";

/** A configuration with the index of the entry that brought it. */
interface Placed {
  readonly index: Index;
  readonly configuration: Configuration;
}

export class ConfigurationHistory {
  #placed: Placed[];

  /** Starts with what the state machine or the journal knew, to which the log's own entries are added. */
  constructor(base: Configuration, index: Index = zeroIndex) {
    this.#placed = [{ index, configuration: base }];
  }

  get active(): Configuration {
    return this.#placed[this.#placed.length - 1]!.configuration;
  }
  /** Index of the entry that brought the active one; 0 for the one that the cluster began with. */
  get activeIndex(): Index {
    return this.#placed[this.#placed.length - 1]!.index;
  }

  /**
   * The last one with that node that is committed for certain, whatever this node knows of the commit index: another one is
   * behind it, and no leader begins a change before the last one is committed. Undefined where there is none.
   */
  settledWith(id: NodeId): Placed | undefined {
    const settled = this.#placed.slice(0, -1);
    return settled.findLast(({ configuration }) => membersOf(configuration).includes(id));
  }

  /** True when the node votes in the active configuration, or in one that holds again should later ones be lost. */
  mayVote(id: NodeId, commitIndex: number): boolean {
    for (let place = this.#placed.length - 1; place >= 0; place--) {
      const { index, configuration } = this.#placed[place]!;
      if (isVoter(configuration, id)) return true;
      if (index <= commitIndex) return false;
    }
    return false;
  }

  /**
   * Takes note of an entry of kind `configuration`; one that is known already, from the state machine, says nothing new.
   * @throws WeirError `ProtocolError` when the entry holds no configuration: this node cannot go on
   */
  append(entry: Entry): void {
    if (entry.index <= this.activeIndex) return;
    const configuration = decodeConfiguration(entry.payload);
    this.#placed.push({ index: entry.index, configuration });
  }

  /** The log has lost the entry at `index` and all behind it. */
  truncateFrom(index: number): void {
    let count = this.#placed.length;
    while (count > 1 && this.#placed[count - 1]!.index >= index) count--;
    this.#placed.length = count;
  }

  /** What is at or before `index` is never dropped any more. */
  settle(index: number): void {
    let count = 0;
    while (count + 1 < this.#placed.length && this.#placed[count + 1]!.index <= index) count++;
    if (count > 0) this.#placed.splice(0, count);
  }

  /**
   * The log starts anew behind a snapshot. Without a configuration from there, the last one holds that was known to be
   * committed before: a later one goes with the log that it was in, as the snapshot would bring it were it committed.
   */
  reset(commitIndex: number, placed: Placed | undefined): void {
    this.settle(commitIndex);
    this.#placed = [placed ?? this.#placed[0]!];
  }
}
