/**
 * `npm run sim -- [--seed N] [--seeds K] [--steps M]`: runs K seeds from N on, M events each, and prints what was
 * simulated. A seed that breaks an invariant ends it with status 1 and the command that replays it.
 */
import { parseArgs } from "node:util";
import { type Report, simulateRaft } from "./raft-simulation.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: String(Math.floor(Math.random() * 1e9)) },
    seeds: { type: "string", default: "100" },
    steps: { type: "string", default: "20000" },
  },
});
const [first, count, steps] = [values.seed, values.seeds, values.steps].map(Number);
const startMs = performance.now();
const totals = new Map<string, number>();

for (let seed = first!; seed < first! + count!; seed++) {
  try {
    const report: Report = simulateRaft(seed, steps!);
    for (const [name, value] of Object.entries(report)) {
      totals.set(name, (totals.get(name) ?? 0) + Number(value));
    }
  } catch (error) {
    console.error(error);
    console.error(`Replay: npm run sim -- --seed ${seed} --seeds 1 --steps ${steps}`);
    process.exit(1);
  }
}

const seconds = (performance.now() - startMs) / 1000;
const figures = [...totals].map(([name, value]) => `${name} ${value}`).join(", ");
console.log(
  `${count} seeds from ${first}: no violation. ${(count! / seconds).toFixed(1)} seeds/s, ${figures}`,
);
