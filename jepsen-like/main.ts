/** Runs a workload on real processes under faults and prints one line of result; exit status 1 on a violation. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCommandLine, refuse } from "../scripts/command-line.ts";
import { type FaultKind, faultKinds } from "./nemesis.ts";
import { runOnce } from "./run.ts";

const usage = `Usage: npm run jepsen -- [options]
  --workload creates   what the clients do (default: creates)
  --nemesis LIST       none, or some of ${faultKinds.join(",")} (default: all)
  --time SECONDS       how long (default: 30)
  --seed N             of the faults and the operations (default: one by chance)
  --clients N          side by side (default: 5)
  --out DIR            where history and logs stay (default: a new one, removed after a good run)
`;

const { values } = readCommandLine("run a workload", usage, {
  options: {
    workload: { type: "string", default: "creates" },
    nemesis: { type: "string", default: faultKinds.join(",") },
    time: { type: "string", default: "30" },
    seed: { type: "string" },
    clients: { type: "string", default: "5" },
    out: { type: "string" },
  },
});
if (values.workload !== "creates") {
  refuse(`Cannot run workload "${values.workload}": wanted creates`, usage);
}
const named = values.nemesis === "none" ? [] : values.nemesis.split(",");
const unknown = named.find((kind) => !faultKinds.some((known) => known === kind));
if (unknown !== undefined) {
  refuse(`Cannot inflict "${unknown}": wanted none, or some of ${faultKinds.join(",")}`, usage);
}
const seconds = Number(values.time);
if (!(seconds >= 5 && seconds <= 86_400)) {
  refuse(`Cannot run for "${values.time}" seconds: wanted 5 to 86400`, usage);
}
const clients = Number(values.clients);
if (!(Number.isInteger(clients) && clients >= 1 && clients <= 64)) {
  refuse(`Cannot run "${values.clients}" clients: wanted 1 to 64`, usage);
}
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e6));
if (!Number.isSafeInteger(seed)) {
  refuse(`Cannot use the seed "${values.seed ?? ""}": wanted a whole number`, usage);
}

const directory = values.out ?? (await mkdtemp(join(tmpdir(), "weir-jepsen-")));
const faults = named as FaultKind[];
const report = await runOnce({ seed, seconds, clients, faults, directory });
const { ok, failed, unknown: open } = report.operations;
const isSound = report.divergence.length === 0 && report.findings.length === 0;
const good = report.violations.length === 0 && isSound;
process.stdout.write(
  `${good ? "✓" : "✗"} creates: ${ok} operations, ${failed} failed, ${open} unknown; ` +
    `${report.faults.length} faults (${named.join(", ") || "none"}); ` +
    `longest unavailability ${report.longestUnavailabilityMs} ms; ` +
    `${report.violations.length} violations; seed ${seed}\n`,
);
if (good) {
  if (values.out === undefined) await rm(directory, { recursive: true, force: true });
} else {
  for (const { rule, explanation, operation, against } of report.violations.slice(0, 10)) {
    const shown = (value: unknown) =>
      JSON.stringify(value, (_key, each: unknown) =>
        typeof each === "bigint" ? String(each) : each,
      );
    process.stdout.write(`  ${rule}: ${explanation}\n    ${shown(operation).slice(0, 400)}\n`);
    if (against !== undefined) process.stdout.write(`    ${shown(against).slice(0, 400)}\n`);
  }
  if (report.divergence.length > 0) {
    process.stdout.write(`  masters diverge: ${report.divergence.join(", ")}\n`);
  }
  for (const { check, subject, is, wanted } of report.findings) {
    process.stdout.write(`  ${check}: ${subject} ${is}, wanted ${wanted}\n`);
  }
  process.stdout.write(
    `  history and logs: ${directory}\n` +
      `  again: npm run jepsen -- --seed ${seed} --time ${seconds} --clients ${clients} --nemesis ${values.nemesis}\n`,
  );
  process.exitCode = 1;
}
