/** What the leader has to load from stores before it proposes a command. */
import type { InodeId } from "../../lib/ids.ts";
import type { Command } from "../../rpc/commands.ts";
import type { PointReader } from "../store/types.ts";
import { edgeOf, inodeOf, type Unknown } from "./queries.ts";

/** A name that decides a command; `itself`: so do the names in the directory that has it. */
interface Decisive {
  readonly parent: InodeId;
  readonly name: string;
  readonly itself: boolean;
}

function decisiveNames(of: Command): readonly Decisive[] {
  if (of.kind === "create" || of.kind === "link" || of.kind === "unlink") {
    return [{ ...of, itself: false }];
  }
  if (of.kind === "deleteTree" || of.kind === "unmount") return [{ ...of, itself: false }];
  if (of.kind === "rmdir" || of.kind === "mount") return [{ ...of, itself: true }];
  if (of.kind === "recordLineage") return of.outputs.map((each) => ({ ...each, itself: false }));
  if (of.kind !== "rename") return [];
  return [
    { parent: of.sourceParent, name: of.sourceName, itself: false },
    // What is exchanged keeps its names, few or many.
    { parent: of.targetParent, name: of.targetName, itself: of.exchange !== true },
  ];
}

/**
 * The directories whose names must be loaded before `command` is proposed: otherwise its result is `Stale`, since what
 * the store has there could decide it.
 */
export function directoriesToLoad(reader: PointReader, command: Command): readonly InodeId[] {
  if (command.kind === "create") {
    // What makes the load: nearly always in a directory that is loaded.
    return isUnloaded(reader, command.parent) && !hasName(reader, command)
      ? [command.parent]
      : none;
  }
  const wanted = new Set<InodeId>();
  for (const { parent, name, itself } of decisiveNames(command)) {
    const isOpen = isUnloaded(reader, parent);
    if (!isOpen && !itself) continue;
    const found = edgeOf(reader, parent, name);
    if (found === undefined && isOpen) wanted.add(parent);
    else if (found !== undefined && itself && isUnloaded(reader, found.child)) {
      wanted.add(found.child);
    }
  }
  return [...wanted];
}

const none: readonly InodeId[] = [];

/** Names that decide `command` and that their directories may have in the store: one of them may be found alone. */
export function unknownNames(reader: PointReader, command: Command): readonly Unknown[] {
  return decisiveNames(command)
    .filter((of) => isUnloaded(reader, of.parent) && !hasName(reader, of))
    .map(({ parent, name }) => ({ directory: parent, name }));
}

function isUnloaded(reader: PointReader, directory: InodeId): boolean {
  const found = inodeOf(reader, directory);
  return found?.kind === "directory" && !found.loaded;
}

function hasName(reader: PointReader, of: { parent: InodeId; name: string }): boolean {
  return edgeOf(reader, of.parent, of.name) !== undefined;
}
