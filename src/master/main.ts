/** Runs one master as a process: `node … main.js --config weir.yaml --name master-1`. */
import { parseArgs } from "node:util";
import { createLogger } from "../lib/logger.ts";
import { configOfProcess, die, sayReady, stopOnSignals } from "../lib/process.ts";
import { startMaster } from "./server.ts";

const doing = "Cannot go on as a master";
const dieAsMaster = (thrown: unknown) => die(thrown, doing);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: "string" }, name: { type: "string" } },
  });
  const config = await configOfProcess(values.config);
  const name = values.name ?? config.masters[0]!.name;
  const logger = createLogger(name, config.logLevel);
  const master = await startMaster(config, name, logger);
  stopOnSignals({ stop: () => master.stop(), logger, doing });
  void master.failure.then(dieAsMaster);
  // Not while it is to be added to a cluster: it serves nothing until then.
  await master.ready;
  sayReady({ port: master.rpcPort, raftPort: master.raftPort, name });
}

process.on("uncaughtException", dieAsMaster);
process.on("unhandledRejection", dieAsMaster);
main().catch(dieAsMaster);
