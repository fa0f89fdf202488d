/**
 * Which worker has which blocks: soft state, made of the workers' reports. Every master keeps it, so that a new leader
 * knows it already.
 */
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";

/** Indexes of blocks; a count n stands for the usual [0, n). */
type Blocks = number | ReadonlySet<number>;

interface Holding {
  readonly worker: WorkerId;
  readonly writeId: WriteId;
  blocks: Blocks;
}

export class Locations {
  /** By inode: a file has few containers. */
  readonly #holdings = new Map<InodeId, Holding[]>();

  /** The worker has exactly these blocks of a container. */
  put(worker: WorkerId, inode: InodeId, writeId: WriteId, blocks: readonly number[]): void {
    const compact = compacted(blocks);
    const holdings = this.#holdings.get(inode);
    if (holdings === undefined) {
      this.#holdings.set(inode, [{ worker, writeId, blocks: compact }]);
      return;
    }
    const holding = holdings.find((each) => each.worker === worker && each.writeId === writeId);
    if (holding === undefined) holdings.push({ worker, writeId, blocks: compact });
    else holding.blocks = compact;
  }

  remove(worker: WorkerId, inode: InodeId, writeId: WriteId): void {
    this.#filter(inode, (each) => each.worker !== worker || each.writeId !== writeId);
  }

  /** Forgets all that `worker` has. */
  removeWorker(worker: WorkerId): void {
    for (const inode of [...this.#holdings.keys()]) {
      this.#filter(inode, (each) => each.worker !== worker);
    }
  }

  /** Workers that have a block, in the order in which they told. */
  workersWith(inode: InodeId, writeId: WriteId, blockIndex: number): WorkerId[] {
    const found: WorkerId[] = [];
    for (const each of this.#holdings.get(inode) ?? []) {
      if (each.writeId === writeId && includes(each.blocks, blockIndex)) found.push(each.worker);
    }
    return found;
  }

  /** Everything that is known of one inode's containers. */
  containersOf(
    inode: InodeId,
  ): readonly { readonly worker: WorkerId; readonly writeId: WriteId }[] {
    return this.#holdings.get(inode) ?? [];
  }

  /** All inodes of which somebody has blocks; the map may change while it is walked. */
  inodes(): IterableIterator<InodeId> {
    return this.#holdings.keys();
  }

  #filter(inode: InodeId, keep: (holding: Holding) => boolean): void {
    const holdings = this.#holdings.get(inode);
    if (holdings === undefined) return;
    const kept = holdings.filter(keep);
    if (kept.length === 0) this.#holdings.delete(inode);
    else if (kept.length < holdings.length) this.#holdings.set(inode, kept);
  }
}

function compacted(blocks: readonly number[]): Blocks {
  return blocks.every((block, place) => block === place) ? blocks.length : new Set(blocks);
}

function includes(blocks: Blocks, blockIndex: number): boolean {
  return typeof blocks === "number" ? blockIndex < blocks : blocks.has(blockIndex);
}
