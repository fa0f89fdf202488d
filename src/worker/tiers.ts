/**
 * The tiers of a worker: room and who gets it. Only numbers are moved here; files are the store's.
 *
 * Invariants
 * 1. A tier's used bytes never exceed its quota.
 * 2. The quota of a MEM tier is at most half of what its file system has free, with what it holds already.
 */
import { randomBytes } from "node:crypto";
import type { TierConfig } from "../lib/config.ts";
import type { Logger } from "../lib/logger.ts";
import type { Medium, TierUsage } from "../rpc/namespace.ts";
import { TierDirectory } from "./tier-directory.ts";

export interface Tier {
  readonly medium: Medium;
  readonly directories: readonly TierDirectory[];
  quotaBytes: number;
  usedBytes: number;
}

/** Opens the directories of all tiers. @throws WeirError when one cannot be used; none stays open then */
export async function openTiers(configs: readonly TierConfig[]): Promise<Tier[]> {
  const opened: TierDirectory[] = [];
  const tiers: Tier[] = [];
  try {
    for (const { medium, directories, quotaBytes } of configs) {
      const own: TierDirectory[] = [];
      for (const path of directories) {
        const directory = await TierDirectory.open(path, medium);
        opened.push(directory);
        own.push(directory);
      }
      tiers.push({ medium, directories: own, quotaBytes, usedBytes: 0 });
    }
    return tiers;
  } catch (error) {
    await Promise.all(opened.map((directory) => directory.close()));
    throw error;
  }
}

/** To be called when `usedBytes` is known. */
export async function limitMemory(tiers: readonly Tier[], logger: Logger): Promise<void> {
  for (const tier of tiers) {
    if (tier.medium !== "MEM") continue;
    const free = new Map<number, number>();
    for (const directory of tier.directories) {
      const { device, freeBytes } = await directory.fileSystem();
      free.set(device, freeBytes);
    }
    const room = [...free.values()].reduce((sum, bytes) => sum + bytes, tier.usedBytes);
    const limit = Math.floor(room / 2);
    if (tier.quotaBytes <= limit) continue;
    logger.warn(
      { quotaBytes: tier.quotaBytes, limit },
      "quota of the MEM tier cut to half of what its file system has free",
    );
    tier.quotaBytes = limit;
  }
}

export function charge(tier: Tier, directory: TierDirectory, bytes: number): void {
  tier.usedBytes += bytes;
  directory.usedBytes += bytes;
}

/** Where the next container of a tier goes. */
export function emptiestDirectory(tier: Tier): TierDirectory {
  return tier.directories.reduce((best, each) => (each.usedBytes < best.usedBytes ? each : best));
}

export function usageOf(tiers: readonly Tier[]): TierUsage[] {
  return tiers.map(({ medium, quotaBytes, usedBytes }) => ({ medium, quotaBytes, usedBytes }));
}

/** The worker's identity, made at its first start, kept in the first directory that survives a restart. */
export async function workerUuid(tiers: readonly Tier[]): Promise<string> {
  const all = tiers.flatMap((tier) => tier.directories);
  const home = all.find((directory) => directory.persistent) ?? all[0]!;
  const known = await home.readText("uuid");
  if (known !== undefined && /^[0-9a-f]{32}$/.test(known)) return known;
  const made = randomBytes(16).toString("hex");
  await home.writeText("uuid", made);
  return made;
}
