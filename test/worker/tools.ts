/** What the tests of the worker share: temporary tiers, ids, and reading streams whole. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BlockRead, ContainerId } from "../../src/blocks/types.ts";
import { sleep } from "../../src/lib/clock.ts";
import type { TierConfig } from "../../src/lib/config.ts";
import type { InodeId, MountId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { BlockStore } from "../../src/worker/block-store.ts";
import { ContainerWriters } from "../../src/worker/container-sink.ts";
import { openTiers } from "../../src/worker/tiers.ts";

export const blockSizeBytes = 1024 * 1024;
export const never = new AbortController().signal;

export function containerOf(inode: number, writeId = 100): ContainerId {
  return { inode: inode as InodeId, writeId: writeId as WriteId };
}

export function readOf(
  container: ContainerId,
  range: { blockIndex?: number; offset?: number; length: number; blockLength?: number },
  ufs?: { path: string; fingerprint: string; mountId?: number },
): BlockRead {
  const { blockIndex = 0, offset = 0, length } = range;
  return {
    container,
    blockIndex,
    offset,
    length,
    blockLength: range.blockLength ?? offset + length,
    cache: true,
    ufs:
      ufs === undefined
        ? undefined
        : {
            path: ufs.path,
            fingerprint: ufs.fingerprint,
            mountId: (ufs.mountId ?? 1) as MountId,
            blockOffset: blockIndex * blockSizeBytes,
          },
  };
}

export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`Waited in vain: ${what}`);
    await sleep(5);
  }
}

/** A directory that goes with the test. */
export async function temporaryDirectory(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "weir-worker-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Two tiers below `root`: "mem" (as a disk, so that its quota is as given) and "disk". */
export function twoTiers(root: string, quotas: readonly [number, number]): TierConfig[] {
  return [
    { medium: "SSD", directories: [join(root, "fast")], quotaBytes: quotas[0] },
    { medium: "HDD", directories: [join(root, "slow")], quotaBytes: quotas[1] },
  ];
}

export async function openStore(
  tiers: readonly TierConfig[],
): Promise<{ store: BlockStore; writers: ContainerWriters }> {
  const store = await BlockStore.open({
    tiers: await openTiers(tiers),
    blockSizeBytes,
    logger: silentLogger,
  });
  return { store, writers: new ContainerWriters(store) };
}

/** Writes and closes a container, which is kept then. */
export async function write(
  writers: ContainerWriters,
  id: ContainerId,
  bytes: Uint8Array,
): Promise<void> {
  const sink = await writers.open(id, { resumeAt: 0 });
  for (let at = 0; at < bytes.length; at += 100_000) {
    await sink.append(bytes.subarray(at, at + 100_000));
  }
  await sink.close({ keep: true });
}
