/** The store on LevelDB where planted bugs went unseen. */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { silentLogger } from "../../../src/lib/logger.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import type { KeyValue } from "../../../src/master/store/types.ts";
import { bytes } from "../../contract/state-store.ts";

describe("state store on LevelDB, cases", () => {
  let root: string;
  const open = (name: string) =>
    openStateStore({
      directory: join(root, name),
      clock: { monotonicMs: () => 0, wallMs: () => 0, after: () => () => undefined },
      logger: silentLogger,
    });

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "weir-store-"));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  it("flushes no half of an entry, also when one is begun while another flush is under way", async () => {
    const store = await open("state");
    store.put("inode/1", bytes("a"));
    store.applied(1, 1);
    const first = store.flush();
    store.put("inode/2", bytes("b"));
    store.applied(2, 1);
    const second = store.flush();
    // Entry 3 is half done when the first flush ends and the second one could begin.
    store.put("inode/3", bytes("half"));
    await first;
    await cp(join(root, "state"), join(root, "crashed"), { recursive: true });
    store.applied(3, 1);
    await second;
    await store.close();
    const crashed = await open("crashed");
    assert.equal(crashed.get("inode/3"), undefined);
    assert.ok(crashed.flushedIndex < 3);
    await crashed.close();
  });

  it("has LevelDB sync every batch, of a flush and of a snapshot that is installed", async () => {
    const synced: boolean[] = [];
    const undo = await watchBatches(join(root, "other"), (options) => {
      synced.push(options?.sync === true);
    });
    try {
      const store = await open("state");
      for (let index = 1; index <= 3; index++) {
        store.put(`inode/${index}`, bytes("a"));
        store.applied(index, 1);
        await store.flush();
      }
      const flushes = synced.length;
      assert.ok(flushes >= 3);
      async function* rows(): AsyncGenerator<readonly KeyValue[]> {
        for (let i = 0; i < 3; i++) yield [[`inode/${i}`, new Uint8Array(600_000)]];
      }
      await store.install(50, 1, rows());
      assert.ok(synced.length >= flushes + 3);
      await store.close();
      assert.ok(synced.every(Boolean), `not all of ${synced.length} batches are synced`);
    } finally {
      undo();
    }
  });
});

type BatchOptions = { sync?: boolean } | undefined;

/** Calls `onWrite` for each batch that any LevelDB of this process writes, until the returned function is called. */
async function watchBatches(
  directory: string,
  onWrite: (options: BatchOptions) => void,
): Promise<() => void> {
  const level = new Level(directory);
  await level.open();
  type Writes = { write: (this: object, options?: BatchOptions) => Promise<void> };
  let writes = Object.getPrototypeOf(level.batch()) as Writes;
  while (!Object.hasOwn(writes, "write")) writes = Object.getPrototypeOf(writes) as Writes;
  await level.close();
  const { write } = writes;
  writes.write = function (options) {
    onWrite(options);
    return write.call(this, options);
  };
  return () => {
    writes.write = write;
  };
}
