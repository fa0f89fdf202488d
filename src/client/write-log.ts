/**
 * The bytes that a writer took and that are not committed yet, in the order in which they were written. They stay here
 * until then, so that they can be read back, and sent again when a worker dies.
 *
 * Invariants
 * 1. Positions only grow; [start, end) is what is held.
 * 2. Every chunk but the last is `chunkBytes` long, unless it was sealed earlier.
 */
const chunkBytes = 1024 * 1024;
/** First allocation of a chunk: most files are small. */
const firstAllocationBytes = 16 * 1024;

interface Chunk {
  readonly position: number;
  bytes: Uint8Array;
  length: number;
  sealed: boolean;
}

export class WriteLog {
  #chunks: Chunk[] = [];
  #end = 0;

  /** Position of the first byte that is held. */
  get start(): number {
    return this.#chunks[0]?.position ?? this.#end;
  }

  /** Position behind the last byte. */
  get end(): number {
    return this.#end;
  }

  /** Copies `data` to the end and answers the position of its first byte. */
  append(data: Uint8Array): number {
    const position = this.#end;
    let taken = 0;
    while (taken < data.length) {
      let chunk = this.#chunks[this.#chunks.length - 1];
      if (chunk === undefined || chunk.sealed || chunk.length === chunkBytes) {
        const allocation = Math.min(
          chunkBytes,
          Math.max(firstAllocationBytes, data.length - taken, chunk === undefined ? 0 : chunkBytes),
        );
        chunk = {
          position: this.#end,
          bytes: new Uint8Array(allocation),
          length: 0,
          sealed: false,
        };
        this.#chunks.push(chunk);
      }
      const wanted = Math.min(chunkBytes, chunk.length + data.length - taken);
      if (wanted > chunk.bytes.length) {
        const larger = new Uint8Array(
          Math.min(chunkBytes, Math.max(wanted, chunk.bytes.length * 4)),
        );
        larger.set(chunk.bytes.subarray(0, chunk.length));
        chunk.bytes = larger;
      }
      const length = wanted - chunk.length;
      chunk.bytes.set(data.subarray(taken, taken + length), chunk.length);
      chunk.length = wanted;
      this.#end += length;
      taken += length;
    }
    return position;
  }

  /**
   * The bytes from `position` to the end of its chunk, or nothing. A chunk that can still grow is given only with
   * `sealing`, and does not grow any more then.
   */
  chunkAt(position: number, sealing: boolean): Uint8Array | undefined {
    const chunk = this.#chunks[this.#indexOf(position)];
    if (chunk === undefined || position >= chunk.position + chunk.length) return undefined;
    if (chunk.length < chunkBytes && !chunk.sealed) {
      if (!sealing) return undefined;
      chunk.sealed = true;
    }
    return chunk.bytes.subarray(position - chunk.position, chunk.length);
  }

  /** Copies [position, position + target.length), which is held, to `target`. */
  copy(position: number, target: Uint8Array): void {
    let copied = 0;
    for (let i = this.#indexOf(position); copied < target.length; i++) {
      const chunk = this.#chunks[i]!;
      const from = position + copied - chunk.position;
      const length = Math.min(chunk.length - from, target.length - copied);
      target.set(chunk.bytes.subarray(from, from + length), copied);
      copied += length;
    }
  }

  /** Drops the chunks that lie wholly before `position`. */
  dropBefore(position: number): void {
    let dropped = 0;
    while (dropped < this.#chunks.length) {
      const chunk = this.#chunks[dropped]!;
      if (chunk.position + chunk.length > position) break;
      dropped++;
    }
    if (dropped > 0) this.#chunks = this.#chunks.slice(dropped);
  }

  /** Index of the chunk that holds `position`; the last one when it lies behind all. */
  #indexOf(position: number): number {
    let low = 0;
    let high = this.#chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#chunks[middle]!.position <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
