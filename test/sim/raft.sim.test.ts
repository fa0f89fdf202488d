import assert from "node:assert/strict";
import { simulateRaft } from "./raft-simulation.ts";
import { runSwarm } from "./swarm.ts";
import { describeTotals } from "./totals.ts";

const steps = 5000;
/** Other seeds at each run, which it names; `npm run sim -- --seed N --seeds K` runs them again. */
const seeds = 1500;
/** On a machine that is busy, fewer. */
const fewestSeeds = 400;
const budgetMs = 45_000;
/** Each found a bug once, of the product or of the simulation. */
const regressionSeeds = [5, 55, 302, 329, 777, 910, 100990, 101889];
/** What must have happened to some cluster of a swarm, or the simulation has lost some of its bite. */
const wanted = [
  "lost",
  "duplicated",
  "reordered",
  "clogged",
  "cut off",
  "partition",
  "partialPartition",
  "oneWay",
  "kills",
  "power losses",
  "torn writes",
  "lost writes",
  "flipped bits",
  "misdirected writes",
  "damage refused",
  "i/o errors",
  "full disks",
  "slow disks",
  "stalled disks",
  "pauses",
  "clock jumps",
  "transfers asked for",
  "snapshots sent",
  "snapshots installed",
  "members: addLearner",
  "members: promote",
  "members: remove",
  "members: replace",
  "reads on followers",
  "requests sent again",
  "left broken",
];

describe("raft simulation", function () {
  this.timeout(600_000);

  it("keeps every invariant and makes progress, whatever a swarm of seeds does to its clusters", async () => {
    const first = Math.floor(Math.random() * 1e9);
    const { totals, situations, seconds } = await runSwarm({
      first,
      seeds,
      steps,
      fewestSeeds,
      budgetMs,
    });
    console.log(`seeds from ${first}\n${describeTotals(totals, situations, seconds)}`);
    const failures = totals.failed.map(
      ({ seed, claim }) => `${claim}\nReplay: npm run sim -- --seed ${seed} --steps ${steps}`,
    );
    assert.deepEqual(failures, []);
    const missing = wanted.filter((name) => (totals.counts[name] ?? 0) === 0);
    assert.deepEqual(missing, [], "things that never happened");
    for (let size = 1; size <= 7; size++) assert.ok(totals.clusters[size]! > 0);
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
