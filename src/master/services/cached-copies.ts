/** Cached copies of files: which may go, and how they do. */
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import type { Inode } from "../state/model.ts";
import { isKept } from "../state/queries.ts";
import type { PointReader } from "../store/types.ts";
import type { Locations } from "./locations.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

/** A container that a worker has without having to keep it. */
export interface Copy {
  readonly worker: WorkerId;
  readonly inode: InodeId;
  readonly writeId: WriteId;
}

/** All copies of a file that its store has, but those that workers have to keep. */
export function copiesToFree(reader: PointReader, locations: Locations, of: Inode): Copy[] {
  if (of.kind !== "file" || of.persistence !== "persisted") return [];
  return locations
    .containersOf(of.id)
    .map(({ worker, writeId }) => ({ worker, inode: of.id, writeId }))
    .filter((copy) => !isKept(reader, copy));
}

/** Asks the workers to drop copies; resolves with the number of those that they have dropped. */
export async function dropCopies(
  dispatcher: TaskDispatcher,
  locations: Locations,
  copies: readonly Copy[],
  signal: AbortSignal,
): Promise<number> {
  const byWorker = new Map<WorkerId, Copy[]>();
  for (const copy of copies) {
    const known = byWorker.get(copy.worker);
    if (known === undefined) byWorker.set(copy.worker, [copy]);
    else known.push(copy);
  }
  const dropped = await Promise.all(
    [...byWorker].map(async ([worker, all]) => {
      const containers = all.map(({ inode, writeId }) => ({ inode, writeId }));
      const result = await dispatcher.run(
        { kind: "dropContainers", containers, kept: false },
        { only: worker, urgent: true },
        signal,
      );
      if (result.kind !== "dropped") return 0;
      // Known before the worker's next report says so.
      for (const { inode, writeId } of containers) locations.remove(worker, inode, writeId);
      return containers.length;
    }),
  );
  return dropped.reduce((sum, count) => sum + count, 0);
}
