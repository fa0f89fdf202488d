/**
 * A local (or locally mounted) directory as an under file system.
 *
 * Invariants
 * 1. Nothing outside the root is read or changed: no "..", and no symbolic link is followed, neither in the middle of a
 *    path nor at its end.
 * 2. A file appears under its name whole and durable, or not at all: bytes go to a hidden name beside it, are fsynced,
 *    renamed, and the directory is fsynced.
 * 3. Every chunk that `read` yields was read before a check that the file still has its fingerprint.
 *
 * Ownership is set where the process may do so, and left alone where it may not. Times are set with the precision of a
 * double, which is a quarter of a microsecond.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  symlink,
  unlink,
} from "node:fs/promises";
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import { isExchangePath, isUnlinkedPath, temporaryPrefix } from "../lib/store-names.ts";
import { type Anchor, openAnchor, openItself } from "./anchor.ts";
import { needPermit, refuseIfAborted } from "./errors.ts";
import { applyToHandle, applyToLink, applyToPath } from "./local-attributes.ts";
import { entryOf, fingerprintOf, isOf, toStat } from "./local-stat.ts";
import {
  dropReplaced,
  isReplaced,
  keepReplaced,
  moveReplaced,
  openVersion,
} from "./local-replaced.ts";
import { OwnedDirectories } from "./owned-directories.ts";
import {
  isThere,
  keepAside,
  type LocalChanges,
  removeEmpty,
  removeFile,
  removeTree,
} from "./local-removal.ts";
import { assertLength, componentsOf, needLasting, placesOf, shown, splitPath } from "./paths.ts";
import type {
  Going,
  Move,
  Removal,
  UfsAttributes,
  UfsListEntry,
  UfsStat,
  UnderFileSystem,
} from "./types.ts";

const readChunkBytes = 1024 ** 2;
/** Stats under way at once in one listing. */
const listingConcurrency = 32;
/** A hidden name this old is left from a process that died. */
const abandonedAfterMs = 24 * 3600 * 1000;
/** Directories whose sorted names are kept from one page of a listing to the next. */
const keptListings = 8;

interface KeptListing {
  readonly identity: string;
  readonly names: readonly string[];
}

export class LocalFileSystem implements UnderFileSystem {
  readonly uri: string;
  readonly readOnly = false;
  /** Absolute, latin1, without symbolic links. */
  readonly #root: string;
  readonly #listings = new Map<string, KeptListing>();
  readonly #owned = new OwnedDirectories();

  private constructor(uri: string, root: string) {
    this.uri = uri;
    this.#root = root;
  }

  /**
   * @param directory bytes of an absolute path
   * @throws WeirError `NotFound` or `NotDirectory` when there is no directory, `PermissionDenied` when it is closed
   */
  static async open(uri: string, directory: Buffer): Promise<LocalFileSystem> {
    const doing = `Cannot use ${uri}`;
    try {
      const root = await realpath(directory, { encoding: "latin1" });
      const store = new LocalFileSystem(uri, root);
      await store.#within("", doing, () => Promise.resolve());
      return store;
    } catch (thrown) {
      if (isMissing(thrown)) {
        const missing = (thrown as NodeJS.ErrnoException).code === "ENOENT";
        throw new WeirError(
          missing ? "NotFound" : "NotDirectory",
          `${doing}: there is ${missing ? "nothing" : "no directory"} at "${directory.toString()}", wanted an existing directory`,
          { cause: thrown },
        );
      }
      throw toWeirError(thrown, doing);
    }
  }

