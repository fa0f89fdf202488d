/** Bugs of content: extents that are cut, joined and taken away, leases that are recalled, versions that are read. */
import type { Mutant } from "./mutant.ts";

const content = [
  "test/master/state/content.test.ts test/master/state/content-cost.test.ts test/master/state/content-model.test.ts",
];
const compaction = ["test/master/state/compaction.test.ts"];
const compactor = ["test/master/services/compactor.test.ts"];
const writer = ["test/client/inode-writer.test.ts"];

export const contentMutants: readonly Mutant[] = [
  {
    name: "adds extents where others wait to be taken away",
    file: "src/master/state/content.ts",
    find: "  needOutsideTail(of, change.added);\n",
    replace: "",
    suites: content,
  },
  {
    name: "joins extents of different blocks",
    file: "src/master/state/extents.ts",
    find: "    before.blockIndex === extent.blockIndex &&\n",
    replace: "",
    suites: content,
  },
  {
    name: "passes over the extent that reaches into a range",
    file: "src/master/state/extent-rows.ts",
    find: "Math.max(0, from - blockSizeBytes))",
    replace: "from)",
    suites: content,
  },
  {
    name: "takes extents away in the generation that counts",
    file: "src/master/state/extent-rows.ts",
    find: "  return of.extentCount <= clearStepLimit && of.cleared?.tailFrom === undefined;",
    replace: "  return of.extentCount <= clearStepLimit;",
    suites: content,
  },
  {
    name: "lets what was cut off of an object come back when the file grows",
    file: "src/master/state/content.ts",
    find: "{ ...source, shown: Math.min(shown, now.size) };",
    replace: "{ ...source, shown };",
    suites: content,
  },
  {
    name: "forgets that somebody waits for a lease when the request is undone",
    file: "src/master/state/machine.ts",
    find: "      at.notes.undo(mark);\n      at.usage.undo(charged);\n      afterwards?.(context);\n      const detail",
    replace: "      at.notes.undo(mark);\n      at.usage.undo(charged);\n      const detail",
    suites: content,
  },
  {
    name: "takes a lease away that nobody waits for",
    file: "src/master/state/leases.ts",
    find: "if (lease?.writeId === command.writeId && lease.recalledAtMs !== undefined) {",
    replace: "if (lease?.writeId === command.writeId) {",
    suites: content,
  },
  {
    name: "reclaims what a version needs that is read",
    file: "src/master/state/containers.ts",
    find: "  if (owner !== undefined && isRead(context, owner, of)) putGarbage(context, inode, writeId);\n  else dropContainer(context, inode, writeId);",
    replace: "  dropContainer(context, inode, writeId);",
    suites: content,
  },
  {
    name: "keeps every version behind one that is read",
    file: "src/master/state/containers.ts",
    find: "version >= since && version < end,",
    replace: "version < end,",
    suites: content,
  },
  {
    name: "keeps a lease that another session waits for",
    file: "src/client/inode-writer.ts",
    find: "    if (this.#lease === undefined || this.#failure !== undefined) return;\n    void this.#exclusively",
    replace: "    if (this.#lease !== undefined) return;\n    void this.#exclusively",
    suites: writer,
  },
  {
    name: "puts what a worker has read over what was written since",
    file: "src/master/state/compaction.ts",
    find: "  const after = isHit ? withoutRunning(known) : known;",
    replace: "  const after = known;",
    suites: compaction,
  },
  {
    name: "takes a container for nobody's while it is put together",
    file: "src/master/state/queries.ts",
    find: '  if (owner.compaction?.running?.writeId === of.writeId) return "writing";\n',
    replace: "",
    suites: compaction,
  },
  {
    name: "asks for compaction of what cannot be compacted again and again",
    file: "src/master/state/compaction.ts",
    find: "Math.max(fewExtents, 2 * extentCount)",
    replace: "fewExtents",
    suites: compaction,
  },
  {
    name: "leaves the row of a file that goes while it is to be compacted",
    file: "src/master/state/reap-commands.ts",
    find: "    if (of.compaction?.isWanted === true) context.state.delete(compactKey(of.id));\n",
    replace: "",
    suites: compaction,
  },
  {
    name: "lets the rest of a commit follow any version",
    file: "src/master/state/content-commands.ts",
    find: "part?.of === command.baseVersion && part.is === of.version",
    replace: "part !== undefined && part.is === of.version",
    suites: compaction,
  },
  {
    name: "loses a part of a commit over very many extents",
    file: "src/master/state/content.ts",
    find: "      const until = Math.max(next.fileOffset, offsetOfExtent(range.from));",
    replace: "      const until = next.fileOffset + 1;",
    suites: content,
  },
  {
    name: "puts bytes in the place of others that fewer workers keep",
    file: "src/master/services/compactor.ts",
    find: "keepers.length < chain.length || ",
    replace: "",
    suites: compactor,
  },
];
