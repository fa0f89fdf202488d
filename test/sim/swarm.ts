/**
 * Runs many seeds in as many processes as there are cores. Each process takes a share of seeds, tells what came of each, and
 * gets the next share. One that tells nothing for too long is killed: the seed that it is at has failed, and another
 * process goes on behind it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { addTotals, emptyTotals, type Totals } from "./totals.ts";

/** Seeds that a process is asked for at a time. */
const shareSeeds = 40;
/** A process that has not begun by then will not. */
const beginLimitMs = 120_000;

/** What a process is asked to do: seeds [from, to). */
export interface Share {
  readonly from: number;
  readonly to: number;
  readonly steps: number;
}

/** What it tells: that it is there and has begun with a share, then what came of each seed. */
export type Told = "begun" | Totals;

export interface SwarmOptions {
  readonly first: number;
  readonly seeds: number;
  readonly steps: number;
  /** Processes; one for each core by default. */
  readonly jobs?: number;
  /** After that long no more shares are begun, if `fewestSeeds` are. */
  readonly budgetMs?: number;
  readonly fewestSeeds?: number;
  /** A seed that takes longer hangs; many times what any takes on a busy machine, by default. */
  readonly patienceMs?: number;
  /** Ends the run early, with what is known by then. */
  readonly signal?: AbortSignal;
  /** Called with what came of each seed, in the order in which they end. */
  readonly onSeed?: (totals: Totals) => void;
  /** What the processes run. */
  readonly program?: URL;
}

export interface SwarmResult {
  /** Of the seeds that came to an end, or had to be ended. */
  readonly totals: Totals;
  /** Different situations, over all seeds. */
  readonly situations: number;
  readonly seconds: number;
}

/** How the work of a process at a share ends, and the first seed that it has told nothing of. */
interface ShareEnd {
  readonly how: "done" | "stuck" | "interrupted";
  readonly at: number;
}

/**
 * Runs seeds [first, first + seeds), in order, even if some fail.
 * @throws Error when a process ends by itself; it names the seed
 */
export async function runSwarm(options: SwarmOptions): Promise<SwarmResult> {
  const { first, seeds, steps, signal, fewestSeeds = 0 } = options;
  const { budgetMs = Number.POSITIVE_INFINITY, patienceMs = 60_000 + 4 * steps } = options;
  const { program = new URL("./swarm-child.ts", import.meta.url) } = options;
  const end = first + seeds;
  const totals = emptyTotals();
  const seen = new Set<number>();
  const startMs = performance.now();
  let next = first;
  const mayBegin = () =>
    signal?.aborted !== true &&
    next < end &&
    (next < first + fewestSeeds || performance.now() - startMs < budgetMs);
  const begin = () => fork(program, { execArgv: ["--import", "tsx"] });
  const tell = (more: Totals) => {
    addTotals(totals, more, seen);
    options.onSeed?.(more);
  };
  const work = async () => {
    let child = begin();
    try {
      while (mayBegin()) {
        let from = next;
        const to = Math.min(end, from + shareSeeds);
        next = to;
        while (from < to && signal?.aborted !== true) {
          const share = { from, to, steps };
          const { how, at } = await runShare({ child, share, patienceMs, signal, tell });
          from = at;
          if (how !== "stuck") continue;
          const claim = `no end within ${patienceMs / 1000} s`;
          tell({ ...emptyTotals(), seeds: 1, failed: [{ seed: at, claim }] });
          from++;
          child.kill("SIGKILL");
          child = begin();
        }
      }
    } finally {
      child.kill("SIGKILL");
    }
  };
  const jobs = Math.min(options.jobs ?? availableParallelism(), Math.ceil(seeds / shareSeeds));
  await Promise.all(Array.from({ length: jobs }, work));
  totals.failed.sort((a, b) => a.seed - b.seed);
  return { totals, situations: seen.size, seconds: (performance.now() - startMs) / 1000 };
}

interface Work {
  readonly child: ChildProcess;
  readonly share: Share;
  readonly patienceMs: number;
  readonly signal: AbortSignal | undefined;
  /** Called with what came of one seed. */
  readonly tell: (totals: Totals) => void;
}

function runShare({ child, share, patienceMs, signal, tell }: Work): Promise<ShareEnd> {
  return new Promise((resolve, reject) => {
    let at = share.from;
    const leave = () => {
      clearTimeout(watchdog);
      child.off("message", onMessage).off("exit", onExit);
      signal?.removeEventListener("abort", onAbort);
    };
    const endAs = (how: ShareEnd["how"]) => {
      leave();
      resolve({ how, at });
    };
    const onMessage = (message: unknown) => {
      clearTimeout(watchdog);
      watchdog = setTimeout(endAs, patienceMs, "stuck");
      const told = message as Told;
      if (told === "begun") return;
      at++;
      if (at === share.to) endAs("done");
      tell(told);
    };
    const onExit = (code: number | null) => {
      leave();
      reject(new Error(`The process of seed ${at} ended (${code ?? "killed"})`));
    };
    const onAbort = () => endAs("interrupted");
    let watchdog = setTimeout(() => {
      leave();
      reject(new Error(`The process of seed ${at} does not begin`));
    }, beginLimitMs);
    child.on("message", onMessage).on("exit", onExit);
    signal?.addEventListener("abort", onAbort);
    child.send(share);
  });
}