  async list(
    path: string,
    options: { after?: string | undefined; limit: number; signal?: AbortSignal },
  ): Promise<{ entries: readonly UfsListEntry[]; last: boolean }> {
    const doing = this.#doing("list", path);
    return this.#within(path, doing, async (anchor) => {
      const names = await this.#namesOf(path, anchor, options.after !== undefined);
      const entries: UfsListEntry[] = [];
      let at = options.after === undefined ? 0 : firstAfter(names, options.after);
      while (at < names.length && entries.length < options.limit) {
        refuseIfAborted(options.signal, doing);
        const wanted = Math.min(listingConcurrency, options.limit - entries.length);
        const batch = names.slice(at, at + wanted);
        at += batch.length;
        const stats = await Promise.all(batch.map((name) => entryOf(anchor, name)));
        for (const [index, stat] of stats.entries()) {
          if (stat !== undefined) entries.push({ name: batch[index]!, ...stat });
        }
      }
      const last = at >= names.length;
      if (last) this.#listings.delete(path);
      return { entries, last };
    });
  }

  async stat(path: string): Promise<UfsStat | undefined> {
    const doing = this.#doing("stat", path);
    try {
      return await this.#at(path, doing, async (host, anchor, name) =>
        name === ""
          ? toStat(await lstat(host, { bigint: true }), undefined)
          : entryOf(anchor, name),
      );
    } catch (thrown) {
      if (hasCode(thrown, "NotFound", "NotDirectory")) return undefined;
      throw thrown;
    }
  }

  async *read(
    path: string,
    options: {
      offset: number;
      length: number;
      fingerprint?: string | undefined;
      signal?: AbortSignal;
    },
  ): AsyncIterable<Uint8Array> {
    const doing = this.#doing("read", path);
    const handle = await this.#at(path, doing, (host, anchor, name) => {
      const openAt = (at: Buffer) => openRegular(at, constants.O_RDONLY, doing);
      return name === "" || options.fingerprint === undefined
        ? openAt(host)
        : openVersion(anchor, name, options.fingerprint, openAt);
    });
    try {
      const stat = await handle.stat({ bigint: true });
      if (!stat.isFile()) {
        throw new WeirError(
          stat.isDirectory() ? "IsDirectory" : "InvalidArgument",
          `${doing}: it is no regular file`,
        );
      }
      const wanted = options.fingerprint ?? fingerprintOf(stat);
      let offset = options.offset;
      const end = offset + options.length;
      for (;;) {
        refuseIfAborted(options.signal, doing);
        // A buffer of its own per chunk: the consumer may keep it.
        const buffer = Buffer.allocUnsafe(Math.min(readChunkBytes, end - offset));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset);
        const now = await handle.stat({ bigint: true });
        if (!isOf(wanted, now)) {
          const is = fingerprintOf(now);
          throw new WeirError("Stale", `${doing}: the file is ${is}, wanted ${wanted}`);
        }
        if (bytesRead === 0) return;
        offset += bytesRead;
        yield buffer.subarray(0, bytesRead);
        if (offset >= end) return;
      }
    } catch (thrown) {
      throw toWeirError(thrown, doing);
    } finally {
      await handle.close();
    }
  }

  async write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: {
      size: number;
      attributes?: UfsAttributes;
      keeps?: string | undefined;
    } & Going,
  ): Promise<string> {
    const doing = this.#doing("write", path);
    needLasting(path, doing);
    const { parent, name } = this.#target(path, doing);
    await this.#makeParents(parent, doing);
    return this.#changing(parent, doing, async (anchor) => {
      const hidden = anchor.child(temporaryName());
      const flags =
        constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const handle = await open(hidden, flags, 0o600);
      let placed = false;
      try {
        let offset = 0;
        for await (const chunk of source) {
          refuseIfAborted(options.signal, doing);
          if (offset + chunk.length > options.size) {
            assertLength(offset + chunk.length, options.size, doing);
          }
          offset += await writeFully(handle, chunk, offset);
        }
        assertLength(offset, options.size, doing);
        refuseIfAborted(options.signal, doing);
        await applyToHandle(handle, { mode: 0o644, ...defined(options.attributes) });
        await handle.sync();
        needPermit(options, doing);
        await keepReplaced(anchor, name, options.keeps);
        needPermit(options, doing);
        await rename(hidden, anchor.child(name));
        placed = true;
        await syncDirectory(anchor);
        return fingerprintOf(await handle.stat({ bigint: true }));
      } catch (thrown) {
        throw toWeirError(thrown, doing);
      } finally {
        await handle.close();
        if (!placed) await unlink(hidden).catch(() => undefined);
      }
    });
  }

  async forgetReplaced(path: string, fingerprint: string): Promise<void> {
    const doing = this.#doing("forget what was replaced at", path);
    const { parent, name } = this.#target(path, doing);
    await this.#changing(parent, doing, (anchor) => dropReplaced(anchor, name, fingerprint));
  }

  async delete(path: string, what: Removal & Going): Promise<{ aside: boolean }> {
    const doing = this.#doing("delete", path);
    if (!isUnlinkedPath(path)) this.#target(path, doing);
    const changes = this.#changes(doing);
    switch (what.of) {
      case "file":
        return removeFile(changes, path, what);
      case "emptyDirectory":
        await removeEmpty(changes, path, what);
        return { aside: false };
      case "tree":
        await removeTree(changes, path, what);
        return { aside: false };
    }
  }

  async rename(from: string, to: string, how: Move & Going): Promise<{ aside: boolean }> {
    const doing = `Cannot rename ${shown(from)} to ${shown(to)} in ${this.uri}`;
    const source = this.#target(from, doing);
    const target = this.#target(to, doing);
    if (to.startsWith(`${from}/`)) {
      throw new WeirError("InvalidArgument", `${doing}: the target is inside the source`);
    }
    const changes = this.#changes(doing);
    const { aside } = how;
    const done = async () => ({
      aside: aside !== undefined && (await isThere(changes, aside.path)),
    });
    const present = await this.stat(from);
    if (present === undefined) {
      if ((await this.stat(to)) !== undefined) return done();
      throw new WeirError("NotFound", `${doing}: there is no ${shown(from)}`);
    }
    await this.#makeParents(target.parent, doing);
    const move = () =>
      this.#changing(source.parent, doing, (sourceAnchor) =>
        this.#changing(target.parent, doing, async (targetAnchor) => {
          needPermit(how, doing);
          if (aside !== undefined) {
            await keepAside(changes, { anchor: targetAnchor, name: target.name }, aside.path);
          }
          // First what goes along: once the name has moved, nobody would look for it here any more.
          await moveReplaced([sourceAnchor, source.name], [targetAnchor, target.name]);
          needPermit(how, doing);
          await rename(sourceAnchor.child(source.name), targetAnchor.child(target.name));
          await syncDirectory(targetAnchor);
          if (source.parent !== target.parent) await syncDirectory(sourceAnchor);
        }),
      );
    // A directory that gets another parent is itself changed: its ".." is.
    if (present.kind === "directory") await this.#changing(from, doing, move);
    else await move();
    return done();
  }

  async mkdir(path: string, attributes?: UfsAttributes, going: Going = {}): Promise<void> {
    const doing = this.#doing("make directory", path);
    needLasting(path, doing);
    const { parent } = this.#target(path, doing);
    await this.#makeParents(parent, doing);
    needPermit(going, doing);
    await this.#makeDirectory(path, doing);
    if (attributes !== undefined) await this.setAttributes(path, attributes, going);
  }

  async symlink(path: string, target: string, going: Going = {}): Promise<void> {
    const doing = this.#doing("make symbolic link", path);
    needLasting(path, doing);
    const { parent, name } = this.#target(path, doing);
    await this.#makeParents(parent, doing);
    await this.#changing(parent, doing, async (anchor) => {
      const present = await entryOf(anchor, name);
      if (present?.target === target) return;
      const hidden = anchor.child(temporaryName());
      await symlink(Buffer.from(target, "latin1"), hidden);
      try {
        needPermit(going, doing);
        await rename(hidden, anchor.child(name));
      } catch (thrown) {
        await unlink(hidden).catch(() => undefined);
        throw thrown;
      }
      await syncDirectory(anchor);
    });
  }

  async setAttributes(
    path: string,
    attributes: UfsAttributes,
    going: Going = {},
  ): Promise<string | undefined> {
    const doing = this.#doing("change attributes of", path);
    return this.#at(path, doing, async (host) => {
      const itself = await openItself(host);
      try {
        const stat = await (itself?.handle.stat({ bigint: true }) ?? lstat(host, { bigint: true }));
        needPermit(going, doing);
        if (stat.isSymbolicLink()) await applyToLink(host, attributes);
        else await applyToPath(itself?.path ?? host, stat, attributes);
        return fingerprintOf(await lstat(host, { bigint: true }));
      } finally {
        await itself?.handle.close();
      }
    });
  }

  close(): Promise<void> {
    this.#listings.clear();
    return Promise.resolve();
  }

  #doing(verb: string, path: string): string {
    return `Cannot ${verb} ${shown(path)} in ${this.uri}`;
  }

  #target(path: string, doing: string): { parent: string; name: string } {
    if (componentsOf(path, doing).length === 0) {
      throw new WeirError("InvalidArgument", `${doing}: it is the root of the mount`);
    }
    return splitPath(path);
  }

  /** Runs `use` on the opened directory `path`; system errors become WeirErrors that begin with `doing`. */
  async #within<T>(path: string, doing: string, use: (anchor: Anchor) => Promise<T>): Promise<T> {
    placesOf(path, doing);
    try {
      const anchor = await openAnchor(this.#root, path, doing);
      try {
        return await use(anchor);
      } finally {
        await anchor.close();
      }
    } catch (thrown) {
      throw toWeirError(thrown, doing);
    }
  }

  /** As #within, for changes of what the directory holds. */
  #changing<T>(path: string, doing: string, use: (anchor: Anchor) => Promise<T>): Promise<T> {
    return this.#within(path, doing, (anchor) =>
      this.#owned.changing(path, anchor, () => use(anchor)),
    );
  }

  /** As #within, on the directory that holds `path`; for the root, on itself with the name "". */
  #at<T>(
    path: string,
    doing: string,
    use: (host: Buffer, anchor: Anchor, name: string) => Promise<T>,
  ): Promise<T> {
    if (path === "") {
      const dot = Buffer.from("/.");
      return this.#within("", doing, (anchor) =>
        use(Buffer.concat([anchor.self, dot]), anchor, ""),
      );
    }
    placesOf(path, doing);
    const { parent, name } = splitPath(path);
    return this.#within(parent, doing, (anchor) => use(anchor.child(name), anchor, name));
  }

  async #makeParents(path: string, doing: string): Promise<void> {
    if (path === "") return;
    try {
      await this.#within(path, doing, () => Promise.resolve());
    } catch (thrown) {
      if (!hasCode(thrown, "NotFound")) throw thrown;
      await this.#makeParents(splitPath(path).parent, doing);
      await this.#makeDirectory(path, doing);
    }
  }

  /** An existing directory is fine. */
  async #makeDirectory(path: string, doing: string): Promise<void> {
    const { parent, name } = splitPath(path);
    await this.#changing(parent, doing, async (anchor) => {
      const host = anchor.child(name);
      try {
        await mkdir(host, 0o755);
        await syncDirectory(anchor);
      } catch (thrown) {
        const exists = (thrown as NodeJS.ErrnoException).code === "EEXIST";
        if (!exists || !(await lstat(host)).isDirectory()) throw thrown;
      }
    });
  }

  #changes(doing: string): LocalChanges {
    return {
      changing: (path, use) => this.#changing(path, doing, use),
      sync: syncDirectory,
      doing,
    };
  }

  /** All names in byte order. Later pages use what the first one read, while the directory has not changed. */
  async #namesOf(path: string, anchor: Anchor, laterPage: boolean): Promise<readonly string[]> {
    const dot = Buffer.concat([anchor.self, Buffer.from("/.")]);
    const { mtimeNs, ctimeNs, ino } = await lstat(dot, { bigint: true });
    const identity = `${ino}-${mtimeNs}-${ctimeNs}`;
    const kept = this.#listings.get(path);
    if (laterPage && kept?.identity === identity) return kept.names;
    const all = await readdir(anchor.self, { encoding: "latin1" });
    const hidden = all.filter((name) => name.startsWith(temporaryPrefix));
    for (const name of hidden) {
      if (!isExchangePath(name)) await removeAbandoned(anchor.child(name));
    }
    const names = all.filter((name) => !name.startsWith(temporaryPrefix));
    // Default order of JavaScript is by code unit, which in latin1 is by byte.
    names.sort();
    this.#listings.delete(path);
    this.#listings.set(path, { identity, names });
    if (this.#listings.size > keptListings) {
      this.#listings.delete(this.#listings.keys().next().value!);
    }
    return names;
  }
}

