/** What the parts of a check share. Pure. */
import type { InodeId, MountId, SessionId, TreeOpId, WorkerId, WriteId } from "../../lib/ids.ts";
import { decode, type Schema } from "../../lib/schema.ts";
import type { Usage } from "../../rpc/namespace.ts";
import type { Mount, Tree } from "../state/model.ts";
import type { FactSet } from "./fact-set.ts";
import type { Found } from "./finding.ts";
import type { Relation } from "./relation.ts";

/** What the small tables say: read first, and held. */
export interface SmallTables {
  blockSizeBytes: number;
  readonly mounts: Map<MountId, Mount>;
  /** Roots of mounts, and the directories that they cover. */
  readonly mountRoots: Set<InodeId>;
  readonly covered: Set<InodeId>;
  readonly workers: Set<WorkerId>;
  /** Those of them that are not lost. */
  readonly live: Set<WorkerId>;
  /** Ids of the operations on trees that are remembered, as their list has them. */
  treeOps: readonly TreeOpId[];
  /** Files that are on their way between stores, of each operation on a tree. */
  readonly filesOnTheWay: Map<TreeOpId, number>;
  tree: Tree | undefined;
}

export interface CheckContext {
  /** Log index that the state is of. */
  readonly index: number;
  readonly tables: SmallTables;
  /** What is written in two places. Left is the place that is looked things up in, right the record that it follows from. */
  readonly relation: Relation;
  /** Facts that others need to be there. */
  known: FactSet;
  /** Garbage of so many inodes in turn fits into `known` at once: that of inodes with `id % parts === part`. */
  parts: number;
  part: number;
  /** `check`: the first reading of the inodes; `garbage`: one for another part of it alone; `collect`: one for facts. */
  mode: "check" | "garbage" | "collect";
  /** Takes a finding; what a reading in mode `collect` finds again is passed over. */
  report(found: Found): void;
}

/** The record of a row; reports one that cannot be read. */
export function recordOf<T>(
  context: CheckContext,
  schema: Schema<T>,
  key: string,
  value: Uint8Array,
): T | undefined {
  try {
    return decode(schema, value, "row");
  } catch (thrown) {
    context.report({
      check: "row",
      inode: undefined,
      subject: `row ${shownKey(key)}`,
      is: thrown instanceof Error ? thrown.message : String(thrown),
      wanted: "a record of this version",
    });
    return undefined;
  }
}

/** A key for people: ids in it are bytes. */
export function shownKey(key: string): string {
  const shown = key.replace(/[^!-~]|\\/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return `"${shown}"`;
}

/** Facts, each as one string whose first part says what it is about. Names come last: they may hold anything but NUL. */
export const facts = {
  /** `mount`: of the inode, 0 where it may differ from its directory's. */
  name: (child: InodeId, parent: InodeId, kind: string, mount: MountId | 0, name: string) =>
    `name\0${child}\0${parent}\0${kind}\0${mount}\0${name}`,
  kept: (worker: WorkerId, inode: InodeId, writeId: WriteId) =>
    `kept\0${inode}\0${worker}\0${writeId}`,
  lease: (session: SessionId, inode: InodeId) => `lease\0${inode}\0${session}`,
  /** One part of the total of a directory, as often as it says. */
  usage: (directory: InodeId, part: keyof Usage) => `usage\0${directory}\0${part}`,
  hold: (inode: InodeId) => `hold\0${inode}`,
  garbage: (inode: InodeId, writeId: WriteId) => `garbage\0${inode}\0${writeId}`,
  /** A name is hidden by some operation; by this one. */
  tomb: (directory: InodeId, name: string) => `tomb\0${directory}\0${name}`,
  tombOf: (op: number, directory: InodeId, name: string) => `tombOf\0${op}\0${directory}\0${name}`,
  /** A name is brought into its store by some operation; by this one. */
  arrival: (directory: InodeId, name: string) => `arrival\0${directory}\0${name}`,
  arrivalOf: (op: number, directory: InodeId, name: string) =>
    `arrivalOf\0${op}\0${directory}\0${name}`,
  /** An operation is queued for an inode. */
  op: (op: number, inode: InodeId) => `op\0${op}\0${inode}`,
  lineage: (lineage: number) => `lineage\0${lineage}`,
};
