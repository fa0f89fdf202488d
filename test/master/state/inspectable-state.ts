/** The store in the heap, with a look at all keys that begin alike, and a count of the rows that are used. */
import type { Schema } from "../../../src/lib/schema.ts";
import {
  everything,
  type KeyRange,
  type KeyValue,
  prefixRange,
  type ScanRange,
} from "../../../src/master/store/types.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";

export class InspectableState extends MemoryStateStore {
  /** Rows that were read, scanned, written or deleted. */
  rowsUsed = 0;

  entries(prefix: string): readonly KeyValue[] {
    return this.#rowsOf(prefixRange(prefix));
  }

  all(): readonly KeyValue[] {
    return this.#rowsOf(everything);
  }

  #rowsOf(range: KeyRange): readonly KeyValue[] {
    const ranges = [range];
    void this.load(ranges);
    const found = super.scan(ranges[0]!);
    this.release(ranges);
    return found;
  }

  override read<T>(schema: Schema<T>, key: string): T | undefined {
    this.rowsUsed++;
    return super.read(schema, key);
  }

  override put(key: string, value: Uint8Array): void {
    this.rowsUsed++;
    super.put(key, value);
  }

  override delete(key: string): void {
    this.rowsUsed++;
    super.delete(key);
  }

  override scan(range: ScanRange): readonly KeyValue[] {
    const rows = super.scan(range);
    this.rowsUsed += rows.length;
    return rows;
  }
}
