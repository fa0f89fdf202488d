/**
 * Runs seeds of the simulation and prints what was simulated. A seed that breaks an invariant, or does not come to an end,
 * ends it with status 1 and the command that replays it. A run of many that is interrupted prints what it has found so far.
 */
import { constants } from "node:os";
import { readCommandLine, refuse } from "../../scripts/command-line.ts";
import { simulateRaft } from "./raft-simulation.ts";
import { runSwarm } from "./swarm.ts";
import { addReport, describeTotals, emptyTotals, type Totals } from "./totals.ts";

const usage = `Usage: npm run sim -- [--seed N] [--seeds K] [--steps M] [--jobs J]
  --seed N    the first seed (default: one by chance)
  --seeds K   how many, from N on (default: 1 with --seed, else 1000)
  --steps M   events of each before everything heals (default: 2500)
  --jobs J    processes (default: one for each core)
`;

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(value) && value >= least) return value;
  return refuse(
    `Cannot simulate with --${name} "${text}": wanted a number from ${least} on`,
    usage,
  );
}

const { values } = readCommandLine("simulate", usage, {
  options: {
    seed: { type: "string" },
    seeds: { type: "string" },
    steps: { type: "string", default: "2500" },
    jobs: { type: "string" },
  },
});
const first = wholeNumber("seed", values.seed ?? String(Math.floor(Math.random() * 1e9)), 0);
const seeds = wholeNumber("seeds", values.seeds ?? (values.seed === undefined ? "1000" : "1"), 1);
const steps = wholeNumber("steps", values.steps, 1);
const jobs = values.jobs === undefined ? undefined : wholeNumber("jobs", values.jobs, 1);

if (seeds === 1) await runOne();
else await runMany();

/** In this process, with the whole trace of what fails. */
async function runOne(): Promise<void> {
  const startMs = performance.now();
  try {
    const report = await simulateRaft({ seed: first, steps });
    const totals = emptyTotals();
    addReport(totals, report);
    const seconds = (performance.now() - startMs) / 1000;
    console.log(`Seed ${first}: no violation, digest ${report.digest.toString(16)}`);
    console.log(describeTotals(totals, report.situations.size, seconds));
  } catch (error) {
    console.error(error);
    showReplay(first);
  }
}

async function runMany(): Promise<void> {
  const interruption = new AbortController();
  // Once: the second ends it at once.
  process.once("SIGINT", () => interruption.abort("SIGINT"));
  process.once("SIGTERM", () => interruption.abort("SIGTERM"));
  const { signal } = interruption;
  const onSeed = ({ failed }: Totals) => {
    for (const { seed, claim } of failed) {
      console.error(`\nSeed ${seed}: ${claim}`);
      showReplay(seed);
    }
  };
  const options = { first, seeds, steps, signal, onSeed, ...(jobs === undefined ? {} : { jobs }) };
  const { totals, situations, seconds } = await runSwarm(options);
  const of = signal.aborted ? `${totals.seeds}, interrupted before ${seeds},` : `${seeds}`;
  console.log(`Seeds from ${first}: ${totals.failed.length} of ${of} fail`);
  console.log(describeTotals(totals, situations, seconds));
  if (signal.aborted) process.exitCode = 128 + constants.signals[signal.reason as NodeJS.Signals];
}

function showReplay(seed: number): void {
  console.error(`Replay: npm run sim -- --seed ${seed} --steps ${steps}`);
  process.exitCode = 1;
}
