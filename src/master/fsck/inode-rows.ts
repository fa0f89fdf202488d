/**
 * Looks at one inode after the other, with all rows whose keys begin with its id: its names if it has several, its extents,
 * its containers, the edges of a directory. What leads to other inodes becomes facts. Pure.
 */
import {
  type InodeId,
  indexOfPosition,
  rootInodeId,
  type WorkerId,
  type WriteId,
} from "../../lib/ids.ts";
import { decodeExtent } from "../state/extent-rows.ts";
import {
  clearingOfKey,
  firstIdOf,
  generationOfExtent,
  inodeKey,
  nameOfEdge,
  wholeInode,
  writeIdOfContainer,
} from "../state/keys.ts";
import * as model from "../state/model.ts";
import { type CheckContext, facts, recordOf } from "./check-context.ts";
import { UsageRows } from "./usage-rows.ts";
import { XattrRows } from "./xattr-rows.ts";
import type { DirectoryTree } from "./directory-tree.ts";
import type { CheckName } from "../../rpc/fsck-items.ts";

/** In the order in which the rows of one inode come. */
export const inodeTables = [
  "inode/",
  "parent/",
  "reading/",
  "recall/",
  "clearing/",
  "compact/",
  "extent/",
  "extents/",
  "container/",
  "edge/",
  "xattr/",
  "policy/",
] as const;

/** Whether anybody can give the bytes of a container with these keepers, of which `live` are not lost. */
export type Holders = (
  of: { readonly inode: InodeId; readonly writeId: WriteId },
  live: readonly WorkerId[],
) => boolean;

export class InodeRows {
  readonly #context: CheckContext;
  readonly #tree: DirectoryTree;
  readonly #holders: Holders;
  #id = 0 as InodeId;
  #inode: model.Inode | undefined;
  #links: model.Links | undefined;
  #extentCount = 0;
  #contentEnd = 0;
  /** From where on the extents of a generation wait to be taken away. */
  readonly #clearings = new Map<number, number>();
  #isRecalled = false;
  #isToCompact = false;
  #readings: model.Readings = [];
  /** Of the extents, by write: their number, and how far they reach in the container. */
  readonly #uses = new Map<WriteId, { count: number; reach: number }>();
  #edgeCount = 0;
  #directoryCount = 0;
  readonly #xattrs: XattrRows;
  readonly #usage: UsageRows;
  /** Words of rows whose inode is missing: one finding for each. */
  readonly #ownerless = new Set<string>();

  #inodeCount = 0;
  #greatestId = 0;

  constructor(
    context: CheckContext,
    tree: DirectoryTree,
    holders: Holders = (_, live) => live.length > 0,
  ) {
    this.#context = context;
    this.#tree = tree;
    this.#holders = holders;
    this.#xattrs = new XattrRows(context);
    this.#usage = new UsageRows(context);
  }

  get count(): number {
    return this.#inodeCount;
  }

  get greatestId(): number {
    return this.#greatestId;
  }

  /** After all rows of all inodes. */
  counts(): void {
    this.#usage.counts();
  }

