/** What a command gets from the process: streams, environment, and the way to a client. Tests hand in their own. */
import type { Command } from "commander";
import type { WeirClient } from "../client/client.ts";
import type { Config } from "../lib/config.ts";
import { actingAs } from "./users.ts";
import { findConfig, readConfig } from "./find-config.ts";
import { type Output, outputTo } from "./output.ts";

export interface CliContext {
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: {
    write(data: string | Uint8Array, done?: () => void): unknown;
    isTTY?: boolean;
  };
  readonly stderr: { write(text: string): unknown };
  /** From this call on SIGINT, SIGTERM and SIGHUP abort the signal (reason: `Cancelled`) instead of ending the process. */
  interruption(): AbortSignal;
  connect(config: Config): Promise<WeirClient>;
  /** Runs `src/PART/main` in this process, with these arguments. */
  runPart(part: "master" | "worker" | "fuse", args: readonly string[]): Promise<void>;
  /** The exit status when the command ends without an error. */
  setExitCode(code: number): void;
}

/** Options that every command has. */
export interface CommonOptions {
  readonly json?: true;
  readonly config?: string;
  /** Where the command has it (`withActingAs`). */
  readonly as?: string;
}

/** Adds the common options to a command that ends in an action. */
export function withCommonOptions(command: Command): Command {
  return command
    .option("--json", "print JSON instead of text")
    .option(
      "-c, --config <file>",
      "configuration (default: $WEIR_CONFIG, ./weir.yaml, ./.weir/weir.yaml)",
    );
}

/** Adds `--as` to a command that connects by `withClient`. */
export function withActingAs(command: Command): Command {
  return command.option(
    "--as <user>",
    "act as another user, as root: name or uid, or UID:GID[,GID…] for its groups",
  );
}

/** Makes the commands below `parent`, with the common options; `path` and an example make a command line. */
export function commandsBelow(
  parent: Command,
  path: string,
): (name: string, description: string, examples: readonly string[]) => Command {
  return (name, description, examples) =>
    withCommonOptions(parent.command(name))
      .description(description)
      .addHelpText(
        "after",
        `\nExamples:\n${examples.map((each) => `  $ ${path} ${each}`).join("\n")}`,
      );
}

export function outputOf(context: CliContext, options: CommonOptions): Output {
  return outputTo(context.stdout, {
    json: options.json === true,
    environment: context.environment,
  });
}

export function configOf(context: CliContext, options: CommonOptions): Config {
  return readConfig(context, findConfig(context, options.config));
}

/** Connects, lets `use` work, and closes. */
export async function withClient<T>(
  context: CliContext,
  options: CommonOptions,
  use: (client: WeirClient, output: Output) => Promise<T>,
): Promise<T> {
  const caller = options.as === undefined ? undefined : await actingAs(options.as);
  const client = await context.connect(configOf(context, options));
  try {
    const acting = caller === undefined ? client : client.as(caller);
    return await use(acting, outputOf(context, options));
  } finally {
    await client.close();
  }
}
