/** What is made of a worker's report on an attempt: whether it may be committed, and whose fault it is if not. */
import type { ErrorCode } from "../../lib/errors.ts";
import type { TaskResult } from "../../rpc/tasks.ts";
import type { Lineage } from "../state/model.ts";

/** Codes of a failed task that say that the job itself is wrong: trying for ever would not help. */
const codesOfBlame: ReadonlySet<string> = new Set<ErrorCode>([
  "JobFailed",
  "InvalidArgument",
  "NotSupported",
  "Internal",
]);

/** Why an attempt failed. */
export interface Fault {
  readonly error: string;
  readonly exitCode: number | undefined;
  readonly blameless: boolean;
  /** Undefined: as long as the leader waited. */
  readonly durationMs: number | undefined;
}

type JobOutputs = NonNullable<Extract<TaskResult, { kind: "jobDone" }>["outputs"]>;

/** Whether what a worker reports may be committed: exit code 0, all outputs, equal to those of the first time. */
export function judge(
  result: TaskResult,
  record: Lineage,
): { ok: true; outputs: JobOutputs; durationMs: number } | { ok: false; fault: Fault } {
  if (result.kind === "failed") {
    const fault = { error: result.message, blameless: !codesOfBlame.has(result.code) };
    return { ok: false, fault: { ...fault, exitCode: undefined, durationMs: undefined } };
  }
  if (result.kind !== "jobDone") {
    const error = `The worker answered with "${result.kind}"`;
    return {
      ok: false,
      fault: { error, exitCode: undefined, blameless: false, durationMs: undefined },
    };
  }
  const { exitCode, durationMs, stderrTail, outputs } = result;
  const refuse = (error: string) => ({
    ok: false as const,
    fault: { error, exitCode, blameless: false, durationMs },
  });
  if (exitCode !== 0) {
    const said = stderrTail.trim();
    return refuse(`It exited with status ${exitCode}${said === "" ? "" : ` and said: ${said}`}`);
  }
  for (const wanted of record.outputs) {
    const made = outputs?.find((output) => output.inode === wanted.inode);
    if (made === undefined) return refuse(`It made no ${shownPath(wanted.path)}`);
    if (wanted.size !== undefined && made.size !== wanted.size) {
      return refuse(
        `It made ${shownPath(wanted.path)} with ${made.size} bytes, wanted ${wanted.size} as the first time`,
      );
    }
    if (wanted.hash !== undefined && made.hash !== wanted.hash) {
      return refuse(
        `It made ${shownPath(wanted.path)} with other bytes than the first time (sha256 ${made.hash}, wanted ${wanted.hash})`,
      );
    }
  }
  return { ok: true, outputs: outputs ?? [], durationMs };
}

/** A path of bytes, for people. */
export function shownPath(path: string): string {
  return JSON.stringify(Buffer.from(path, "latin1").toString("utf8"));
}
