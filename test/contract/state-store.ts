/** What every `StateStore` keeps to; run by the one on LevelDB and by the one in memory. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type KeyRange,
  type KeyValue,
  prefixRange,
  type ScanRange,
  type StateStore,
} from "../../src/master/store/types.ts";

/** One store's place, which outlives the stores opened on it. */
export interface StatePlace {
  open(): Promise<StateStore>;
  /** Ends `store` without flushing it and opens what is left. */
  crash(store: StateStore): Promise<StateStore>;
  dispose(): Promise<void>;
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

/** Rows with values as text, for comparing. */
export function texts(rows: readonly KeyValue[]): [string, string][] {
  return rows.map(([key, value]) => [key, Buffer.from(value).toString()]);
}

/** The rows of a range that is loaded for this. */
export async function scanned(store: StateStore, range: ScanRange): Promise<[string, string][]> {
  await store.load([range]);
  const rows = store.scan(range);
  store.release([range]);
  return texts(rows);
}

const everything: KeyRange = { from: "", to: "\xff" };

export function describeStateStore(name: string, makePlace: () => Promise<StatePlace>): void {
  describe(`state store contract: ${name}`, () => {
    let place: StatePlace;
    let store: StateStore;

    beforeEach(async () => {
      place = await makePlace();
      store = await place.open();
    });
    afterEach(async () => {
      await store.close();
      await place.dispose();
    });

    it("is empty at index 0", async () => {
      assert.equal(store.flushedIndex, 0);
      assert.equal(store.appliedIndex, 0);
      assert.equal(store.get("inode/1"), undefined);
      assert.equal(store.hash(), "0000000000000000");
      assert.deepEqual(await store.iterate(everything, 10), []);
    });

    it("reads what was put, before and after a flush", async () => {
      store.put("inode/1", bytes("a"));
      store.put("inode/2", bytes("b"));
      store.delete("inode/2");
      store.applied(1, 1);
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(texts([["inode/1", store.get("inode/1")!]]), [["inode/1", "a"]]);
        assert.equal(store.get("inode/2"), undefined);
        assert.deepEqual(texts(await store.iterate(everything, 10)), [["inode/1", "a"]]);
        assert.deepEqual(await store.flush(), { index: 1, term: 1 });
      }
      store.delete("inode/1");
      store.applied(2, 1);
      assert.equal(store.get("inode/1"), undefined);
      assert.deepEqual(await store.iterate(everything, 10), []);
    });

    it("keeps keys of all bytes and in their order", async () => {
      const keys = ["a/\x00", "a/\x00\x01", "a/\x7f", "a/\x80", "a/\xff", "b"];
      for (const key of keys.toReversed()) store.put(key, bytes(key));
      store.applied(1, 1);
      await store.flush();
      assert.deepEqual(
        (await store.iterate(everything, 10)).map(([key]) => key),
        keys,
      );
      assert.deepEqual(
        (await store.iterate(prefixRange("a/"), 10)).map(([key]) => key),
        keys.slice(0, 5),
      );
    });

    it("iterates as of the call, whatever is applied meanwhile, and within its limit", async () => {
      for (let i = 0; i < 50; i++) store.put(`edge/${String(i).padStart(3, "0")}`, bytes("old"));
      store.applied(1, 1);
      await store.flush();
      store.put("edge/0005", bytes("mine"));
      store.delete("edge/006");
      store.applied(2, 1);
      const under = store.iterate(prefixRange("edge/"), 8);
      for (let i = 0; i < 50; i++) store.put(`edge/${String(i).padStart(3, "0")}`, bytes("new"));
      store.applied(3, 1);
      await store.flush();
      assert.deepEqual(texts(await under), [
        ["edge/000", "old"],
        ["edge/0005", "mine"],
        ["edge/001", "old"],
        ["edge/002", "old"],
        ["edge/003", "old"],
        ["edge/004", "old"],
        ["edge/005", "old"],
        ["edge/007", "old"],
      ]);
      assert.deepEqual(await store.iterate(prefixRange("edge/"), 0), []);
    });

    it("refuses to scan what was not loaded", async () => {
      await store.load([prefixRange("edge/1/")]);
      assert.throws(() => store.scan(prefixRange("edge/2/")), /not loaded/);
      assert.deepEqual(store.scan({ from: "edge/1/a", to: "edge/1/b" }), []);
      store.release([prefixRange("edge/1/")]);
      assert.throws(() => store.scan(prefixRange("edge/1/")), /not loaded/);
    });

    it("scans loaded ranges rightly while flushes complete in between", async () => {
      store.put("edge/1/a", bytes("1"));
      store.put("edge/1/b", bytes("1"));
      store.put("edge/2/x", bytes("1"));
      store.applied(1, 1);
      await store.flush();
      const range = prefixRange("edge/1/");
      store.put("edge/1/c", bytes("2"));
      store.applied(2, 1);
      const loading = store.load([range]);
      const flushing = store.flush();
      await Promise.all([loading, flushing]);
      store.delete("edge/1/a");
      store.put("edge/1/b", bytes("3"));
      store.applied(3, 1);
      await store.flush();
      store.put("edge/1/d", bytes("4"));
      assert.deepEqual(texts(store.scan(range)), [
        ["edge/1/b", "3"],
        ["edge/1/c", "2"],
        ["edge/1/d", "4"],
      ]);
      store.release([range]);
      store.applied(4, 1);
    });

    it("loads the row before a range, and the first rows of one, whatever else there is", async () => {
      for (let i = 0; i < 50; i++) store.put(`edge/1/${String(i + 10)}`, bytes("1"));
      store.applied(1, 1);
      await store.flush();
      for (let i = 25; i < 30; i++) store.delete(`edge/1/${String(i + 10)}`);
      store.applied(2, 1);
      const reaching: ScanRange = { from: "edge/1/40", to: "edge/1/42", since: "edge/1/" };
      const first: ScanRange = { from: "edge/1/33", to: "edge/1/9", limit: 3 };
      const loading = store.load([reaching, first]);
      await Promise.all([loading, store.flush()]);
      assert.throws(() => store.scan({ from: "edge/1/40", to: "edge/1/42" }), /not loaded/);
      assert.deepEqual(keysOf(store.scan(reaching)), ["edge/1/34", "edge/1/40", "edge/1/41"]);
      assert.deepEqual(keysOf(store.scan(first)), ["edge/1/33", "edge/1/34", "edge/1/40"]);
      store.release([reaching, first]);
      assert.throws(() => store.scan(reaching), /not loaded/);
    });

    it("takes back what came after a savepoint, nested ones too", async () => {
      store.put("inode/1", bytes("a"));
      store.put("inode/2", bytes("b"));
      store.applied(1, 1);
      await store.flush();
      const before = store.hash();
      const outer = store.savepoint();
      store.put("inode/1", bytes("x"));
      store.delete("inode/2");
      store.put("inode/3", bytes("c"));
      const inner = store.savepoint();
      store.put("inode/1", bytes("y"));
      store.delete("inode/3");
      inner.rollback();
      assert.deepEqual(await scanned(store, prefixRange("inode/")), [
        ["inode/1", "x"],
        ["inode/3", "c"],
      ]);
      outer.rollback();
      assert.equal(store.hash(), before);
      assert.deepEqual(await scanned(store, prefixRange("inode/")), [
        ["inode/1", "a"],
        ["inode/2", "b"],
      ]);
      const kept = store.savepoint();
      store.put("inode/3", bytes("c"));
      kept.commit();
      store.applied(2, 1);
      assert.equal(Buffer.from(store.get("inode/3")!).toString(), "c");
    });

    it("loses at a crash what was not flushed, and nothing else", async () => {
      store.put("inode/1", bytes("a"));
      store.applied(7, 2);
      await store.flush();
      const hash = store.hash();
      store.put("inode/1", bytes("b"));
      store.put("inode/2", bytes("c"));
      store = await place.crash(store);
      assert.deepEqual([store.appliedIndex, store.flushedIndex, store.flushedTerm], [7, 7, 2]);
      assert.equal(store.hash(), hash);
      assert.deepEqual(texts(await store.iterate(everything, 9)), [["inode/1", "a"]]);
    });

    it("moves its position with entries that write nothing", async () => {
      store.applied(1, 1);
      store.applied(2, 3);
      assert.deepEqual(await store.flush(), { index: 2, term: 3 });
      store = await place.crash(store);
      assert.deepEqual([store.flushedIndex, store.flushedTerm], [2, 3]);
    });

    it("has a hash that depends on the state alone", async () => {
      store.put("inode/1", bytes("a"));
      store.put("inode/2", bytes("b"));
      const hash = store.hash();
      store.put("inode/1", bytes("c"));
      store.put("inode/3", bytes("d"));
      assert.notEqual(store.hash(), hash);
      store.delete("inode/3");
      store.delete("inode/4");
      store.put("inode/1", bytes("a"));
      store.put("inode/1", bytes("a"));
      assert.equal(store.hash(), hash);
      store.applied(1, 1);
      await store.flush();
      store.delete("inode/1");
      store.delete("inode/2");
      assert.equal(store.hash(), "0000000000000000");
      store.applied(2, 1);
    });

    it("knows the hash of what is flushed while more is applied, and after a crash", async () => {
      assert.equal(store.flushedHash, "0000000000000000");
      store.put("inode/1", bytes("a"));
      store.applied(1, 1);
      await store.flush();
      const first = store.hash();
      assert.equal(store.flushedHash, first);
      store.put("inode/1", bytes("b"));
      store.applied(2, 1);
      assert.equal(store.flushedHash, first);
      await store.flush();
      assert.notEqual(store.flushedHash, first);
      assert.equal(store.flushedHash, store.hash());
      const hash = store.hash();
      store.put("inode/2", bytes("c"));
      store = await place.crash(store);
      assert.equal(store.flushedHash, hash);
    });

    it("gives a snapshot of one index, undisturbed by what follows, that another store installs", async () => {
      for (let i = 0; i < 500; i++) store.put(`inode/${i}`, bytes(`v${i}`));
      store.applied(5, 2);
      const hash = store.hash();
      const snapshot = await store.snapshot();
      assert.deepEqual([snapshot.index, snapshot.term], [5, 2]);
      store.put("inode/0", bytes("later"));
      store.put("zzz", bytes("later"));
      store.applied(6, 2);
      await store.flush();

      const otherPlace = await makePlace();
      let other = await otherPlace.open();
      try {
        other.put("inode/0", bytes("own"));
        other.put("own", bytes("own"));
        other.applied(1, 1);
        await other.flush();
        other.put("more", bytes("own"));
        other.applied(2, 1);
        await other.install(snapshot.index, snapshot.term, snapshot.chunks());
        for (let i = 0; i < 2; i++) {
          assert.deepEqual(
            [other.appliedIndex, other.flushedIndex, other.flushedTerm, other.hash()],
            [5, 5, 2, hash],
          );
          assert.equal(other.flushedHash, hash);
          assert.equal(other.get("own"), undefined);
          assert.equal(other.get("more"), undefined);
          assert.equal(Buffer.from(other.get("inode/0")!).toString(), "v0");
          assert.equal((await other.iterate(everything, 1000)).length, 500);
          other = await otherPlace.crash(other);
        }
        other.put("inode/0", bytes("on"));
        other.applied(6, 2);
        assert.deepEqual(await other.flush(), { index: 6, term: 2 });
      } finally {
        await snapshot.close();
        await other.close();
        await otherPlace.dispose();
      }
    });

    it("keeps what it had when the chunks of a snapshot end in an error", async () => {
      store.put("inode/1", bytes("a"));
      store.applied(1, 1);
      async function* broken(): AsyncGenerator<readonly KeyValue[]> {
        yield [["inode/9", bytes("z")]];
        throw new Error("the connection was cut");
      }
      await assert.rejects(store.install(9, 1, broken()), /was cut/);
      assert.deepEqual(texts(await store.iterate(everything, 9)), [["inode/1", "a"]]);
      store.put("inode/2", bytes("b"));
      store.applied(2, 1);
      assert.deepEqual(await store.flush(), { index: 2, term: 1 });
    });

    it("behaves like a sorted map under random work, flushes and crashes", async function () {
      this.timeout(60_000);
      const key = fc.constantFrom("a/1", "a/2", "a/2/x", "a/3", "b/1", "b/\xfe", "c");
      const step = fc.oneof(
        fc.record({ kind: fc.constant("put" as const), key, value: fc.string({ maxLength: 3 }) }),
        fc.record({ kind: fc.constant("delete" as const), key }),
        fc.record({
          kind: fc.constantFrom(
            "applied" as const,
            "flush" as const,
            "crash" as const,
            "begin" as const,
            "rollback" as const,
            "commit" as const,
            "load" as const,
          ),
        }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
          const here = await makePlace();
          let tested = await here.open();
          try {
            let [model, durable] = [new Map<string, string>(), new Map<string, string>()];
            let index = 0;
            let savepoint: ReturnType<StateStore["savepoint"]> | undefined;
            let saved = new Map<string, string>();
            let loaded: KeyRange | undefined;
            const range = prefixRange("a/");
            const inRange = () => sortedRows(model).filter(([each]) => each >= "a/" && each < "a0");
            const entry = () => {
              savepoint?.commit();
              savepoint = undefined;
              tested.applied(++index, 1);
            };
            for (const each of steps) {
              switch (each.kind) {
                case "put":
                  tested.put(each.key, bytes(each.value));
                  model.set(each.key, each.value);
                  break;
                case "delete":
                  tested.delete(each.key);
                  model.delete(each.key);
                  break;
                case "applied":
                  entry();
                  break;
                case "flush":
                  entry();
                  assert.equal((await tested.flush()).index, index);
                  durable = new Map(model);
                  break;
                case "begin":
                  savepoint?.commit();
                  savepoint = tested.savepoint();
                  saved = new Map(model);
                  break;
                case "rollback":
                  if (savepoint !== undefined) model = new Map(saved);
                  savepoint?.rollback();
                  savepoint = undefined;
                  break;
                case "commit":
                  savepoint?.commit();
                  savepoint = undefined;
                  break;
                case "load":
                  if (loaded !== undefined) tested.release([loaded]);
                  loaded = range;
                  await tested.load([range]);
                  break;
                case "crash": {
                  savepoint = undefined;
                  loaded = undefined;
                  const flushed = tested.flushedIndex;
                  tested = await here.crash(tested);
                  assert.ok(tested.appliedIndex >= flushed && tested.appliedIndex <= index);
                  if (tested.appliedIndex > flushed) durable = new Map(model);
                  else model = new Map(durable);
                  index = tested.appliedIndex;
                  break;
                }
              }
              for (const [at, value] of model) {
                assert.equal(Buffer.from(tested.get(at) ?? []).toString(), value);
              }
              if (loaded !== undefined) assert.deepEqual(texts(tested.scan(loaded)), inRange());
              assert.deepEqual(texts(await tested.iterate(everything, 100)), sortedRows(model));
              assert.deepEqual(texts(await tested.iterate(range, 2)), inRange().slice(0, 2));
              for (const from of ["a/1", "a/2", "a/3", "a/4"]) {
                const before = inRange().filter(([at]) => at < from);
                const after = inRange().filter(([at]) => at >= from);
                const reaching: ScanRange = { from, to: range.to, since: range.from };
                const wanted = [...before.slice(-1), ...after];
                assert.deepEqual(await scanned(tested, reaching), wanted);
                assert.deepEqual(texts(await tested.iterate(reaching, 100)), wanted);
                const first: ScanRange = { from, to: range.to, limit: 1 };
                assert.deepEqual(await scanned(tested, first), after.slice(0, 1));
              }
            }
          } finally {
            await tested.close();
            await here.dispose();
          }
        }),
        { numRuns: 60 },
      );
    });
  });
}

function keysOf(rows: readonly KeyValue[]): string[] {
  return rows.map(([key]) => key);
}

function sortedRows(model: ReadonlyMap<string, string>): [string, string][] {
  return [...model].sort(([a], [b]) => (a < b ? -1 : 1));
}
