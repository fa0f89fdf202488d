/**
 * Names that a store has, as workers listed them. A listing is older than the state that it meets: what was changed here
 * since wins, and a listing that may show something as it was before our own side effect is refused.
 */
import type { WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult, UfsEntry } from "../../rpc/commands.ts";
import { type Context, makeInode, needDirectory, patchInode, refuse } from "./context.ts";
import { tombKey } from "./keys.ts";
import { addEdge, edgeIfAny, isValidName, maxTargetBytes } from "./links.ts";
import type { Inode, Link } from "./model.ts";
import { inodeOf, isReachable, mountOf } from "./queries.ts";

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
    if (!isValidName(entry.name)) continue;
    if (context.state.get(tombKey(directory.id, entry.name)) !== undefined) continue;
    const existing = edgeIfAny(context, directory.id, entry.name);
    if (existing === undefined) addEntry(context, directory, entry);
    else refresh(context, inodeOf(context.state, existing.child)!, entry);
  }
  if (command.last && !directory.loaded) {
    patchInode(context, directory.id, { loaded: true });
    context.notes.events.push({ kind: "directoryLoaded", directory: directory.id });
  }
  return { ok: true };
}

/** What the store has under a name that is new here. */
function addEntry(context: Context, directory: Inode, entry: UfsEntry): void {
  const { kind, mode, uid, gid, target, mtime, size, fingerprint } = entry;
  if (kind === "symlink" && (target === undefined || target.length > maxTargetBytes)) return;
  const isFile = kind === "file";
  const writeId = context.position as number as WriteId;
  const { mtime: directoryTime } = directory;
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
  // The directory itself did not change, it became known.
  patchInode(context, directory.id, { mtime: directoryTime });
}

/** A file whose object changed in the store gets the new content as its next version; a pending change here wins. */
function refresh(context: Context, of: Inode, entry: UfsEntry): void {
  if (of.kind !== "file" || entry.kind !== "file" || of.form !== "source") return;
  if (of.persistence !== "persisted" || of.lease !== undefined) return;
  const { size, fingerprint, mtime } = entry;
  if (of.source!.fingerprint === fingerprint) return;
  patchInode(context, of.id, {
    size,
    mtime,
    ctime: context.wallTime,
    source: { writeId: context.position as number as WriteId, fingerprint, size },
    version: of.version + 1,
    persistedVersion: of.version + 1,
  });
}
