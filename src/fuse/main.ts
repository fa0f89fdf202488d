/** The FUSE process: `node … src/fuse/main.ts --config weir.yaml [--mount DIR]`. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { WeirClient } from "../client/client.ts";
import { loadConfig } from "../lib/config.ts";
import { exitCodeOf, toWeirError } from "../lib/errors.ts";
import { createLogger } from "../lib/logger.ts";
import { startFuse } from "./server.ts";

function fail(thrown: unknown): never {
  const error = toWeirError(thrown, "Cannot run the mount");
  process.stderr.write(`${error.message}\n`);
  process.exit(exitCodeOf[error.code]);
}

/** Longest time for an orderly end. */
const stopMs = 4500;

try {
  const { values } = parseArgs({
    options: { config: { type: "string" }, mount: { type: "string" } },
  });
  const file =
    values.config === undefined
      ? undefined
      : { path: values.config, text: readFileSync(values.config, "utf8") };
  const mount = values.mount === undefined ? undefined : resolve(values.mount);
  const config = loadConfig({
    file,
    environment: process.env,
    flags: { "fuse.mountPoint": mount },
  });
  const logger = createLogger("fuse", config.logLevel);
  const client = await WeirClient.connect({
    config,
    logger,
    name: `fuse ${config.fuse.mountPoint}`,
  });
  // Nobody is to find an empty mount: the cluster must answer first.
  await client.stat("/");
  const mounted = await startFuse(config, client.inodes, logger);

  let stopping = false;
  const stop = (exitCode: number) => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(exitCode), stopMs).unref();
    mounted
      .stop()
      .then(() => client.close())
      .then(
        () => process.exit(exitCode),
        (error: unknown) => {
          logger.error({ error: String(error) }, "the mount did not end well");
          process.exit(exitCodeOf.Internal);
        },
      );
  };
  process.on("SIGTERM", () => stop(0));
  process.on("SIGINT", () => stop(0));
  process.on("uncaughtException", (error) => {
    logger.error({ error: error.stack }, "uncaught");
    process.stderr.write(`Cannot go on: ${error.message}\n`);
    stop(exitCodeOf.Internal);
  });
  void mounted.gone.then(() => {
    logger.info({ mountPoint: mounted.mountPoint }, "unmounted by somebody else");
    stop(0);
  });
  process.stdout.write(
    `READY ${JSON.stringify({ mountPoint: mounted.mountPoint, pid: process.pid })}\n`,
  );
} catch (thrown) {
  fail(thrown);
}
