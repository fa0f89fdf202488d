/**
 * Names that a store has, as workers listed them. A listing is older than the state that it meets: what was changed here
 * since wins, and a listing that may show something as it was before our own side effect is refused.
 *
 * Invariant: only what the store is known to have had is taken away or replaced. A name stays while it has content that
 * is nowhere else (not persisted, being written, a directory with names), and while a side effect on it is pending.
 */
import type { InodeId, WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult, UfsEntry } from "../../rpc/commands.ts";
import {
  type Context,
  makeInode,
  needDirectory,
  patchInode,
  patchUnseen,
  refuse,
} from "./context.ts";
import { arrivalKey, tombKey } from "./keys.ts";
import {
  addEdge,
  edgeIfAny,
  forgetDirectory,
  forgetFileLink,
  isValidName,
  maxTargetBytes,
} from "./links.ts";
import type { Inode, Link, Mount } from "./model.ts";
import { edgeOf, firstLinkOf, inodeOf, isReachable, mountOf } from "./queries.ts";

/** Result: the status of the directory is not shown; `Stale` asks for a new listing. */
export function loadPage(
  context: Context,
  command: Extract<Command, { kind: "loadPage" }>,
): CommandResult {
  const directory = needDirectory(context, command.directory);
  const mount = mountOf(context.state, directory.mountId);
  if (mount === undefined || !isReachable(context.state, directory.id)) {
    refuse("NotFound", `directory ${directory.id} was removed`);
  }
  if (command.listedAtIndex < Math.max(directory.removedIndex, mount.movedIndex)) {
    refuse("Stale", `the store was listed at index ${command.listedAtIndex}, before a change`);
  }
  for (const entry of command.entries) {
    if (isValidName(entry.name)) takeEntry(context, { directory, mount }, entry);
  }
  for (const { name, inode } of command.missing ?? []) {
    takeAway(context, { directory, mount }, name, inode);
  }
  if (command.last) takeEnd(context, directory, command.startedAtMs);
  return { ok: true };
}

interface Place {
  readonly directory: Inode;
  readonly mount: Mount;
}

function takeEntry(context: Context, at: Place, entry: UfsEntry): void {
  const { directory } = at;
  if (context.state.get(tombKey(directory.id, entry.name)) !== undefined) return;
  const existing = edgeIfAny(context, directory.id, entry.name);
  if (existing === undefined) {
    addEntry(context, directory, entry);
    return;
  }
  const of = inodeOf(context.state, existing.child)!;
  if (context.level < 2) {
    refresh(context, of, entry);
    return;
  }
  if (context.state.get(arrivalKey(directory.id, entry.name)) !== undefined) return;
  if (isSameKind(of, entry)) {
    // Under its further names the store has copies of its own, which look otherwise.
    const link = firstLinkOf(context.state, of.id);
    const isFirst = link?.parent === directory.id && link.name === entry.name;
    if (isFirst) refresh(context, of, entry);
  } else if (takeAway(context, at, entry.name, of.id)) {
    addEntry(context, directory, entry);
  }
}

/** Whether the inode can stand for what the store shows now: neither kind nor target of an inode ever change. */
export function isSameKind(of: Inode, entry: UfsEntry): boolean {
  return of.kind === entry.kind && (of.kind !== "symlink" || of.target === entry.target);
}

/** What the store has under a name that is new here. */
function addEntry(context: Context, directory: Inode, entry: UfsEntry): void {
  const { kind, mode, uid, gid, target, mtime, size, fingerprint } = entry;
  if (kind === "symlink" && (target === undefined || target.length > maxTargetBytes)) return;
  const isFile = kind === "file";
  const writeId = context.position as number as WriteId;
  const { mtime: modified, ctime: changed } = directory;
  const link: Link = { parent: directory.id, name: entry.name };
  const made = makeInode(
    context,
    { kind, mode, uid, gid, mountId: directory.mountId, target: isFile ? undefined : target },
    {
      loaded: false,
      mtime,
      ctime: mtime,
      atime: mtime,
      persistence: "persisted",
      persistedVersion: 1,
      link,
      ...(isFile ? { size, form: "source", source: { writeId, fingerprint, size } } : { size: 0 }),
    },
  );
  addEdge(context, made, link);
  // One that was not loaded did not change itself, it became known. Masters of before level 2 kept its mtime alone.
  if (context.level < 2) patchInode(context, directory.id, { mtime: modified });
  else if (!directory.loaded) {
    patchInode(context, directory.id, { mtime: modified, ctime: changed });
  }
}

/** A file whose object changed in the store gets the new content as its next version; a pending change here wins. */
function refresh(context: Context, of: Inode, entry: UfsEntry): void {
  if (!isRefreshable(of) || entry.kind !== "file") return;
  const { size, fingerprint, mtime } = entry;
  const source = of.source!;
  if (source.fingerprint === fingerprint) return;
  if (context.level >= 2 && saysMore(fingerprint, source.fingerprint)) {
    patchUnseen(context, of.id, { source: { ...source, fingerprint } });
    return;
  }
  patchInode(context, of.id, {
    size,
    mtime,
    ctime: context.wallTime,
    source: { writeId: context.position as number as WriteId, fingerprint, size },
    version: of.version + 1,
    persistedVersion: of.version + 1,
  });
}

/** Whether a fingerprint is that of the same content, with more to tell it by: an earlier version knew less. */
function saysMore(fingerprint: string, than: string): boolean {
  return fingerprint.startsWith(`${than}-`);
}

/** Whether the content of the inode is nothing but the store's object. */
export function isRefreshable(of: Inode): boolean {
  return (
    of.kind === "file" &&
    of.form === "source" &&
    of.persistence === "persisted" &&
    of.lease === undefined
  );
}

/** Takes a name away that still leads to `inode`, if nothing would be lost by it; whether it did. */
function takeAway(
  context: Context,
  { directory, mount }: Place,
  name: string,
  inode: InodeId,
): boolean {
  if (edgeOf(context.state, directory.id, name)?.child !== inode) return false;
  if (context.state.get(tombKey(directory.id, name)) !== undefined) return false;
  if (context.state.get(arrivalKey(directory.id, name)) !== undefined) return false;
  const of = inodeOf(context.state, inode)!;
  if (of.childCount > 0 || staysWithout(of, mount)) return false;
  const link: Link = { parent: directory.id, name };
  if (of.kind === "directory") forgetDirectory(context, of, link);
  else forgetFileLink(context, of, link);
  return true;
}

/**
 * Whether the inode keeps its name although the store does not have it; names in a directory are looked at besides. Where
 * directories are only what their objects' keys have in common, one is gone with its last object: when that was removed
 * through here, nobody meant the directory.
 */
export function staysWithout(of: Inode, { uri }: Pick<Mount, "uri">): boolean {
  if (of.mountPoint || of.persistence !== "persisted" || of.lease !== undefined) return true;
  if (of.kind === "directory") return of.removedIndex > 0 && !uri.startsWith("file:");
  return of.kind === "file" && of.form !== "source";
}

/** The directory reflects the store as of `startedAtMs`. */
function takeEnd(context: Context, { id, loaded }: Inode, startedAtMs: number | undefined): void {
  if (!loaded) {
    patchInode(context, id, { loaded: true, syncedAtMs: startedAtMs });
    context.notes.events.push({ kind: "directoryLoaded", directory: id });
  } else if (startedAtMs !== undefined) {
    patchUnseen(context, id, { syncedAtMs: startedAtMs });
  }
}
