/** `weir cluster`: who the masters are, and changes of that. The leader does it; each command finds it by itself. */
import { type Command, InvalidArgumentError } from "commander";
import { sleep } from "../../lib/clock.ts";
import type { Config } from "../../lib/config.ts";
import { hasCode, toWeirError, WeirError } from "../../lib/errors.ts";
import { type ClusterMember, masterApi } from "../../rpc/master-api.ts";
import type { MasterConnection } from "../../rpc/master-connection.ts";
import { attempt } from "../attempt.ts";
import { connectLeader, statusOf } from "../cluster-view.ts";
import {
  type CliContext,
  type CommonOptions,
  configOf,
  outputOf,
  commandsBelow,
} from "../context.ts";
import { answer, durationText, type Output, table } from "../output.ts";

/** Longest time that a change of the members may take to be committed. */
const changeMs = 60_000;
/** How long `--wait` waits for a new member to catch up. */
const catchUpMs = 3_600_000;
const pollMs = 200;

interface AddressOptions extends CommonOptions {
  readonly host?: string;
  readonly raftPort?: number;
  readonly rpcPort?: number;
}

interface AddOptions extends AddressOptions {
  readonly learner?: true;
  readonly wait?: true;
}

/** A member with what it says of itself; `undefined` where it does not answer. */
interface MemberView extends ClusterMember {
  /** Entries of the leader's log that it is not known to hold. */
  readonly lag: number | undefined;
  readonly version: string | undefined;
}

export function registerCluster(program: Command, context: CliContext): void {
  const cluster = program
    .command("cluster")
    .helpCommand(false)
    .description("the masters of the cluster: who they are, and changes of that");
  cluster.addHelpText(
    "after",
    "\nExamples:\n  $ weir cluster members\n  $ weir cluster add master-4 --host 10.0.0.4 --wait",
  );
  const command = commandsBelow(cluster, "weir cluster");
  const withAddress = (of: Command) =>
    of
      .option("--host <host>", "where it listens (default: as the configuration says)")
      .option("--raft-port <port>", "its port for other masters", parsePort)
      .option("--rpc-port <port>", "its port for clients", parsePort);

  command("members", "show the masters, their roles and how far each has come", [
    "members",
    "members --json | jq '.members[].name'",
  ]).action((options: CommonOptions) =>
    withLeader(context, options, async (connection, output) => {
      const found = await membersOf(connection);
      answer(output, found, () => membersText(found.members));
    }),
  );

  withAddress(
    command(
      "add <name>",
      "add a master that runs with an empty directory; it becomes a voter when it has caught up",
      [
        "add master-4 --host 10.0.0.4",
        "add master-4 --host 10.0.0.4 --wait",
        "add spare --learner",
      ],
    ),
  )
    .option("--learner", "let it follow only: it votes when it is promoted")
    .option("--wait", "return when it is a voter, or with --learner when it has caught up")
    .action((name: string, options: AddOptions) =>
      withLeader(context, options, async (connection, output) => {
        const address = addressOf(configOf(context, options), name, options);
        const promote = options.learner !== true;
        const { nodeId } = await attempt({ verb: "add", subjects: [name] }, () =>
          change(connection, masterApi.addMember, { name, ...address, promote }).catch(
            (thrown: unknown) => {
              throw withStart(thrown, name, address);
            },
          ),
        );
        if (options.wait === true) await waitFor(connection, name, promote);
        answer(output, { name, nodeId, ...address, promote }, () =>
          addedText(name, promote, options.wait === true),
        );
      }),
    );

  command("remove <name>", "take a master out of the cluster, whether it lives or not", [
    "remove master-3",
  ]).action((name: string, options: CommonOptions) =>
    withLeader(context, options, async (connection, output) => {
      await attempt({ verb: "remove", subjects: [name] }, () =>
        change(connection, masterApi.removeMember, { name }),
      );
      answer(
        output,
        { name },
        () =>
          `Removed "${name}": the cluster decides without it.\n` +
          "Stop its process, take it out of the configurations, and remove its data directory.",
      );
    }),
  );

  command("promote <name>", "make a learner that has caught up a voter", ["promote spare"]).action(
    (name: string, options: CommonOptions) =>
      withLeader(context, options, async (connection, output) => {
        await attempt({ verb: "promote", subjects: [name] }, () =>
          change(connection, masterApi.promoteMember, { name }),
        );
        answer(output, { name }, () => `Promoted "${name}": it is a voter now`);
      }),
  );

  withAddress(
    command(
      "replace <name>",
      "put a new, empty master in the place of one whose data is gone, under its name",
      ["replace master-3", "replace master-3 --host 10.0.0.9 --wait"],
    ),
  )
    .option("--wait", "return when the new one is a voter")
    .action((name: string, options: AddOptions) =>
      withLeader(context, options, async (connection, output) => {
        const address = addressOf(configOf(context, options), name, options);
        const { nodeId } = await attempt({ verb: "replace", subjects: [name] }, () =>
          change(connection, masterApi.replaceMember, { name, ...address }).catch(
            (thrown: unknown) => {
              throw withStart(thrown, name, address);
            },
          ),
        );
        if (options.wait === true) await waitFor(connection, name, true);
        answer(output, { name, nodeId, ...address }, () =>
          addedText(name, true, options.wait === true),
        );
      }),
    );

  command("transfer [name]", "hand the leadership to a master, or to the one that is furthest", [
    "transfer",
    "transfer master-2",
  ]).action((name: string | undefined, options: CommonOptions) =>
    withLeader(context, options, async (connection, output) => {
      const start = performance.now();
      const { from } = await change(connection, masterApi.transferLeadership, { to: name });
      const to = await leaderAfter(connection, from);
      const tookMs = performance.now() - start;
      answer(
        output,
        { from, to, tookMs: Math.round(tookMs) },
        () => `"${to}" leads now, "${from}" did before (took ${durationText(tookMs)})`,
      );
    }),
  );
}

