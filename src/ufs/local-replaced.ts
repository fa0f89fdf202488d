/**
 * What a write replaced, kept under a hidden name beside it: a file that is written anew from parts of its own old content
 * must find that again, if the write was done and nobody learnt of it. A hard link costs nothing, and leaves the
 * fingerprint as it is.
 *
 * Invariants
 * 1. One replaced file per name is kept: the one that the last write which asked for it was to keep.
 * 2. It moves and goes with its name. What is left by a crash goes with the next write of that name, or by its age.
 *
 * Where the file system makes no hard links of the file (none at all, or none to what others own), nothing is kept, and
 * the write goes on: only that a repetition after a lost answer fails with `Stale` then, for as long as it is tried.
 */
import { type FileHandle, link, lstat, rename, unlink } from "node:fs/promises";
import type { Anchor } from "./anchor.ts";
import { isOf } from "./local-stat.ts";
import { replacedName, replacedPrefix } from "./paths.ts";

/** link(2), where there are no hard links or not of this file. */
const noLink = new Set(["EPERM", "EACCES", "EMLINK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EXDEV"]);

/** Whether a host path is that of something kept here. */
export function isReplaced(path: Buffer): boolean {
  return path.subarray(path.lastIndexOf("/") + 1).includes(replacedPrefix);
}

/** Before `name` is replaced: keeps it if it is `wanted`; what is kept already stays if a repetition needs it. */
export async function keepReplaced(
  anchor: Anchor,
  name: string,
  wanted: string | undefined,
): Promise<void> {
  if (wanted !== undefined && !(await hasPrint(anchor.child(name), wanted))) return;
  const kept = anchor.child(replacedName(name));
  await whereThere(unlink(kept));
  if (wanted === undefined) return;
  await link(anchor.child(name), kept).catch((thrown: unknown) => {
    if (!noLink.has((thrown as NodeJS.ErrnoException).code ?? "")) throw thrown;
  });
}

/** Lets go of what is kept for the name, if it is `wanted`; undefined: whatever it is. */
export async function dropReplaced(
  anchor: Anchor,
  name: string,
  wanted: string | undefined,
): Promise<void> {
  const kept = anchor.child(replacedName(name));
  if (wanted !== undefined && !(await hasPrint(kept, wanted))) return;
  await whereThere(unlink(kept));
}

/** What is kept for a name goes to its next one. */
export async function moveReplaced(
  [from, name]: readonly [Anchor, string],
  [to, nextName]: readonly [Anchor, string],
): Promise<void> {
  await whereThere(rename(from.child(replacedName(name)), to.child(replacedName(nextName))));
}

/** Opens the file, or what it replaced if that is `wanted` and the file is not. */
export async function openVersion(
  anchor: Anchor,
  name: string,
  wanted: string,
  open: (host: Buffer) => Promise<FileHandle>,
): Promise<FileHandle> {
  const host = anchor.child(name);
  if (await hasPrint(host, wanted)) return open(host);
  const kept = anchor.child(replacedName(name));
  return open((await hasPrint(kept, wanted)) ? kept : host);
}

async function hasPrint(host: Buffer, wanted: string): Promise<boolean> {
  const stat = await whereThere(lstat(host, { bigint: true }));
  return stat?.isFile() === true && isOf(wanted, stat);
}

async function whereThere<T>(change: Promise<T>): Promise<T | undefined> {
  return change.catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw thrown;
  });
}
