/**
 * One supervised process: started with its output in a log file, known by a pid file, started again with back-off when
 * it crashes, ended within a bound.
 *
 * Invariants
 * 1. At most one process runs at a time, and only while `wanted`.
 * 2. The pid file exists exactly while a process may run, so a killed supervisor's children are found again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { sleep, systemClock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import { type Layout, logOf } from "./layout.ts";
import { removePidFile, writePidFile } from "./pid-file.ts";

export interface ChildSpec {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** A line of the log that says that the process serves; its first group is JSON with `port`, where it tells one. */
  readonly ready: RegExp;
  /** Runs before each start, for what a crash of the last one left behind. */
  readonly beforeStart?: () => Promise<void>;
}

/** What a process told when it was ready. */
export interface Readiness {
  readonly port: number | undefined;
}

const firstBackOffMs = 200;
const longestBackOffMs = 5000;
/** A process that lived this long starts its back-off anew. */
const soundAfterMs = 10_000;
/** Failed starts before the first readiness, after which `ready` rejects. */
const attemptsToBecomeReady = 3;

export class SupervisedChild {
  readonly spec: ChildSpec;
  readonly #layout: Layout;
  readonly #onEvent: (line: string) => void;
  #wanted = false;
  #process: ChildProcess | undefined;
  #readiness: Readiness | undefined;
  #logOffset = 0;
  #failures = 0;
  #cancelRestart: (() => void) | undefined;

  constructor(spec: ChildSpec, layout: Layout, onEvent: (line: string) => void) {
    this.spec = spec;
    this.#layout = layout;
    this.#onEvent = onEvent;
  }

  get name(): string {
    return this.spec.name;
  }

  get log(): string {
    return logOf(this.#layout, this.spec.name);
  }

  /** The pid while the process runs. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts the process and keeps it running. */
  async start(): Promise<void> {
    this.#wanted = true;
    this.#failures = 0;
    if (this.#process === undefined) await this.#spawn();
  }

  /** No restart from now on; a running process goes on. */
  suspend(): void {
    this.#wanted = false;
    this.#cancelRestart?.();
  }

  /** SIGKILL, as a crash would end it; resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    child.kill("SIGKILL");
    await ended(child);
  }

  /**
   * Resolves when the running process says that it serves.
   * @throws WeirError `Unavailable` with the process's own words when it keeps ending, or says nothing in time
   */
  async ready(limitMs: number, signal?: AbortSignal): Promise<Readiness> {
    const endMs = performance.now() + limitMs;
    for (;;) {
      const readiness = this.readiness();
      if (readiness !== undefined) return readiness;
      if (this.#failures >= attemptsToBecomeReady) throw this.#failure("it ended at once");
      if (performance.now() > endMs) {
        throw this.#failure(`it was not ready within ${String(limitMs / 1000)} s`);
      }
      await sleep(20, signal);
    }
  }

  /** What the running process told when it became ready; undefined before. */
  readiness(): Readiness | undefined {
    if (this.#process === undefined) return undefined;
    this.#readiness ??= parseReadiness(this.#logText(), this.spec.ready);
    return this.#readiness;
  }

  /** SIGTERM, then SIGKILL after `graceMs`; resolves when the process is gone. */
  async stop(graceMs: number): Promise<void> {
    this.suspend();
    const child = this.#process;
    if (child === undefined) return;
    child.kill("SIGTERM");
    const cancel = systemClock.after(graceMs, () => {
      this.#onEvent(`${this.name} did not end within ${String(graceMs / 1000)} s and was killed`);
      child.kill("SIGKILL");
    });
    await ended(child);
    cancel();
  }

  async #spawn(): Promise<void> {
    await this.spec.beforeStart?.();
    if (!this.#wanted) return;
    const log = openSync(this.log, "a");
    try {
      this.#logOffset = fstatSync(log).size;
      this.#readiness = undefined;
      const startedMs = performance.now();
      const child = spawn(this.spec.program, this.spec.args, {
        cwd: this.#layout.home,
        env: { ...process.env, ...this.spec.environment },
        stdio: ["ignore", log, log],
        // Ctrl-C goes to the whole group of the terminal; the supervisor alone decides in which order its processes end.
        detached: true,
      });
      this.#process = child;
      child.once("error", (error) => this.#ended(child, error.message, startedMs));
      child.once("exit", (status, signal) => {
        this.#ended(child, signal ?? `status ${String(status)}`, startedMs);
      });
      if (child.pid !== undefined) writePidFile(this.#layout.run, this.name, child.pid);
    } finally {
      closeSync(log);
    }
  }

  #ended(child: ChildProcess, how: string, startedMs: number): void {
    if (this.#process !== child) return;
    this.#process = undefined;
    removePidFile(this.#layout.run, this.name);
    if (!this.#wanted) return;
    this.#failures = performance.now() - startedMs > soundAfterMs ? 1 : this.#failures + 1;
    const delayMs = Math.min(longestBackOffMs, firstBackOffMs * 2 ** (this.#failures - 1));
    this.#onEvent(`${this.name} ended (${how}); it starts again in ${String(delayMs)} ms`);
    this.#cancelRestart = systemClock.after(delayMs, () => {
      this.#spawn().catch((error: unknown) => {
        this.#onEvent(`${this.name} cannot start: ${String(error)}`);
      });
    });
  }

  /** The log of the running process, up to 64 KiB: readiness comes early. */
  #logText(): string {
    const log = openSync(this.log, "r");
    try {
      const buffer = Buffer.alloc(64 * 1024);
      return buffer.toString("utf8", 0, readSync(log, buffer, 0, buffer.length, this.#logOffset));
    } finally {
      closeSync(log);
    }
  }

  #failure(what: string): WeirError {
    const words = this.#logText()
      .split("\n")
      .filter((line) => line.startsWith("Cannot "))
      .at(-1);
    const detail = words === undefined ? "" : `: ${words}`;
    return new WeirError(
      "Unavailable",
      `Cannot start ${this.name}: ${what}${detail}. Log: ${this.log}`,
    );
  }
}

/** Exported for its test: finds the line that says ready. */
export function parseReadiness(text: string, ready: RegExp): Readiness | undefined {
  const match = ready.exec(text);
  if (match === null) return undefined;
  if (match[1] === undefined) return { port: undefined };
  try {
    const told = JSON.parse(match[1]) as { port?: unknown };
    return { port: typeof told.port === "number" ? told.port : undefined };
  } catch {
    return undefined;
  }
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) resolve();
    else child.once("exit", () => resolve());
  });
}