  /** The next row, by the place of its table in `inodeTables`. */
  row(table: number, key: string, value: Uint8Array): void {
    const id = firstIdOf(key) as InodeId;
    if (id !== this.#id) {
      this.end();
      this.#id = id;
    }
    const word = inodeTables[table]!;
    if (word === "inode/") this.#begin(key, value);
    else if (this.#inode === undefined) this.#ownerless.add(word);
    else this.#rowOf(this.#inode, word, key, value);
  }

  #rowOf(
    of: model.Inode,
    word: Exclude<(typeof inodeTables)[number], "inode/">,
    key: string,
    value: Uint8Array,
  ): void {
    switch (word) {
      case "parent/":
        this.#links = recordOf(this.#context, model.links, key, value);
        break;
      case "reading/":
        this.#readings = recordOf(this.#context, model.readings, key, value) ?? [];
        break;
      case "recall/":
        this.#isRecalled = true;
        break;
      case "compact/":
        this.#isToCompact = true;
        break;
      case "clearing/": {
        const clearing = recordOf(this.#context, model.clearing, key, value);
        if (clearing !== undefined) {
          this.#clearings.set(clearingOfKey(key).generation, clearing.from);
        }
        break;
      }
      case "extent/":
      case "extents/":
        this.#extent(of, key, value);
        break;
      case "container/":
        this.#container(of, key, value);
        break;
      case "edge/":
        this.#edge(of, key, value);
        break;
      case "xattr/":
        this.#xattrs.row(key, value);
        break;
      case "policy/":
        this.#usage.policy(key, value);
        break;
    }
  }

  /** After the last row of an inode. */
  end(): void {
    const of = this.#inode;
    for (const table of this.#ownerless) {
      this.#report(
        "row",
        `${table} rows of inode ${this.#id}`,
        "are there",
        "an inode that has them",
      );
    }
    if (of !== undefined) {
      this.#names(of);
      this.#content(of);
      this.#others(of);
      for (const [is, wanted] of this.#xattrs.end(of)) {
        this.#report("attributes", `inode ${of.id}`, is, wanted);
      }
      const parent = (of.link ?? this.#links?.[0])?.parent;
      for (const [check, is, wanted] of this.#usage.end(of, parent)) {
        this.#report(check, `inode ${of.id}`, is, wanted);
      }
    }
    this.#inode = this.#links = undefined;
    this.#extentCount = this.#contentEnd = this.#edgeCount = this.#directoryCount = 0;
    this.#uses.clear();
    this.#clearings.clear();
    this.#isRecalled = this.#isToCompact = false;
    this.#readings = [];
    this.#ownerless.clear();
  }

  #begin(key: string, value: Uint8Array): void {
    const of = recordOf(this.#context, model.inode, key, value);
    if (of === undefined) return;
    if (inodeKey(of.id) !== key) {
      this.#report("row", `inode ${this.#id}`, `says that it is inode ${of.id}`, "its own id");
      return;
    }
    this.#inode = of;
    if (this.#context.mode !== "check") return;
    this.#inodeCount++;
    this.#greatestId = of.id;
  }

  #extent(of: model.Inode, key: string, value: Uint8Array): void {
    if (recordOf(this.#context, model.storedExtent, key, value) === undefined) return;
    const extent = decodeExtent([key, value]);
    const { fileOffset, length, writeId } = extent;
    const { blockSizeBytes } = this.#context.tables;
    const subject = `extent at ${fileOffset} of inode ${of.id}`;
    const end = fileOffset + length;
    const generation = generationOfExtent(key);
    const isPresent = generation === (of.cleared?.generation ?? 0);
    if (isPresent) this.#extentCount++;
    // What waits to be taken away names its container, and counts for nothing else.
    const counts = isPresent && fileOffset < (of.cleared?.tailFrom ?? Number.MAX_SAFE_INTEGER);
    if (!counts && fileOffset < (this.#clearings.get(generation) ?? Number.MAX_SAFE_INTEGER)) {
      const wanted = "a row that has it taken away";
      this.#report("content", subject, `is of generation ${generation}, and leaks`, wanted);
    }
    if (counts && fileOffset < this.#contentEnd) {
      this.#report(
        "content",
        subject,
        "begins before the end of the one before",
        `${this.#contentEnd}`,
      );
    }
    if (counts) this.#contentEnd = Math.max(this.#contentEnd, end);
    if (length === 0 || extent.offset + length > blockSizeBytes) {
      const is = `has ${length} bytes from ${extent.offset} of a block`;
      this.#report("content", subject, is, `1 to ${blockSizeBytes} bytes of one block`);
    }
    const begin = extent.blockIndex * blockSizeBytes + extent.offset;
    if (writeId !== of.source?.writeId) {
      const use = this.#uses.get(writeId);
      const reach = begin + length;
      if (use === undefined) this.#uses.set(writeId, { count: 1, reach });
      else {
        use.count++;
        use.reach = Math.max(use.reach, reach);
      }
    } else if (begin !== fileOffset || end > of.source.size) {
      const is = `names bytes ${begin} to ${begin + length} of the store's object of ${of.source.size}`;
      this.#report("content", subject, is, "bytes that lie where they lie in the file");
    }
  }

  #container(of: model.Inode, key: string, value: Uint8Array): void {
    const container = recordOf(this.#context, model.container, key, value);
    if (container === undefined) return;
    const writeId = writeIdOfContainer(key);
    const { relation, tables, index, mode } = this.#context;
    const subject = `container ${of.id}.${writeId}`;
    const use = this.#uses.get(writeId);
    this.#uses.delete(writeId);
    const isUnused = container.references === 0 && of.lease?.writeId !== writeId;
    if (isUnused && this.#leaks(writeId)) {
      this.#report("garbage", subject, "is used by nothing and leaks", "a garbage row");
    }
    if (mode === "garbage") return;
    if (container.references !== (use?.count ?? 0)) {
      const is = `says that ${container.references} extents name it`;
      this.#report("content", subject, is, `${use?.count ?? 0}`);
    }
    if (use !== undefined && use.reach > container.size) {
      this.#report(
        "content",
        subject,
        `has ${container.size} bytes`,
        `${use.reach}, which extents name`,
      );
    }
    if (indexOfPosition(writeId) > index) {
      this.#report(
        "content",
        subject,
        "is of a write that has not been applied",
        `index ${index} or less`,
      );
    }
    for (const worker of container.keepers) {
      relation.add(facts.kept(worker, of.id, writeId), -1);
      if (tables.workers.has(worker)) continue;
      this.#report("keepers", subject, `is kept by worker ${worker}`, "a registered worker");
    }
    const live = container.keepers.filter((keeper) => tables.live.has(keeper));
    if (container.references > 0 && !this.#holders({ inode: of.id, writeId }, live)) {
      const is = "is named by the file, and no live worker has it";
      this.#report("lost", subject, is, "a copy at one of its keepers");
    }
  }

  #edge(of: model.Inode, key: string, value: Uint8Array): void {
    const edge = recordOf(this.#context, model.edge, key, value);
    if (edge === undefined) return;
    const name = nameOfEdge(key);
    if (of.kind !== "directory" && this.#edgeCount === 0) {
      this.#report("names", `inode ${of.id}`, `is a ${of.kind} and has names below`, "a directory");
    }
    this.#edgeCount++;
    if (edge.kind === "directory") this.#directoryCount++;
    const { relation, tables } = this.#context;
    const isElsewhere = of.id === model.trashInodeId || tables.mountRoots.has(edge.child);
    const mount = isElsewhere ? 0 : of.mountId;
    relation.add(facts.name(edge.child, of.id, edge.kind, mount, name), 1);
  }

  #names(of: model.Inode): void {
    if (this.#context.mode === "garbage") return;
    const links = of.link === undefined ? (this.#links ?? []) : [of.link];
    const subject = `inode ${of.id}`;
    if (of.link !== undefined && this.#links !== undefined) {
      this.#report("names", subject, "has its names in two places", "one");
    }
    const isElsewhere = this.#context.tables.mountRoots.has(of.id);
    for (const { parent, name } of links) {
      const mount = isElsewhere || parent === model.trashInodeId ? 0 : of.mountId;
      this.#context.relation.add(facts.name(of.id, parent, of.kind, mount, name), -1);
    }
    if (of.kind === "directory") {
      this.#directory(of, links);
    } else if (of.nlink !== links.length) {
      this.#report("links", subject, `has nlink ${of.nlink}`, `${links.length}, its names`);
    }
  }

  #directory(of: model.Inode, links: model.Links): void {
    const subject = `directory ${of.id}`;
    const { covered } = this.#context.tables;
    const isRoot = of.id === rootInodeId || of.id === model.trashInodeId || covered.has(of.id);
    // Without a name it was removed, and somebody holds it.
    const isRemoved = !isRoot && links.length === 0 && of.nlink === 0;
    const nlink = isRemoved ? 0 : 2 + this.#directoryCount;
    if (of.nlink !== nlink) this.#report("links", subject, `has nlink ${of.nlink}`, `${nlink}`);
    if (of.childCount !== this.#edgeCount) {
      this.#report("links", subject, `says ${of.childCount} names`, `${this.#edgeCount}`);
    }
    const wanted = isRoot || isRemoved ? 0 : 1;
    if (links.length !== wanted) {
      this.#report("names", subject, `has ${links.length} names`, `${wanted}`);
    }
    if (this.#context.mode !== "check") return;
    this.#tree.add(of.id, wanted === 0 ? 0 : (links[0]?.parent ?? of.id));
  }

  #content(of: model.Inode): void {
    if (this.#context.mode === "garbage") return;
    const subject = `inode ${of.id}`;
    for (const writeId of this.#uses.keys()) {
      this.#report(
        "content",
        subject,
        `has extents of container ${writeId}`,
        "a record of that container",
      );
    }
    if (of.extentCount !== this.#extentCount) {
      this.#report("content", subject, `says ${of.extentCount} extents`, `${this.#extentCount}`);
    }
    const pending = of.cleared?.pending ?? 0;
    if (pending !== this.#clearings.size) {
      const is = `says that extents of ${pending} generations are taken away`;
      this.#report("content", subject, is, `${this.#clearings.size}`);
    }
    const isCut = this.#clearings.has(of.cleared?.generation ?? 0);
    if (isCut !== (of.cleared?.tailFrom !== undefined)) {
      const is = isCut ? "has extents taken away that count" : "has a tail that is not taken away";
      this.#report("content", subject, is, "what its inode says of the tail");
    }
    this.#compaction(of);
    const shown = of.source?.shown ?? 0;
    if (shown > of.size || shown > (of.source?.size ?? 0)) {
      const is = `shows ${shown} bytes of a store's object of ${of.source?.size ?? 0}`;
      this.#report("content", subject, is, "no more than there are, and than the file has");
    }
    if (this.#contentEnd > of.size) {
      const is = `has ${of.size} bytes, and extents up to ${this.#contentEnd}`;
      this.#report("content", subject, is, "extents within its size");
    }
    if (of.form !== "source") return;
    if (this.#extentCount > 0) {
      this.#report("content", subject, "is a store's object as it is, and has extents", "none");
    }
    if (of.source?.size !== of.size) {
      const is = `has ${of.size} bytes of a store's object of ${of.source?.size ?? "none"}`;
      this.#report("content", subject, is, "all of the object");
    }
  }

  #compaction(of: model.Inode): void {
    const { isWanted = false, running } = of.compaction ?? {};
    const subject = `inode ${of.id}`;
    if (this.#isToCompact !== isWanted) {
      const is = isWanted ? "wants compaction without a row for it" : "has a row of no compaction";
      this.#report("content", subject, is, "both or none");
    }
    if (running === undefined) return;
    const { from, to, writeId } = running;
    const end = Math.min(of.size, of.cleared?.tailFrom ?? of.size);
    if (!isWanted || of.form !== "extents" || from >= to || to > end) {
      const is = `has bytes ${from} to ${to} put together, of ${end} in extents`;
      this.#report("content", subject, is, "a range that it has, where that is wanted");
    }
    if (indexOfPosition(writeId) > this.#context.index) {
      this.#report("content", subject, `is compacted by write ${writeId}`, "one that was applied");
    }
  }

