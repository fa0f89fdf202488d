/**
 * Which files a run of a data policy moves between the layers of a union mount, and how: as a side effect on the store, that
 * changes nothing of the file but what tells its object from others.
 *
 * Invariants
 * 1. Only an object that is exactly the file's present version goes. What is being written, waits to be persisted, or lies in
 *    another layer stays where it is, and is looked at again by the next run.
 * 2. A run that copies passes over what did not change since the last whole run alone: times that a program sets back, and
 *    what an earlier run had to leave, keep nothing from being copied.
 */
import type { TreeOpId } from "../../lib/ids.ts";
import type { Timestamp, TreeWork } from "../../rpc/namespace.ts";
import { isLater } from "../../rpc/relatime.ts";
import type { Context } from "./context.ts";
import { layerOf } from "./migration-layers.ts";
import type { Inode } from "./model.ts";
import type { TreeProgress } from "./tree-ops.ts";
import { queueMigration } from "./ufsops.ts";

type Migrate = Extract<TreeWork, { kind: "migrate" }>;

/** Has a file go, if it may; its name and age fit, as the leader has seen. */
export function migrateFile(
  context: Context,
  of: {
    readonly treeOp: TreeOpId;
    readonly work: Migrate;
    readonly child: Inode;
    readonly progress: TreeProgress;
  },
): void {
  const { treeOp, work, child, progress } = of;
  if (isLeft(child, work)) progress.leave(changedAt(child));
  if (!mayMigrate(child) || !fitsMigration(child, work)) return;
  progress.match(child.id, child.size);
  if (work.isTrial) return;
  if (queueMigration(context, child, { ...work.migration, treeOp })) progress.pendingFiles++;
  else progress.fail(child.id, "NotFound", "no name leads to it");
}

/** Whether the store has exactly what the file is. */
export function mayMigrate(of: Inode): boolean {
  const isPersisted = of.form === "source" && of.persistence === "persisted";
  return of.kind === "file" && isPersisted && of.lease === undefined && of.persistOp === undefined;
}

/** Whether a run that copies has to leave to the next one what changed, since it is not whole in the store yet. */
export function isLeft(of: Inode, { migration, after, isTrial }: Migrate): boolean {
  if (!migration.keep || isTrial || of.kind !== "file") return false;
  const isOnItsWay = of.lease !== undefined || of.persistOp !== undefined;
  return isOnItsWay && (after === undefined || isLater(changedAt(of), after));
}

/** The later one of the times of content and attributes: nobody can set both back. */
function changedAt({ mtime, ctime }: Inode): Timestamp {
  return isLater(mtime, ctime) ? mtime : ctime;
}

/** Whether layer, age and size are those that the run is about. */
export function fitsMigration(of: Inode, { migration, after, before }: Migrate): boolean {
  if (of.source === undefined || layerOf(of.source.fingerprint) !== migration.from) return false;
  if (before !== undefined && isLater(of.mtime, before)) return false;
  if (after !== undefined && !isLater(changedAt(of), after)) return false;
  return of.size >= (migration.atLeastBytes ?? 0);
}