function temporaryName(): string {
  return `${temporaryPrefix}${randomBytes(8).toString("hex")}`;
}

async function removeAbandoned(path: Buffer): Promise<void> {
  try {
    const { mtimeMs, ctimeMs } = await lstat(path);
    // What was replaced has the time of its content; when it was put aside is its change of status.
    const sinceMs = isReplaced(path) ? ctimeMs : mtimeMs;
    if (Date.now() - sinceMs > abandonedAfterMs) await unlink(path);
  } catch {
    // Somebody else's listing took it, or it is not ours to take: it stays hidden.
  }
}

/** The place of the first name behind `after` in sorted names. */
function firstAfter(names: readonly string[], after: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (names[middle]! <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** O_NONBLOCK: opening a fifo must not wait for a writer. */
async function openRegular(host: Buffer, flags: number, doing: string): Promise<FileHandle> {
  try {
    return await open(host, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code !== "ELOOP" && code !== "ENXIO") throw thrown;
    throw new WeirError("InvalidArgument", `${doing}: it is no regular file`, { cause: thrown });
  }
}

async function writeFully(handle: FileHandle, chunk: Uint8Array, offset: number): Promise<number> {
  let written = 0;
  while (written < chunk.length) {
    const rest = chunk.length - written;
    written += (await handle.write(chunk, written, rest, offset + written)).bytesWritten;
  }
  return written;
}

async function syncDirectory(anchor: Anchor): Promise<void> {
  const handle = await open(anchor.self, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function defined(attributes: UfsAttributes | undefined): UfsAttributes {
  return Object.fromEntries(
    Object.entries(attributes ?? {}).filter(([, value]) => value !== undefined),
  );
}

function isMissing(thrown: unknown): boolean {
  const code = (thrown as NodeJS.ErrnoException | null)?.code;
  return code === "ENOENT" || code === "ENOTDIR" || code === "NotFound" || code === "NotDirectory";
}
