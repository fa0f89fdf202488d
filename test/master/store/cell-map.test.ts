/** The hash table of the rows in the heap. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Cell } from "../../../src/master/store/cell.ts";
import { CellMap, hashOfKey } from "../../../src/master/store/cell-map.ts";

describe("cells by their keys", () => {
  it("are found as in a Map, also where hashes are equal or neighbours", () => {
    const key = fc.nat(40).map((i) => `key/${String(i)}`);
    const step = fc.record({ key, kind: fc.constantFrom("set", "set", "delete") });
    const badHash = fc.constantFrom(
      (_: string) => 1,
      (of: string) => 0xffff_fff0 + (of.length % 3),
      (of: string) => (hashOfKey(of, 9) & 7) + 1,
      (of: string) => hashOfKey(of, 9),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), badHash, (steps, hashOf) => {
        const [cells, model] = [new CellMap(), new Map<string, Cell>()];
        for (const { key: at, kind } of steps) {
          if (kind === "set") {
            const cell = new Cell(at);
            cells.set(cell, hashOf(at));
            model.set(at, cell);
          } else {
            cells.delete(at, hashOf(at));
            model.delete(at);
          }
          for (let i = 0; i <= 40; i++) {
            const each = `key/${String(i)}`;
            assert.equal(cells.get(each, hashOf(each)), model.get(each));
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  it("stay where they are found while it grows, and deleted ones stay away", () => {
    const cells = new CellMap();
    const keyOf = (i: number) => `inode/${String(i)}`;
    for (let i = 0; i < 50_000; i++) {
      cells.set(new Cell(keyOf(i)), hashOfKey(keyOf(i), 3));
      if (i % 3 === 0) cells.delete(keyOf(i), hashOfKey(keyOf(i), 3));
    }
    for (let i = 0; i < 50_000; i++) {
      const found = cells.get(keyOf(i), hashOfKey(keyOf(i), 3));
      assert.equal(found?.key, i % 3 === 0 ? undefined : keyOf(i));
    }
  });

  it("have hashes that depend on every character, on their number and on the seed", () => {
    const keys = ["", "a", "b", "aa", "ab", "ba", "a\0", "\0a"];
    const hashes = keys.flatMap((key) => [0, 1, 0xffff_ffff].map((seed) => hashOfKey(key, seed)));
    assert.equal(new Set(hashes).size, hashes.length);
    for (const hash of hashes) assert.ok(hash > 0 && hash < 2 ** 32 && Number.isInteger(hash));
  });
});
