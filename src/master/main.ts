/** Runs one master as a process: `node … main.js --config weir.yaml --name master-1`. */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { loadConfig } from "../lib/config.ts";
import { exitCodeOf, toWeirError, WeirError } from "../lib/errors.ts";
import { createLogger } from "../lib/logger.ts";
import { startMaster } from "./server.ts";

/** A clean stop that takes longer is cut short: the log is durable without it. */
const stopLimitMs = 4500;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: "string" }, name: { type: "string" } },
  });
  const config = loadConfig({
    file: values.config === undefined ? undefined : await readConfig(values.config),
    environment: process.env,
  });
  const name = values.name ?? config.masters[0]!.name;
  const logger = createLogger(name, config.logLevel);
  const master = await startMaster(config, name, logger);

  let stopping = false;
  const stop = () => {
    if (stopping) return;
    stopping = true;
    logger.info({}, "stopping");
    setTimeout(() => process.exit(0), stopLimitMs).unref();
    master.stop().then(
      () => process.exit(0),
      (error: unknown) => die(error),
    );
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  void master.failure.then(die);
  process.stdout.write(
    `READY ${JSON.stringify({ port: master.rpcPort, raftPort: master.raftPort, name })}\n`,
  );
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
  const error = toWeirError(thrown, "Cannot go on as a master");
  process.stderr.write(`${error.message}\n`);
  process.exit(exitCodeOf[error.code]);
}

process.on("uncaughtException", die);
process.on("unhandledRejection", die);
main().catch(die);
