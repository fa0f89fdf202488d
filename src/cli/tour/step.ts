/** What a step of the tour is, what it gets, and how it fails: with what was expected, what came, and where to look. */
import type { WeirClient } from "../../client/client.ts";
import type { LocalCluster } from "../start/local-cluster.ts";
import type { Runner } from "./run.ts";

export interface Step {
  readonly title: string;
  /** Resolves with the figures of the step's line. @throws StepFailure, or whatever went wrong */
  run(tour: TourContext): Promise<readonly string[]>;
}

export interface TourContext {
  readonly cluster: LocalCluster;
  readonly client: WeirClient;
  /** The directory tree of this machine that the tour reads. */
  readonly data: string;
  /** The mount point; undefined without FUSE. */
  readonly mount: string | undefined;
  /** A directory for the tour's own files, removed with the state. */
  readonly scratch: string;
  readonly runner: Runner;
  readonly signal: AbortSignal;
}

/** A step's expectation that did not hold. */
export class StepFailure extends Error {
  readonly expected: string;
  readonly got: string;
  /** A log that may tell why. */
  readonly log: string | undefined;

  constructor(expected: string, got: string, log?: string) {
    super(`expected ${expected}, got ${got}`);
    this.expected = expected;
    this.got = got;
    this.log = log;
  }
}

/** @throws StepFailure when `got` is not `expected` */
export function expectEqual<T extends string | number>(
  what: string,
  got: T,
  expected: T,
  log?: string,
): void {
  if (got !== expected) {
    throw new StepFailure(`${what}: ${String(expected)}`, String(got), log);
  }
}
