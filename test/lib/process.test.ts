/** What becomes of a process whose output nobody takes. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn, type StdioOptions } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, existsSync, openSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { exitCodeOf } from "../../src/lib/errors.ts";
import { eventually } from "./eventually.ts";
import { withTempDir } from "./temp-dir.ts";

const program = fileURLToPath(new URL("./output-child.ts", import.meta.url));

/** How the child's standard output and standard error are opened; what is to be closed when it has them. */
interface Output {
  readonly stdio: StdioOptions;
  readonly descriptors: readonly number[];
}

const outputs: Readonly<Record<string, (directory: string) => Promise<Output>>> = {
  "a file on a full disk": () => {
    const full = openSync("/dev/full", "a");
    return Promise.resolve({ stdio: ["ignore", full, full], descriptors: [full] });
  },
  "a pipe that nobody holds any more": () =>
    Promise.resolve({ stdio: ["ignore", "pipe", "pipe"], descriptors: [] }),
  "a pipe that nobody reads": async (directory) => {
    const path = join(directory, "pipe");
    await promisify(execFile)("mkfifo", [path]);
    // Its own reader, so that it opens at once and stays open.
    const pipe = openSync(path, constants.O_RDWR);
    return { stdio: ["ignore", pipe, pipe], descriptors: [pipe] };
  },
};

async function start(
  directory: string,
  { stdio, descriptors }: Output,
  end: "wait" | "die",
): Promise<ChildProcess> {
  const args = ["--import", "tsx", program, join(directory, "mark"), end];
  const child = spawn(process.execPath, args, { stdio });
  await once(child, "spawn");
  child.stdout?.destroy();
  child.stderr?.destroy();
  for (const descriptor of descriptors) closeSync(descriptor);
  return child;
}

/** The exit status of a process that ends within a bound; it is killed otherwise. */
async function statusOf(child: ChildProcess): Promise<number | null> {
  const signal = AbortSignal.timeout(15_000);
  try {
    if (child.exitCode === null) await once(child, "exit", { signal });
    return child.exitCode;
  } catch {
    throw new Error("the process does not end");
  } finally {
    child.kill("SIGKILL");
  }
}

describe("A process whose output is lost", function () {
  this.timeout(40_000);

  for (const [name, open] of Object.entries(outputs)) {
    it(`goes on with ${name}, and ends with status 0 when it is told to`, () =>
      withTempDir(async (directory) => {
        const child = await start(directory, await open(directory), "wait");
        try {
          const mark = join(directory, "mark");
          await eventually("the work's end", () => existsSync(mark) || child.exitCode !== null);
          assert.equal(child.exitCode, null);
          child.kill("SIGTERM");
          assert.equal(await statusOf(child), 0);
        } finally {
          child.kill("SIGKILL");
        }
      }));

    it(`ends with the status of a fatal error with ${name}`, () =>
      withTempDir(async (directory) => {
        const child = await start(directory, await open(directory), "die");
        assert.equal(await statusOf(child), exitCodeOf.DiskFull);
        assert.equal(await readFile(join(directory, "mark"), "utf8"), "through");
      }));
  }

  it("says how many lines it lost when they are taken again, and tears no other", () =>
    withTempDir(async (directory) => {
      const path = join(directory, "log");
      const log = openSync(path, "a");
      const child = await start(
        directory,
        { stdio: ["ignore", log, log], descriptors: [log] },
        "wait",
      );
      const limitFile = (bytes: string) =>
        promisify(execFile)("prlimit", ["--pid", String(child.pid), `--fsize=${bytes}:`]);
      try {
        await eventually("the work's end", () => existsSync(join(directory, "mark")));
        // The line at that limit is written in part, those behind it not at all.
        const limit = (await stat(path)).size + 1000;
        await limitFile(String(limit));
        await eventually("the log to be full", async () => (await stat(path)).size >= limit);
        await limitFile("unlimited");
        const lines = await eventually("lines again", async () => {
          const all = (await readFile(path, "utf8")).split("\n").slice(0, -1);
          return all.at(-1)?.includes('"waiting"') && all.some(saysLoss) && all;
        });
        // Those that are whole; the first is the READY line.
        const whole = lines.slice(1).filter((line) => line.endsWith("}"));
        assert.ok(lines.length - whole.length <= 2, "more than one line is torn");
        for (const line of whole) JSON.parse(line);
        const loss = JSON.parse(whole.find(saysLoss)!) as { lines: number };
        assert.ok(loss.lines > 0);
      } finally {
        child.kill("SIGKILL");
      }
    }));
});

function saysLoss(line: string): boolean {
  return line.includes("log lost lines");
}
