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
  /** Bytes from the start without a gap, if the worker said so. */
  length: number | undefined;
}

export class Locations {
  /** By inode: a file has few containers. */
  readonly #holdings = new Map<InodeId, Holding[]>();

  /** The worker has exactly these blocks of a container; `length` bytes from its start, if that is known. */
  put(
    worker: WorkerId,
    inode: InodeId,
    writeId: WriteId,
    blocks: readonly number[],
    length?: number,
  ): void {
    const compact = compacted(blocks);
    const holdings = this.#holdings.get(inode);
    if (holdings === undefined) {
      this.#holdings.set(inode, [{ worker, writeId, blocks: compact, length }]);
      return;
    }
    const holding = holdings.find((each) => each.worker === worker && each.writeId === writeId);
    if (holding === undefined) holdings.push({ worker, writeId, blocks: compact, length });
    else {
      holding.blocks = compact;
      holding.length = length;
    }
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

  /**
   * Workers that have a block, in the order in which they told; not those whose copy is known to end before byte `reach`
   * of the container.
   */
  workersWith(inode: InodeId, writeId: WriteId, blockIndex: number, reach = 0): WorkerId[] {
    const found: WorkerId[] = [];
    for (const each of this.#holdings.get(inode) ?? []) {
      if (each.writeId !== writeId || !includes(each.blocks, blockIndex)) continue;
      if (each.length === undefined || each.length >= reach) found.push(each.worker);
    }
    return found;
  }

  /** Whether the worker told of the bytes [0, size) of a container, which has blocks of `blockSizeBytes`. */
  holds(
    worker: WorkerId,
    of: { readonly inode: InodeId; readonly writeId: WriteId },
    size: number,
    blockSizeBytes: number,
  ): boolean {
    const holding = this.#holdings
      .get(of.inode)
      ?.find((each) => each.worker === worker && each.writeId === of.writeId);
    if (holding === undefined) return size === 0;
    if (holding.length !== undefined) return holding.length >= size;
    const count = Math.ceil(size / blockSizeBytes);
    for (let block = 0; block < count; block++) if (!includes(holding.blocks, block)) return false;
    return true;
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
