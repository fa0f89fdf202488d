/**
 * Sums of inodes: what one inode weighs, and how weights add up. Pure.
 *
 * Invariant: `bytes` and `unpersistedBytes` of a sum are 0 … `usageCarryBytes` - 1, whatever it is made of; what is more, or
 * less than nothing, is in the parts above them. So sums of any sizes are exact, and nothing has one form.
 */
import { type Usage, usageCarryBytes } from "../../rpc/namespace.ts";
import type { Inode } from "./model.ts";

export const noUsage: Readonly<Sum> = {
  bytes: 0,
  unpersistedBytes: 0,
  files: 0,
  directories: 0,
  unloadedDirectories: 0,
  bytesAbove: 0,
  unpersistedBytesAbove: 0,
};
/** Most inodes are made like this. */
const emptyFile: Usage = { ...noUsage, files: 1 };
const loadedDirectory: Usage = { ...noUsage, directories: 1 };
const unloadedDirectory: Usage = { ...noUsage, directories: 1, unloadedDirectories: 1 };

/** What an inode adds to the directories above it, without what lies below it. */
export function weightOf(of: Inode): Usage {
  if (of.kind === "directory") return of.loaded ? loadedDirectory : unloadedDirectory;
  if (of.size === 0) return emptyFile;
  return {
    bytes: of.size,
    unpersistedBytes: of.persistence === "persisted" ? 0 : of.size,
    files: 1,
    directories: 0,
    unloadedDirectories: 0,
  };
}

/** A sum that changes; its parts may be negative. */
export type Sum = { -readonly [K in keyof Usage]-?: number };

/** Adds `usage` to `sum`, or takes it away. */
export function accumulate(sum: Sum, usage: Usage, sign: 1 | -1): void {
  accumulateBytes(sum, "bytes", usage, sign);
  accumulateBytes(sum, "unpersistedBytes", usage, sign);
  sum.files += sign * usage.files;
  sum.directories += sign * usage.directories;
  sum.unloadedDirectories += sign * usage.unloadedDirectories;
}

function accumulateBytes(
  sum: Sum,
  part: "bytes" | "unpersistedBytes",
  usage: Usage,
  sign: 1 | -1,
): void {
  const above = `${part}Above` as const;
  const whole = Math.floor(usage[part] / usageCarryBytes);
  const rest = sum[part] + sign * (usage[part] - whole * usageCarryBytes);
  const carry = Math.floor(rest / usageCarryBytes);
  sum[part] = rest - carry * usageCarryBytes;
  sum[above] += sign * ((usage[above] ?? 0) + whole) + carry;
}

export function isNothing(sum: Usage): boolean {
  return (
    sum.bytes === 0 &&
    (sum.bytesAbove ?? 0) === 0 &&
    sum.unpersistedBytes === 0 &&
    (sum.unpersistedBytesAbove ?? 0) === 0 &&
    sum.files === 0 &&
    sum.directories === 0 &&
    sum.unloadedDirectories === 0
  );
}

/** `usage` with `change` added. */
export function changedUsage(usage: Usage, change: Usage): Usage {
  const sum: Sum = { ...noUsage };
  accumulate(sum, usage, 1);
  accumulate(sum, change, 1);
  return sum;
}
