/**
 * Taking names out of a local directory, for good or aside, where the bytes stay readable.
 *
 * Invariants
 * 1. What is asked for a file never takes a directory, and the other way round.
 * 2. `removeEmpty` takes nothing that somebody put into the directory.
 * 3. Whatever the size of a tree, a bounded number of its names is in memory for each level of it.
 */
import { link, lstat, mkdir, opendir, rename, rmdir, unlink } from "node:fs/promises";
import { hasCode, WeirError } from "../lib/errors.ts";
import { temporaryPrefix } from "../lib/store-names.ts";
import type { Anchor } from "./anchor.ts";
import { needPermit } from "./errors.ts";
import { dropReplaced } from "./local-replaced.ts";
import { isOf } from "./local-stat.ts";
import { splitPath } from "./paths.ts";
import type { Going, Removal } from "./types.ts";

/** Names of a directory that are taken out before it is read on. */
const namesAtOnce = 1000;
/** Times that a directory is read again since names came while others were taken out. */
const treeAttempts = 20;
/** rename(2) and link(2), where the file system or its owner does not let us put the file aside. */
const noAside = new Set(["EACCES", "EPERM", "EROFS", "EXDEV", "EMLINK", "ENOTSUP", "EOPNOTSUPP"]);

/** What a local store lends for its changes. */
export interface LocalChanges {
  /** Runs `use` on the opened directory, which it may change. */
  changing<T>(path: string, use: (anchor: Anchor) => Promise<T>): Promise<T>;
  readonly sync: (anchor: Anchor) => Promise<void>;
  readonly doing: string;
}

type FileRemoval = Extract<Removal, { of: "file" }> & Going;

/** Takes the file's name out. A directory, or a file with another fingerprint, is not what was to be removed: it stays. */
export async function removeFile(
  at: LocalChanges,
  path: string,
  what: FileRemoval,
): Promise<{ aside: boolean }> {
  const { parent, name } = splitPath(path);
  const { aside, fingerprint } = what;
  await whereThere(async () => {
    await at.changing(parent, async (anchor) => {
      const host = anchor.child(name);
      const stat = await lstat(host, { bigint: true });
      const isOther = fingerprint !== undefined && !isOf(fingerprint, stat);
      if (stat.isDirectory() || isOther) return;
      needPermit(what, at.doing);
      await dropReplaced(anchor, name, undefined);
      const isAside =
        aside !== undefined &&
        stat.isFile() &&
        (await putAside(at, aside.path, (kept) => rename(host, kept)));
      if (!isAside) await unlink(host);
      await at.sync(anchor);
    });
  });
  return { aside: aside !== undefined && (await isThere(at, aside.path)) };
}

/**
 * Before a rename replaces the file `name`: gives it a second name aside, so that at no time it has none. A crash in
 * between leaves it under both.
 */
export async function keepAside(
  at: LocalChanges,
  from: { readonly anchor: Anchor; readonly name: string },
  asidePath: string,
): Promise<void> {
  const host = from.anchor.child(from.name);
  const stat = await lstatIfAny(host);
  if (stat?.isFile() !== true) return;
  await putAside(at, asidePath, async (kept) => {
    await link(host, kept).catch((thrown: unknown) => {
      // It was put there before a crash.
      if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
    });
  });
}

export async function isThere(at: LocalChanges, path: string): Promise<boolean> {
  const { parent, name } = splitPath(path);
  try {
    return await at.changing(
      parent,
      async (anchor) => (await lstatIfAny(anchor.child(name))) !== undefined,
    );
  } catch (thrown) {
    if (hasCode(thrown, "NotFound")) return false;
    throw thrown;
  }
}

