import assert from "node:assert/strict";
import fc from "fast-check";
import { Cell } from "../../../src/master/store/cell.ts";
import { decodeChunk, encodeChunk } from "../../../src/master/store/chunk-codec.ts";
import { Overlay } from "../../../src/master/store/overlay.ts";
import { RowTable } from "../../../src/master/store/row-table.ts";
import { SortedKeys } from "../../../src/master/store/sorted-keys.ts";
import { StateHash } from "../../../src/master/store/state-hash.ts";

const latin1 = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)),
});
const row = fc.tuple(latin1, fc.uint8Array({ maxLength: 40 }));

/** A cell of a row as it is on disk. */
function stored(key: string, bytes: Uint8Array | undefined): Cell {
  const cell = new Cell(key);
  if (bytes !== undefined) cell.setStored(bytes);
  return cell;
}

describe("chunks of a snapshot", () => {
  it("come back as they were", () => {
    fc.assert(
      fc.property(fc.array(row), (rows) => {
        const back = decodeChunk(encodeChunk(rows));
        assert.deepEqual(back, rows);
      }),
    );
  });

  it("are refused when any byte is damaged or missing", () => {
    const chunk = encodeChunk([
      ["a/\xff", new Uint8Array([1, 2, 3])],
      ["b", new Uint8Array(0)],
    ]);
    for (let at = 0; at < chunk.length; at++) {
      const damaged = chunk.slice();
      damaged[at] = damaged[at]! ^ 0x40;
      assert.throws(() => decodeChunk(damaged), { code: "Corrupt" });
      assert.throws(() => decodeChunk(chunk.slice(0, at)), { code: "Corrupt" });
    }
  });
});

