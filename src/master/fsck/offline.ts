/** Checks what lies on a disk: a backup, or the state in the data directory of a master that is stopped. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { silentLogger } from "../../lib/logger.ts";
import type { FsckEnd } from "../../rpc/fsck-items.ts";
import { indexBackup } from "../backup/indexed.ts";
import { openStateStore } from "../store/level-store.ts";
import { type RowSource, runCheck } from "./run-check.ts";

/**
 * Checks a backup file, or a data directory; `told` hears how many rows were read. What the journal holds beyond the state
 * on disk is not looked at.
 * @throws WeirError `NotFound` where nothing is; `Busy` while a master runs there; `Corrupt` for what cannot be read at all
 */
export async function checkOffline(
  path: string,
  options: { readonly limit: number; readonly told: (rows: number) => void },
): Promise<FsckEnd> {
  const found = await stat(path).catch((thrown: unknown) => {
    throw toWeirError(thrown, `Cannot check "${path}"`);
  });
  if (!found.isDirectory()) {
    const backup = await indexBackup(path);
    return check(backup, backup.header.master, options).finally(() => backup.close());
  }
  const directory = join(path, "state");
  if (!(await stat(directory).catch(() => undefined))?.isDirectory()) {
    const wanted = "wanted a backup, or the data directory of a master";
    throw new WeirError("NotFound", `Cannot check "${path}": it holds no "state", ${wanted}`);
  }
  const store = await openStateStore({ directory, clock: systemClock, logger: silentLogger });
  try {
    const snapshot = await store.snapshot();
    const source = { index: snapshot.index, rows: snapshot.rows.bind(snapshot) };
    return await check(source, path, options).finally(() => snapshot.close());
  } finally {
    await store.close();
  }
}

async function check(
  source: RowSource,
  master: string,
  { limit, told }: { readonly limit: number; readonly told: (rows: number) => void },
): Promise<FsckEnd> {
  const run = runCheck({ source, limit, pace: () => Promise.resolve() });
  let step = await run.next();
  for (; step.done !== true; step = await run.next()) told(step.value);
  return { master, index: source.index, ...step.value };
}
