/**
 * Runs many seeds in as many processes as there are cores. Each process takes a share of seeds, tells what came of it, and
 * gets the next share.
 */
import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { addTotals, emptyTotals, type Totals } from "./totals.ts";

/** Seeds that a process runs before it tells of them. */
const shareSeeds = 40;

/** What a process is asked to do: seeds [from, to). */
export interface Share {
  readonly from: number;
  readonly to: number;
  readonly steps: number;
}

export interface SwarmOptions {
  readonly first: number;
  readonly seeds: number;
  readonly steps: number;
  /** Processes; one for each core by default. */
  readonly jobs?: number;
  /** After that long no more shares are begun, if `fewestSeeds` are. */
  readonly budgetMs?: number;
  readonly fewestSeeds?: number;
}

export interface SwarmResult {
  readonly totals: Totals;
  /** Different situations, over all seeds. */
  readonly situations: number;
  readonly seconds: number;
}

/** Runs seeds [first, first + seeds), in order, even if some fail. */
export async function runSwarm(options: SwarmOptions): Promise<SwarmResult> {
  const { first, seeds, steps, budgetMs = Number.POSITIVE_INFINITY, fewestSeeds = 0 } = options;
  const end = first + seeds;
  const totals = emptyTotals();
  const seen = new Set<number>();
  const startMs = performance.now();
  let next = first;
  const mayBegin = () =>
    next < end && (next < first + fewestSeeds || performance.now() - startMs < budgetMs);
  const work = async () => {
    const child = fork(new URL("./swarm-child.ts", import.meta.url), {
      execArgv: ["--import", "tsx"],
    });
    try {
      while (mayBegin()) {
        const from = next;
        next = Math.min(end, from + shareSeeds);
        addTotals(totals, await askChild(child, { from, to: next, steps }), seen);
      }
    } finally {
      child.kill();
    }
  };
  const jobs = Math.min(options.jobs ?? availableParallelism(), Math.ceil(seeds / shareSeeds));
  await Promise.all(Array.from({ length: jobs }, work));
  totals.failed.sort((a, b) => a.seed - b.seed);
  return { totals, situations: seen.size, seconds: (performance.now() - startMs) / 1000 };
}

function askChild(child: ChildProcess, share: Share): Promise<Totals> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null) => {
      reject(
        new Error(`the process of seeds ${share.from} to ${share.to} ended (${code ?? "killed"})`),
      );
    };
    child.once("exit", onExit);
    child.once("message", (message) => {
      child.off("exit", onExit);
      resolve(message as Totals);
    });
    child.send(share);
  });
}
