/**
 * Which worker has which blocks: soft state, made of the workers' reports. Every master keeps it, so that a new leader
 * knows it already. A copy takes about 50 bytes in typed arrays; workers have millions of them.
 *
 * Invariants
 * 1. The copies of one inode are a list in the order in which they were told of first; its first place is in the index.
 * 2. A copy belongs to a life of its worker. Whoever reads passes over those of lives that are over; their places are given
 *    back a few at a time, so forgetting all that a worker had takes no time.
 */
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import { LocationIndex } from "./location-index.ts";

const chunkLength = 65_536;
const none = -1;
/** In `blocks`: they are in `#scattered`. */
const scattered = -1;
/** Places that are looked at for each report of a copy, as long as lives that are over have some. */
const sweptPerPut = 8;

/** Columns of the table. */
interface Chunk {
  readonly inodes: Float64Array;
  readonly writeIds: Float64Array;
  /** Bytes from the start without a gap; -1: the worker did not say so. */
  readonly lengths: Float64Array;
  /** 0: the place is free. */
  readonly lives: Uint32Array;
  /** A count n stands for the usual [0, n). */
  readonly blocks: Int32Array;
  /** Of the next copy of the same inode, or of the next free place. */
  readonly nexts: Int32Array;
}

interface Life {
  readonly id: number;
  readonly worker: WorkerId;
  copies: number;
}

export class Locations {
  readonly #chunks: Chunk[] = [];
  /** Places that were ever used. */
  #end = 0;
  #firstFree = none;
  readonly #index = new LocationIndex((place) => this.#inodeAt(place));
  readonly #scattered = new Map<number, ReadonlySet<number>>();
  readonly #lives = new Map<number, Life>();
  readonly #lifeOf = new Map<WorkerId, Life>();
  #lastLife = 0;
  /** Copies of lives that are over. */
  #stale = 0;
  #sweepAt = 0;

  /** The worker has exactly these blocks of a container; `length` bytes from its start, if that is known. */
  put(
    worker: WorkerId,
    inode: InodeId,
    writeId: WriteId,
    blocks: readonly number[],
    length?: number,
  ): void {
    this.#sweep();
    const life = this.#lifeOfWorker(worker);
    const first = this.#index.get(inode);
    let last = none;
    let place = first;
    while (place !== none && !this.#isCopy(place, life.id, writeId)) {
      last = place;
      place = this.#nextOf(place);
    }
    if (place === none) {
      place = this.#take(inode, writeId, life);
      if (first === none) this.#index.set(inode, place);
      else this.#setNext(last, place);
    }
    const { chunk, row } = this.#at(place);
    chunk.lengths[row] = length ?? -1;
    if (blocks.every((block, i) => block === i)) {
      chunk.blocks[row] = blocks.length;
      this.#scattered.delete(place);
    } else {
      chunk.blocks[row] = scattered;
      this.#scattered.set(place, new Set(blocks));
    }
  }

  remove(worker: WorkerId, inode: InodeId, writeId: WriteId): void {
    const life = this.#lifeOf.get(worker);
    if (life === undefined) return;
    this.#drop(inode, (place) => this.#isCopy(place, life.id, writeId));
  }

  /** Forgets all that `worker` has. */
  removeWorker(worker: WorkerId): void {
    const life = this.#lifeOf.get(worker);
    if (life === undefined) return;
    this.#lifeOf.delete(worker);
    this.#lives.delete(life.id);
    this.#stale += life.copies;
  }

