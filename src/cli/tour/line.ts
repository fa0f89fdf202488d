/** The face of the tour: one line per step, a tail when it failed, a summary. */
import { durationText, type Output, paint } from "../output.ts";
import { StepFailure } from "./step.ts";

export interface StepRecord {
  readonly number: number;
  readonly title: string;
  readonly passed: boolean;
  readonly durationMs: number;
  readonly figures: readonly string[];
  readonly failure?:
    | { readonly expected: string; readonly got: string; readonly log: string }
    | undefined;
}

const titleWidth = 28;

/** ` 2 ✓ A real tree, read back        8.42 s  4,367 files · no difference`, and a tail when it failed. */
export function stepText(record: StepRecord, output: Output): string {
  const mark = record.passed ? paint(output, "green", "✓") : paint(output, "red", "✗");
  const title = paint(output, "bold", record.title.padEnd(titleWidth));
  const duration = durationText(record.durationMs).padStart(8);
  const figures = record.figures.join(" · ");
  const head = ` ${String(record.number)} ${mark} ${title} ${duration}  ${figures}`.trimEnd();
  if (record.failure === undefined) return `${head}\n`;
  const { expected, got, log } = record.failure;
  return `${head}\n     expected  ${expected}\n     got       ${got}\n     log       ${log}\n`;
}

/** A step's record from whatever it threw. `logs` is where to look when the failure does not know better. */
export function failedRecord(
  step: { number: number; title: string; durationMs: number },
  thrown: unknown,
  logs: string,
): StepRecord {
  const failure =
    thrown instanceof StepFailure
      ? { expected: thrown.expected, got: thrown.got, log: thrown.log ?? logs }
      : {
          expected: "no error",
          got: thrown instanceof Error ? thrown.message : String(thrown),
          log: logs,
        };
  return { ...step, passed: false, figures: [], failure };
}

/** Whether there will be logs to look at when the tour is over. */
export function logsStay(about: { once: boolean; keep: boolean; failed: number }): boolean {
  return !about.once || about.keep || about.failed > 0;
}

/** What the tour came to, and what to try next. */
export function summaryText(
  records: readonly StepRecord[],
  context: {
    number: number;
    logs: string;
    mount: string | undefined;
    /** The cluster goes away now; its logs too, unless something failed or `keep`. */
    once: boolean;
    keep: boolean;
    leftOut: readonly string[];
  },
  output: Output,
): string {
  const failed = records.filter((record) => !record.passed);
  const passed = records.length - failed.length;
  const verdict =
    failed.length === 0
      ? `all ${String(passed)} steps passed`
      : `${String(passed)} passed, ${String(failed.length)} failed: ${failed.map((record) => record.title).join(", ")}`;
  const record: StepRecord = {
    number: context.number,
    title: "Summary",
    passed: failed.length === 0,
    durationMs: records.reduce((sum, each) => sum + each.durationMs, 0),
    figures: [
      verdict,
      logsStay({ ...context, failed: failed.length })
        ? `logs ${context.logs}`
        : "logs and state are removed",
      ...context.leftOut.map((what) => `left out: ${what}`),
    ],
  };
  const next = [
    ["npx weir status", "who leads, which workers live"],
    ["npx weir fs ls /tour", "what the tour wrote"],
    ["npx weir fs locations /tour/kept", "where copies are"],
    ["npx weir lineage ls", "recorded jobs"],
    ...(context.mount === undefined ? [] : [[`ls ${context.mount}`, "the same through the mount"]]),
  ];
  const advice = context.once
    ? ""
    : `\n   Try, in another terminal:\n${next.map(([command, what]) => `     ${command!.padEnd(36)} ${paint(output, "dim", what!)}\n`).join("")}`;
  return `${stepText(record, output)}${advice}`;
}
