#!/usr/bin/env node
/** Composition root of the command `weir`: gives the program the real streams, environment, signals and network. */
import { fileURLToPath } from "node:url";
import { WeirClient } from "../client/client.ts";
import { WeirError } from "../lib/errors.ts";
import { silentLogger } from "../lib/logger.ts";
import { packageVersion } from "../lib/version.ts";
import type { CliContext } from "./context.ts";
import { runProgram } from "./program.ts";

// `weir fs cat … | head` ends with a closed pipe, which is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 74);
});

let partRuns = false;
const context: CliContext = {
  cwd: process.cwd(),
  environment: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  interruption: () => {
    const controller = new AbortController();
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      // npm passes on what the terminal has sent already: the second of a pair means no more than the first.
      process.on(signal, () => {
        controller.abort(new WeirError("Cancelled", "Cannot go on: interrupted"));
      });
    }
    return controller.signal;
  },
  connect: (config) =>
    WeirClient.connect({ config, logger: silentLogger, name: `weir-cli-${String(process.pid)}` }),
  runPart: async (part, args) => {
    partRuns = true;
    const extension = import.meta.url.endsWith(".js") ? "js" : "ts";
    const main = fileURLToPath(new URL(`../${part}/main.${extension}`, import.meta.url));
    process.argv = [process.execPath, main, ...args];
    if (part === "master") await import("../master/main.ts");
    else if (part === "worker") await import("../worker/main.ts");
    else await import("../fuse/main.ts");
  },
  setExitCode: () => undefined,
};

const status = await runProgram(context, packageVersion(), process.argv.slice(2));
// A part that runs in this process decides about its own end; everything else is over now.
if (!partRuns || status !== 0) {
  // What is still on its way into a pipe would be lost.
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(status);
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write("", () => resolve());
  });
}
