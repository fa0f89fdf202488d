/** Runs real programs for the tour, each within a time limit, and tells how long they took. */
import { spawn } from "node:child_process";
import { argumentsOf } from "../start/programs.ts";
import { StepFailure } from "./step.ts";

export interface Ran {
  readonly stdout: string;
  readonly durationMs: number;
}

export interface RunOptions {
  readonly limitMs?: number;
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
}

const defaultLimitMs = 120_000;
const keptOutputBytes = 16 * 1024 * 1024;

export class Runner {
  readonly #config: string;
  readonly #home: string;
  readonly #signal: AbortSignal;

  constructor(options: { config: string; home: string; signal: AbortSignal }) {
    this.#config = options.config;
    this.#home = options.home;
    this.#signal = options.signal;
  }

  /**
   * Runs a program to its end.
   * @throws StepFailure when it ends with another status than 0, with the end of what it said
   */
  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const limitMs = options.limitMs ?? defaultLimitMs;
    const startedMs = performance.now();
    const child = spawn(program, args, {
      cwd: options.cwd ?? this.#home,
      env: { ...process.env, LC_ALL: "C", ...options.environment },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: limitMs,
      killSignal: "SIGKILL",
      signal: this.#signal,
    });
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    const end = await new Promise<number | string>((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("close", (status, signal) => resolve(status ?? signal ?? "unknown"));
    });
    this.#signal.throwIfAborted();
    const durationMs = performance.now() - startedMs;
    if (end === 0) return { stdout: stdout(), durationMs };
    const said = `${stdout()}\n${stderr()}`.trim().split("\n").slice(-3).join(" / ");
    const how =
      durationMs >= limitMs ? `no end after ${String(limitMs / 1000)} s` : `status ${String(end)}`;
    const call = [program, ...args].join(" ");
    throw new StepFailure(
      `"${call.length > 160 ? `${call.slice(0, 160)}…` : call}" to succeed`,
      `${how}: ${said.slice(0, 600)}`,
    );
  }

  /** Runs this `weir` as a user would, against the tour's cluster. */
  weir(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const separator = args.indexOf("--");
    const place = separator === -1 ? args.length : separator;
    const own = [...args.slice(0, place), "--config", this.#config, ...args.slice(place)];
    return this.run(process.execPath, [...argumentsOf("cli"), ...own], options);
  }

  /** As `weir … --json`, parsed. */
  async weirJson<T>(args: readonly string[], options: RunOptions = {}): Promise<T> {
    const separator = args.indexOf("--");
    const place = separator === -1 ? args.length : separator;
    const { stdout } = await this.weir(
      [...args.slice(0, place), "--json", ...args.slice(place)],
      options,
    );
    return JSON.parse(stdout) as T;
  }
}

/** Keeps the first part of a stream; the rest is read and dropped, so that no program waits for its reader. */
function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    if (size < keptOutputBytes) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString("utf8");
}
