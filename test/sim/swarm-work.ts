/** A process of a swarm: runs the seeds that it is asked to, and tells what came of each before it begins the next. */
import type { Report, SimulationOptions } from "./raft-simulation.ts";
import type { Share, Told } from "./swarm.ts";
import { addReport, emptyTotals, type Totals } from "./totals.ts";

/** Does what the parent asks for until it lets go. */
export function serveShares(simulate: (options: SimulationOptions) => Promise<Report>): void {
  process.on("message", (share: Share) => {
    void run(share);
  });
  process.on("disconnect", () => {
    process.exit(0);
  });
  // A terminal interrupts parent and children alike; the parent ends these when it has what they told.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);

  async function run({ from, to, steps }: Share): Promise<void> {
    await tell("begun");
    for (let seed = from; seed < to; seed++) {
      await tell(await totalsOf(seed, steps));
    }
  }

  /** Resolves when it is on its way: the next seed may keep this process from all else. */
  function tell(message: Told): Promise<unknown> {
    return new Promise((resolve) => process.send!(message, undefined, undefined, resolve));
  }

  async function totalsOf(seed: number, steps: number): Promise<Totals> {
    const totals = emptyTotals();
    try {
      const report = await simulate({ seed, steps });
      addReport(totals, report);
      totals.situations = [...report.situations];
    } catch (error) {
      totals.seeds++;
      totals.failed.push({ seed, claim: error instanceof Error ? error.message : String(error) });
    }
    return totals;
  }
}
