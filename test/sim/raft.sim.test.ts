import { simulateRaft } from "./raft-simulation.ts";

/** Other seeds on each run of the suite would make it unrepeatable; `npm run sim` goes on from here. */
const firstSeed = 1;
const steps = 20_000;
const budgetMs = 15_000;
const fewestSeeds = 20;

describe("raft simulation", function () {
  this.timeout(300_000);

  it("keeps every invariant under lost, late and doubled messages, partitions, pauses and crashes", () => {
    const startMs = performance.now();
    let seed = firstSeed;
    // At least so many seeds, and as many more as there is time for.
    while (seed < firstSeed + fewestSeeds || performance.now() - startMs < budgetMs) {
      try {
        simulateRaft(seed, steps);
      } catch (cause) {
        const replay = `npm run sim -- --seed ${seed} --seeds 1 --steps ${steps}`;
        throw new Error(`Seed ${seed} fails. Replay: ${replay}`, { cause });
      }
      seed++;
    }
  });
});
