/** The parts of a running master that its RPC handlers use, and the point in time that a read is served at. */
import type { Clock } from "../../lib/clock.ts";
import type { Config } from "../../lib/config.ts";
import type { Logger } from "../../lib/logger.ts";
import type { RaftNode } from "../../raft/node.ts";
import type { InodeId } from "../../lib/ids.ts";
import { syncIntervalsKey } from "../state/keys.ts";
import { clusterOf, inodeOf } from "../state/queries.ts";
import { syncIntervalOf } from "../state/sync-interval.ts";
import type { StateStore } from "../store/types.ts";
import type { ChangeFeed } from "./change-feed.ts";
import type { LeaderServices } from "./leader-services.ts";
import type { Leadership } from "./leadership.ts";
import type { Locations } from "./locations.ts";
import type { MachineHost } from "./machine-host.ts";
import type { Pauses } from "./pauses.ts";
import type { Proposer } from "./proposer.ts";
import type { WorkerProofs } from "./worker-proofs.ts";
import type { WorkerRegistry } from "./worker-registry.ts";
import type { CallContext } from "../../rpc/server.ts";
import { abortable } from "./signals.ts";

type Consistency = "linearizable" | "stale";

export interface MasterParts {
  /** Of this master in the configuration. */
  readonly name: string;
  /** Of the software. */
  readonly version: string;
  readonly config: Config;
  readonly store: StateStore;
  readonly machine: MachineHost;
  readonly raft: RaftNode;
  readonly leadership: Leadership;
  readonly proposer: Proposer;
  readonly feed: ChangeFeed;
  readonly locations: Locations;
  readonly registry: WorkerRegistry;
  readonly pauses: Pauses;
  readonly proofs: WorkerProofs;
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * The services of the leader, as soon as this master may act as it.
   * @throws WeirError `NotLeader`, or the reason of `signal`
   */
  leader(signal: AbortSignal): Promise<LeaderServices>;
  /** The same, if this master acts as the leader now. */
  leading(): LeaderServices | undefined;
}

/**
 * Resolves when the state may be read: at once for a stale read; else when it reflects everything that was acknowledged
 * before the call. Any master serves it, a follower by asking the leader for the point of the log.
 * @throws WeirError `NotLeader` when no leader confirms it, or the reason of `signal`
 */
export async function readPoint(
  parts: MasterParts,
  consistency: Consistency,
  call: { readonly signal: AbortSignal },
): Promise<void> {
  if (consistency === "stale") return;
  const { signal } = call;
  const { leadership, raft, machine } = parts;
  if (leadership.status?.role === "leader") await leadership.whenReigning(signal);
  const confirmed = raft.readIndex().catch(() => Promise.reject(leadership.error()));
  await machine.waitApplied(await abortable(confirmed, signal, "Cannot confirm the lead"), signal);
  needCluster(parts);
}

/**
 * What `read` makes of the state once it may be read, as `readPoint` says. Nothing is made for the call but one link to
 * the promise that all reads of the turn share: that one ends with the leader at the latest, and a caller that has gone
 * by then is not answered.
 */
export function answerFrom<T>(
  parts: MasterParts,
  consistency: Consistency,
  call: CallContext,
  read: () => T | Promise<T>,
): T | Promise<T> {
  if (consistency === "stale") return read();
  const { leadership, raft, machine } = parts;
  if (leadership.reign === undefined && leadership.status?.role === "leader") {
    return readPoint(parts, consistency, call).then(read);
  }
  return raft.readIndex().then(
    (index) => {
      if (machine.appliedIndex < index) {
        return machine.waitApplied(index, call.signal).then(() => {
          needCluster(parts);
          return read();
        });
      }
      needCluster(parts);
      return read();
    },
    () => Promise.reject(leadership.error()),
  );
}

/** Before the first command there is nothing to read: the leader, which makes it, is the one to wait for. */
function needCluster({ leadership, store }: MasterParts): void {
  if (leadership.reign === undefined && clusterOf(store) === undefined) throw leadership.error();
}

/** Whether nothing that is loaded is ever looked at again, wherever it lies. */
export function isNeverSynced({ store, config }: MasterParts): boolean {
  return config.master.syncIntervalMs < 0 && store.get(syncIntervalsKey) === undefined;
}

/**
 * Resolves when what is known of a directory, or of one name in it, is as young as its interval wants it, as far as that
 * can be had in good time. Only the leader asks stores: others answer `NotLeader` where something is too old.
 */
export async function freshen(
  parts: MasterParts,
  directory: InodeId,
  name: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { store, config, leadership } = parts;
  const of = inodeOf(store, directory);
  if (of?.kind !== "directory" || !of.loaded) return;
  const { intervalMs } = syncIntervalOf(store, directory, config.master.syncIntervalMs);
  if (intervalMs < 0) return;
  if ((of.syncedAtMs ?? -1) >= leadership.clusterTimeMs() - intervalMs) return;
  const { loader } = await parts.leader(signal);
  await loader.freshen(directory, { name, maxAgeMs: intervalMs }, signal);
}
