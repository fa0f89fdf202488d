/**
 * Runs jobs as processes of this machine, without a shell.
 *
 * Invariants
 * 1. A job is a process group of its own; when the run ends, by whatever way, nothing of the group is left.
 * 2. Standard output and standard error never fill up: they go to a file, to nowhere, or are drained into a bounded
 *    tail.
 * 3. After a status other than 0 no output file is left, so that none can be published by mistake.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { lstat, open, rm } from "node:fs/promises";
import { WeirError } from "../lib/errors.ts";
import { expandArguments, fileVariables } from "./placeholders.ts";
import type { JobAttempt, JobOutcome, JobRunner } from "./runner.ts";

/** Status for a job that took too long, as of timeout(1). */
export const timedOutExitCode = 124;

export interface LocalRunnerOptions {
  /** PATH of the jobs, unless their environment says another. */
  readonly searchPath?: string;
  /** How long a job that is being ended may take to end by itself. */
  readonly killGraceMs?: number;
  /** Bytes of standard error that are kept. */
  readonly tailBytes?: number;
}

export class LocalRunner implements JobRunner {
  readonly #searchPath: string;
  readonly #killGraceMs: number;
  readonly #tailBytes: number;

  constructor(options: LocalRunnerOptions = {}) {
    this.#searchPath =
      options.searchPath ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    this.#killGraceMs = options.killGraceMs ?? 2000;
    this.#tailBytes = options.tailBytes ?? 8192;
  }

  async run(attempt: JobAttempt): Promise<JobOutcome> {
    const { job, outputs, signal } = attempt;
    const files = {
      in: attempt.inputs.map((file) => file.path),
      out: outputs.map((file) => file.path),
    };
    const [program, ...args] = expandArguments(job.argv, files);
    if (program === undefined || program === "") {
      throw new WeirError("InvalidArgument", "Cannot run the job: it names no program");
    }
    refuseIfAborted(signal, program);
    const capture = job.captureStdout ? await openCapture(files.out, program) : undefined;
    let outcome: JobOutcome;
    try {
      const startedMs = performance.now();
      const child = spawn(program, args, {
        cwd: attempt.directory,
        // Equal wherever the job runs, so that equal inputs make equal outputs; the job may say otherwise.
        env: {
          PATH: this.#searchPath,
          HOME: attempt.directory,
          TMPDIR: attempt.directory,
          LANG: "C.UTF-8",
          TZ: "UTC",
          ...job.environment,
          ...fileVariables(files),
        },
        stdio: ["ignore", capture?.fd ?? "ignore", "pipe"],
        // A process group of its own: a job is ended together with all that it started.
        detached: true,
      });
      const ended = await this.#ended(child, attempt, program);
      outcome = { ...ended, durationMs: Math.round(performance.now() - startedMs) };
    } finally {
      await capture?.close();
    }
    if (outcome.exitCode !== 0) {
      for (const output of files.out) await rm(output, { recursive: true, force: true });
      refuseIfAborted(signal, program);
      return outcome;
    }
    for (const output of files.out) await assertMade(output, program, outcome.stderrTail);
    return outcome;
  }

