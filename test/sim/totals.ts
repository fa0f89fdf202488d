/** What many seeds add up to. */
import type { Report } from "./raft-simulation.ts";

/** A seed that broke an invariant, or made no progress where it must. */
export interface FailedSeed {
  readonly seed: number;
  readonly claim: string;
}

/** Plain data, so that it travels between processes. */
export interface Totals {
  seeds: number;
  steps: number;
  simulatedMs: number;
  terms: number;
  committed: number;
  writes: number;
  reads: number;
  /** By what happened; and clusters by their size at the beginning. */
  counts: Record<string, number>;
  clusters: Record<string, number>;
  situations: number[];
  failed: FailedSeed[];
}

export function emptyTotals(): Totals {
  const zero = { seeds: 0, steps: 0, simulatedMs: 0, terms: 0, committed: 0, writes: 0, reads: 0 };
  return { ...zero, counts: {}, clusters: {}, situations: [], failed: [] };
}

export function addReport(totals: Totals, report: Report): void {
  totals.seeds++;
  for (const name of ["steps", "simulatedMs", "terms", "committed", "writes", "reads"] as const) {
    totals[name] += report[name];
  }
  addCount(totals.clusters, String(report.nodes), 1);
  for (const [name, times] of report.counts) addCount(totals.counts, name, times);
}

/** Adds `more` to `totals`; `situations` of both gather in `seen`. */
export function addTotals(totals: Totals, more: Totals, seen: Set<number>): void {
  for (const name of [
    "seeds",
    "steps",
    "simulatedMs",
    "terms",
    "committed",
    "writes",
    "reads",
  ] as const) {
    totals[name] += more[name];
  }
  for (const [name, times] of Object.entries(more.clusters)) {
    addCount(totals.clusters, name, times);
  }
  for (const [name, times] of Object.entries(more.counts)) addCount(totals.counts, name, times);
  for (const situation of more.situations) seen.add(situation);
  totals.failed.push(...more.failed);
}

function addCount(counts: Record<string, number>, name: string, times: number): void {
  counts[name] = (counts[name] ?? 0) + times;
}

/** Lines for people: how fast, what happened how often, how many situations. */
export function describeTotals(totals: Totals, situations: number, seconds: number): string {
  const rate = (value: number) => Math.round(value / seconds).toLocaleString("en");
  const list = (counts: Record<string, number>) =>
    Object.entries(counts)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, times]) => `${name} ${times.toLocaleString("en")}`)
      .join(", ");
  const { seeds, steps, simulatedMs, terms, committed, writes, reads } = totals;
  return [
    `${seeds} ${seeds === 1 ? "seed" : "seeds"} in ${seconds.toFixed(1)} s: ${(seeds / seconds).toFixed(1)} seeds/s, ` +
      `${rate(steps)} steps/s; ${Math.round(simulatedMs / 1000).toLocaleString("en")} s were simulated`,
    `clusters by size: ${list(totals.clusters)}`,
    `terms ${terms}, committed ${committed}, client writes ${writes}, client reads ${reads}`,
    `what happened: ${list(totals.counts)}`,
    `situations covered: ${situations.toLocaleString("en")}`,
  ].join("\n");
}
