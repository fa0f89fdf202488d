/**
 * What must be loaded before an entry is applied: apply is synchronous and scans only these ranges.
 *
 * Invariants
 * 1. Apply scans nothing else. Ranges follow from ids in the commands alone, never from names: what a name stands for may
 *    change within the entry. The extents of an inode without any (most writes: new files) are not loaded for the first
 *    command on it; its count is 0 then in apply too, which does not scan.
 * 2. The first command on a thing loads the part that it looks at. That part is as it was before the entry: what a second
 *    command of the entry looks at is loaded whole.
 */
import type { InodeId, SessionId } from "../../lib/ids.ts";
import type { Command, EntryPayload } from "../../rpc/commands.ts";
import type { PointReader, ScanRange } from "../store/types.ts";
import { clearingStep } from "./clearing.ts";
import { rangesOfCompaction } from "./compaction.ts";
import { type ContentChange, isClearedAtOnce, rangesOfChange } from "./extent-rows.ts";
import {
  allExtents,
  answersRange,
  clearingKey,
  containerRange,
  extentRange,
  inodeRange,
  leaseRange,
  parseGarbageKey,
  resultRange,
  retainedRange,
  xattrRange,
  wholeInode,
} from "./keys.ts";
import { clearing, type Inode } from "./model.ts";
import { clusterOf, inodeOf, levelOfState, ufsOpOf } from "./queries.ts";
import { containersToReap } from "./reap-commands.ts";
import { closeStepLimit } from "./session-commands.ts";

/** Commands that scan. */
const scanning: ReadonlySet<Command["kind"]> = new Set([
  "commit",
  "truncate",
  "commitAttempt",
  "ufsDone",
  "closeSession",
  "reapGarbage",
  "clearExtents",
  "compactContent",
  "countUsage",
]);
const none: readonly ScanRange[] = [];

/** Ranges to `load` before `applyEntry` of this entry; the state must stand just before it. */
export function rangesOf(entry: EntryPayload, reader: PointReader): readonly ScanRange[] {
  if (!entry.requests.some(({ commands }) => commands.some(({ kind }) => scanning.has(kind)))) {
    return none;
  }
  const commands = entry.requests.flatMap((request) => request.commands);
  const wanted = new Wanted(reader, {
    blockSizeBytes: blockSizeOf(commands, reader),
    areParts: levelOfState(reader) >= 2,
  });
  for (const command of commands) wanted.add(command);
  return wanted.ranges;
}

/** The ranges of the commands of one entry. */
class Wanted {
  readonly ranges: ScanRange[] = [];
  readonly #reader: PointReader;
  readonly #blockSizeBytes: number;
  /** Below level 2 commands look at more than a part, and the entry may raise the level on the way. */
  readonly #areParts: boolean;
  readonly #inodes = new Set<InodeId>();
  /** Get attributes by this entry. */
  readonly #marked = new Set<InodeId>();
  readonly #sessions = new Set<SessionId>();

  constructor(reader: PointReader, of: { blockSizeBytes: number; areParts: boolean }) {
    this.#reader = reader;
    this.#blockSizeBytes = of.blockSizeBytes;
    this.#areParts = of.areParts;
  }

  add(command: Command): void {
    if (command.kind === "commit") {
      this.#change(command.inode, { added: command.extents, size: command.size });
    } else if (command.kind === "truncate") {
      this.#change(command.inode, { added: [], size: command.size });
    } else if (command.kind === "setXattr") {
      this.#marked.add(command.inode);
    } else if (command.kind === "commitAttempt") {
      for (const { inode } of command.outputs) this.#extents(inode, rangesOfAll);
    } else if (command.kind === "ufsDone") {
      const action = ufsOpOf(this.#reader, command.op)?.action;
      if (action?.kind === "persist") this.#extents(action.inode, rangesOfPersisted);
    } else if (command.kind === "closeSession") {
      this.#session(command.session);
    } else if (command.kind === "countUsage") {
      if (command.from < command.to) this.ranges.push(inodeRange(command.from, command.to));
    } else if (command.kind === "reapGarbage") {
      for (const key of command.keys) {
        const garbage = parseGarbageKey(key);
        if (garbage?.writeId === wholeInode) this.#inode(garbage.inode);
      }
    } else if (command.kind === "clearExtents") {
      this.#clearing(command);
    } else if (command.kind === "compactContent") {
      const { inode, writeId } = command;
      this.#extents(inode, (of) => rangesOfCompaction(of, writeId, this.#blockSizeBytes));
    }
  }

  #change(inode: InodeId, change: ContentChange): void {
    this.#extents(inode, (of) => rangesOfChange(of, change, this.#blockSizeBytes));
  }

  #clearing({ inode, generation }: { inode: InodeId; generation: number }): void {
    const from = this.#reader.read(clearing, clearingKey(inode, generation))?.from;
    this.#extents(inode, () =>
      from === undefined ? [] : [clearingStep({ inode, generation, from })],
    );
  }

  #extents(id: InodeId, partOf: (of: Inode) => readonly ScanRange[]): void {
    const of = inodeOf(this.#reader, id);
    if (this.#inodes.has(id)) this.ranges.push(...allExtents(id));
    else if (of !== undefined && (of.extentCount > 0 || of.cleared !== undefined)) {
      this.ranges.push(...(this.#areParts ? partOf(of) : [extentRange(of)]));
    }
    this.#inodes.add(id);
  }

  #inode(id: InodeId): void {
    const isWhole = !this.#areParts || this.#inodes.has(id);
    this.ranges.push(isWhole ? containerRange(id) : containersToReap(id, false));
    this.#extents(id, rangesOfAll);
    const hasXattrs = inodeOf(this.#reader, id)?.xattrCount !== undefined;
    if (hasXattrs || this.#marked.has(id)) this.ranges.push(xattrRange(id));
  }

  #session(id: SessionId): void {
    const limit = this.#sessions.has(id) ? undefined : closeStepLimit;
    this.#sessions.add(id);
    for (const range of [leaseRange, retainedRange, answersRange, resultRange]) {
      this.ranges.push(limit === undefined ? range(id) : { ...range(id), limit });
    }
  }
}

/** All extents, where a command looks at all: else they are taken away in steps. */
function rangesOfAll(of: Inode): readonly ScanRange[] {
  return isClearedAtOnce(of) ? [extentRange(of)] : [];
}

/** As above, and those that name a source that is replaced. */
function rangesOfPersisted(of: Inode): readonly ScanRange[] {
  const areRenamed = of.source !== undefined && of.source.shown === undefined;
  return areRenamed ? [extentRange(of)] : rangesOfAll(of);
}

function blockSizeOf(commands: readonly Command[], reader: PointReader): number {
  const known = clusterOf(reader);
  if (known !== undefined) return known.blockSizeBytes;
  const first = commands.find((command) => command.kind === "bootstrap");
  return first?.blockSizeBytes ?? 1;
}