describe("sorted keys", () => {
  it("reads ranges like a sorted set, however adding and reading alternate", () => {
    const key = fc.integer({ min: 0, max: 9000 }).map((n) => n.toString(36));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.array(key, { maxLength: 2000, size: "max" }), key, key), {
          maxLength: 6,
        }),
        (rounds) => {
          const keys = new SortedKeys();
          const model = new Set<string>();
          for (const [added, from, to] of rounds) {
            for (const each of added) {
              keys.add(each);
              model.add(each);
            }
            const inOrder = [...model].filter((each) => each >= from && each < to).sort();
            assert.deepEqual([...keys.range(from, to)], inOrder);
            assert.deepEqual([...keys.backwards(from, to)], inOrder.reverse());
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  it("reads keys that no division gets apart", () => {
    const keys = new SortedKeys();
    for (let i = 0; i < 3000; i++)
      keys.add(i % 50 === 0 ? `other${String(i).padStart(4, "0")}` : "same");
    assert.deepEqual([...keys.range("other2900", "same\0")], ["other2900", "other2950", "same"]);
    assert.deepEqual([...keys.backwards("other2950", "same\0")], ["same", "other2950"]);
  });

  const count = 20_000;
  const orders: readonly [string, (i: number) => number][] = [
    ["in order", (i) => i],
    ["in no order", (i) => (i * 7919) % count],
    ["that come and go", (i) => (i % 2 === 0 ? i : count - i)],
  ];
  for (const [name, numberOf] of orders) {
    it(`sorts what is read alone, of keys ${name}`, () => {
      let looks = 0;
      /** A key that counts how often it is compared. */
      const keyOf = (number: number) => {
        const text = String(number).padStart(6, "0");
        const look = () => {
          looks++;
          return text;
        };
        return { toString: look, valueOf: look } as unknown as string;
      };
      const keys = new SortedKeys();
      for (let i = 0; i < count; i++) keys.add(keyOf(numberOf(i)));
      assert.equal(looks, 0);
      const looksFor = (read: Iterable<string>) => {
        looks = 0;
        const first: string[] = [];
        for (const key of read) if (first.push(key) === 100) break;
        const looked = looks;
        assert.deepEqual(first.map(String), first.map(String).sort());
        assert.equal(first.length, 100);
        return looked;
      };
      // Two at each comparison; all sorted would be 14 comparisons of each key.
      const first = looksFor(keys.range("007000", "1"));
      assert.ok(first < 7 * count, `the first one looked ${String(first)} times`);
      const second = looksFor(keys.range("007050", "1"));
      assert.ok(second < count, `the second one looked ${String(second)} times`);
      for (const number of [7, 7001, 7002]) keys.add(keyOf(number));
      const third = looksFor(keys.range("007050", "1"));
      assert.ok(third < count, `the third one looked ${String(third)} times`);
    });
  }
});

describe("state hash", () => {
  it("depends on no order, and forgets what is removed", () => {
    fc.assert(
      fc.property(fc.array(row), fc.array(row), (rows, others) => {
        const [forward, backward] = [new StateHash(), new StateHash()];
        for (const [key, value] of [...rows, ...others]) forward.add(key, value);
        for (const [key, value] of others) forward.remove(key, value);
        for (const [key, value] of rows.toReversed()) backward.add(key, value);
        assert.equal(forward.digest(), backward.digest());
        assert.equal(new StateHash(forward.digest()).digest(), forward.digest());
        assert.match(forward.digest(), /^[0-9a-f]{16}$/);
      }),
    );
  });

  it("tells apart states that differ in one bit, in a length, or in where a key ends", () => {
    const seen = new Map<string, string>();
    const note = (key: string, value: Uint8Array) => {
      const hash = new StateHash();
      hash.add(key, value);
      const name = `${key}=${Buffer.from(value).toString("hex")}`;
      assert.equal(seen.get(hash.digest()), undefined, name);
      seen.set(hash.digest(), name);
    };
    for (let size = 0; size < 40; size++) {
      note("key", new Uint8Array(size));
      for (let bit = 0; bit < size * 8; bit++) {
        const value = new Uint8Array(size);
        value[bit >> 3] = 1 << (bit & 7);
        note("key", value);
      }
    }
    for (let i = 0; i < 20_000; i++) note(`inode/${i}`, new Uint8Array(8));
    note("ab", new Uint8Array(Buffer.from("c")));
    note("a", new Uint8Array(Buffer.from("bc")));
    const lanes = [0, 8].map(
      (at) => new Set([...seen.keys()].map((hash) => hash.slice(at, at + 8))),
    );
    // 2^32 places for n hashes leave n²/2^33 repetitions: 1 for 26,000 and so far from 20.
    for (const lane of lanes) assert.ok(seen.size - lane.size < 20, `${seen.size - lane.size}`);
  });
});

describe("overlay", () => {
  it("holds nothing of what was taken back, however often that is", () => {
    const overlay = new Overlay({ index: 0, term: 0 });
    const write = (key: string) => {
      overlay.begin(new Cell(key));
    };
    write("kept");
    const { weight } = overlay;
    for (let round = 0; round < 3; round++) {
      const outer = overlay.savepoint();
      write("outer");
      const inner = overlay.savepoint();
      write("inner");
      inner.rollback();
      write("outer again");
      outer.rollback();
    }
    const keys = overlay.generations().map(({ cells }) => cells.map(({ key }) => key));
    assert.deepEqual(keys, [["kept"]]);
    assert.equal(overlay.weight, weight);
  });
});

describe("table of rows", () => {
  it("A11: stays within its bytes, keeps what is read again, and all that is not on disk", () => {
    const unflushed = stored("unflushed", new Uint8Array([2]));
    const cache = new RowTable(300_000, () => [unflushed]);
    cache.set(unflushed);
    const hot = stored("hot", new Uint8Array([1]));
    const absent = stored("absent", undefined);
    cache.set(hot);
    cache.set(absent);
    for (let i = 0; i < 10_000; i++) {
      cache.set(stored(`cold/${i}`, new Uint8Array(100)));
      assert.equal(cache.get("hot"), hot);
      assert.equal(cache.get("absent"), absent);
    }
    assert.equal(cache.get("unflushed"), unflushed);
    let kept = 0;
    for (let i = 0; i < 10_000; i++) if (cache.get(`cold/${i}`) !== undefined) kept++;
    assert.ok(kept > 100 && kept * 600 <= 300_000, `${kept} kept`);
  });

  it("knows nothing of a row that was taken out, however lately it was asked for", () => {
    const cache = new RowTable(3_000_000, () => []);
    const keys = Array.from({ length: 2000 }, (_, i) => `edge/${i}`);
    const cells = keys.map((key) => stored(key, undefined));
    for (const cell of cells) cache.set(cell);
    for (const cell of cells) assert.equal(cache.get(cell.key), cell);
    for (const { key } of cells) {
      cache.get(key);
      cache.delete(key);
      assert.equal(cache.get(key), undefined);
    }
    const entered = stored("edge/1", new Uint8Array([1]));
    cache.set(entered);
    assert.equal(cache.get("edge/1"), entered);
    cache.clear();
    assert.equal(cache.get("edge/1"), undefined);
  });
});
