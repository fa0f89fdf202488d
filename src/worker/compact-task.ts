/** Puts the bytes of a range of a file together in one container, on this worker and others. */
import type { BlockClient } from "../blocks/types.ts";
import { WeirError } from "../lib/errors.ts";
import type { FileLayout } from "../rpc/namespace.ts";
import type { Task, TaskResult } from "../rpc/tasks.ts";

export type CompactTask = Extract<Task, { kind: "compact" }>;

export interface CompactOptions {
  readonly client: Pick<BlockClient, "openContainer">;
  readonly readRange: (
    layout: FileLayout,
    range: { readonly offset: number; readonly length: number },
    signal: AbortSignal,
  ) => AsyncIterable<Uint8Array>;
}

/**
 * Ends when all workers of the chain hold the container, on disk where they have one; else none of them is to keep it.
 * @throws WeirError when bytes could not be read, or a worker of the chain fails
 */
export async function compact(
  task: CompactTask,
  { client, readRange }: CompactOptions,
  signal: AbortSignal,
): Promise<TaskResult> {
  const { layout, writeId, from, to, chain, taskId } = task;
  const { inode } = layout.status;
  const range = { offset: from, length: to - from };
  const writer = await client.openContainer(chain, { inode, writeId }, { resumeAt: 0, signal });
  try {
    for await (const piece of readRange(layout, range, signal)) {
      signal.throwIfAborted();
      await writer.write(piece);
    }
    if (writer.length !== range.length) {
      throw new WeirError(
        "Corrupt",
        `Cannot compact inode ${inode}: got ${writer.length} bytes, wanted ${range.length}`,
      );
    }
    await writer.flush({ sync: true });
  } catch (error) {
    // What stays of it at a worker that does not answer is dropped as nobody's.
    await writer.close({ keep: false }).catch(() => undefined);
    throw error;
  }
  const keepers = writer.workers;
  await writer.close({ keep: true });
  return { kind: "compacted", taskId, keepers: [...keepers] };
}
