/**
 * Which cluster a worker's containers belong to. Names of containers mean something only within one cluster: data of
 * another one must never be served under them.
 */
import { WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import type { BlockStore } from "./block-store.ts";

/**
 * Notes the cluster in every directory; cached copies of another cluster are dropped.
 * @throws WeirError `ConfigInvalid` when a directory keeps data for another cluster
 */
export async function bindToCluster(
  store: BlockStore,
  clusterId: string,
  logger: Logger,
): Promise<void> {
  const directories = store.tiers.flatMap((tier) => tier.directories);
  for (const directory of directories) {
    const known = await directory.readText("cluster");
    if (known === clusterId) continue;
    if (known !== undefined) {
      const keeping = store.keptIn(directory);
      if (keeping > 0) {
        throw new WeirError(
          "ConfigInvalid",
          `Cannot use the tier directory "${directory.path}": it keeps ${keeping} containers of cluster ${known}, and the masters are of ${clusterId}; remove it if that data is not needed`,
        );
      }
      logger.warn(
        { directory: directory.path, known, clusterId },
        "cached copies of another cluster go",
      );
      store.dropCache(directory);
    }
    await directory.writeText("cluster", clusterId);
  }
}
