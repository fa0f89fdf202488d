/**
 * Which containers changed since when, for the reports to the masters: each master is told what it has not
 * acknowledged yet, in the order of the changes.
 *
 * Invariant: a container has one entry at most, that of its last change.
 */
import type { ContainerId } from "../blocks/types.ts";

export interface Change {
  readonly sequence: number;
  readonly container: ContainerId;
  readonly removed: boolean;
}

/** Removals that are remembered for masters which are away; those that miss more get a full report. */
const maxRemovals = 100_000;

export class ChangeLog {
  /** In ascending order of `sequence`: a change moves its entry to the end. */
  readonly #changes = new Map<string, Change>();
  #sequence = 0;
  #removals = 0;
  #forgottenUpTo = 0;

  /** The last change so far; 0 before the first. */
  get sequence(): number {
    return this.#sequence;
  }

  note(key: string, container: ContainerId, removed: boolean): void {
    this.#forget(key);
    this.#changes.set(key, { sequence: ++this.#sequence, container, removed });
    if (!removed) return;
    this.#removals += 1;
    if (this.#removals <= maxRemovals) return;
    for (const [oldest, change] of this.#changes) {
      if (!change.removed) continue;
      this.#forgottenUpTo = change.sequence;
      this.#forget(oldest);
      return;
    }
  }

  /**
   * Up to `limit` changes after `sequence`, oldest first; `undefined` when removals since then are forgotten.
   * A `sequence` of 0 stands for a master that knows nothing: it needs no removals.
   */
  since(sequence: number, limit: number): readonly Change[] | undefined {
    if (sequence > 0 && sequence < this.#forgottenUpTo) return undefined;
    if (sequence === this.#sequence) return [];
    const found: Change[] = [];
    for (const change of this.#changes.values()) {
      if (change.sequence <= sequence || (sequence === 0 && change.removed)) continue;
      found.push(change);
      if (found.length >= limit) break;
    }
    return found;
  }

  #forget(key: string): void {
    if (this.#changes.get(key)?.removed === true) this.#removals -= 1;
    this.#changes.delete(key);
  }
}
