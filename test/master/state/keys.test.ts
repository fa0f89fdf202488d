import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId, WriteId } from "../../../src/lib/ids.ts";
import {
  edgeKey,
  edgeRange,
  extentKey,
  extentRange,
  garbageKey,
  garbageRange,
  nameOfEdge,
  offsetOfExtent,
  parseGarbageKey,
} from "../../../src/master/state/keys.ts";

const id = fc.oneof(fc.maxSafeNat(), fc.nat(300));

describe("keys", () => {
  it("sort like the ids in them, at all sizes", () => {
    fc.assert(
      fc.property(id, id, id, (inode, a, b) => {
        const [first, second] = [extentKey(inode as InodeId, a), extentKey(inode as InodeId, b)];
        assert.equal(first < second, a < b);
        assert.equal(offsetOfExtent(first), a);
      }),
    );
  });

  it("of one directory, and no others, lie in its range", () => {
    const name = fc.string({
      unit: fc.integer({ min: 1, max: 255 }).map((c) => String.fromCharCode(c)),
      minLength: 1,
    });
    fc.assert(
      fc.property(id, id, name, (a, b, child) => {
        const { from, to } = edgeRange(a as InodeId);
        const key = edgeKey(b as InodeId, child);
        assert.equal(key >= from && key < to, a === b);
        assert.equal(nameOfEdge(key), child);
      }),
    );
  });

  it("of garbage are read back, found by their time, and told from other keys", () => {
    fc.assert(
      fc.property(id, id, id, id, (retiredAtMs, inode, writeId, until) => {
        const garbage = { retiredAtMs, inode: inode as InodeId, writeId: writeId as WriteId };
        const key = garbageKey(garbage);
        assert.deepEqual(parseGarbageKey(key), garbage);
        const { from, to } = garbageRange(until);
        assert.equal(key >= from && key < to, retiredAtMs <= until);
        assert.equal(parseGarbageKey(key.slice(1)), undefined);
      }),
    );
  });

  it("of extents from an offset on are a range", () => {
    const { from, to } = extentRange(7 as InodeId, 100);
    assert.ok(extentKey(7 as InodeId, 99) < from);
    assert.ok(extentKey(7 as InodeId, 2 ** 53 - 1) < to);
    assert.ok(extentKey(8 as InodeId, 0) >= to);
  });
});
