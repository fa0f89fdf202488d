/** The command line as tests run it: the whole program in this process, on a configuration file. */
import type { CliContext } from "../../src/cli/context.ts";
import { runProgram } from "../../src/cli/program.ts";
import { WeirClient } from "../../src/client/client.ts";
import { silentLogger } from "../../src/lib/logger.ts";

export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `weir ARGS --config CONFIG`; never rejects for a command that fails. */
export async function weir(configPath: string, ...args: readonly string[]): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  const context: CliContext = {
    cwd: "/",
    environment: {},
    stdin: (async function* (): AsyncGenerator<Uint8Array> {})(),
    stdout: { write: (data, done) => ((stdout += data.toString()), done?.()) },
    stderr: { write: (text) => (stderr += text) },
    interruption: () => new AbortController().signal,
    connect: (config) => WeirClient.connect({ config, logger: silentLogger, name: "weir-test" }),
    runPart: () => Promise.reject(new Error("no part runs in these tests")),
    setExitCode: () => undefined,
  };
  const status = await runProgram(context, "0.0.0", [...args, "--config", configPath]);
  return { status, stdout, stderr };
}

/**
 * What a command that must succeed prints as JSON.
 * @throws Error with what it said instead
 */
export async function weirJson<T>(configPath: string, ...args: readonly string[]): Promise<T> {
  const { status, stdout, stderr } = await weir(configPath, ...args, "--json");
  if (status !== 0) throw new Error(`weir ${args.join(" ")} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as T;
}
