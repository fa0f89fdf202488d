/**
 * What must be loaded before an entry is applied: apply is synchronous and scans only these ranges.
 *
 * Invariant: apply scans nothing else. Ranges follow from ids in the commands alone, never from names: what a name stands
 * for may change within the entry. The extents of an inode without any (most writes: new files) are not loaded for the
 * first command on it; its count is 0 then in apply too, which does not scan.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Command, EntryPayload } from "../../rpc/commands.ts";
import type { KeyRange, PointReader } from "../store/types.ts";
import { commitBegin, extentsFrom } from "./content.ts";
import {
  answersRange,
  containerRange,
  extentRange,
  leaseRange,
  parseGarbageKey,
  resultRange,
  retainedRange,
  xattrRange,
} from "./keys.ts";
import { clusterOf, inodeOf, ufsOpOf } from "./queries.ts";

/** Commands that scan. */
const scanning: ReadonlySet<Command["kind"]> = new Set([
  "commit",
  "truncate",
  "commitAttempt",
  "ufsDone",
  "closeSession",
  "reapGarbage",
]);
const none: readonly KeyRange[] = [];

/** Ranges to `load` before `applyEntry` of this entry; the state must stand just before it. */
export function rangesOf(entry: EntryPayload, reader: PointReader): readonly KeyRange[] {
  if (!entry.requests.some(({ commands }) => commands.some(({ kind }) => scanning.has(kind)))) {
    return none;
  }
  const ranges: KeyRange[] = [];
  const touched = new Set<InodeId>();
  /** Get attributes by this entry. */
  const marked = new Set<InodeId>();
  const commands = entry.requests.flatMap((request) => request.commands);
  const blockSizeBytes = blockSizeOf(commands, reader);
  const touch = (id: InodeId, begin: number) => {
    if (touched.has(id) || (inodeOf(reader, id)?.extentCount ?? 0) > 0) {
      ranges.push(extentsFrom(id, begin, blockSizeBytes));
    }
    touched.add(id);
  };
  for (const command of commands) {
    if (command.kind === "setXattr") marked.add(command.inode);
    else if (command.kind === "commit") touch(command.inode, commitBegin(command));
    else if (command.kind === "truncate") touch(command.inode, command.size);
    else if (command.kind === "commitAttempt") {
      for (const output of command.outputs) touch(output.inode, 0);
    } else if (command.kind === "ufsDone") {
      const action = ufsOpOf(reader, command.op)?.action;
      if (action?.kind === "persist") touch(action.inode, 0);
    } else if (command.kind === "closeSession") {
      const { session } = command;
      ranges.push(leaseRange(session), retainedRange(session));
      ranges.push(answersRange(session), resultRange(session));
    } else if (command.kind === "reapGarbage") {
      for (const key of command.keys) {
        const garbage = parseGarbageKey(key);
        if (garbage === undefined) continue;
        touched.add(garbage.inode);
        ranges.push(extentRange(garbage.inode), containerRange(garbage.inode));
        if (marked.has(garbage.inode) || inodeOf(reader, garbage.inode)?.xattrCount !== undefined) {
          ranges.push(xattrRange(garbage.inode));
        }
      }
    }
  }
  return ranges;
}

function blockSizeOf(commands: readonly Command[], reader: PointReader): number {
  const known = clusterOf(reader);
  if (known !== undefined) return known.blockSizeBytes;
  const first = commands.find((command) => command.kind === "bootstrap");
  return first?.blockSizeBytes ?? 1;
}
