/** `weir master`, `weir worker`, `weir fuse`: one process of a cluster by itself, in the foreground. */
import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { findConfig } from "../find-config.ts";

export function registerParts(program: Command, context: CliContext): void {
  const part = (name: "master" | "worker" | "fuse", description: string) =>
    program
      .command(name)
      .description(description)
      .option(
        "-c, --config <file>",
        "configuration (default: $WEIR_CONFIG, ./weir.yaml, ./.weir/weir.yaml)",
      )
      .option("--json", "accepted as everywhere; the log is JSON lines anyway");

  part("master", "run one master in the foreground, until SIGTERM")
    .requiredOption("-n, --name <name>", "which of the configuration's masters this is")
    .addHelpText("after", "\nExamples:\n  $ weir master --config weir.yaml --name master-1")
    .action((options: { config?: string; name: string }) =>
      context.runPart("master", [
        ...["--config", findConfig(context, options.config)],
        ...["--name", options.name],
      ]),
    );
  part("worker", "run one worker in the foreground, until SIGTERM")
    .addHelpText("after", "\nExamples:\n  $ weir worker --config weir.yaml")
    .action((options: { config?: string }) =>
      context.runPart("worker", ["--config", findConfig(context, options.config)]),
    );
  part("fuse", "mount the namespace and serve the mount in the foreground, until SIGTERM")
    .option("-m, --mount <dir>", "mount point (default: fuse.mountPoint of the configuration)")
    .addHelpText("after", "\nExamples:\n  $ weir fuse --config weir.yaml --mount /mnt/weir")
    .action((options: { config?: string; mount?: string }) =>
      context.runPart("fuse", [
        ...["--config", findConfig(context, options.config)],
        ...(options.mount === undefined ? [] : ["--mount", options.mount]),
      ]),
    );
}
