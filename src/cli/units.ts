/** Sizes, numbers and durations as people type them. */
import { InvalidArgumentError } from "commander";

const sizes: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  PB: 1e15,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  PiB: 2 ** 50,
};
const numbers: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };
const durations: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `10GiB`, `500 MB`, `4096` in bytes. */
export function parseSize(text: string): number {
  return scaled(text, sizes, "a size such as 4096, 500MB or 10GiB");
}

/** `1M`, `250k`, `7`. */
export function parseNumber(text: string): number {
  return scaled(text, numbers, "a number such as 7, 250k or 1M");
}

/** `500ms`, `90s`, `12h`, `7d` in milliseconds. */
export function parseDuration(text: string): number {
  return scaled(text, durations, "a duration such as 90s, 12h or 7d");
}

function scaled(text: string, units: Readonly<Record<string, number>>, wanted: string): number {
  const [, figure, unit] = /^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$/.exec(text.trim()) ?? [];
  const scale = unit === undefined ? undefined : units[unit];
  const value = Math.round(Number(figure) * (scale ?? Number.NaN));
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`wanted ${wanted}`);
  return value;
}

/** An octal mode such as `755` or `0644`. */
export function parseMode(text: string): number {
  if (!/^[0-7]{1,5}$/.test(text))
    throw new InvalidArgumentError("wanted an octal mode such as 755");
  return Number.parseInt(text, 8);
}

/** A duration in the largest unit that it is a whole number of. */
export function spanText(durationMs: number): string {
  const fitting = Object.entries(durations).filter(([, scale]) => durationMs % scale === 0);
  const [unit, scale] = fitting[fitting.length - 1]!;
  return `${String(durationMs / scale)} ${unit}`;
}
