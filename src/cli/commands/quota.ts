/** `weir path quota` and `weir fs quota`: limits with what is used of them. */
import type { Command } from "commander";
import type { WeirClient } from "../../client/client.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Quota, Usage } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, commandsBelow, withClient } from "../context.ts";
import { answer, bytesText, countText, type Output, table } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";
import { parseNumber, parseSize } from "../units.ts";

/** A quota that holds for a path, with what is used of it. */
interface Limit {
  readonly path: string;
  readonly quota: Quota;
  readonly usage: Usage;
  readonly complete: boolean;
}

export function registerQuota(parent: Command, context: CliContext): void {
  const quota = parent
    .command("quota")
    .helpCommand(false)
    .description("limits of bytes and inodes below directories");
  quota.addHelpText("after", "\nExamples:\n  $ weir path quota set /data --bytes 10GiB");
  const command = commandsBelow(quota, "weir path quota");
  command("set <path>", "limit what may lie below a directory", [
    "set /data --bytes 10GiB --inodes 1M",
  ])
    .option("--bytes <size>", "bytes of all files together", parseSize)
    .option("--inodes <count>", "files and directories together", parseNumber)
    .action((path: string, options: CommonOptions & { bytes?: number; inodes?: number }) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "limit", subjects: [path] }, async () => {
          const { bytes, inodes } = options;
          if (bytes === undefined && inodes === undefined) {
            throw new WeirError(
              "InvalidArgument",
              `Cannot limit "${path}": wanted --bytes or --inodes`,
            );
          }
          const at = parsePath(path);
          await client.policies.set(at, { quota: { bytes, inodes } });
          answer(output, { path, bytes, inodes }, () => "");
        }),
      ),
    );
  command("get <path>", "show the quotas that hold for a path, and what is used of them", [
    "get /data/a",
  ]).action((path: string, options: CommonOptions) => showQuotas(context, path, options));
  command("ls", "show all quotas, and what is used of them", ["ls"]).action(
    (options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        const limits: Limit[] = [];
        for await (const { path, inode, policy } of client.policies.all()) {
          if (policy.quota === undefined || path === "") continue;
          const [found] = await client.policies.usageOf([inode]);
          if (found !== undefined) limits.push({ path, quota: policy.quota, ...found });
        }
        limits.sort((a, b) => (a.path < b.path ? -1 : 1));
        answerLimits(output, limits);
      }),
  );
  command("clear <path>", "take the quota of a directory away", ["clear /data"]).action(
    (path: string, options: CommonOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "clear the quota of", subjects: [path] }, async () => {
          await client.policies.clear(parsePath(path), ["quota"]);
          answer(output, { path, cleared: ["quota"] }, () => "");
        }),
      ),
  );
}

/** The quotas of a path and of those above it, the nearest first. */
export function showQuotas(
  context: CliContext,
  path: string,
  options: CommonOptions,
): Promise<void> {
  return withClient(context, options, (client, output) =>
    attempt({ verb: "show the quotas of", subjects: [path] }, async () => {
      answerLimits(output, await limitsOf(client, parsePath(path)));
    }),
  );
}

async function limitsOf(client: WeirClient, path: string): Promise<Limit[]> {
  const limits: Limit[] = [];
  for (let at = path; ; at = at.slice(0, Math.max(1, at.lastIndexOf("/")))) {
    const { own } = await client.policies.get(at);
    if (own.quota !== undefined) {
      limits.push({ path: at, quota: own.quota, ...(await client.policies.usage(at)) });
    }
    if (at === "/") return limits;
  }
}

function answerLimits(output: Output, limits: readonly Limit[]): void {
  const values = limits.map(({ path, quota, usage, complete }) => ({
    path: showPath(path),
    bytes: quota.bytes,
    usedBytes: usage.bytes,
    inodes: quota.inodes,
    usedInodes: usage.files + usage.directories,
    complete,
  }));
  answer(output, values, (all) =>
    table(
      ["PATH", "BYTES", "USED", "INODES", "USED"],
      all.map(({ path, bytes, usedBytes, inodes, usedInodes, complete }) => [
        path,
        bytes === undefined ? "-" : bytesText(bytes),
        `${complete ? "" : "at least "}${bytesText(usedBytes)}`,
        inodes === undefined ? "-" : countText(inodes),
        countText(usedInodes),
      ]),
    ),
  );
}
