/** What the composition roots of the long-lived processes share: their configuration, their end, their last words. */
import { readFile } from "node:fs/promises";
import { type Config, loadConfig } from "./config.ts";
import { exitCodeOf, toWeirError, WeirError } from "./errors.ts";
import type { Logger } from "./logger.ts";
import { writeOrLose } from "./output.ts";

/** A clean stop that takes longer is cut short: what was acknowledged is safe without it. */
const stopLimitMs = 4500;

/**
 * The configuration of a process: the file named on its command line, if any, and its environment.
 * @throws WeirError `ConfigInvalid`
 */
export async function configOfProcess(
  path: string | undefined,
  flags: Readonly<Record<string, unknown>> = {},
): Promise<Config> {
  const file = path === undefined ? undefined : { path, text: await readText(path) };
  return loadConfig({ file, environment: process.env, flags });
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("ConfigInvalid", `Cannot read "${path}": ${detail}`, { cause });
  }
}

/** Ends the process with one line on standard error and the exit status of the error's code. */
export function die(thrown: unknown, doing: string): never {
  const error = toWeirError(thrown, doing);
  complain(error.message);
  process.exit(exitCodeOf[error.code]);
}

/** One line on standard error, if it takes it. */
export function complain(message: string): void {
  writeOrLose(process.stderr, `${message}\n`);
}

/**
 * Ends the process by `stop` on SIGTERM and SIGINT, with status 0. The returned function does the same with another
 * status; only the first call counts.
 */
export function stopOnSignals(options: {
  stop: () => Promise<void>;
  logger: Logger;
  doing: string;
}): (exitCode: number) => void {
  let stopping = false;
  const end = (exitCode: number): void => {
    if (stopping) return;
    stopping = true;
    options.logger.info({}, "stopping");
    setTimeout(() => process.exit(exitCode), stopLimitMs).unref();
    options.stop().then(
      () => process.exit(exitCode),
      (error: unknown) => die(error, options.doing),
    );
  };
  process.on("SIGTERM", () => end(0));
  process.on("SIGINT", () => end(0));
  return end;
}

/** Tells whoever started the process that it serves. */
export function sayReady(details: Readonly<Record<string, unknown>>): void {
  writeOrLose(process.stdout, `READY ${JSON.stringify(details)}\n`);
}
