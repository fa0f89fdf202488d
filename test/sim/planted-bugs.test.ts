import assert from "node:assert/strict";
import { type PlantedBug, plantedBugs } from "./planted-bugs.ts";
import { simulateRaft } from "./raft-simulation.ts";

const steps = 5000;
/** A bug that so many seeds do not show would get through. */
const seeds = 60;

/** What the simulation says of a bug, and with which seed. */
async function found(bug: PlantedBug): Promise<{ seed: number; claim: string } | undefined> {
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      await simulateRaft({ seed, steps, bug });
    } catch (error) {
      return { seed, claim: (error as Error).message };
    }
  }
  return undefined;
}

describe("raft simulation with a planted bug", function () {
  this.timeout(120_000);

  for (const [name, { claim, ...bug }] of Object.entries(plantedBugs)) {
    it(`finds a node that ${name}`, async () => {
      const finding = await found(bug);
      assert.ok(finding !== undefined, `${seeds} seeds do not find it`);
      assert.match(finding.claim, claim);
    });
  }
});
