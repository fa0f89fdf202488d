/**
 * Proves that the suites notice what they are there for: plants known bugs, one at a time, in a throw-away copy of the
 * tree, and runs the tests that should catch each. A bug that nothing catches is a test that is missing.
 *
 * Usage: npm run mutants -- [--only TEXT …] [--list]
 *
 * First the suites run on the unchanged copy: a suite that fails by itself catches nothing. The exit status is 0 only
 * when every planted bug was caught.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { readCommandLine, refuse } from "./command-line.ts";
import { allMutants } from "./mutants/all.ts";
import { misplaced, plant, type Planted } from "./mutants/mutant.ts";
import { runSuite, type Verdict } from "./mutants/suite.ts";
import { copyTree } from "./mutants/tree.ts";

const workers = 2;
const root = resolve(import.meta.dirname, "..");

const usage = `Usage: npm run mutants -- [--only TEXT …] [--list]
  --only TEXT   the planted bugs whose name contains it; may be given again, for more
  --list        names them, with the file that each goes to, and ends
`;
const { values } = readCommandLine("plant bugs", usage, {
  options: {
    only: { type: "string", multiple: true, default: [""] },
    list: { type: "boolean", default: false },
  },
});
const chosen = allMutants.filter(({ name }) => values.only.some((text) => name.includes(text)));
if (values.list) {
  for (const { name, file } of chosen) process.stdout.write(`${file}: ${name}\n`);
  process.exit(0);
}
const wrong = chosen.flatMap((mutant) => misplaced(root, mutant));
if (wrong.length > 0) {
  process.stderr.write(`${wrong.join("\n")}\n`);
  process.exit(1);
}
if (chosen.length === 0) {
  refuse(`Cannot plant "${values.only.join(", ")}": no bug is called so`, usage);
}

const startedMs = performance.now();
const place = mkdtempSync(join(tmpdir(), "weir-mutants-"));
process.on("exit", () => rmSync(place, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
const trees = Array.from({ length: workers }, (_, i) => join(place, String(i)));
for (const tree of trees) copyTree(root, tree);

const suites = [...new Set(chosen.flatMap((mutant) => mutant.suites))];
const broken: string[] = [];
await inParallel(suites, async (suite, tree) => {
  const verdict = await runSuite(tree, suite);
  if (verdict.kind !== "passed") broken.push(`${suite}: ${wordsOf(verdict)}`);
});
if (broken.length > 0) {
  process.stderr.write(`Cannot judge by suites that fail by themselves:\n${broken.join("\n")}\n`);
  process.exit(1);
}

let caught = 0;
await inParallel(chosen, async (mutant, tree) => {
  const mutantStartedMs = performance.now();
  const planted: Planted = plant(tree, mutant);
  let verdict: Verdict = { kind: "passed" };
  for (const suite of mutant.suites) {
    verdict = await runSuite(tree, suite);
    if (verdict.kind !== "passed") break;
  }
  planted.undo();
  const isCaught = verdict.kind === "failed" || verdict.kind === "hung";
  if (isCaught) caught++;
  const seconds = ((performance.now() - mutantStartedMs) / 1000).toFixed(1).padStart(5);
  const sign = isCaught ? "caught  " : "SURVIVED";
  process.stdout.write(`${sign} ${seconds} s  ${mutant.name}\n`);
  process.stdout.write(`                   ${wordsOf(verdict)}\n`);
});

const minutes = ((performance.now() - startedMs) / 60_000).toFixed(1);
process.stdout.write(`\n${caught}/${chosen.length} planted bugs caught, in ${minutes} min\n`);
process.exitCode = caught === chosen.length ? 0 : 1;

function wordsOf(verdict: Verdict): string {
  switch (verdict.kind) {
    case "passed":
      return "every test passed";
    case "failed":
      return `by: ${verdict.test}`;
    case "hung":
      return "by a run that did not end in time";
    case "unusable":
      return `no test ran: ${verdict.reason}`;
  }
}

/** Takes the items in order, as many at a time as there are trees, each worker in its own. */
async function inParallel<T>(
  items: readonly T[],
  work: (item: T, tree: string) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  await Promise.all(
    trees.map(async (tree) => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        await work(item, tree);
      }
    }),
  );
}
