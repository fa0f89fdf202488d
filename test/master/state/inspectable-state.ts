/** The store in the heap, with a look at all keys that begin alike. */
import {
  everything,
  type KeyRange,
  type KeyValue,
  prefixRange,
} from "../../../src/master/store/types.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";

export class InspectableState extends MemoryStateStore {
  entries(prefix: string): readonly KeyValue[] {
    return this.#rowsOf(prefixRange(prefix));
  }

  all(): readonly KeyValue[] {
    return this.#rowsOf(everything);
  }

  #rowsOf(range: KeyRange): readonly KeyValue[] {
    const ranges = [range];
    void this.load(ranges);
    const found = this.scan(ranges[0]!);
    this.release(ranges);
    return found;
  }
}
