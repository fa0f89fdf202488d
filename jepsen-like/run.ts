/**
 * One run: a real cluster, client processes under load, faults from a seed, and at the end a last look at the healed
 * cluster; then the checker's verdict over the whole history.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Session } from "../src/client/session.ts";
import { seededRandom, systemClock } from "../src/lib/clock.ts";
import { type InodeId, rootInodeId } from "../src/lib/ids.ts";
import { silentLogger } from "../src/lib/logger.ts";
import type { Finding } from "../src/rpc/fsck-items.ts";
import { masterApi } from "../src/rpc/master-api.ts";
import { MasterConnection } from "../src/rpc/master-connection.ts";
import { eventually } from "../test/lib/eventually.ts";
import { damageIn } from "../test/lib/fsck.ts";
import { LocalCluster } from "../test/lib/local-cluster.ts";
import { decodeOperation, encodeOperation, type Operation } from "./history.ts";
import { type FaultKind, type InflictedFault, inflict, schedule } from "./nemesis.ts";
import { checkWitnessOrder, type Violation } from "./witness-order.ts";
import { listAll } from "./workloads/creates.ts";
import { type CreatesInput, type CreatesOutput, createsModel } from "./workloads/creates-model.ts";

type Op = Operation<CreatesInput, CreatesOutput>;

export interface RunOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly clients: number;
  readonly faults: readonly FaultKind[];
  /** Logs, history and state of the run. */
  readonly directory: string;
}

export interface RunReport {
  readonly operations: { readonly ok: number; readonly failed: number; readonly unknown: number };
  readonly faults: readonly InflictedFault[];
  /** Longest time without any answered create while clients were calling, in milliseconds. */
  readonly longestUnavailabilityMs: number;
  readonly violations: readonly Violation<CreatesInput, CreatesOutput>[];
  /** Masters whose state differed at an equal index in the end; empty when all agree. */
  readonly divergence: readonly string[];
  /** What the checker finds in the states of the masters in the end. */
  readonly findings: readonly Finding[];
}

/** Faults stop this long before the clients do, so that every run also sees recovery. */
const calmEndMs = 4000;

export async function runOnce(options: RunOptions): Promise<RunReport> {
  await mkdir(options.directory, { recursive: true });
  const random = seededRandom(options.seed);
  const cluster = await LocalCluster.start({ directory: options.directory });
  const masters = new MasterConnection({
    masters: cluster.config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort })),
    logger: silentLogger,
    clock: systemClock,
  });
  const session = new Session({
    ...{ masters, clock: systemClock, logger: silentLogger },
    ...{ clientName: "jepsen-control", operationTimeoutMs: 30_000 },
  });
  try {
    const directory = await eventually("a directory to work in", () => makeDirectory(session));
    const clients = Array.from({ length: options.clients }, (_, i) =>
      runClient(cluster, directory, i, options),
    );
    const faults = schedule(random, options.faults, options.seconds * 1000 - calmEndMs);
    const victims = {
      masters: cluster.masters,
      workers: cluster.workers,
      leader: () => leaderOf(masters),
    };
    const [inflicted, ...histories] = await Promise.all([
      inflict(faults, victims, random),
      ...clients,
    ]);
    const history = [...histories.flat(), ...(await lastLook(masters, session, directory))];
    await writeFile(
      join(options.directory, "history.jsonl"),
      history.map((operation) => `${encodeOperation(operation)}\n`).join(""),
    );
    const count = (kind: Op["result"]["kind"]) =>
      history.filter((operation) => operation.result.kind === kind).length;
    return {
      operations: { ok: count("ok"), failed: count("failed"), unknown: count("unknown") },
      faults: inflicted,
      longestUnavailabilityMs: longestGapMs(history),
      violations: checkWitnessOrder(createsModel, history),
      divergence: await divergence(masters),
      findings: (await Promise.all(masters.each.map(damageIn))).flat(),
    };
  } finally {
    await session.close();
    masters.close();
    await cluster.close();
  }
}

async function makeDirectory(session: Session): Promise<InodeId | undefined> {
  const { results } = await session.mutate([
    {
      ...{ kind: "create", parent: rootInodeId, name: "jepsen", fileKind: "directory" },
      ...{ mode: 0o755, uid: 0, gid: 0, target: undefined, lease: false, exclusive: false },
      writeType: undefined,
    },
  ]);
  return results[0]?.ok === true ? results[0].status?.inode : undefined;
}

async function runClient(
  cluster: LocalCluster,
  directory: InodeId,
  client: number,
  options: RunOptions,
): Promise<Op[]> {
  const program = fileURLToPath(new URL("client-process.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    [
      ...["--import", "tsx", program, "--config", cluster.configPath],
      ...["--client", String(client), "--seed", String(options.seed * 1000 + client + 1)],
      ...["--directory", String(directory), "--seconds", String(options.seconds)],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const exited = once(child, "exit");
  const history: Op[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    history.push(decodeOperation<CreatesInput, CreatesOutput>(line));
  }
  const [code] = (await exited) as [number | null];
  if (code !== 0) throw new Error(`Client ${client} ended with status ${code ?? "of a signal"}`);
  return history;
}

/** After the faults: one listing of everything, by which unknown outcomes are settled and losses show. */
async function lastLook(
  masters: MasterConnection,
  session: Session,
  directory: InodeId,
): Promise<Op[]> {
  const seen: Op[] = [];
  await eventually("a last listing", () =>
    listAll({
      ...{ client: -1, session, masters, directory },
      random: { below: () => 0 },
      untilNs: 0n,
      record: (operation) => seen.push(operation),
    }),
  );
  return seen;
}

async function leaderOf(masters: MasterConnection): Promise<string | undefined> {
  for (const master of masters.each) {
    const status = await master
      .call(masterApi.status, { exact: false }, { deadlineMs: 500 })
      .catch(() => undefined);
    if (status?.leader !== undefined) return status.leader;
  }
  return undefined;
}

/** Compares the masters' state hashes at an equal index, once they have caught up with each other. */
async function divergence(masters: MasterConnection): Promise<string[]> {
  const statuses = await eventually("all masters to reach one index", async () => {
    const all = await Promise.all(
      masters.each.map((master) =>
        master.call(masterApi.status, { exact: true }, { deadlineMs: 2000 }),
      ),
    );
    return all.every((each) => each.hashIndex === all[0]!.hashIndex) && all;
  });
  return statuses
    .filter((each) => each.stateHash !== statuses[0]!.stateHash)
    .map((each) => each.nodeId);
}

function longestGapMs(history: readonly Op[]): number {
  const returns = history
    .filter((operation) => operation.result.kind === "ok" && operation.input.kind === "create")
    .map((operation) => operation.returnedNs)
    .toSorted((a, b) => (a < b ? -1 : 1));
  let longest = 0n;
  for (let i = 1; i < returns.length; i++) {
    const gap = returns[i]! - returns[i - 1]!;
    if (gap > longest) longest = gap;
  }
  return Number(longest / 1_000_000n);
}