  /** Resolves when the process has ended and its group is gone. */
  #ended(
    child: ChildProcess,
    attempt: JobAttempt,
    program: string,
  ): Promise<{ exitCode: number; stderrTail: string }> {
    const { job, signal } = attempt;
    const tail = new Tail(this.#tailBytes);
    const stderr = child.stderr!;
    stderr.on("data", (chunk: Buffer) => tail.add(chunk));
    stderr.on("error", () => undefined);
    return new Promise((resolve, reject) => {
      let timedOut = false;
      let killTimer: NodeJS.Timeout | undefined;
      const end = () => {
        if (killTimer !== undefined) return;
        killGroup(child, "SIGTERM");
        killTimer = setTimeout(() => killGroup(child, "SIGKILL"), this.#killGraceMs);
      };
      const timer = setTimeout(
        () => {
          timedOut = true;
          end();
        },
        Math.min(job.timeoutMs, maxTimerMs),
      );
      signal.addEventListener("abort", end, { once: true });
      const settle = (act: () => void) => {
        clearTimeout(timer);
        clearTimeout(killTimer);
        signal.removeEventListener("abort", end);
        act();
      };
      child.once("error", (cause: NodeJS.ErrnoException) => {
        settle(() => reject(cannotStart(program, attempt, cause)));
      });
      child.once("exit", (code, signalName) => {
        // What the program left running has no business any more; it may also hold standard error open.
        killGroup(child, "SIGKILL");
        const finish = () => {
          settle(() => {
            stderr.destroy();
            if (timedOut) tail.add(Buffer.from(`\nEnded after ${job.timeoutMs} ms, its timeout\n`));
            resolve({ exitCode: statusOf(code, signalName, timedOut), stderrTail: tail.text() });
          });
        };
        if (stderr.closed) finish();
        else {
          // A process that left the group may hold the pipe for ever: what it says is not waited for.
          const giveUp = setTimeout(() => stderr.destroy(), 500);
          stderr.once("close", () => {
            clearTimeout(giveUp);
            finish();
          });
        }
      });
      if (signal.aborted) end();
    });
  }
}

/** The longest delay that setTimeout takes. */
const maxTimerMs = 2 ** 31 - 1;

function statusOf(
  code: number | null,
  signalName: NodeJS.Signals | null,
  timedOut: boolean,
): number {
  if (timedOut) return timedOutExitCode;
  return code ?? 128 + (signalName === null ? 0 : constants.signals[signalName]);
}

function killGroup(child: ChildProcess, signalName: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signalName);
  } catch {
    // No process of the group is left.
  }
}

/** Standard output goes straight to the file of output 0. */
async function openCapture(outputs: readonly string[], program: string) {
  const first = outputs[0];
  if (first === undefined) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot run "${program}": its standard output is to be captured, but the job has no output`,
    );
  }
  return open(first, "wx", 0o600);
}

async function assertMade(output: string, program: string, stderrTail: string): Promise<void> {
  const stat = await lstat(output).catch(() => undefined);
  if (stat?.isFile() === true) return;
  const what = stat === undefined ? "did not write" : "made something that is no regular file of";
  const said = stderrTail === "" ? "" : `; its standard error ended with: ${stderrTail.trim()}`;
  throw new WeirError(
    "JobFailed",
    `Cannot use the outputs of "${program}": it exited with 0 and ${what} "${output}"${said}`,
  );
}

function cannotStart(
  program: string,
  attempt: JobAttempt,
  cause: NodeJS.ErrnoException,
): WeirError {
  const path = attempt.job.environment["PATH"];
  const why =
    cause.code === "ENOENT"
      ? `there is no such program on this worker${program.includes("/") || path === undefined ? "" : ` in PATH "${path}"`}`
      : cause.code === "EACCES"
        ? "it may not be executed"
        : cause.message;
  return new WeirError("JobFailed", `Cannot run "${program}": ${why}`, { cause });
}

function refuseIfAborted(signal: AbortSignal, program: string): void {
  if (!signal.aborted) return;
  const cause: unknown = signal.reason;
  throw new WeirError("Cancelled", `Cannot run "${program}": the attempt was cancelled`, { cause });
}

/** The last bytes of a stream. */
class Tail {
  readonly #limit: number;
  #bytes: Buffer = Buffer.alloc(0);
  #cut = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(chunk: Buffer): void {
    const whole = Buffer.concat([this.#bytes, chunk.subarray(-this.#limit)]);
    if (whole.length > this.#limit || chunk.length > this.#limit) this.#cut = true;
    // A copy: a view would keep every chunk alive.
    this.#bytes = Buffer.from(whole.subarray(-this.#limit));
  }

  text(): string {
    return (this.#cut ? "…" : "") + this.#bytes.toString("utf8");
  }
}
