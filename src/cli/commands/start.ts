/** `weir start`: a whole cluster on this machine, with the tour where asked, until Ctrl-C. */
import { once } from "node:events";
import { type Command, InvalidArgumentError } from "commander";
import { WeirClient } from "../../client/client.ts";
import { hasCode, toWeirError, WeirError } from "../../lib/errors.ts";
import { silentLogger } from "../../lib/logger.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { type Output, outputTo, paint } from "../output.ts";
import { EventLog } from "../start/event-log.ts";
import { LocalCluster } from "../start/local-cluster.ts";
import { type TourOutcome, runTour } from "../tour/tour.ts";

interface StartOptions extends CommonOptions {
  readonly tour?: true;
  readonly once?: true;
  readonly keep?: true;
  readonly s3?: true;
  readonly fuse: boolean;
  readonly data?: string;
  readonly ports: "usual" | "auto";
}

export function registerStart(program: Command, context: CliContext): void {
  program
    .command("start")
    .description(
      "bring up a cluster on this machine: nats-server, three masters, two workers, a mount at ./mnt; state in ./.weir",
    )
    .option("--tour", "then show, on real data, what it does")
    .option(
      "--once",
      "leave right after the tour (or after the start), with its verdict as exit status",
    )
    .option("--keep", "use the state of the last start, and keep that of this one")
    .option("--s3", "the tour also mounts a bucket of an S3 server that it starts")
    .option("--no-fuse", "no mount: the tour reads and writes through the CLI and the SDK")
    .option("--data <dir>", "the directory tree that the tour reads")
    .option(
      "--ports <usual|auto>",
      "auto: free ports, so that clusters live side by side",
      parsePorts,
      portsOf(context),
    )
    .option("--json", "print events and the tour's steps as JSON lines")
    .addHelpText(
      "after",
      `
Examples:
  $ weir start                     a cluster until Ctrl-C
  $ weir start --tour --once       show what it does, then leave nothing behind
  $ weir start --keep              the files of the last start are there again
  $ weir start --tour --data /srv/photos --no-fuse`,
    )
    .action((options: StartOptions) => start(options, context));
}

async function start(options: StartOptions, context: CliContext): Promise<void> {
  const signal = context.interruption();
  const output = outputTo(context.stdout, {
    json: options.json === true,
    environment: context.environment,
  });
  const events = new EventLog(output);
  let cluster: LocalCluster;
  try {
    cluster = await LocalCluster.start(
      {
        home: context.cwd,
        ports: options.ports,
        fuse: options.fuse,
        keep: options.keep === true,
        onEvent: (line) => events.add(line),
      },
      signal,
    );
  } catch (error) {
    throw diskFull(error, context.cwd) ?? error;
  }
  events.writeTo(cluster.layout);

  let outcome: TourOutcome = "passed";
  try {
    if (options.tour === true) {
      events.quiet = true; // the tour kills on purpose, and says so itself
      outcome = await tourOf(cluster, options, output, signal);
      events.quiet = false;
    } else {
      tell(output, readyText(cluster));
    }
    if (options.once !== true && !signal.aborted) {
      tell(output, "The cluster stays up. Ctrl-C takes everything down.", "dim");
      await once(signal, "abort");
    }
  } finally {
    tell(output, "Taking everything down …", "dim");
    await cluster.stop({ keepLogs: outcome !== "passed" });
  }
  context.setExitCode(outcome === "passed" ? 0 : outcome === "failed" ? 1 : 130);
}

async function tourOf(
  cluster: LocalCluster,
  options: StartOptions,
  output: Output,
  signal: AbortSignal,
): Promise<TourOutcome> {
  const client = await WeirClient.connect({
    config: cluster.config,
    logger: silentLogger,
    name: "weir-tour",
  });
  try {
    return await runTour({
      cluster,
      client,
      output,
      signal,
      data: options.data,
      s3: options.s3 === true,
      once: options.once === true,
      keep: options.keep === true,
    });
  } finally {
    await client.close().catch(() => undefined);
  }
}

/** A line of what goes on; with --json an event, so that every line of the output is JSON. */
function tell(output: Output, line: string, colour?: "dim"): void {
  if (output.json) output.write(`${JSON.stringify({ event: line })}\n`);
  else output.write(`${colour === undefined ? line : paint(output, colour, line)}\n`);
}

function readyText(cluster: LocalCluster): string {
  const seconds = (cluster.upAfterMs / 1000).toFixed(2);
  const mount = cluster.fuse ? `, mounted at ${cluster.layout.mountPoint}` : "";
  return `Up in ${seconds} s: three masters, two workers${mount}. Next: weir status`;
}

function parsePorts(value: string): "usual" | "auto" {
  if (value === "usual" || value === "auto") return value;
  throw new InvalidArgumentError("wanted usual or auto");
}

/** WEIR_START_PORTS=0 means what --ports auto means. */
function portsOf(context: CliContext): "usual" | "auto" {
  return context.environment["WEIR_START_PORTS"] === "0" ? "auto" : "usual";
}

/** A disk that fills up while the cluster starts, as one line with the cure. */
function diskFull(error: unknown, home: string): WeirError | undefined {
  const failure = toWeirError(error, "Cannot start");
  if (!hasCode(failure, "NoSpace")) return undefined;
  return new WeirError(
    "DiskFull",
    `Cannot start: the disk of "${home}" is full. Cure: free some space, or start where there is more`,
    { cause: error },
  );
}