/** False where the file cannot be put aside: who reads it then is told that it is gone. */
async function putAside(
  at: LocalChanges,
  path: string,
  put: (kept: Buffer) => Promise<void>,
): Promise<boolean> {
  const { parent, name } = splitPath(path);
  try {
    await at.changing("", async (root) => {
      // Bytes that were deleted are shown to nobody but us.
      await mkdir(root.child(parent), 0o700).catch((thrown: unknown) => {
        if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
      });
    });
    await at.changing(parent, async (anchor) => {
      await put(anchor.child(name));
      await at.sync(anchor);
    });
    return true;
  } catch (thrown) {
    if (noAside.has(systemCode(thrown) ?? "")) return false;
    throw thrown;
  }
}

function systemCode(thrown: unknown): string | undefined {
  if (thrown instanceof WeirError) return systemCode(thrown.cause);
  return (thrown as NodeJS.ErrnoException | undefined)?.code;
}

/** Removes the directory if nothing lies in it but what is ours and hidden. */
export async function removeEmpty(at: LocalChanges, path: string, going: Going): Promise<void> {
  await whereThere(async () => {
    const { parent, name } = splitPath(path);
    const { names, hidden } = await namesIn(at, path, 1);
    if (names.length > 0) return;
    await at.changing(path, async (anchor) => {
      for (const each of hidden) {
        needPermit(going, at.doing);
        await unlink(anchor.child(each));
      }
    });
    await removeDirectory(at, { parent, name }, going).catch((thrown: unknown) => {
      if (!hasCode(thrown, "NotEmpty")) throw thrown;
    });
  });
}

/** Removes a directory and all below it, a bounded number of names at a time. */
export async function removeTree(at: LocalChanges, path: string, going: Going): Promise<void> {
  const { parent, name } = splitPath(path);
  await whereThere(async () => {
    const isDirectory = await at.changing(parent, async (anchor) =>
      (await lstat(anchor.child(name))).isDirectory(),
    );
    if (!isDirectory) return;
    for (let attempt = 1; ; attempt++) {
      await emptyDirectory(at, path, going);
      try {
        await removeDirectory(at, { parent, name }, going);
        return;
      } catch (thrown) {
        if (!hasCode(thrown, "NotEmpty") || attempt === treeAttempts) throw thrown;
      }
    }
  });
}

async function emptyDirectory(at: LocalChanges, path: string, going: Going): Promise<void> {
  for (;;) {
    const { names, hidden } = await namesIn(at, path, namesAtOnce);
    if (names.length + hidden.length === 0) return;
    const directories = await at.changing(path, async (anchor) => {
      const found: string[] = [];
      for (const each of [...hidden, ...names]) {
        needPermit(going, at.doing);
        const host = anchor.child(each);
        const stat = await lstatIfAny(host);
        if (stat?.isDirectory() === true) found.push(each);
        else if (stat !== undefined) await unlink(host);
      }
      return found;
    });
    for (const each of directories) await removeTree(at, `${path}/${each}`, going);
  }
}

async function removeDirectory(
  at: LocalChanges,
  { parent, name }: { parent: string; name: string },
  going: Going,
): Promise<void> {
  await at.changing(parent, async (anchor) => {
    needPermit(going, at.doing);
    await rmdir(anchor.child(name));
    await at.sync(anchor);
  });
}

/** At most `limit` names of a directory, and of those the hidden ones apart. */
async function namesIn(
  at: LocalChanges,
  path: string,
  limit: number,
): Promise<{ names: string[]; hidden: string[] }> {
  return at.changing(path, async (anchor) => {
    const names: string[] = [];
    const hidden: string[] = [];
    const directory = await opendir(anchor.self.toString("latin1"), {
      encoding: "latin1" as never,
    });
    for await (const { name } of directory) {
      (name.startsWith(temporaryPrefix) ? hidden : names).push(name);
      if (names.length >= limit || hidden.length >= namesAtOnce) break;
    }
    return { names, hidden };
  });
}

async function lstatIfAny(host: Buffer) {
  try {
    return await lstat(host);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw thrown;
  }
}

async function whereThere(change: () => Promise<void>): Promise<void> {
  try {
    await change();
  } catch (thrown) {
    if (!hasCode(thrown, "NotFound", "NotDirectory")) throw thrown;
  }
}
