/** The command lines of our own programs: what `--help` shows, and how one that makes no sense is refused. */
import { parseArgs, type ParseArgsConfig } from "node:util";

/** Says in one line what is wrong, shows the usage, and ends with status 64. */
export function refuse(message: string, usage: string): never {
  process.stderr.write(`${message}\n\n${usage}`);
  process.exit(64);
}

/**
 * What the command line holds, as `parseArgs` reads it. `--help` and `-h` show the usage and end with status 0; an option
 * that is unknown, or lacks its value, is refused.
 * @param doing what cannot be done otherwise: `run a bench`
 */
export function readCommandLine<T extends ParseArgsConfig>(
  doing: string,
  usage: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  if (process.argv.slice(2).some((word) => word === "--help" || word === "-h")) {
    process.stdout.write(usage);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    const [sentence] = (error as Error).message.split(/\.?(?:\s*\n|\. |$)/);
    return refuse(`Cannot ${doing}: ${sentence!}`, usage);
  }
}