  /**
   * Workers that have a block, in the order in which they told; not those whose copy is known to end before byte `reach`
   * of the container.
   */
  workersWith(inode: InodeId, writeId: WriteId, blockIndex: number, reach = 0): WorkerId[] {
    const found: WorkerId[] = [];
    for (const { place, worker } of this.#copiesOf(inode)) {
      const { chunk, row } = this.#at(place);
      if (chunk.writeIds[row] !== writeId || !this.#includes(place, blockIndex)) continue;
      const length = chunk.lengths[row]!;
      if (length < 0 || length >= reach) found.push(worker);
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
    for (const copy of this.#copiesOf(of.inode)) {
      const { chunk, row } = this.#at(copy.place);
      if (copy.worker !== worker || chunk.writeIds[row] !== of.writeId) continue;
      if (chunk.lengths[row]! >= 0) return chunk.lengths[row]! >= size;
      const count = Math.ceil(size / blockSizeBytes);
      for (let block = 0; block < count; block++) {
        if (!this.#includes(copy.place, block)) return false;
      }
      return true;
    }
    return size === 0;
  }

  /** Everything that is known of one inode's containers. */
  containersOf(
    inode: InodeId,
  ): readonly { readonly worker: WorkerId; readonly writeId: WriteId }[] {
    const found: { worker: WorkerId; writeId: WriteId }[] = [];
    for (const { place, worker } of this.#copiesOf(inode)) {
      const { chunk, row } = this.#at(place);
      found.push({ worker, writeId: chunk.writeIds[row] as WriteId });
    }
    return found;
  }

  /** All inodes of which somebody has blocks; what is told meanwhile may be among them or not. */
  *inodes(): IterableIterator<InodeId> {
    for (let place = 0; place < this.#end; place++) {
      const { chunk, row } = this.#at(place);
      const inode = chunk.inodes[row] as InodeId;
      // The first copy stands for all of its inode.
      const isFirst = chunk.lives[row] !== 0 && this.#index.get(inode) === place;
      if (isFirst && !this.#copiesOf(inode).next().done) yield inode;
    }
  }

  #lifeOfWorker(worker: WorkerId): Life {
    const known = this.#lifeOf.get(worker);
    if (known !== undefined) return known;
    const life: Life = { id: ++this.#lastLife, worker, copies: 0 };
    this.#lifeOf.set(worker, life);
    this.#lives.set(life.id, life);
    return life;
  }

  /** Copies of an inode by lives that go on. */
  *#copiesOf(inode: InodeId): Generator<{ place: number; worker: WorkerId }, void> {
    for (let place = this.#index.get(inode); place !== none; place = this.#nextOf(place)) {
      const { chunk, row } = this.#at(place);
      const life = this.#lives.get(chunk.lives[row]!);
      if (life !== undefined) yield { place, worker: life.worker };
    }
  }

  #isCopy(place: number, life: number, writeId: WriteId): boolean {
    const { chunk, row } = this.#at(place);
    return chunk.lives[row] === life && chunk.writeIds[row] === writeId;
  }

  #includes(place: number, blockIndex: number): boolean {
    const { chunk, row } = this.#at(place);
    const blocks = chunk.blocks[row]!;
    return blocks === scattered ? this.#scattered.get(place)!.has(blockIndex) : blockIndex < blocks;
  }

  /** A place for a copy, at the end of no list yet. */
  #take(inode: InodeId, writeId: WriteId, life: Life): number {
    let place = this.#firstFree;
    if (place !== none) this.#firstFree = this.#nextOf(place);
    else {
      place = this.#end++;
      if (place % chunkLength === 0) this.#chunks.push(newChunk());
    }
    const { chunk, row } = this.#at(place);
    chunk.inodes[row] = inode;
    chunk.writeIds[row] = writeId;
    chunk.lives[row] = life.id;
    chunk.nexts[row] = none;
    life.copies++;
    return place;
  }

  /** Takes the copies out of an inode's list that `isGone` says. */
  #drop(inode: InodeId, isGone: (place: number) => boolean): void {
    let before = none;
    for (let place = this.#index.get(inode); place !== none; ) {
      const next = this.#nextOf(place);
      if (!isGone(place)) before = place;
      else {
        if (before !== none) this.#setNext(before, next);
        else if (next === none) this.#index.delete(inode);
        else this.#index.set(inode, next);
        this.#free(place);
      }
      place = next;
    }
  }

  #free(place: number): void {
    const { chunk, row } = this.#at(place);
    const life = this.#lives.get(chunk.lives[row]!);
    if (life === undefined) this.#stale--;
    else life.copies--;
    this.#scattered.delete(place);
    chunk.lives[row] = 0;
    chunk.nexts[row] = this.#firstFree;
    this.#firstFree = place;
  }

  /** Gives a few places back of lives that are over. */
  #sweep(): void {
    for (let swept = 0; swept < sweptPerPut && this.#stale > 0; swept++) {
      if (this.#sweepAt >= this.#end) this.#sweepAt = 0;
      const { chunk, row } = this.#at(this.#sweepAt++);
      const life = chunk.lives[row]!;
      if (life === 0 || this.#lives.has(life)) continue;
      this.#drop(chunk.inodes[row] as InodeId, (place) => this.#isStale(place));
    }
  }

  #isStale(place: number): boolean {
    const { chunk, row } = this.#at(place);
    return !this.#lives.has(chunk.lives[row]!);
  }

  #inodeAt(place: number): InodeId {
    const { chunk, row } = this.#at(place);
    return chunk.inodes[row] as InodeId;
  }

  #nextOf(place: number): number {
    const { chunk, row } = this.#at(place);
    return chunk.nexts[row]!;
  }

  #setNext(place: number, next: number): void {
    const { chunk, row } = this.#at(place);
    chunk.nexts[row] = next;
  }

  #at(place: number): { chunk: Chunk; row: number } {
    return { chunk: this.#chunks[Math.floor(place / chunkLength)]!, row: place % chunkLength };
  }
}

function newChunk(): Chunk {
  return {
    inodes: new Float64Array(chunkLength),
    writeIds: new Float64Array(chunkLength),
    lengths: new Float64Array(chunkLength),
    lives: new Uint32Array(chunkLength),
    blocks: new Int32Array(chunkLength),
    nexts: new Int32Array(chunkLength),
  };
}
