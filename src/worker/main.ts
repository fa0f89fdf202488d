/** Runs one worker as a process: `node … main.js --config weir.yaml`. */
import { parseArgs } from "node:util";
import { exitCodeOf } from "../lib/errors.ts";
import { createLogger } from "../lib/logger.ts";
import { complain, configOfProcess, die, sayReady, stopOnSignals } from "../lib/process.ts";
import { startWorker } from "./server.ts";

const doing = "Cannot go on as a worker";
const dieAsWorker = (thrown: unknown) => die(thrown, doing);

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: "string" } } });
  const config = await configOfProcess(values.config);
  const logger = createLogger("worker", config.logLevel);
  const threads = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);
  const worker = await startWorker(config, logger, { threads });
  const end = stopOnSignals({ stop: () => worker.stop(), logger, doing });
  void worker.failure.then((error) => {
    complain(error.message);
    end(exitCodeOf[error.code]);
  });
  const { port, uuid } = worker;
  const id = await worker.registered.catch(() => undefined);
  if (id !== undefined) sayReady({ port, worker: id, uuid });
}

process.on("uncaughtException", dieAsWorker);
process.on("unhandledRejection", dieAsWorker);
main().catch(dieAsWorker);
