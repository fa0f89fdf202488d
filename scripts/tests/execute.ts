/**
 * Runs one phase as a child process within its budget, shows its failures as they come, and counts. A child that
 * crashes, hangs beyond the budget or says nothing counts as one failure: silence never passes.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { type Need, patternOf } from "./needs.ts";
import { emptyTally, type Tally } from "./tally.ts";

interface TestEvent {
  readonly fullTitle: string;
  readonly file?: string;
  readonly duration?: number;
  readonly err?: string;
  readonly stack?: string | null;
}

type Print = (text: string) => void;

const toStdout: Print = (text) => void process.stdout.write(text);

const mocha = "node_modules/mocha/bin/mocha.js";
const slowMs = 10_000;
/** For a phase that was told to end, to end what it has started. */
const endingMs = 5000;

/** Runs mocha over `specs`; suites tagged with one of `without` are left out and counted as skipped. */
export async function runMocha(options: {
  specs: readonly string[];
  without: readonly Need[];
  budgetMs: number;
  print?: Print;
}): Promise<Tally> {
  const print = options.print ?? toStdout;
  const base = [mocha, "--no-config", "--import=tsx", "--timeout=20000", "--forbid-only"];
  const reporter = ["--reporter=json-stream", ...options.specs];
  const left =
    options.without.length === 0
      ? 0
      : countTests([...base, "--dry-run", `--grep=${patternOf(options.without)}`, ...reporter]);
  const filter =
    options.without.length === 0 ? [] : [`--grep=${patternOf(options.without)}`, "--invert"];
  const child = spawn(process.execPath, [...base, ...filter, ...reporter], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });

  const tally = { passed: 0, failed: 0, skipped: left };
  let last = "the first test";
  let ended = false;
  const read = readLines(child, (line) => {
    const event = parseEvent(line);
    if (event === undefined) {
      print(`${line}\n`);
      return;
    }
    const [kind, detail] = event;
    if (kind === "pass") {
      tally.passed++;
      last = detail.fullTitle;
      if ((detail.duration ?? 0) > slowMs) {
        print(`  slow: ${detail.fullTitle} (${String(detail.duration)} ms)\n`);
      }
    } else if (kind === "fail") {
      tally.failed++;
      last = detail.fullTitle;
      print(`  ✗ ${detail.fullTitle}\n${indent(detail.stack ?? detail.err ?? "")}\n`);
    } else if (kind === "end") {
      ended = true;
      tally.skipped += (detail as unknown as { pending: number }).pending;
    }
  });
  const end = await waitWithin(child, options.budgetMs);
  await read;
  if (end === "budget") {
    tally.failed++;
    print(`  ✗ the phase took longer than its budget; last was: ${last}\n`);
  } else if (!ended || (end !== 0 && tally.failed === 0)) {
    tally.failed++;
    print(`  ✗ the run ended early (${String(end)}); last was: ${last}\n`);
  }
  return tally;
}

/** Runs a command whose exit status is its verdict. */
export async function runCommand(options: {
  name: string;
  command: readonly string[];
  budgetMs: number;
  print?: Print;
}): Promise<Tally> {
  const print = options.print ?? toStdout;
  const [program, ...args] = options.command;
  const child = spawn(program!, args, {
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
  });
  const end = await waitWithin(child, options.budgetMs);
  if (end === 0) return { ...emptyTally, passed: 1 };
  const why = end === "budget" ? "took longer than its budget" : `ended with ${String(end)}`;
  print(`  ✗ ${options.name} ${why}\n`);
  return { ...emptyTally, failed: 1 };
}

function countTests(args: readonly string[]): number {
  const { stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
  return stdout.split("\n").filter((line) => parseEvent(line)?.[0] === "pass").length;
}

function parseEvent(line: string): [string, TestEvent] | undefined {
  if (!line.startsWith('["')) return undefined;
  try {
    const event = JSON.parse(line) as [string, TestEvent];
    return ["start", "pass", "fail", "end"].includes(event[0]) ? event : undefined;
  } catch {
    return undefined;
  }
}

async function readLines(child: ChildProcess, onLine: (line: string) => void): Promise<void> {
  for await (const line of createInterface({ input: child.stdout! })) onLine(line);
}

/**
 * The exit status or signal, or "budget" after the child was ended for taking too long. The child leads a process group
 * of its own, so that what it started ends with it, here and on Ctrl-C.
 */
async function waitWithin(child: ChildProcess, budgetMs: number): Promise<number | string> {
  const signalGroup = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // The group is gone already.
    }
  };
  const timers: NodeJS.Timeout[] = [];
  let isEnded = false;
  const end = () => {
    isEnded = true;
    signalGroup("SIGTERM");
    timers.push(setTimeout(() => signalGroup("SIGKILL"), endingMs));
  };
  process.on("SIGINT", end).on("SIGTERM", end);
  let overdue = false;
  timers.push(
    setTimeout(() => {
      overdue = true;
      end();
    }, budgetMs),
  );
  const status = await new Promise<number | string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
  for (const timer of timers) clearTimeout(timer);
  process.off("SIGINT", end).off("SIGTERM", end);
  // What it had started. After an end of its own nothing should be left, and what is shows.
  if (isEnded) signalGroup("SIGKILL");
  return overdue ? "budget" : status;
}

function indent(text: string): string {
  return text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
}
