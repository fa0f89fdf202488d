/** The tour: shows on real data, with real programs, that the cluster does its job, and fails visibly when it does not. */
import { mkdirSync } from "node:fs";
import type { WeirClient } from "../../client/client.ts";
import { type Output, paint } from "../output.ts";
import type { LocalCluster } from "../start/local-cluster.ts";
import { chooseData } from "./data.ts";
import { failedRecord, logsStay, type StepRecord, stepText, summaryText } from "./line.ts";
import { Runner } from "./run.ts";
import type { Step, TourContext } from "./step.ts";
import { clusterUp } from "./steps/cluster-up.ts";
import { leaderKill } from "./steps/leader-kill.ts";
import { lostOutput } from "./steps/lost-output.ts";
import { realTree } from "./steps/real-tree.ts";
import { s3Bucket } from "./steps/s3-bucket.ts";
import { writing } from "./steps/writing.ts";

export type TourOutcome = "passed" | "failed" | "interrupted";

export interface TourOptions {
  readonly cluster: LocalCluster;
  readonly client: WeirClient;
  readonly output: Output;
  readonly signal: AbortSignal;
  readonly data: string | undefined;
  readonly s3: boolean;
  /** The cluster goes away after the tour: no advice what to try next. */
  readonly once: boolean;
  /** State and logs stay when it goes. */
  readonly keep: boolean;
}

/** Runs all steps, also after one failed, and prints a line for each. */
export async function runTour(options: TourOptions): Promise<TourOutcome> {
  const { cluster, output, signal } = options;
  const { layout } = cluster;
  mkdirSync(layout.tour, { recursive: true });
  const context: TourContext = {
    cluster,
    client: options.client,
    data: await chooseData(options.data),
    mount: cluster.fuse ? layout.mountPoint : undefined,
    scratch: layout.tour,
    runner: new Runner({ config: layout.config, home: layout.home, signal }),
    signal,
  };
  const steps: Step[] = [clusterUp, realTree, writing, leaderKill, lostOutput];
  if (options.s3) steps.push(s3Bucket);

  if (!output.json) output.write(`\n${paint(output, "bold", "Weir")} on ${context.data}\n\n`);
  const records: StepRecord[] = [];
  for (const [index, step] of steps.entries()) {
    // The first step began with the cluster's first process.
    const headStartMs = index === 0 ? cluster.upAfterMs : 0;
    const record = await runStep(step, index + 1, context, headStartMs);
    if (signal.aborted) return "interrupted";
    records.push(record);
    output.write(output.json ? `${JSON.stringify(record)}\n` : stepText(record, output));
  }
  const failed = records.filter((record) => !record.passed).length;
  if (output.json) {
    const logs = logsStay({ ...options, failed }) ? layout.logs : undefined;
    output.write(`${JSON.stringify({ passed: records.length - failed, failed, logs })}\n`);
  } else {
    const about = {
      number: steps.length + 1,
      logs: layout.logs,
      mount: context.mount,
      once: options.once,
      keep: options.keep,
      leftOut: cluster.fuse
        ? []
        : ["the mount (--no-fuse): reads and writes went through the CLI and the SDK"],
    };
    output.write(summaryText(records, about, output));
  }
  return failed === 0 ? "passed" : "failed";
}

async function runStep(
  step: Step,
  number: number,
  context: TourContext,
  headStartMs: number,
): Promise<StepRecord> {
  const startedMs = performance.now() - headStartMs;
  const head = () => ({ number, title: step.title, durationMs: performance.now() - startedMs });
  try {
    const figures = await step.run(context);
    return { ...head(), passed: true, figures };
  } catch (error) {
    return failedRecord(head(), error, context.cluster.layout.logs);
  }
}
