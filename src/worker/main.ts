/** Runs one worker as a process: `node … main.js --config weir.yaml`. */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { loadConfig } from "../lib/config.ts";
import { exitCodeOf, toWeirError, WeirError } from "../lib/errors.ts";
import { createLogger } from "../lib/logger.ts";
import { startWorker } from "./server.ts";

/** A clean stop that takes longer is cut short: what was flushed is safe without it. */
const stopLimitMs = 4500;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: "string" } } });
  const config = loadConfig({
    file: values.config === undefined ? undefined : await readConfig(values.config),
    environment: process.env,
  });
  const logger = createLogger("worker", config.logLevel);
  const worker = await startWorker(config, logger);

  let stopping = false;
  const stop = (exitCode: number): void => {
    if (stopping) return;
    stopping = true;
    logger.info({}, "stopping");
    setTimeout(() => process.exit(exitCode), stopLimitMs).unref();
    worker.stop().then(() => process.exit(exitCode), die);
  };
  process.on("SIGTERM", () => {
    stop(0);
  });
  process.on("SIGINT", () => {
    stop(0);
  });
  void worker.failure.then((error) => {
    process.stderr.write(`${error.message}\n`);
    stop(exitCodeOf[error.code]);
  });
  const { port, uuid } = worker;
  const id = await worker.registered.catch(() => undefined);
  if (id !== undefined) {
    process.stdout.write(`READY ${JSON.stringify({ port, worker: id, uuid })}\n`);
  }
}

async function readConfig(path: string): Promise<{ path: string; text: string }> {
  try {
    return { path, text: await readFile(path, "utf8") };
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("ConfigInvalid", `Cannot read "${path}": ${detail}`, { cause });
  }
}

function die(thrown: unknown): never {
  const error = toWeirError(thrown, "Cannot go on as a worker");
  process.stderr.write(`${error.message}\n`);
  process.exit(exitCodeOf[error.code]);
}

process.on("uncaughtException", die);
process.on("unhandledRejection", die);
main().catch(die);
