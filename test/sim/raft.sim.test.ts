import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { simulateRaft } from "./raft-simulation.ts";
import { runSwarm } from "./swarm.ts";
import { describeTotals } from "./totals.ts";

const run = promisify(execFile);
/** Twice as many show no more situations in the same time. */
const steps = 2500;
/** Other seeds at each run, which it names; `npm run sim -- --seed N --seeds K` runs them again. */
const seeds = 3000;
/** On a machine that is busy, fewer. */
const fewestSeeds = 800;
const budgetMs = 45_000;
/** Seeds that stay the same, so that a bug that comes back with one of them has a name; each with a long history. */
const regressionSeeds = [5, 55, 302, 329, 777, 910, 1029, 100990, 101889];
const longSteps = 8000;
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
  "told of an end",
  "told of an end that was none",
  "snapshots sent",
  "snapshots installed",
  "snapshots interrupted",
  "snapshots resumed",
  "chunks damaged",
  "damaged snapshots refused",
  "members: addLearner",
  "members: promote",
  "members: remove",
  "members: replace",
  "reads on followers",
  "requests sent again",
  "late copies",
  "left broken",
  "namespaces",
  "names looked up",
  "quiet phases",
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
      await simulateRaft({ seed, steps: longSteps });
    });
  }

  it("replays a seed exactly in another process", async () => {
    for (const seed of [4, 5]) {
      const { digest } = await simulateRaft({ seed, steps: 2000 });
      const main = fileURLToPath(new URL("./main.ts", import.meta.url));
      const options = ["--seed", String(seed), "--steps", "2000"];
      const { stdout } = await run(process.execPath, ["--import", "tsx", main, ...options]);
      assert.match(
        stdout,
        new RegExp(`Seed ${seed}: no violation, digest ${digest.toString(16)}\n`, "u"),
      );
    }
  });

  it("replays a seed exactly", async () => {
    for (const seed of [1, 2, 3, 4]) {
      const one = await simulateRaft({ seed, steps: 3000 });
      const again = await simulateRaft({ seed, steps: 3000 });
      assert.deepEqual(again, one);
      assert.notEqual((await simulateRaft({ seed: seed + 1, steps: 3000 })).digest, one.digest);
    }
  });
});
