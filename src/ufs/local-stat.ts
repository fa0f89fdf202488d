/** What lstat(2) says of a local file, as a store says it. */
import type { BigIntStats } from "node:fs";
import { lstat, readlink } from "node:fs/promises";
import type { Anchor } from "./anchor.ts";
import type { UfsStat, UfsTimestamp } from "./types.ts";

/** A name in an opened directory; undefined when it is not there. */
export async function entryOf(anchor: Anchor, name: string): Promise<UfsStat | undefined> {
  const host = anchor.child(name);
  try {
    const stat = await lstat(host, { bigint: true });
    const target = stat.isSymbolicLink() ? await readlink(host, { encoding: "latin1" }) : undefined;
    return toStat(stat, target);
  } catch (thrown) {
    // Gone, or replaced by something else, since the directory was read.
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "EINVAL") return undefined;
    throw thrown;
  }
}

export function toStat(stat: BigIntStats, target: string | undefined): UfsStat {
  return {
    kind: kindOf(stat),
    size: stat.isSymbolicLink() || stat.isFile() ? Number(stat.size) : 0,
    mode: Number(stat.mode & 0o7777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtime: timestampOf(stat.mtimeNs),
    fingerprint: fingerprintOf(stat),
    target,
  };
}

function kindOf(stat: BigIntStats): UfsStat["kind"] {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isFIFO()) return "fifo";
  if (stat.isSocket()) return "socket";
  return stat.isCharacterDevice() ? "charDevice" : "blockDevice";
}

/**
 * What tells one content from another: size, mtime, inode and birth, since the number of an inode is given away again. And
 * the time of the last change of status, which nobody can set back: a file that was written in place and got its old mtime
 * again is found by it, when names are compared. Reading does not look at that part (`isOf`): a chmod changes no byte.
 */
export function fingerprintOf(stat: BigIntStats): string {
  return `${stat.size}-${stat.mtimeNs}-${stat.ino}-${stat.birthtimeNs}-${stat.ctimeNs}`;
}

/** Whether a file has the content of a fingerprint; those of earlier versions say less. */
export function isOf(fingerprint: string, stat: BigIntStats): boolean {
  const parts = fingerprint.split("-");
  const now = fingerprintOf(stat).split("-");
  return parts.slice(0, 4).every((part, i) => part === now[i]);
}

const withChangeTime = /^((?:[a-z0-9-]+:)?-?\d+(?:--?\d+){3})--?\d+$/;

/** The part of a fingerprint that says which content it is: all but the time of change, of those that have one. */
export function contentPart(fingerprint: string): string {
  return withChangeTime.exec(fingerprint)?.[1] ?? fingerprint;
}

export function timestampOf(nanoseconds: bigint): UfsTimestamp {
  const nsec = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { sec: Number((nanoseconds - nsec) / 1_000_000_000n), nsec: Number(nsec) };
}

export function secondsOf(time: UfsTimestamp): number {
  return time.sec + time.nsec / 1e9;
}
