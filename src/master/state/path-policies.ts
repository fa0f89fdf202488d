/**
 * Policies on paths as the state has them: an inode knows by its bits which keys it says itself, so a walk up reads the
 * row of a policy only where there is something to be found.
 *
 * Invariant: `policies` of an inode are the keys of `policy/<id>`, and absent exactly if there is no such row.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { FileStatus } from "../../rpc/namespace.ts";
import {
  type EffectivePolicy,
  noPolicy,
  type PathPolicy,
  pathPolicy,
  type PolicyKey,
  policyKeys,
} from "../../rpc/path-policy.ts";
import type { PointReader } from "../store/types.ts";
import { policyRowKey } from "./keys.ts";
import type { Inode, Tree } from "./model.ts";
import { firstLinkOf, inodeOf, pathOf, statusOf, treeOf } from "./queries.ts";

/** The bit of a key in an inode. */
export function bitOf(key: PolicyKey): number {
  return 2 ** policyKeys.indexOf(key);
}

/** The bits of all keys that a policy has; undefined: it has none. */
export function bitsOf(policy: PathPolicy): number | undefined {
  let bits = 0;
  for (const key of policyKeys) if (policy[key] !== undefined) bits += bitOf(key);
  return bits === 0 ? undefined : bits;
}

/** How many policies there are of each kind that somebody looks for: without any, nobody has to look. */
export type PolicyCounts = Pick<
  Tree,
  "quotas" | "defaults" | "transfers" | "pins" | "ttls" | "replications"
>;

/** What one policy adds to the counts. */
export function countsOf(policy: PathPolicy | undefined): PolicyCounts {
  const one = (...keys: readonly PolicyKey[]) =>
    policy !== undefined && keys.some((key) => policy[key] !== undefined) ? 1 : 0;
  return {
    quotas: one("quota"),
    defaults: one("writeType", "owner"),
    transfers: one("readType", "keepers", "replication"),
    pins: one("pin"),
    ttls: one("ttl"),
    replications: one("replication"),
  };
}

/** What the inode itself says. */
export function ownPolicy(reader: PointReader, of: Inode): PathPolicy | undefined {
  return of.policies === undefined ? undefined : reader.read(pathPolicy, policyRowKey(of.id));
}

/**
 * The nearest values of `keys`, from the inode up by first names, with the inodes that say them. Stops as soon as all are
 * found.
 */
export function nearest<K extends PolicyKey>(
  reader: PointReader,
  from: InodeId,
  keys: readonly K[],
): Map<K, { readonly policy: PathPolicy; readonly inode: InodeId }> {
  const found = new Map<K, { policy: PathPolicy; inode: InodeId }>();
  let wanted = 0;
  for (const key of keys) wanted += bitOf(key);
  for (let at: InodeId | undefined = from; at !== undefined && wanted !== 0; ) {
    const of = inodeOf(reader, at);
    if (of === undefined) break;
    if (((of.policies ?? 0) & wanted) !== 0) {
      const policy = ownPolicy(reader, of)!;
      for (const key of keys) {
        if (policy[key] === undefined || found.has(key)) continue;
        found.set(key, { policy, inode: at });
        wanted -= bitOf(key);
      }
    }
    at = firstLinkOf(reader, at)?.parent;
  }
  return found;
}

/** The nearest value of one key. */
export function nearestValue<K extends PolicyKey>(
  reader: PointReader,
  from: InodeId,
  key: K,
): PathPolicy[K] {
  return nearest(reader, from, [key]).get(key)?.policy[key];
}

/** What a directory and those above say of what is made in it. */
export function defaultsBelow(
  reader: PointReader,
  directory: InodeId,
): Pick<PathPolicy, "writeType" | "owner"> {
  const found = nearest(reader, directory, ["writeType", "owner"]);
  return {
    writeType: found.get("writeType")?.policy.writeType,
    owner: found.get("owner")?.policy.owner,
  };
}

/** What `stat` shows, for who gets the write lease of a file: with the keepers that a policy asks for. */
export function leasedStatusOf(reader: PointReader, of: Inode): FileStatus {
  const status = statusOf(of);
  if ((treeOf(reader)?.transfers ?? 0) === 0) return status;
  const found = nearest(reader, of.id, ["keepers", "replication"]);
  const wanted = found.get("keepers")?.policy.keepers ?? 0;
  const least = found.get("replication")?.policy.replication?.min ?? 0;
  const keepers = Math.max(wanted, least);
  return keepers === 0 ? status : { ...status, keepers };
}

/** What holds for an inode; of quotas the nearest one. */
export function effectiveOf(reader: PointReader, id: InodeId): EffectivePolicy {
  const found = nearest(reader, id, policyKeys);
  const policy = Object.fromEntries(
    policyKeys.map((key) => [key, found.get(key)?.policy[key]]),
  ) as PathPolicy;
  const sources = policyKeys.flatMap((key) => {
    const source = found.get(key)?.inode;
    if (source === undefined) return [];
    return [{ key, inode: source, path: pathOf(reader, source) ?? "" }];
  });
  return { policy: { ...noPolicy, ...policy }, sources };
}
