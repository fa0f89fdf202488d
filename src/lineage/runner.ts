/**
 * Running the job of one attempt somewhere. The caller has staged the inputs as host files, owns the directory of the
 * attempt, and publishes the outputs; a runner only runs.
 */
import type { Job } from "../rpc/namespace.ts";

/** A file of the machine that runs the job. */
export interface JobFile {
  /** Absolute host path. */
  readonly path: string;
}

export interface JobAttempt {
  readonly job: Job;
  readonly inputs: readonly JobFile[];
  /** Where the job must write; in an existing directory, not existing themselves. */
  readonly outputs: readonly JobFile[];
  /** Absolute host path of an existing directory: the working directory of the job. */
  readonly directory: string;
  /** Ends the job with everything that it started. */
  readonly signal: AbortSignal;
}

export interface JobOutcome {
  /**
   * 0: every output is there as a regular file. Else the program's own status, 128 + the number of the signal that
   * ended it, or 124 when it took longer than its timeout; no output is left then.
   */
  readonly exitCode: number;
  readonly durationMs: number;
  /** The last part of standard error, at most a few KiB. */
  readonly stderrTail: string;
}

export interface JobRunner {
  /**
   * Resolves when the job and all that it started have ended.
   * @throws WeirError `JobFailed` when the program cannot be started, or left out an output although it exited with 0;
   * `InvalidArgument` for a placeholder without its file; `Cancelled` after the signal
   */
  run(attempt: JobAttempt): Promise<JobOutcome>;
}
