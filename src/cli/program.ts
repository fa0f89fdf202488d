/** The commands of `weir` as one program: parsing, help, and how a run ends in an exit status. */
import { Command, CommanderError } from "commander";
import { exitCodeOf, toWeirError } from "../lib/errors.ts";
import { registerBackup } from "./commands/backup.ts";
import { registerCluster } from "./commands/cluster.ts";
import { registerFs } from "./commands/fs.ts";
import { registerFsck } from "./commands/fsck.ts";
import { registerJournal } from "./commands/journal.ts";
import { registerLineage } from "./commands/lineage.ts";
import { registerParts } from "./commands/parts.ts";
import { registerPath } from "./commands/path.ts";
import { registerPolicy } from "./commands/policy.ts";
import { registerStart } from "./commands/start.ts";
import { registerStatus } from "./commands/status.ts";
import { registerStop } from "./commands/stop.ts";
import { registerTree } from "./commands/tree.ts";
import type { CliContext } from "./context.ts";
import { showMessage } from "./paths.ts";

const usageExitCode = 64;

/** The program with all its commands. */
export function buildProgram(context: CliContext, version: string): Command {
  const program = new Command("weir")
    .description("One namespace and one POSIX mount over many stores")
    .version(version, "-V, --version", "print the version")
    .helpCommand(false)
    .showSuggestionAfterError();
  registerStart(program, context);
  registerStop(program, context);
  registerStatus(program, context);
  registerParts(program, context);
  registerFs(program, context);
  registerPath(program, context);
  registerPolicy(program, context);
  registerTree(program, context);
  registerLineage(program, context);
  registerCluster(program, context);
  registerBackup(program, context);
  registerJournal(program, context);
  registerFsck(program, context);
  program.addHelpText(
    "after",
    `
Examples:
  $ weir start --tour              bring up a cluster on this machine and show what it does
  $ weir status                    who leads, which workers live, where it is mounted
  $ weir fs mount /data file:///srv/data --read-only
  $ weir fs ls /data
  $ weir lineage record --in /data/a.txt --out /b.txt -- sort -o {out} {in}`,
  );
  forEach(program, (command) => {
    command.exitOverride().configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      outputError: (text, write) => {
        const [first = "", ...hints] = text.trim().split("\n");
        const hint = hints.length === 0 ? "" : ` ${hints.join(" ")}`;
        write(
          `Cannot run weir: ${first.replace(/^error: /, "")}${hint} (see ${pathOf(command)} --help)\n`,
        );
      },
    });
  });
  return program;
}

/** Runs the program with `args` (without node and script); resolves with the exit status. */
export async function runProgram(
  context: CliContext,
  version: string,
  args: readonly string[],
): Promise<number> {
  let exitCode = 0;
  const program = buildProgram({ ...context, setExitCode: (code) => (exitCode = code) }, version);
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageExitCode;
    const failure = toWeirError(error, "Cannot go on");
    context.stderr.write(`${showMessage(failure.message)}\n`);
    return exitCodeOf[failure.code];
  }
}

function forEach(command: Command, visit: (command: Command) => void): void {
  visit(command);
  for (const below of command.commands) forEach(below, visit);
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}
