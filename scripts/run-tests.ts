/**
 * Runs every test in phases, each within its budget, and ends with one line of totals. The exit status is 0 only when
 * nothing failed and nothing was left out but what `WEIR_TEST_WITHOUT` names.
 *
 * Usage: node --import tsx scripts/run-tests.ts [PHASE …]
 */
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { readCommandLine, refuse } from "./command-line.ts";
import { runCommand, runMocha } from "./tests/execute.ts";
import { type Need, needs, needsOf, probeNeeds, switchedOff } from "./tests/needs.ts";
import { phases, testFilesOf } from "./tests/phases.ts";
import { addTally, emptyTally, type Tally, totalsLine } from "./tests/tally.ts";

const known = phases.map((phase) => phase.name).join(", ");
const usage = `Usage: npm test -- [PHASE …]
  PHASE   one of ${known} (default: all, in this order)
  WEIR_TEST_WITHOUT=LIST in the environment leaves out, by name, the tests that need some of ${needs.join(", ")}
`;
const { positionals: asked } = readCommandLine("run the tests", usage, { allowPositionals: true });
const unknown = asked.find((name) => !phases.some((phase) => phase.name === name));
if (unknown !== undefined) {
  refuse(`Cannot run phase "${unknown}": wanted one of ${known}`, usage);
}
const chosen = phases.filter((phase) => asked.length === 0 || asked.includes(phase.name));

const off = needsSwitchedOff();
const files = chosen.flatMap(testFilesOf);
const unmet = probeNeeds(needsOf(files).filter((need) => !off.includes(need)));
if (unmet.length > 0) {
  for (const { need, problem, cure } of unmet) {
    process.stderr.write(
      `Cannot run the tests that need ${need}: ${problem}. Cure: ${cure}; or leave them out by name: ` +
        `WEIR_TEST_WITHOUT=${[...off, need].join(",")}\n`,
    );
  }
  process.exit(1);
}

let interruptedBy: NodeJS.Signals | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    interruptedBy ??= signal;
  });
}

let total: Tally = emptyTally;
for (const phase of chosen) {
  if (interruptedBy !== undefined) break;
  const specs = testFilesOf(phase);
  if (phase.command === undefined && specs.length === 0) continue;
  if (phase.requires !== undefined && !existsSync(phase.requires)) continue;
  process.stdout.write(`\n== ${phase.name} (budget ${String(phase.budgetMs / 60_000)} min)\n`);
  const startedMs = performance.now();
  const tally =
    phase.command === undefined
      ? await runMocha({ specs, without: off, budgetMs: phase.budgetMs })
      : await runCommand({ name: phase.name, command: phase.command, budgetMs: phase.budgetMs });
  total = addTally(total, tally);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  process.stdout.write(`== ${phase.name}: ${totalsLine(tally)} in ${seconds} s\n`);
}
if (off.length > 0 && total.skipped > 0) {
  process.stdout.write(
    `\nLeft out by WEIR_TEST_WITHOUT=${off.join(",")}: ${String(total.skipped)}\n`,
  );
}
process.stdout.write(`\n${totalsLine(total)}\n`);
if (interruptedBy !== undefined) {
  process.stdout.write(`Interrupted by ${interruptedBy}\n`);
  process.exitCode = 128 + constants.signals[interruptedBy];
} else {
  process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
}

function needsSwitchedOff(): Need[] {
  try {
    return switchedOff(process.env["WEIR_TEST_WITHOUT"]);
  } catch (error) {
    return refuse((error as Error).message, usage);
  }
}
