/**
 * The contract of `npm run bench -- NAME [--json]`: one row per figure. With --json nothing but one JSON object per
 * line goes to standard output. A bench that cannot run its peer throws, and the run fails.
 */

export interface Figure {
  readonly bench: string;
  readonly figure: string;
  readonly value: number;
  readonly unit: string;
  /** What `peerValue` was measured on, with its set-up; "-" where there is no peer. */
  readonly peer: string;
  readonly peerValue: number | null;
  /** Ours over the peer's, of times the peer's over ours: higher is better. */
  readonly ratio: number | null;
  /** Set-up of ours: tier medium, write type, sizes, outstanding requests, whether it ends with fsync. */
  readonly setup: string;
}

/** A figure without a peer. */
export function figure(
  bench: string,
  name: string,
  value: number,
  unit: string,
  setup: string,
): Figure {
  return { bench, figure: name, value, unit, peer: "-", peerValue: null, ratio: null, setup };
}

/** A figure beside its peer's; for times (`lowerIsBetter`) the ratio is the peer's over ours. */
export function compare(
  ours: Figure,
  peer: { name: string; value: number; lowerIsBetter?: boolean },
): Figure {
  const ratio = peer.lowerIsBetter ? peer.value / ours.value : ours.value / peer.value;
  return { ...ours, peer: peer.name, peerValue: peer.value, ratio };
}

/** The rows as a table for people, columns aligned. */
export function table(figures: readonly Figure[]): string {
  const header = ["figure", "value", "unit", "peer", "peer's", "ratio", "set-up"];
  const rows = figures.map((row) => [
    row.figure,
    shown(row.value),
    row.unit,
    row.peer,
    row.peerValue === null ? "" : shown(row.peerValue),
    row.ratio === null ? "" : row.ratio.toFixed(2),
    row.setup,
  ]);
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  return [header, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function shown(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toPrecision(3);
}

/** The value below which `fraction` (0 … 1) of the samples lie. */
export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] ?? Number.NaN;
}
