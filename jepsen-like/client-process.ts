/**
 * One client of a run, as a process of its own: runs its workload against the cluster and prints one operation per line
 * on standard output.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Session } from "../src/client/session.ts";
import { seededRandom, systemClock } from "../src/lib/clock.ts";
import { loadConfig } from "../src/lib/config.ts";
import type { InodeId } from "../src/lib/ids.ts";
import { silentLogger } from "../src/lib/logger.ts";
import { MasterConnection } from "../src/rpc/master-connection.ts";
import { encodeOperation } from "./history.ts";
import { runCreates } from "./workloads/creates.ts";

const { values } = parseArgs({
  options: {
    config: { type: "string" },
    client: { type: "string" },
    seed: { type: "string" },
    directory: { type: "string" },
    seconds: { type: "string" },
  },
});

const path = values.config!;
const config = loadConfig({ file: { path, text: readFileSync(path, "utf8") } });
const masters = new MasterConnection({
  masters: config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort })),
  logger: silentLogger,
  clock: systemClock,
});
const client = Number(values.client);
const session = new Session({
  ...{ masters, clock: systemClock, logger: silentLogger },
  clientName: `jepsen-${client}`,
  operationTimeoutMs: 10_000,
});
await runCreates({
  ...{ client, session, masters },
  directory: Number(values.directory) as InodeId,
  random: seededRandom(Number(values.seed)),
  untilNs: process.hrtime.bigint() + BigInt(Number(values.seconds) * 1e9),
  record: (operation) => process.stdout.write(`${encodeOperation(operation)}\n`),
});
await session.close();
masters.close();
