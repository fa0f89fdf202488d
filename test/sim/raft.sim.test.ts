import assert from "node:assert/strict";
import { simulateRaft } from "./raft-simulation.ts";
import { runSwarm } from "./swarm.ts";
import { describeTotals } from "./totals.ts";

const steps = 5000;
/** Other seeds at each run, which it names; `npm run sim -- --seed N --seeds K` runs them again. */
const seeds = 1500;
/** Each found a bug once. */
const regressionSeeds = [5];

describe("raft simulation", function () {
  this.timeout(600_000);

  it("keeps every invariant and makes progress, whatever a swarm of seeds does to its clusters", async () => {
    const first = Math.floor(Math.random() * 1e9);
    const { totals, situations, seconds } = await runSwarm({ first, seeds, steps });
    console.log(`seeds from ${first}\n${describeTotals(totals, situations, seconds)}`);
    const failures = totals.failed.map(
      ({ seed, claim }) => `${claim}\nReplay: npm run sim -- --seed ${seed} --steps ${steps}`,
    );
    assert.deepEqual(failures, []);
  });

  for (const seed of regressionSeeds) {
    it(`keeps every invariant and makes progress with seed ${seed}`, async () => {
      await simulateRaft({ seed, steps });
    });
  }

  it("replays a seed exactly", async () => {
    for (const seed of [1, 2, 3]) {
      const one = await simulateRaft({ seed, steps: 3000 });
      const again = await simulateRaft({ seed, steps: 3000 });
      assert.deepEqual(again, one);
      assert.notEqual((await simulateRaft({ seed: seed + 1, steps: 3000 })).digest, one.digest);
    }
  });
});
