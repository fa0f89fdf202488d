/**
 * How many bytes of payload lie behind a place of the log, known at marks that are a step apart: enough to keep about so
 * many bytes, without a number for every entry.
 */
import type { Index } from "../types.ts";

/** Marks for what is to be kept: its weight is known to one part in so many. */
const marksKept = 16;

interface Mark {
  readonly index: Index;
  /** Of all entries up to this one. */
  readonly bytes: number;
}

export class LogWeight {
  readonly #keptBytes: number;
  /** In ascending order. */
  #marks: Mark[] = [];
  #bytes = 0;
  #markedBytes = 0;

  /** `keptBytes`: what is to stay behind `forgettable`. */
  constructor(keptBytes: number) {
    this.#keptBytes = keptBytes;
  }

  /** Takes the next entry of the log and its weight; those that may still be cut off are not to be told. */
  add(index: Index, bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes - this.#markedBytes < this.#keptBytes / marksKept) return;
    this.#markedBytes = this.#bytes;
    this.#marks.push({ index, bytes: this.#bytes });
  }

  /** The weight of all behind `index`, or a step more; of what is longer than what is to be kept, at least that. */
  behind(index: number): number {
    const mark = this.#marks.findLast((each) => each.index <= index);
    return this.#bytes - (mark?.bytes ?? 0);
  }

  /**
   * The highest marked index that is at most `limit` and has what is to be kept behind it; 0 when there is none. Marks below
   * are dropped.
   */
  forgettable(limit: number): number {
    let place = -1;
    for (const { index, bytes } of this.#marks) {
      if (index > limit || this.#bytes - bytes < this.#keptBytes) break;
      place++;
    }
    if (place < 0) return 0;
    if (place > 0) this.#marks = this.#marks.slice(place);
    return this.#marks[0]!.index;
  }
}
