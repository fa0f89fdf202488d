/** The store on LevelDB where planted bugs went unseen. */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../../src/lib/logger.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
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
});
