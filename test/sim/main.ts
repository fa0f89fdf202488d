/**
 * Runs seeds of the simulation, some events each, and prints what was simulated. A seed that breaks an invariant ends it
 * with status 1 and the command that replays it.
 */
import { parseArgs } from "node:util";
import { type Report, simulateRaft } from "./raft-simulation.ts";

const usage = `Usage: npm run sim -- [--seed N] [--seeds K] [--steps M]
  --seed N    the first seed (default: one by chance)
  --seeds K   how many, from N on (default: 1 with --seed, else 100)
  --steps M   events of each (default: 20000)
`;

function refuse(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(64);
}

function argumentsGiven() {
  try {
    return parseArgs({
      options: {
        seed: { type: "string" },
        seeds: { type: "string" },
        steps: { type: "string", default: "20000" },
        help: { type: "boolean", short: "h", default: false },
      },
    }).values;
  } catch (error) {
    return refuse(
      `Cannot simulate: ${(error as Error).message.split(". ")[0]} (see npm run sim -- --help)`,
    );
  }
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(value) && value >= least) return value;
  return refuse(`Cannot simulate with --${name} "${text}": wanted a number from ${least} on`);
}

const values = argumentsGiven();
if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const first = wholeNumber("seed", values.seed ?? String(Math.floor(Math.random() * 1e9)), 0);
const count = wholeNumber("seeds", values.seeds ?? (values.seed === undefined ? "100" : "1"), 1);
const steps = wholeNumber("steps", values.steps, 1);
const startMs = performance.now();
const totals = new Map<string, number>();

for (let seed = first; seed < first + count; seed++) {
  try {
    const report: Report = simulateRaft(seed, steps);
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
  `${count} ${count === 1 ? "seed" : "seeds"} from ${first}: no violation. ${(count / seconds).toFixed(1)} seeds/s, ${figures}`,
);
