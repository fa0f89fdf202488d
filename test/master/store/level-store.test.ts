import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Clock, seededRandom } from "../../../src/lib/clock.ts";
import { hasCode } from "../../../src/lib/errors.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { name, struct, unsigned } from "../../../src/lib/schema.ts";
import { openStateStore, type StateStoreOptions } from "../../../src/master/store/level-store.ts";
import { type KeyValue, prefixRange, type StateStore } from "../../../src/master/store/types.ts";
import { bytes, scanned, texts } from "../../contract/state-store.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";
import { applyNumbered } from "../../lib/state-store-child.ts";

const childPath = fileURLToPath(new URL("../../lib/state-store-child.ts", import.meta.url));
const everything = { from: "", to: "\xff" };

/** A clock whose timers a test fires itself. */
class HandClock implements Clock {
  nowMs = 0;
  readonly #timers = new Set<() => void>();

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.nowMs;
  }

  after(_delayMs: number, callback: () => void): () => void {
    this.#timers.add(callback);
    return () => this.#timers.delete(callback);
  }

  get timers(): number {
    return this.#timers.size;
  }

  fire(): void {
    const due = [...this.#timers];
    this.#timers.clear();
    for (const callback of due) callback();
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000; turn++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.fail("it did not come to pass");
}

describe("state store on LevelDB", () => {
  let root: string;
  let clock: HandClock;
  const open = (options: Partial<StateStoreOptions> = {}, name = "state"): Promise<StateStore> =>
    openStateStore({ directory: join(root, name), clock, logger: silentLogger, ...options });

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "weir-store-"));
    clock = new HandClock();
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  it("encodes few rows in a turn of the event loop when they are large", async () => {
    const store = await open();
    const record = struct({ count: unsigned(), label: name });
    const rowBytes = 128 * 1024;
    let inTurn = 0;
    let most = 0;
    for (let i = 0; i < 40; i++) {
      const value = {
        count: i,
        get label() {
          most = Math.max(most, ++inTurn);
          return "x".repeat(rowBytes);
        },
      };
      store.write(record, `inode/${String(i)}`, value);
    }
    store.applied(1, 1);
    inTurn = most = 0;
    let isOver = false;
    const onTurn = () => {
      inTurn = 0;
      if (!isOver) setImmediate(onTurn);
    };
    onTurn();
    await store.flush();
    isOver = true;
    assert.ok(most > 0 && most <= 8, `${String(most)} rows in one turn`);
    await store.close();
  });

  it("flushes by itself when its timer fires, and sets none while there is nothing to flush", async () => {
    const store = await open();
    assert.equal(clock.timers, 0);
    store.put("inode/1", bytes("a"));
    store.applied(1, 1);
    store.applied(2, 1);
    assert.equal(clock.timers, 1);
    assert.equal(store.flushedIndex, 0);
    clock.fire();
    await until(() => store.flushedIndex === 2);
    assert.equal(clock.timers, 0);
    await store.close();
  });

  it("never flushes half an entry", async () => {
    const store = await open();
    store.put("inode/1", bytes("a"));
    store.applied(1, 1);
    store.put("inode/1", bytes("b"));
    clock.fire();
    assert.equal(store.flushedIndex, 0);
    store.applied(2, 1);
    assert.deepEqual(await store.flush(), { index: 2, term: 1 });
    await store.close();
  });

  it("flushes at its bound of bytes without a timer, and reads rightly over all generations", async () => {
    const store = await open({ flushBytes: 2000 });
    const model = new MemoryStateStore();
    for (let index = 1; index <= 400; index++) {
      applyNumbered(store, index);
      applyNumbered(model, index);
      store.applied(index, 1);
      if (index % 90 !== 0) continue;
      assert.deepEqual(
        await scanned(store, prefixRange("inode/")),
        await scanned(model, prefixRange("inode/")),
      );
      assert.equal(store.hash(), model.hash());
    }
    await until(() => store.flushedIndex > 390);
    assert.deepEqual(
      texts(await store.iterate(everything, 1000)),
      texts(await model.iterate(everything, 1000)),
    );
    await store.close();
  });

  it("tells hash, records and ranges of the newest state at every moment of a flush", async () => {
    const store = await open({ flushBytes: 400_000, cacheBytes: 200_000 });
    const model = new MemoryStateStore();
    const record = struct({ count: unsigned(), label: name });
    const random = seededRandom(11);
    let made = 0;
    for (let index = 1; index <= 120; index++) {
      // Some of the changes are taken back.
      for (let round = 0; round < 3; round++) {
        const steps = Array.from({ length: 40 }, () => [random.below(4), random.below(3000)]);
        const isTakenBack = round === 1;
        for (const state of [store, model]) {
          const savepoint = state.savepoint();
          steps.forEach(([kind, place], i) => {
            const key = `inode/${String(place)}`;
            const value = { count: index, label: `label ${String(round)}` };
            if (kind === 0) state.delete(key);
            else if (kind === 1) state.put(key, bytes(String(index)));
            else if (kind === 2) state.write(record, key, value);
            else state.add(record, `new/${String(made + i)}`, value);
          });
          if (isTakenBack) savepoint.rollback();
          else savepoint.commit();
        }
        if (!isTakenBack) made += steps.length;
      }
      store.applied(index, 1);
      model.applied(index, 1);
      assert.equal(store.hash(), model.hash());
      if (index % 3 === 0) clock.fire();
      await new Promise((resolve) => setImmediate(resolve));
      if (index % 10 !== 0) continue;
      assert.equal(store.hash(), model.hash());
      for (const range of [prefixRange("inode/1"), prefixRange("new/")]) {
        const rows = texts(await store.iterate(range, 1e6));
        assert.deepEqual(rows, texts(await model.iterate(range, 1e6)));
      }
      for (let i = made - 10; i < made; i++) {
        const key = `new/${String(i)}`;
        assert.deepEqual(store.read(record, key), model.read(record, key));
      }
    }
    assert.ok(store.flushedIndex > 0);
    const hash = store.hash();
    await store.close();
    const again = await open();
    assert.equal(again.hash(), hash);
    const rows = texts(await again.iterate(everything, 1e6));
    assert.deepEqual(rows, texts(await model.iterate(everything, 1e6)));
    await again.close();
  });

  it("is full when more is written than it may hold, until that is on disk", async () => {
    const store = await open({ maxOverlayBytes: 10_000 });
    for (let index = 1; !store.full; index++) {
      assert.ok(index < 1000);
      store.put(`inode/${index}`, new Uint8Array(500));
      store.applied(index, 1);
    }
    await store.flush();
    assert.equal(store.full, false);
    await store.close();
  });

  it("A10: closes only after snapshots and iterations under way have ended", async () => {
    const store = await open();
    for (let i = 0; i < 3000; i++) store.put(`inode/${i}`, new Uint8Array(100));
    store.applied(1, 1);
    const snapshot = await store.snapshot();
    const chunks = snapshot.chunks()[Symbol.asyncIterator]();
    const first = await chunks.next();
    assert.equal(first.done, false);
    const iteration = store.iterate(everything, 5000);
    let closed = false;
    const closing = store.close().then(() => {
      closed = true;
    });
    assert.equal((await iteration).length, 3000);
    let rows = first.value.length;
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
      rows += next.value.length;
    }
    assert.equal(rows, 3000);
    assert.equal(closed, false);
    await snapshot.close();
    await closing;
    await assert.rejects(store.iterate(everything, 1), { code: "Unavailable" });
  });

  it("settles every flush and snapshot that waits while it is closed", async () => {
    const ended = (each: Promise<unknown>) =>
      each.then(
        () => "done",
        (thrown: unknown) => (hasCode(thrown, "Unavailable") ? "closed" : String(thrown)),
      );
    const store = await open();
    store.put("inode/1", bytes("a"));
    store.applied(1, 1);
    const waiting = [ended(store.flush()), ended(store.snapshot().then((each) => each.close()))];
    const closing = store.close();
    // Comes to be while that is under way.
    store.put("inode/1", bytes("b"));
    store.applied(2, 1);
    waiting.push(ended(store.flush()), ended(store.snapshot()), ended(store.close()));
    await closing;
    const ends = await Promise.all(waiting);
    assert.deepEqual(ends, ["done", "closed", "closed", "closed", "done"]);
    await (await open()).close();
  });

  it("settles a flush of entries behind which another one was begun when it is closed", async () => {
    const store = await open();
    store.put("inode/1", bytes("a"));
    store.applied(1, 1);
    const first = store.flush();
    store.applied(2, 1);
    const second = assert.rejects(store.flush(), { code: "Unavailable" });
    store.put("inode/1", bytes("half"));
    await store.close();
    await first;
    await second;
  });

  it("finds what is written where something was scanned and taken back", async () => {
    const store = await open();
    const range = prefixRange("inode/");
    await store.load([range]);
    store.put("inode/1", bytes("a"));
    const savepoint = store.savepoint();
    for (let i = 2; i < 6; i++) store.put(`inode/${i}`, bytes("taken back"));
    assert.equal(store.scan(range).length, 5);
    savepoint.rollback();
    store.put("inode/9", bytes("b"));
    store.put("inode/4", bytes("c"));
    const rows = [
      ["inode/1", "a"],
      ["inode/4", "c"],
      ["inode/9", "b"],
    ];
    assert.deepEqual(texts(store.scan(range)), rows);
    store.applied(1, 1);
    await store.flush();
    assert.deepEqual(texts(await store.iterate(range, 9)), rows);
    await store.close();
  });

  it("lets readers of a replaced state read on, and removes it behind them", async () => {
    const store = await open();
    for (let i = 0; i < 2000; i++) store.put(`inode/${i}`, bytes("old"));
    store.applied(1, 1);
    const old = await store.snapshot();
    async function* fresh(): AsyncGenerator<readonly KeyValue[]> {
      yield [["inode/1", bytes("new")]];
    }
    await store.install(50, 2, fresh());
    assert.deepEqual(texts(await store.iterate(everything, 9)), [["inode/1", "new"]]);
    let rows = 0;
    for await (const chunk of old.chunks()) rows += chunk.length;
    assert.equal(rows, 2000);
    assert.ok((await readdir(join(root, "state"))).includes("state-1"));
    await old.close();
    await store.close();
    assert.deepEqual((await readdir(join(root, "state"))).sort(), ["CURRENT", "state-2"]);
  });

  it("R17: keeps the old state when it was killed while a snapshot was being installed", async () => {
    const store = await open();
    store.put("inode/1", bytes("old"));
    store.applied(3, 1);
    await store.flush();
    async function* stuck(): AsyncGenerator<readonly KeyValue[]> {
      yield [["inode/1", new Uint8Array(600_000)]];
      await cp(join(root, "state"), join(root, "killed"), { recursive: true });
      yield [["inode/2", bytes("new")]];
    }
    await store.install(50, 2, stuck());
    await store.close();
    assert.ok((await readdir(join(root, "killed"))).includes("state-2"));
    const again = await open({}, "killed");
    assert.equal(again.flushedIndex, 3);
    assert.deepEqual(texts(await again.iterate(everything, 9)), [["inode/1", "old"]]);
    assert.deepEqual((await readdir(join(root, "killed"))).sort(), ["CURRENT", "state-1"]);
    await again.close();
  });

  it("refuses a damaged pointer, and a database that is missing, with the ways back", async () => {
    const store = await open();
    await store.close();
    const message = /weir cluster replace NAME.*weir backup restore FILE/;
    for (const text of ["", "state-x", "../other", "state-9"]) {
      await writeFile(join(root, "state", "CURRENT"), text);
      await assert.rejects(open(), { code: "Corrupt", message });
    }
    await rm(join(root, "state", "CURRENT"));
    await assert.rejects(open(), { code: "Corrupt", message });
  });

  it("takes the first database that is gone for a loss, and one that is only begun for the beginning", async () => {
    const directory = join(root, "state");
    await mkdir(join(directory, "state-1"), { recursive: true });
    await (await open()).close();
    await rm(join(directory, "state-1"), { recursive: true });
    await assert.rejects(open(), { code: "Corrupt", message: /"state-1" is missing/ });
    assert.deepEqual(await readdir(directory), ["CURRENT"]);
  });

  it("lets nobody else open it", async () => {
    const store = await open();
    await assert.rejects(open(), { code: "Busy" });
    await store.close();
    await (await open()).close();
  });

  it("is at exactly the index that it says after a kill at random, with all that it told of", async function () {
    this.timeout(60_000);
    const random = seededRandom(7);
    const model = new MemoryStateStore();
    let modelIndex = 0;
    for (let round = 0; round < 4; round++) {
      const child = spawn(process.execPath, ["--import", "tsx", childPath, join(root, "state")], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const ended = new Promise((resolve) => child.once("close", resolve));
      let [told, lines] = [0, 0];
      const killAfter = 1 + random.below(60);
      createInterface(child.stdout).on("line", (line) => {
        told = Number(line);
        if (++lines === killAfter) child.kill("SIGKILL");
      });
      await ended;
      assert.ok(lines >= killAfter, "the child ended by itself");
      const store = await open();
      assert.ok(store.appliedIndex >= told, `${store.appliedIndex} is on disk, told was ${told}`);
      while (modelIndex < store.appliedIndex) applyNumbered(model, ++modelIndex);
      assert.deepEqual(
        texts(await store.iterate(everything, 1000)),
        texts(await model.iterate(everything, 1000)),
      );
      assert.equal(store.hash(), model.hash());
      await store.close();
    }
  });
});
