/** A process that applies entries to a metadata store until it is killed; one line for each index that is on disk. */
import { writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openStateStore } from "../../src/master/store/level-store.ts";
import type { StateWriter } from "../../src/master/store/types.ts";

/** What entry `index` does to the state: some keys are written again and again, some deleted later. */
export function applyNumbered(store: Pick<StateWriter, "put" | "delete">, index: number): void {
  store.put(`inode/${index}`, new Uint8Array(index % 300).fill(index));
  store.put(`hot/${index % 7}`, new Uint8Array(Buffer.from(String(index))));
  if (index > 50) store.delete(`inode/${index - 50}`);
}

async function main(directory: string): Promise<void> {
  const store = await openStateStore({
    directory,
    clock: systemClock,
    logger: silentLogger,
    flushIntervalMs: 2,
    flushBytes: 20_000,
  });
  let told = 0;
  for (let index = store.appliedIndex + 1; ; index++) {
    applyNumbered(store, index);
    store.applied(index, 1);
    if (index % 20 !== 0) continue;
    await new Promise((resolve) => setImmediate(resolve));
    if (store.flushedIndex > told) {
      told = store.flushedIndex;
      writeSync(1, `${told}\n`);
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) void main(process.argv[2]!);
