/** Runs one mount as a process: `node … main.js --config weir.yaml [--mount DIR]`. */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { WeirClient } from "../client/client.ts";
import { exitCodeOf } from "../lib/errors.ts";
import { createLogger } from "../lib/logger.ts";
import { complain, configOfProcess, die, sayReady, stopOnSignals } from "../lib/process.ts";
import { startFuse } from "./server.ts";

const doing = "Cannot run the mount";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: "string" }, mount: { type: "string" } },
  });
  const mount = values.mount === undefined ? undefined : resolve(values.mount);
  const config = await configOfProcess(values.config, { "fuse.mountPoint": mount });
  const logger = createLogger("fuse", config.logLevel);
  const name = `fuse ${config.fuse.mountPoint}`;
  const client = await WeirClient.connect({ config, logger, name });
  // Nobody is to find an empty mount: the cluster must answer first.
  await client.stat("/");
  const mounted = await startFuse(config, client.inodes, logger);
  const stop = async () => {
    await mounted.stop();
    await client.close();
  };
  const end = stopOnSignals({ stop, logger, doing });
  // A process that dies under a mount leaves it dead: every way out unmounts first.
  const endBadly = (thrown: unknown) => {
    const detail = thrown instanceof Error ? thrown.message : String(thrown);
    logger.error({ error: thrown instanceof Error ? thrown.stack : detail }, "uncaught");
    complain(`${doing}: ${detail}`);
    end(exitCodeOf.Internal);
  };
  process.on("uncaughtException", endBadly);
  process.on("unhandledRejection", endBadly);
  void mounted.gone.then(() => {
    logger.info({ mountPoint: mounted.mountPoint }, "unmounted by somebody else");
    end(0);
  });
  sayReady({ mountPoint: mounted.mountPoint, pid: process.pid });
}

main().catch((thrown: unknown) => die(thrown, doing));
