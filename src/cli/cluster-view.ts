/** What a cluster looks like from outside: each master asked by itself, workers as the leader knows them. */
import { processCaller } from "../client/caller.ts";
import { systemClock } from "../lib/clock.ts";
import type { Config } from "../lib/config.ts";
import { type ErrorCode, toWeirError } from "../lib/errors.ts";
import { silentLogger } from "../lib/logger.ts";
import type { Infer } from "../lib/schema.ts";
import { RpcClient } from "../rpc/client.ts";
import { masterApi } from "../rpc/master-api.ts";
import { MasterConnection } from "../rpc/master-connection.ts";
import type { MountInfo, WorkerInfo } from "../rpc/namespace.ts";

export interface MasterView {
  readonly name: string;
  readonly address: string;
  /** `unreachable`: it did not answer; `error` says how. */
  readonly role: "leader" | "follower" | "candidate" | "learner" | "unreachable";
  readonly term: number | undefined;
  readonly appliedIndex: number | undefined;
  /** Equal on all masters of one version at an equal `hashIndex`. */
  readonly stateHash: string | undefined;
  readonly hashIndex: number | undefined;
  readonly error: ErrorCode | undefined;
}

export interface ClusterView {
  readonly clusterName: string;
  readonly clusterId: string | undefined;
  /** Name of the leader, if one answers as such. */
  readonly leader: string | undefined;
  readonly inodes: number | undefined;
  readonly masters: readonly MasterView[];
  /** Empty while there is no leader. */
  readonly workers: readonly WorkerInfo[];
  /** Empty while there is no leader. */
  readonly mounts: readonly MountInfo[];
}

/** Asks every master; never rejects for a cluster that is down. `deadlineMs` bounds each of the two rounds. */
export async function viewCluster(config: Config, deadlineMs = 1000): Promise<ClusterView> {
  const connection = connectMasters(config);
  try {
    return await viewThrough(connection, config, deadlineMs);
  } finally {
    connection.close();
  }
}

/** A connection to the masters of a configuration; the caller closes it. */
export function connectMasters(config: Config): MasterConnection {
  return connectionTo(config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort })));
}

/** In the name of the user of this process. */
function connectionTo(masters: readonly { host: string; port: number }[]): MasterConnection {
  return new MasterConnection({ masters, logger: silentLogger, clock: systemClock }).as(
    processCaller(),
  );
}

/**
 * A connection on which the leader can be called, also where this configuration does not name it: members that were added
 * since are known to the masters. The caller closes it.
 */
export async function connectLeader(config: Config, deadlineMs = 1000): Promise<MasterConnection> {
  const masters = config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort }));
  const answers = await Promise.all(masters.map((master) => statusOf(master, deadlineMs)));
  const known = new Set(masters.map(({ host, port }) => `${host}:${String(port)}`));
  const newest = answers
    .filter((answer) => answer?.leaderAddress !== undefined)
    .sort((a, b) => b!.term - a!.term)[0]?.leaderAddress;
  if (newest !== undefined && !known.has(newest)) {
    const colon = newest.lastIndexOf(":");
    masters.push({ host: newest.slice(0, colon), port: Number(newest.slice(colon + 1)) });
  }
  return connectionTo(masters);
}

/** What one master says of itself; undefined when it does not answer. */
export async function statusOf(
  address: { host: string; port: number },
  deadlineMs = 1000,
): Promise<Infer<typeof masterApi.status.response> | undefined> {
  const client = new RpcClient({ ...address, logger: silentLogger });
  try {
    return await client
      .call(masterApi.status, { exact: false }, { deadlineMs })
      .catch(() => undefined);
  } finally {
    client.close();
  }
}

/** As `viewCluster`, on a connection that stays open: for those who look again and again. */
export async function viewThrough(
  connection: MasterConnection,
  config: Config,
  deadlineMs: number,
): Promise<ClusterView> {
  const answers = await Promise.all(
    connection.each.map((client) =>
      client
        .call(masterApi.status, { exact: false }, { deadlineMs })
        .catch((thrown: unknown) => toWeirError(thrown, "Cannot ask a master")),
    ),
  );
  const masters = answers.map((answer, index): MasterView => {
    const { name, host, rpcPort } = config.masters[index]!;
    const failed = answer instanceof Error;
    return {
      name,
      address: `${host}:${String(rpcPort)}`,
      role: failed ? "unreachable" : answer.role,
      term: failed ? undefined : answer.term,
      appliedIndex: failed ? undefined : answer.appliedIndex,
      stateHash: failed ? undefined : answer.stateHash,
      hashIndex: failed ? undefined : (answer.hashIndex ?? answer.appliedIndex),
      error: failed ? answer.code : undefined,
    };
  });
  // A deposed leader that has not noticed yet has the lower term.
  const leading = masters
    .map((master, index) => ({ master, index }))
    .filter(({ master }) => master.role === "leader")
    .sort((a, b) => b.master.term! - a.master.term!)[0];
  const answered = answers.find((answer) => !(answer instanceof Error));
  const asked = leading && connection.each[leading.index];
  const [workers = [], mounts = []] = await Promise.all([
    asked?.call(masterApi.workers, { consistency: "stale" }, { deadlineMs }).then(
      (answer) => answer.workers,
      () => undefined,
    ),
    asked?.call(masterApi.mounts, {}, { deadlineMs }).then(
      (answer) => answer.mounts,
      () => undefined,
    ),
  ]);
  return {
    clusterName: config.clusterName,
    clusterId: answered instanceof Error ? undefined : answered?.clusterId,
    leader: leading?.master.name,
    inodes: answered instanceof Error ? undefined : answered?.inodes,
    masters,
    workers,
    mounts,
  };
}
