/** What a tier directory holds when the worker starts: whole containers are taken over, leftovers are cleaned. */
import { readdir, readFile, stat, truncate, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../lib/logger.ts";
import { type Container, decodeSidecar } from "./container.ts";
import type { TierDirectory } from "./tier-directory.ts";

const parallel = 16;

/**
 * The containers of a directory. Data without a sidecar was never flushed and goes; data beyond the sidecar's length is
 * cut; data that is shorter than it should be is put aside.
 */
export async function scanDirectory(
  directory: TierDirectory,
  tier: number,
  logger: Logger,
): Promise<Container[]> {
  const names = new Set(await readdir(directory.containersPath));
  const keys = [...names].filter((name) => /^\d+\.\d+$/.test(name));
  const found: Container[] = [];
  let next = 0;
  const take = async (): Promise<void> => {
    for (let key = keys[next++]; key !== undefined; key = keys[next++]) {
      const container = names.has(`${key}.meta`)
        ? await load(directory, tier, key, logger)
        : undefined;
      if (container === undefined) await remove(directory.dataPath(key));
      else found.push(container);
    }
  };
  await Promise.all(Array.from({ length: parallel }, take));
  const kept = new Set(found.map(({ key }) => key));
  for (const name of names) {
    const belongs = kept.has(name) || (name.endsWith(".meta") && kept.has(name.slice(0, -5)));
    if (!belongs) await remove(join(directory.containersPath, name));
  }
  return found;
}

async function load(
  directory: TierDirectory,
  tier: number,
  key: string,
  logger: Logger,
): Promise<Container | undefined> {
  const path = directory.dataPath(key);
  try {
    const container = decodeSidecar(await readFile(`${path}.meta`), { directory, tier });
    const { size } = await stat(path);
    let end = 0;
    for (const [index, { length }] of container.blocks) {
      end = Math.max(end, index * container.blockSizeBytes + length);
    }
    if (container.key !== key || container.blocks.size === 0) return undefined;
    if (size < end) {
      logger.error({ key, size, wanted: end }, "a container is shorter than it should be");
      await directory.quarantine(key);
      return undefined;
    }
    // The tail was written and never flushed.
    if (size > end) await truncate(path, end);
    return container;
  } catch (err) {
    logger.error({ err, key }, "a container cannot be taken over");
    await directory.quarantine(key).catch(() => undefined);
    return undefined;
  }
}

async function remove(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  });
}