async function withLeader(
  context: CliContext,
  options: CommonOptions,
  use: (connection: MasterConnection, output: Output) => Promise<void>,
): Promise<void> {
  const connection = await connectLeader(configOf(context, options));
  try {
    await use(connection, outputOf(context, options));
  } finally {
    connection.close();
  }
}

/** Calls the leader once it is found; a change whose fate is unknown is not repeated but said to be. */
async function change<Q, S>(
  connection: MasterConnection,
  method: Parameters<typeof connection.call<Q, S>>[0],
  request: Q,
): Promise<S> {
  try {
    return await connection.call(method, request, { deadlineMs: changeMs, idempotent: false });
  } catch (thrown) {
    const error = toWeirError(thrown, "Cannot ask the leader");
    if (error.outcome !== "unknown") throw error;
    throw new WeirError(
      error.code,
      `${error.message}; it may have been done all the same: weir cluster members shows it`,
      { cause: error, outcome: "unknown" },
    );
  }
}

async function membersOf(connection: MasterConnection): Promise<{
  clusterId: string;
  term: number;
  lastIndex: number;
  members: MemberView[];
}> {
  const options = { deadlineMs: 10_000, idempotent: true };
  const found = await connection
    .call(masterApi.clusterMembers, {}, options)
    .catch((thrown: unknown): never => {
      const { message } = toWeirError(thrown, "Cannot ask the leader");
      const what = `Cannot show the members: no master leads (${message}); weir status shows who answers`;
      throw hasCode(thrown, "Unavailable", "DeadlineExceeded")
        ? new WeirError("Unavailable", what, { cause: thrown })
        : thrown;
    });
  const { clusterId, term, lastIndex } = found;
  const members = await Promise.all(
    found.members.map(async (member): Promise<MemberView> => {
      const { matchIndex } = member;
      const status = await statusOf({ host: member.host, port: member.rpcPort });
      const lag = matchIndex === undefined ? undefined : Math.max(0, lastIndex - matchIndex);
      return { ...member, lag, version: status?.version };
    }),
  );
  return { clusterId, term, lastIndex, members };
}

function membersText(members: readonly MemberView[]): string {
  return table(
    ["MASTER", "ADDRESS", "ROLE", "ACTIVE", "MATCH", "LAG", "VERSION", "NODE"],
    members.map((member) => [
      member.name,
      `${member.host}:${String(member.rpcPort)}`,
      roleOf(member),
      member.isActive === undefined ? "-" : member.isActive ? "yes" : "no",
      member.matchIndex ?? "-",
      member.lag ?? "-",
      member.version ?? "-",
      member.nodeId,
    ]),
  );
}

function roleOf({ role, isLeader, promote }: ClusterMember): string {
  if (isLeader) return "leader";
  return role === "learner" && promote ? "learner, joining" : role;
}

/** Waits until a member is what it was added to be. */
async function waitFor(
  connection: MasterConnection,
  name: string,
  promote: boolean,
): Promise<void> {
  const until = performance.now() + catchUpMs;
  while (performance.now() < until) {
    const { members } = await membersOf(connection);
    const member = members.find((each) => each.name === name && each.role !== "outgoing");
    if (member === undefined) {
      throw new WeirError("NotFound", `Cannot wait for "${name}": it was removed meanwhile`);
    }
    if (promote ? member.role === "voter" : member.isActive === true && member.lag === 0) return;
    await sleep(pollMs);
  }
  throw new WeirError("DeadlineExceeded", `Cannot wait any longer for "${name}" to catch up`);
}

/** The name of the master that leads after `from` did: `from` itself, if it was elected again. */
async function leaderAfter(connection: MasterConnection, from: string): Promise<string> {
  const options = { deadlineMs: 10_000, idempotent: true };
  const { members } = await connection.call(masterApi.clusterMembers, {}, options);
  return members.find((member) => member.isLeader)?.name ?? from;
}

/** Where a master listens: what the flags say, then what the configuration says of its name. */
function addressOf(
  config: Config,
  name: string,
  flags: AddressOptions,
): { host: string; raftPort: number; rpcPort: number } {
  const listed = config.masters.find((master) => master.name === name);
  const host = flags.host ?? listed?.host;
  if (host === undefined) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot tell where "${name}" listens: the configuration does not name it; wanted --host HOST`,
    );
  }
  return {
    host,
    raftPort: flags.raftPort ?? listed?.raftPort ?? 19200,
    rpcPort: flags.rpcPort ?? listed?.rpcPort ?? 19998,
  };
}

/** Says what is to run where the leader found nobody. */
function withStart(
  thrown: unknown,
  name: string,
  { host, raftPort }: { host: string; raftPort: number },
): unknown {
  if (!hasCode(thrown, "Unavailable") || thrown.outcome === "unknown") return thrown;
  return new WeirError(
    "Unavailable",
    `${thrown.message}. It has to run there first, with an empty data directory and a configuration whose ` +
      `masters name it at ${host}:${String(raftPort)} and the present ones: weir master --name ${name}`,
    { cause: thrown },
  );
}

function addedText(name: string, promote: boolean, isDone: boolean): string {
  const what = isDone
    ? promote
      ? "it has caught up and votes"
      : "it has caught up; weir cluster promote makes it a voter"
    : promote
      ? "it becomes a voter by itself when it has caught up (weir cluster members)"
      : "it follows; weir cluster promote makes it a voter";
  return `Added "${name}": ${what}.\nName it in the configurations of masters, workers and clients (masters: …), and restart the workers.`;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw new InvalidArgumentError("wanted a port from 1 to 65535");
}
