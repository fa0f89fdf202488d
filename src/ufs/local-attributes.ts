/** Changing mode, owner and mtime of local files, as far as the process may. */
import type { BigIntStats } from "node:fs";
import { chmod, chown, type FileHandle, lchown, lstat, lutimes, utimes } from "node:fs/promises";
import { secondsOf, timestampOf } from "./local-stat.ts";
import type { UfsAttributes } from "./types.ts";

/** Owner before mode: chown clears setuid and setgid. Time last: the others leave it alone, writing does not. */
export async function applyToHandle(handle: FileHandle, attributes: UfsAttributes): Promise<void> {
  const stat = await handle.stat();
  const { uid, gid, mode, mtime } = attributes;
  if (ownerDiffers(stat, attributes)) {
    await whereAllowed(handle.chown(uid ?? stat.uid, gid ?? stat.gid));
  }
  if (mode !== undefined) await handle.chmod(mode);
  if (mtime !== undefined) await handle.utimes(stat.atimeMs / 1000, secondsOf(mtime));
}

export async function applyToPath(
  path: Buffer,
  stat: BigIntStats,
  attributes: UfsAttributes,
): Promise<void> {
  const { uid, gid, mode, mtime } = attributes;
  const owner = { uid: Number(stat.uid), gid: Number(stat.gid) };
  if (ownerDiffers(owner, attributes)) {
    await whereAllowed(chown(path, uid ?? owner.uid, gid ?? owner.gid));
  }
  if (mode !== undefined) await chmod(path, mode);
  if (mtime !== undefined)
    await utimes(path, secondsOf(timestampOf(stat.atimeNs)), secondsOf(mtime));
}

/** A link has no mode of its own (symlink(7)). */
export async function applyToLink(path: Buffer, attributes: UfsAttributes): Promise<void> {
  const stat = await lstat(path);
  const { uid, gid, mtime } = attributes;
  if (ownerDiffers(stat, attributes)) {
    await whereAllowed(lchown(path, uid ?? stat.uid, gid ?? stat.gid));
  }
  if (mtime !== undefined) await lutimes(path, stat.atimeMs / 1000, secondsOf(mtime));
}

function ownerDiffers(owner: { uid: number; gid: number }, wanted: UfsAttributes): boolean {
  return (
    (wanted.uid !== undefined && wanted.uid !== owner.uid) ||
    (wanted.gid !== undefined && wanted.gid !== owner.gid)
  );
}

/** A service without root may not give files away: the data matters more than its owner. */
async function whereAllowed(change: Promise<void>): Promise<void> {
  await change.catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code !== "EPERM") throw thrown;
  });
}
