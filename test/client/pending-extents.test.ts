import assert from "node:assert/strict";
import fc from "fast-check";
import { extentsOf, PendingExtents } from "../../src/client/pending-extents.ts";
import type { WriteId } from "../../src/lib/ids.ts";

const write = fc.record({
  offset: fc.nat(60),
  length: fc.integer({ min: 1, max: 30 }),
  gap: fc.nat(2),
});

describe("pending extents", () => {
  it("map every byte to its latest write, in pieces that are sorted, disjoint and merged", () => {
    fc.assert(
      fc.property(
        fc.array(write, { maxLength: 30 }),
        fc.nat(80),
        fc.nat(40),
        (writes, from, length) => {
          const pending = new PendingExtents();
          const model = new Map<number, number>();
          let log = 0;
          for (const each of writes) {
            log += each.gap;
            pending.insert(each.offset, each.length, log);
            for (let i = 0; i < each.length; i++) model.set(each.offset + i, log + i);
            log += each.length;
          }
          const seen = new Map<number, number>();
          let previous = { fileOffset: -2, length: 0, logOffset: -2 };
          for (const piece of pending.pieces) {
            const end = previous.fileOffset + previous.length;
            assert(piece.fileOffset >= end && piece.length > 0);
            const contiguous =
              piece.fileOffset === end && piece.logOffset === previous.logOffset + previous.length;
            assert(!contiguous, "contiguous pieces are one");
            for (let i = 0; i < piece.length; i++)
              seen.set(piece.fileOffset + i, piece.logOffset + i);
            previous = piece;
          }
          const sorted = (map: Map<number, number>) => [...map].sort(([a], [b]) => a - b);
          assert.deepEqual(sorted(seen), sorted(model));
          const within = new Map<number, number>();
          for (const piece of pending.within(from, length)) {
            for (let i = 0; i < piece.length; i++)
              within.set(piece.fileOffset + i, piece.logOffset + i);
          }
          const wanted = sorted(model).filter(([at]) => at >= from && at < from + length);
          assert.deepEqual(sorted(within), wanted);
        },
      ),
    );
  });

  it("keep a sequential writer's file in one piece", () => {
    const pending = new PendingExtents();
    for (let i = 0; i < 1000; i++) pending.insert(i * 10, 10, 5 + i * 10);
    assert.deepEqual(pending.pieces, [{ fileOffset: 0, length: 10_000, logOffset: 5 }]);
  });

  it("become extents that never cross a block boundary", () => {
    const container = { writeId: 7 as WriteId, base: 100, blockSizeBytes: 64 };
    assert.deepEqual(extentsOf([{ fileOffset: 1000, length: 100, logOffset: 150 }], container), [
      { fileOffset: 1000, length: 14, writeId: 7, blockIndex: 0, offset: 50 },
      { fileOffset: 1014, length: 64, writeId: 7, blockIndex: 1, offset: 0 },
      { fileOffset: 1078, length: 22, writeId: 7, blockIndex: 2, offset: 0 },
    ]);
  });
});
