/** Durations and sizes as people type them. */
import { InvalidArgumentError } from "commander";

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/** Milliseconds in `90s`, `15m`, `12h`, `30d` or `2w`. @throws InvalidArgumentError */
export function parseDuration(text: string): number {
  const [, figure, unit = ""] = /^(\d+(?:\.\d+)?)([a-z]+)$/.exec(text) ?? [];
  const ms = Math.round(Number(figure) * (unitsMs[unit] ?? NaN));
  if (Number.isSafeInteger(ms)) return ms;
  throw new InvalidArgumentError("wanted a duration such as 90s, 15m, 12h, 30d or 2w");
}

const unitsBytes: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  t: 1e12,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Bytes in `4096`, `10MB`, `1.5GiB` or `2T`. @throws InvalidArgumentError */
export function parseBytes(text: string): number {
  const [, figure, unit = ""] = /^(\d+(?:\.\d+)?) ?([a-z]*)$/.exec(text.toLowerCase()) ?? [];
  const bytes = Math.round(Number(figure) * (unitsBytes[unit] ?? NaN));
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new InvalidArgumentError("wanted a size such as 4096, 10MB, 1.5GiB or 2T");
}
