/** `weir lineage`: jobs that make files, recorded so that a lost file can be made again. */
import { type Command, InvalidArgumentError } from "commander";
import { WeirError } from "../../lib/errors.ts";
import type { LineageId } from "../../lib/ids.ts";
import type { LineageInfo } from "../../rpc/namespace.ts";
import { type CliContext, type CommonOptions, withClient, commandsBelow } from "../context.ts";
import { attempt } from "../attempt.ts";
import { answer, countOf, countText, durationText, sheet, table } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";
import { collectPairs } from "./store-options.ts";

interface RecordOptions extends CommonOptions {
  readonly in?: readonly string[];
  readonly out?: readonly string[];
  readonly env?: Record<string, string>;
  readonly timeout: number;
  readonly stdout?: true;
}

const collect = (text: string, before: readonly string[] = []) => [...before, text];

export function registerLineage(program: Command, context: CliContext): void {
  const lineage = program
    .command("lineage")
    .helpCommand(false)
    .description("jobs that make files, and lost files made again");
  lineage.addHelpText(
    "after",
    "\nExamples:\n  $ weir lineage record --in /a --out /b -- sort -o {out} {in}\n  $ weir lineage ls",
  );
  const command = commandsBelow(lineage, "weir lineage");

  command(
    "record <argv...>",
    "record how outputs are made of inputs; {in}, {out}, {in:N}, {out:N} stand for their paths in the job",
    [
      "record --in /logs --out /logs.sorted -- sort -o {out} {in}",
      "record --in /logs --out /logs.gz --stdout -- gzip -n -c {in}",
    ],
  )
    .option("--in <path>", "an input; can be given several times", collect)
    .option("--out <path>", "an output; can be given several times", collect)
    .option("--env <key=value>", "of the job; can be given several times", collectPairs)
    .option("--timeout <seconds>", "longest run of the job", parseSeconds, 600)
    .option("--stdout", "standard output is the first output")
    .action(async (argv: string[], options: RecordOptions) => {
      const { in: inputs = [], out: outputs = [] } = options;
      if (outputs.length === 0) {
        throw new WeirError(
          "InvalidArgument",
          "Cannot record a job without outputs: wanted --out PATH",
        );
      }
      await withClient(context, options, async (client, output) => {
        const id = await client.recordLineage({
          inputs: inputs.map(parsePath),
          outputs: outputs.map(parsePath),
          job: {
            argv,
            environment: options.env ?? {},
            timeoutMs: options.timeout * 1000,
            captureStdout: options.stdout === true,
          },
        });
        const recorded = await client.lineage(id);
        answer(output, lineageValue(recorded), () => `Recorded as lineage ${String(id)}`);
      });
    });
  command("run <id>", "run a recorded job, after those that its inputs need", ["run 1"]).action(
    (id: string, options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        const done = await client.runLineage(parseId(id));
        answer(output, lineageValue(done), () => lineageSheet(done));
      }),
  );
  command("ls", "list the recorded jobs", ["ls"]).action((options: CommonOptions) =>
    withClient(context, options, async (client, output) => {
      const all: LineageInfo[] = [];
      for await (const each of client.lineages()) all.push(each);
      answer(output, all.map(lineageValue), () =>
        table(
          ["LINEAGE", "STATE", "OUTPUTS", "INPUTS", "JOB"],
          all.map((each) => [
            each.id,
            each.state,
            each.outputs.map(({ path }) => showPath(path)).join(" "),
            each.inputs.map(({ path }) => showPath(path)).join(" ") || "-",
            each.job.argv.join(" "),
          ]),
        ),
      );
    }),
  );
  command("show <id>", "show a recorded job with its attempts", ["show 1"]).action(
    (id: string, options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        const found = await client.lineage(parseId(id));
        answer(output, lineageValue(found), () => lineageSheet(found));
      }),
  );
  command("recover <path>", "make a lost file again; a whole one stays as it is", [
    "recover /logs.sorted",
  ]).action((path: string, options: CommonOptions) =>
    withClient(context, options, async (client, output) => {
      const jobs = await attempt({ verb: "recover", subjects: [path] }, () =>
        client.recover(parsePath(path)),
      );
      answer(output, { path, jobs }, () =>
        jobs === 0 ? "Nothing was lost" : `Made again by ${countOf(jobs, "job")}`,
      );
    }),
  );
  command("rm <id>", "forget a recorded job; its outputs stay as ordinary files", ["rm 1"]).action(
    (id: string, options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        await client.deleteLineage(parseId(id));
        answer(output, { id: Number(id) }, () => `Forgot lineage ${id}`);
      }),
  );
}

/** A lineage as JSON: paths as text; the start of an attempt in milliseconds of the cluster's own clock, which is no date. */
export function lineageValue(lineage: LineageInfo): Record<string, unknown> {
  return {
    ...lineage,
    attempts: lineage.attempts.map(({ startedMs, ...attempt }) => ({
      ...attempt,
      startedClusterTimeMs: startedMs,
    })),
    inputs: lineage.inputs.map((input) => ({ ...input, path: showPath(input.path) })),
    outputs: lineage.outputs.map((output) => ({ ...output, path: showPath(output.path) })),
  };
}

export function lineageSheet(lineage: LineageInfo): string {
  const head = sheet([
    ["lineage", lineage.id],
    ["state", lineage.state],
    ["job", lineage.job.argv.join(" ")],
    ["timeout", durationText(lineage.job.timeoutMs)],
    ...lineage.inputs.map(
      ({ path, version }) => ["input", `${showPath(path)} (version ${String(version)})`] as const,
    ),
    ...lineage.outputs.map(
      ({ path, size, hash }) =>
        [
          "output",
          `${showPath(path)}${hash === undefined ? "" : ` (${String(size)} bytes, sha256 ${hash})`}`,
        ] as const,
    ),
  ]);
  if (lineage.attempts.length === 0) return head;
  const attempts = table(
    ["ATTEMPT", "EPOCH", "WORKER", "STARTED", "TOOK", "EXIT", "ERROR"],
    lineage.attempts.map(({ epoch, worker, startedMs, durationMs, exitCode, error }, index) => [
      index + 1,
      epoch,
      worker,
      `${countText(Math.floor(startedMs / 1000))} s after the cluster began`,
      durationMs === undefined ? "-" : durationText(durationMs),
      exitCode === undefined ? "-" : String(exitCode),
      error ?? "",
    ]),
  );
  return `${head}\n${attempts}`;
}

function parseId(text: string): LineageId {
  const id = Number(text);
  if (Number.isSafeInteger(id) && id >= 1) return id as LineageId;
  throw new WeirError(
    "InvalidArgument",
    `Cannot find lineage "${text}": wanted its number, as weir lineage ls shows it`,
  );
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (seconds >= 1 && seconds <= 86_400) return Math.ceil(seconds);
  throw new InvalidArgumentError("wanted seconds from 1 to 86400");
}
