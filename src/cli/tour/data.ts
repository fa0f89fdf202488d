/** The real data of the tour: a directory tree of this machine, and samples of it. */
import { constants, type Dirent } from "node:fs";
import { access, lstat, opendir } from "node:fs/promises";
import { join } from "node:path";
import { WeirError } from "../../lib/errors.ts";

export interface TreeSize {
  readonly files: number;
  readonly directories: number;
  readonly links: number;
  readonly bytes: number;
  /** A file that this user may not read, if there is one. */
  readonly unreadable: string | undefined;
}

const candidates = ["/usr/share/doc", "/usr/share", "/etc"];
const enoughFiles = 1000;
const mostFiles = 20_000;

/**
 * The tree to show: `asked`, or the first well-known one with thousands of readable files, or the largest there is.
 * @throws WeirError `InvalidArgument` when `asked` is no directory that can be read
 */
export async function chooseData(asked: string | undefined): Promise<string> {
  if (asked !== undefined) {
    const size = await measureTree(asked, Number.POSITIVE_INFINITY).catch((cause: unknown) => {
      throw new WeirError("InvalidArgument", `Cannot read --data "${asked}": ${String(cause)}`, {
        cause,
      });
    });
    if (size.unreadable === undefined) return asked;
    throw new WeirError(
      "InvalidArgument",
      `Cannot read --data "${asked}": "${size.unreadable}" may not be read by this user`,
    );
  }
  let best: { directory: string; files: number } | undefined;
  for (const directory of candidates) {
    const size = await measureTree(directory, mostFiles + 1).catch(() => undefined);
    if (size === undefined || size.unreadable !== undefined || size.files > mostFiles) continue;
    if (size.files >= enoughFiles) return directory;
    if (size.files > (best?.files ?? 0)) best = { directory, files: size.files };
  }
  if (best !== undefined) return best.directory;
  throw new WeirError(
    "NotFound",
    "Cannot find a directory tree to show. Cure: name one: --data DIR",
  );
}

/** Counts what lies below a directory, links not followed; stops early beyond `limit` files. */
export async function measureTree(
  directory: string,
  limit = Number.POSITIVE_INFINITY,
): Promise<TreeSize> {
  const total = { files: 0, directories: 0, links: 0, bytes: 0 };
  let unreadable: string | undefined;
  const walk = async (at: string): Promise<void> => {
    for (const entry of await entriesOf(at)) {
      if (total.files > limit) return;
      const path = join(at, entry.name);
      if (entry.isDirectory()) {
        total.directories++;
        if (await isAccessible(path, constants.R_OK | constants.X_OK)) await walk(path);
        else unreadable ??= path;
      } else if (entry.isSymbolicLink()) total.links++;
      else {
        total.files++;
        total.bytes += (await lstat(path)).size;
        if (!(await isAccessible(path, constants.R_OK))) unreadable ??= path;
      }
    }
  };
  await walk(directory);
  return { ...total, unreadable };
}

/** Names directly below `directory` that together hold about `files` files: whole subtrees, in order of their names. */
export async function chooseSample(directory: string, files: number): Promise<string[]> {
  const chosen: string[] = [];
  let count = 0;
  for (const entry of await entriesOf(directory)) {
    if (count >= files) break;
    const path = join(directory, entry.name);
    const size = entry.isDirectory()
      ? await measureTree(path, files)
      : { files: 1, bytes: (await lstat(path)).size };
    if (size.files > files || size.bytes > 64 * 1024 * 1024) continue;
    chosen.push(entry.name);
    count += size.files;
  }
  return chosen;
}

/** The regular files below a directory, in order, with their sizes. */
export async function* filesBelow(
  directory: string,
): AsyncGenerator<{ path: string; size: number }> {
  for (const entry of await entriesOf(directory)) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield { path, size: (await lstat(path)).size };
  }
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  const entries: Dirent[] = [];
  for await (const entry of await opendir(directory, { bufferSize: 256 })) entries.push(entry);
  return entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

async function isAccessible(path: string, mode: number): Promise<boolean> {
  try {
    await access(path, mode);
    return true;
  } catch {
    return false;
  }
}
