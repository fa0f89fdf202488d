/** One process of a swarm: runs the seeds that it is asked to, and tells what they add up to. */
import { simulateRaft } from "./raft-simulation.ts";
import type { Share } from "./swarm.ts";
import { addReport, emptyTotals, type Totals } from "./totals.ts";

async function run({ from, to, steps }: Share): Promise<Totals> {
  const totals = emptyTotals();
  const seen = new Set<number>();
  for (let seed = from; seed < to; seed++) {
    try {
      const report = await simulateRaft({ seed, steps });
      addReport(totals, report);
      for (const situation of report.situations) seen.add(situation);
    } catch (error) {
      totals.seeds++;
      totals.failed.push({ seed, claim: error instanceof Error ? error.message : String(error) });
    }
  }
  totals.situations = [...seen];
  return totals;
}

process.on("message", (share: Share) => {
  void run(share).then((totals) => process.send?.(totals));
});
process.on("disconnect", () => {
  process.exit(0);
});
