import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId, WriteId } from "../../../src/lib/ids.ts";
import {
  edgeKey,
  edgeRange,
  extentKey,
  allExtents,
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
      fc.property(id, id, id, fc.nat(3), (inode, a, b, generation) => {
        const of = { id: inode as InodeId, cleared: { generation } };
        const [first, second] = [extentKey(of, a), extentKey(of, b)];
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
    for (const generation of [0, 1, 300]) {
      const of = (id: number) => ({ id: id as InodeId, cleared: { generation } });
      const { from, to } = extentRange(of(7), 100);
      assert.ok(extentKey(of(7), 99) < from);
      assert.ok(extentKey(of(7), 2 ** 53 - 1) < to);
      assert.ok(extentKey(of(8), 0) >= to);
      assert.equal(extentRange(of(7), 100, 200).to, extentKey(of(7), 200));
      const all = allExtents(7 as InodeId);
      assert.equal(all.filter((range) => range.from <= from && range.to >= to).length, 1);
    }
  });
});
