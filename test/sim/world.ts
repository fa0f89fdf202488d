/**
 * What all parts of one simulated cluster share: time, chance, the measure of its hardships, and what was counted.
 *
 * Everything that happens is an event of the timeline. The product's code under simulation uses promises; whoever resolves
 * one says so (`stir`), and the next event waits until everything that follows from it has run. So one seed is one history.
 */
import type { Random } from "../../src/lib/clock.ts";
import type { Faults } from "./faults.ts";
import { Timeline } from "./timeline.ts";

export class World {
  readonly timeline = new Timeline();
  readonly random: Random;
  faults: Faults;
  /** How often what happened, by name. */
  readonly counts = new Map<string, number>();
  /** Sum over the whole history: two runs of a seed have the same one. */
  digest = 0;
  /** What the product reported by a promise or a callback that must not happen. */
  failure: Error | undefined;
  #isStirred = false;

  constructor(random: Random, faults: Faults) {
    this.random = random;
    this.faults = faults;
  }

  count(name: string, times = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + times);
  }

  /** True once in `count` times, on average; never for an infinite one. */
  oneIn(count: number): boolean {
    return count !== Number.POSITIVE_INFINITY && this.random.below(count) === 0;
  }

  note(value: number): void {
    this.digest = (Math.imul(this.digest, 0x01000193) ^ value) >>> 0;
  }

  /** A promise was resolved: what waits for it runs before the next event. */
  stir(): void {
    this.#isStirred = true;
  }

  /** Lets the next thing happen; or all that follows at once from what has happened, which comes first. */
  step(): Promise<void> | undefined {
    if (!this.#isStirred) this.timeline.step();
    if (!this.#isStirred) return undefined;
    this.#isStirred = false;
    return new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}
