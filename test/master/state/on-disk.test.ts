/** The state machine over the store on disk: what was loaded ahead is enough, and the state is that of the store in the heap. */
import assert from "node:assert/strict";
import { systemClock } from "../../../src/lib/clock.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { applyEntry, rangesOf } from "../../../src/master/state/machine.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import { withTempDir } from "../../lib/temp-dir.ts";
import { commitCommand, extentsOver, Machine } from "./machine-fixture.ts";

/** Files written, overwritten, persisted, removed and reclaimed, and a session that ends. */
function lived(): Machine {
  const machine = Machine.make();
  const keepers = [machine.worker("w1"), machine.worker("w2")] as const;
  const session = machine.openSession();
  machine.mkdir("/d");
  for (let i = 0; i < 5; i++) {
    const path = `/d/f${String(i)}`;
    const { inode } = machine.write(path, 250, { keepers, session });
    const writeId = machine.done({ kind: "lease", inode }, session).writeId!;
    const extents = extentsOver(writeId, 100, 150);
    const commit = commitCommand({ inode, writeId, baseVersion: 2, size: 300, extents, keepers });
    machine.done({ ...commit, release: i % 2 === 0 }, session);
    const containers = [{ inode, writeId }];
    machine.done({ kind: "keeperGone", worker: keepers[i % 2]!, containers });
  }
  machine.settle();
  machine.done({ kind: "unlink", parent: machine.at("/d").id, name: "f0", held: false });
  machine.done({ kind: "truncate", inode: machine.at("/d/f2").id, size: 120 });
  machine.done({ kind: "closeSession", session });
  machine.clusterTimeMs += 1000;
  const keys = machine.state.entries("garbage/").map(([key]) => key);
  machine.done({ kind: "reapGarbage", keys });
  machine.done({ kind: "deleteTree", parent: rootInodeId, name: "d" });
  return machine;
}

describe("the state machine over the store on disk", () => {
  it("finds all that it scans, flushed or not, and ends in the same state", () =>
    withTempDir(async (directory) => {
      const machine = lived();
      const options = { directory, clock: systemClock, logger: silentLogger, flushIntervalMs: 1 };
      let store = await openStateStore(options);
      for (const [i, entry] of machine.entries.entries()) {
        const index = i + 1;
        const ranges = rangesOf(entry, store);
        await store.load(ranges);
        applyEntry(store, index, entry);
        store.applied(index, 1);
        store.release(ranges);
        if (index % 10 === 0) await store.flush();
        if (index % 25 === 0) {
          await store.close();
          store = await openStateStore(options);
          assert.equal(store.appliedIndex, index);
        }
      }
      assert.equal(store.hash(), machine.state.hash());
      await store.close();
    }));
});
