/** What the disk gives back is not what was written: found before it is handed on. And what rows take in the heap. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Level } from "level";
import { systemClock } from "../../../src/lib/clock.ts";
import { hasCode } from "../../../src/lib/errors.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { Cell } from "../../../src/master/store/cell.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import { RowTable } from "../../../src/master/store/row-table.ts";
import { withTempDir } from "../../lib/temp-dir.ts";

const common = { clock: systemClock, logger: silentLogger };

describe("a state that rots", () => {
  for (const [what, rot] of [
    ["another value", (level: Level) => level.put("inode/7", "rotten")],
    ["no row", (level: Level) => level.del("inode/7")],
  ] as const) {
    it(`is not handed out as a snapshot where the disk has ${what}`, () =>
      withTempDir(async (directory) => {
        let store = await openStateStore({ ...common, directory });
        for (let i = 0; i < 20; i++) store.put(`inode/${String(i)}`, Buffer.from([i]));
        store.applied(1, 1);
        await store.close();
        const level = new Level(join(directory, "state-1"));
        await rot(level);
        await level.close();
        store = await openStateStore({ ...common, directory });
        const snapshot = await store.snapshot();
        await assert.rejects(
          async () => {
            for await (const rows of snapshot.chunks()) assert.ok(rows.length > 0);
          },
          (thrown) => hasCode(thrown, "Corrupt") && thrown.message.includes("cluster replace"),
        );
        await snapshot.close();
        await store.close();
      }));
  }

  it("answers no flipped bit of its rows as if it had been written, and says whose end it is", () =>
    withTempDir(async (directory) => {
      let store = await openStateStore({ ...common, directory });
      for (let i = 0; i < 20; i++) store.put(`inode/${String(i)}`, Buffer.from([i, i, i]));
      store.applied(1, 1);
      await store.close();
      const level = new Level<Uint8Array, Uint8Array>(join(directory, "state-1"), {
        keyEncoding: "view",
        valueEncoding: "view",
      });
      const key = Buffer.from("inode/7");
      const row = await level.get(key);
      row[1]! ^= 4;
      await level.put(key, row);
      await level.close();
      const failures: Error[] = [];
      const onFailure = (error: Error) => failures.push(error);
      store = await openStateStore({ ...common, directory, onFailure });
      assert.deepEqual([...store.get("inode/8")!], [8, 8, 8]);
      const isNamed = (thrown: unknown) =>
        hasCode(thrown, "Corrupt") &&
        /"inode\/7" .* cluster replace .* backup restore/.test(thrown.message);
      assert.throws(() => store.get("inode/7"), isNamed);
      const range = { from: "inode/6", to: "inode/8" };
      await assert.rejects(store.iterate(range, 9), isNamed);
      await assert.rejects(store.load([range]), isNamed);
      assert.equal(failures.length, 1);
      assert(isNamed(failures[0]));
      await assert.rejects(store.flush(), isNamed);
      await store.close();
    }));

  it("is refused where it no longer says which entry it reflects", () =>
    withTempDir(async (directory) => {
      const store = await openStateStore({ ...common, directory });
      store.put("inode/1", Buffer.from([1]));
      store.applied(1, 1);
      await store.close();
      for (const rot of [
        (level: Level) => level.put("meta/applied", "\x02 and 12 others"),
        (level: Level) => level.put("meta/applied", "\x01 and 11 more"),
        (level: Level) => level.del("meta/applied"),
      ]) {
        const level = new Level(join(directory, "state-1"));
        await rot(level);
        await level.close();
        await assert.rejects(openStateStore({ ...common, directory }), (thrown) =>
          hasCode(thrown, "Corrupt"),
        );
      }
    }));

  it("does not take the place of a state when it does not sum to what was said", () =>
    withTempDir(async (directory) => {
      const store = await openStateStore({ ...common, directory });
      store.put("inode/1", Buffer.from([1]));
      store.applied(1, 1);
      const snapshot = await store.snapshot();
      const rows = async function* () {
        yield [["inode/1", Buffer.from([2])]] as const;
      };
      await assert.rejects(store.install(5, 2, rows(), snapshot.hash), (thrown) =>
        hasCode(thrown, "Corrupt"),
      );
      assert.deepEqual([store.appliedIndex, store.get("inode/1")?.[0]], [1, 1]);
      await store.install(5, 2, snapshot.chunks(), snapshot.hash);
      assert.equal(store.appliedIndex, 5);
      await snapshot.close();
      await store.close();
    }));

  it("hands out large rows in pieces of their own", () =>
    withTempDir(async (directory) => {
      const store = await openStateStore({ ...common, directory });
      for (let i = 0; i < 12; i++) store.put(`inode/${String(i)}`, Buffer.alloc(400 * 1024, i));
      store.applied(1, 1);
      const snapshot = await store.snapshot();
      const pieces: number[] = [];
      for await (const rows of snapshot.chunks()) pieces.push(rows.length);
      assert.deepEqual(pieces, new Array<number>(12).fill(1));
      await snapshot.close();
      await store.close();
    }));
});

describe("the table of rows", () => {
  it("counts what its rows grow by", () => {
    const table = new RowTable(100_000, () => []);
    table.set(new Cell("grows"));
    table.grew(200_000);
    table.set(new Cell("next"));
    table.grew(200_000);
    table.set(new Cell("last"));
    assert.equal(table.get("grows"), undefined);
  });
});