  #others(of: model.Inode): void {
    const { relation, known, tables, mode } = this.#context;
    const subject = `inode ${of.id}`;
    const isUnused = of.nlink === 0 && of.holds === 0 && of.lease === undefined;
    if (isUnused && this.#leaks(wholeInode)) {
      this.#report("garbage", subject, "has no name, hold or lease, and leaks", "a garbage row");
    }
    if (mode === "garbage") return;
    const readers = new Set(this.#readings.map(({ session }) => session)).size;
    if (readers > of.holds || this.#readings.some(({ version }) => version > of.version)) {
      const is = `has version ${of.version} and ${of.holds} holds, and ${readers} sessions read versions of it`;
      this.#report("holds", subject, is, "a hold for each, and no later version");
    }
    if (this.#isRecalled !== (of.lease?.recalledAtMs !== undefined)) {
      const is = this.#isRecalled
        ? "has a recall of a lease that does not say so"
        : "has a recalled lease without a row for it";
      this.#report("leases", subject, is, "both or none");
    }
    if (of.lease !== undefined) relation.add(facts.lease(of.lease.session, of.id), -1);
    if (of.holds > 0) relation.add(facts.hold(of.id), -of.holds);
    if (of.mountPoint !== tables.mountRoots.has(of.id)) {
      const is = of.mountPoint ? "says that it is a mount's root" : "is a mount's root unknowingly";
      this.#report("mounts", subject, is, "what the mount table says");
    }
    if (of.persistOp !== undefined && of.nlink > 0 && !known.has(facts.op(of.persistOp, of.id))) {
      this.#report("effects", subject, `waits for operation ${of.persistOp}`, "that it is queued");
    }
    if (of.removeOp !== undefined && !known.has(facts.op(of.removeOp, of.id))) {
      const is = `leaves its object to operation ${of.removeOp}`;
      this.#report("effects", subject, is, "that it is queued");
    }
    if (of.aside === true && of.nlink > 0) {
      this.#report("effects", subject, "has names, and its object lies aside", "it under a name");
    }
    if (of.lineageId !== undefined && !known.has(facts.lineage(of.lineageId))) {
      this.#report(
        "lineages",
        subject,
        `is made by lineage ${of.lineageId}`,
        "that it is recorded",
      );
    }
  }

  /** Whether no garbage row is there for what is unused; false in the readings that have the rows of others. */
  #leaks(writeId: WriteId): boolean {
    const { part, parts, known } = this.#context;
    return this.#id % parts === part && !known.has(facts.garbage(this.#id, writeId));
  }

  #report(check: CheckName, subject: string, is: string, wanted: string): void {
    if (check !== "garbage" && this.#context.mode === "garbage") return;
    this.#context.report({ check, inode: this.#id, subject, is, wanted });
  }
}
