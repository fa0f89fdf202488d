/**
 * From an inode to a place in a table, for millions of them: open addressing in many small arrays, each of which grows by
 * itself, so that none takes a noticeable time. The inodes themselves lie in the table. Pure.
 *
 * Invariant: an inode is at the first position that was free for it from that of its hash on, and nothing between is free.
 */
import type { InodeId } from "../../lib/ids.ts";

const shardCount = 1024;
const fewestSlots = 16;

interface Shard {
  /** Places plus 1; 0 is free. */
  slots: Int32Array;
  count: number;
}

export class LocationIndex {
  readonly #inodeAt: (place: number) => InodeId;
  readonly #shards: Shard[] = Array.from({ length: shardCount }, () => ({
    slots: new Int32Array(fewestSlots),
    count: 0,
  }));

  /** `inodeAt` says which inode a place is of. */
  constructor(inodeAt: (place: number) => InodeId) {
    this.#inodeAt = inodeAt;
  }

  /** The place of an inode; -1: none. */
  get(inode: InodeId): number {
    const { slots } = this.#shardOf(inode);
    return slots[this.#find(slots, inode)]! - 1;
  }

  set(inode: InodeId, place: number): void {
    const shard = this.#shardOf(inode);
    const at = this.#find(shard.slots, inode);
    const isNew = shard.slots[at] === 0;
    shard.slots[at] = place + 1;
    if (isNew && ++shard.count * 3 > shard.slots.length * 2) this.#grow(shard);
  }

  delete(inode: InodeId): void {
    const shard = this.#shardOf(inode);
    const { slots } = shard;
    const mask = slots.length - 1;
    let hole = this.#find(slots, inode);
    if (slots[hole] === 0) return;
    shard.count--;
    // What could not be nearer to its hash because of this one moves up.
    for (let at = (hole + 1) & mask; slots[at] !== 0; at = (at + 1) & mask) {
      const wanted = hashOf(this.#inodeAt(slots[at]! - 1)) & mask;
      if (((at - wanted) & mask) < ((at - hole) & mask)) continue;
      slots[hole] = slots[at]!;
      hole = at;
    }
    slots[hole] = 0;
  }

  #shardOf(inode: InodeId): Shard {
    return this.#shards[hashOf(inode) >>> 22]!;
  }

  /** The slot of an inode, or the free one where it would be. */
  #find(slots: Int32Array, inode: InodeId): number {
    const mask = slots.length - 1;
    let at = hashOf(inode) & mask;
    while (slots[at] !== 0 && this.#inodeAt(slots[at]! - 1) !== inode) at = (at + 1) & mask;
    return at;
  }

  #grow(shard: Shard): void {
    const before = shard.slots;
    shard.slots = new Int32Array(before.length * 2);
    for (const slot of before) {
      if (slot !== 0) shard.slots[this.#find(shard.slots, this.#inodeAt(slot - 1))] = slot;
    }
  }
}

/** 32 bits. */
function hashOf(inode: InodeId): number {
  let hash = Math.imul(inode ^ Math.floor(inode / 2 ** 32), 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
