import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../../src/lib/clock.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import { describeStateStore } from "../../contract/state-store.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";

/** No flush comes by itself: the tests say when. */
const stoppedClock: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  after: () => () => undefined,
};

/** Files of a database that was just replaced may vanish under the copy, which then begins anew. */
async function copyWhileRunning(from: string, to: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await cp(from, to, { recursive: true });
      return;
    } catch (thrown) {
      if (attempt === 100 || (thrown as NodeJS.ErrnoException).code !== "ENOENT") throw thrown;
      await rm(to, { recursive: true, force: true });
    }
  }
}

describeStateStore("on LevelDB", async () => {
  const root = await mkdtemp(join(tmpdir(), "weir-state-"));
  let generation = 0;
  const open = () =>
    openStateStore({
      directory: join(root, String(generation)),
      clock: stoppedClock,
      logger: silentLogger,
    });
  return {
    open,
    crash: async (store) => {
      const from = join(root, String(generation++));
      await copyWhileRunning(from, join(root, String(generation)));
      await store.close();
      return open();
    },
    dispose: () => rm(root, { recursive: true, force: true }),
  };
});

describeStateStore("in memory", async () => ({
  open: async () => new MemoryStateStore(),
  crash: async (store) => {
    assert(store instanceof MemoryStateStore);
    return store.crash();
  },
  dispose: async () => undefined,
}));
