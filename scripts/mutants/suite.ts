/**
 * Runs one suite in a tree until its first failure. A suite is one or more test files, or `sim SEEDS STEPS`. A run in which no test
 * failed and none passed says nothing about the bug: it does not even load.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export type Verdict =
  | { readonly kind: "passed" }
  | { readonly kind: "failed"; readonly test: string }
  | { readonly kind: "hung" }
  | { readonly kind: "unusable"; readonly reason: string };

/** A suite here takes seconds; planted bugs may make it wait for what never comes. */
const budgetMs = 120_000;
/** For a process to end by itself once a test has failed: the verdict is known. */
const lingerMs = 3000;

export async function runSuite(tree: string, suite: string): Promise<Verdict> {
  const [name, seeds, steps] = suite.split(" ");
  return name === "sim"
    ? await runSimulation(tree, seeds!, steps!)
    : await runMocha(tree, suite.split(" "));
}

async function runMocha(tree: string, files: readonly string[]): Promise<Verdict> {
  const child = start(tree, [
    "node_modules/mocha/bin/mocha.js",
    "--no-config",
    "--import=tsx",
    "--bail",
    "--timeout=20000",
    "--reporter=json-stream",
    ...files,
  ]);
  let passed = 0;
  let failure: string | undefined;
  const lines = eachLine(child, (line) => {
    const event = parseEvent(line);
    if (event === undefined) return;
    const [kind, title] = event;
    if (kind === "pass") passed++;
    if (kind === "fail") {
      failure ??= title;
      // What the test has left may keep its process for ever.
      setTimeout(() => endGroup(child), lingerMs).unref();
    }
  });
  const errors = textOf(child);
  const end = await waitWithin(child);
  await lines;
  if (failure !== undefined) return { kind: "failed", test: failure };
  if (end === "budget") return { kind: "hung" };
  if (end === 0 && passed > 0) return { kind: "passed" };
  if (passed > 0)
    return { kind: "failed", test: `the process of ${files.join(" ")} ended with ${end}` };
  return { kind: "unusable", reason: (await errors).trim().split("\n").slice(0, 8).join(" ") };
}

async function runSimulation(tree: string, seeds: string, steps: string): Promise<Verdict> {
  const range = ["--seed", "1", "--seeds", seeds, "--steps", steps];
  const child = start(tree, ["--import", "tsx", "test/sim/main.ts", ...range]);
  const errors = textOf(child);
  const end = await waitWithin(child);
  if (end === "budget") return { kind: "hung" };
  if (end === 0) return { kind: "passed" };
  const replay = /--seed \d+/.exec(await errors);
  return replay === null
    ? { kind: "unusable", reason: (await errors).trim().split("\n").slice(0, 8).join(" ") }
    : { kind: "failed", test: `simulation ${replay[0]}` };
}

function start(tree: string, argv: readonly string[]): ChildProcess {
  return spawn(process.execPath, argv, {
    cwd: tree,
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: what the tests started goes with it.
    detached: true,
  });
}

function parseEvent(line: string): [kind: string, title: string] | undefined {
  if (!line.startsWith("[")) return undefined;
  try {
    const [kind, detail] = JSON.parse(line) as [string, { fullTitle?: string } | undefined];
    return [kind, detail?.fullTitle ?? ""];
  } catch {
    return undefined;
  }
}

async function eachLine(child: ChildProcess, take: (line: string) => void): Promise<void> {
  for await (const line of createInterface({ input: child.stdout! })) take(line);
}

async function textOf(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout!.resume();
  for await (const chunk of child.stderr!) text += String(chunk);
  return text;
}

/** Exit status of the child, or `budget` when it had to be ended; its whole group is gone afterwards. */
async function waitWithin(child: ChildProcess): Promise<number | string> {
  return await new Promise((resolve) => {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      endGroup(child);
    }, budgetMs);
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      endGroup(child);
      resolve(isLate ? "budget" : (code ?? signal ?? "nothing"));
    });
  });
}

function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // None of it is left.
  }
}
