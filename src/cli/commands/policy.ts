/** `weir policy`: rules by which files of a union mount go from one of its layers to another. */
import type { Command } from "commander";
import type { WeirClient } from "../../client/client.ts";
import { compileGlob } from "../../lib/glob.ts";
import { WeirError } from "../../lib/errors.ts";
import type { DataPolicyInfo, Migration } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, commandsBelow, withClient } from "../context.ts";
import { answer, bytesText, sheet, table } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";
import { parseDuration, parseSize, spanText } from "../units.ts";
import { finishTreeOp } from "./tree.ts";
import { detailsText, progressText, runValue, timeText, treeOpValue } from "./tree-text.ts";

interface SetOptions extends CommonOptions {
  readonly from: string;
  readonly to: string;
  readonly copy?: true;
  readonly olderThan?: number;
  readonly pattern?: string;
  readonly atLeast?: number;
  readonly every?: number;
}

export function registerPolicy(program: Command, context: CliContext): void {
  const policy = program
    .command("policy")
    .helpCommand(false)
    .description("move or copy files between the stores of a union mount, by age, name or size");
  policy.addHelpText(
    "after",
    "\nExamples:\n  $ weir policy set cool /data --from hot --to cold --older-than 30d --every 1d\n  $ weir policy run cool --dry-run",
  );
  const command = commandsBelow(policy, "weir policy");
  registerSetting(command, context);
  registerRunning(command, context);
}

type MakeCommand = ReturnType<typeof commandsBelow>;

function registerSetting(command: MakeCommand, context: CliContext): void {
  command("set <name> <path>", "make a policy for what is below a directory, or change it", [
    "set cool /data --from hot --to cold --older-than 30d --every 1d",
    "set archive /data/logs --from hot --to cold --pattern '**/*.log' --copy",
  ])
    .requiredOption("--from <layer>", "the layer that files leave")
    .requiredOption("--to <layer>", "the layer that they go to")
    .option("--copy", "the layer that they come from keeps them")
    .option("--older-than <age>", "only what was last modified so long ago", parseDuration)
    .option("--pattern <glob>", "only paths below the directory that fit: *, **, ?, [a-z]")
    .option("--at-least <size>", "only files of that size or more", parseSize)
    .option("--every <time>", "run by itself, so often (default: when asked for)", parseDuration)
    .action((name: string, path: string, options: SetOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "set policy", subjects: [name, path], preposition: "for" }, async () => {
          const of = { migration: migrationOf(options), everyMs: options.every };
          await client.setDataPolicy(name, parsePath(path), of);
          answer(output, policyValue(await policyOf(client, name)), policySheet);
        }),
      ),
    );
  command("ls", "list the policies", ["ls"]).action((options: CommonOptions) =>
    withClient(context, options, async (client, output) => {
      answer(output, (await client.dataPolicies()).map(policyValue), listText);
    }),
  );
  command("show <name>", "a policy and what its last runs came to", ["show cool"]).action(
    (name: string, options: CommonOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "show policy", subjects: [name] }, async () => {
          answer(output, policyValue(await policyOf(client, name)), policySheet);
        }),
      ),
  );
  command("delete <name>", "forget a policy; a run that is under way ends", ["delete cool"]).action(
    (name: string, options: CommonOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "delete policy", subjects: [name] }, async () => {
          await client.deleteDataPolicy(name);
          answer(output, { name }, () => `Deleted policy ${name}`);
        }),
      ),
  );
}

function registerRunning(command: MakeCommand, context: CliContext): void {
  command("run <name>", "run a policy now, and wait for its end", [
    "run cool --dry-run",
    "run cool --background",
  ])
    .option("--dry-run", "only say what would be done")
    .option("--background", "do not wait; see `weir tree ls`")
    .action((name: string, options: CommonOptions & { dryRun?: true; background?: true }) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "run policy", subjects: [name] }, async () => {
          const begun = await client.runDataPolicy(name, options.dryRun === true);
          if (options.background !== true) {
            await finishTreeOp(context, output, client, begun);
            return;
          }
          answer(output, treeOpValue(begun), () => `Operation ${String(begun.id)} is under way`);
        }),
      ),
    );
}

function migrationOf(options: SetOptions): Migration {
  const pattern = options.pattern && Buffer.from(options.pattern, "utf8").toString("latin1");
  if (pattern !== undefined) compileGlob(pattern);
  return {
    from: options.from,
    to: options.to,
    keep: options.copy === true,
    olderThanMs: options.olderThan,
    pattern,
    atLeastBytes: options.atLeast,
  };
}

async function policyOf(client: WeirClient, name: string): Promise<DataPolicyInfo> {
  const found = (await client.dataPolicies()).find((each) => each.name === name);
  if (found !== undefined) return found;
  throw new WeirError("NotFound", `Cannot find the data policy "${name}": there is none`);
}

function policyValue({ path, nextRunAt, migration, runs, ...of }: DataPolicyInfo) {
  return {
    ...of,
    path: path === undefined ? undefined : showPath(path),
    migration: {
      ...migration,
      pattern: migration.pattern === undefined ? undefined : showPath(migration.pattern),
    },
    nextRunAt: nextRunAt && timeText(nextRunAt),
    runs: runs.map(runValue),
  };
}
type PolicyValue = ReturnType<typeof policyValue>;

/** What goes where, in words. */
function ruleText({ migration }: PolicyValue): string {
  const { from, to, keep, olderThanMs, pattern, atLeastBytes } = migration;
  const conditions = [
    ...(olderThanMs === undefined ? [] : [`older than ${spanText(olderThanMs)}`]),
    ...(pattern === undefined ? [] : [`named ${pattern}`]),
    ...(atLeastBytes === undefined ? [] : [`of ${bytesText(atLeastBytes)} or more`]),
  ];
  return [`${keep ? "copy" : "move"} ${from} → ${to}`, ...conditions].join(", ");
}

function listText(policies: readonly PolicyValue[]): string {
  return table(
    ["NAME", "PATH", "RULE", "EVERY", "NEXT RUN", "LAST RUN"],
    policies.map((each) => {
      const last = each.runs.at(-1);
      const lastText = last === undefined ? "-" : `${last.endedAt} ${progressText(last)}`;
      return [
        each.name,
        each.path ?? "(removed)",
        ruleText(each),
        each.everyMs === undefined ? "-" : spanText(each.everyMs),
        each.nextRunAt ?? "-",
        each.running === undefined ? lastText : `operation ${String(each.running)} under way`,
      ];
    }),
  );
}

function policySheet(of: PolicyValue): string {
  const head = sheet([
    ["policy", of.name],
    ["path", of.path ?? "(removed)"],
    ["rule", ruleText(of)],
    ["every", of.everyMs === undefined ? "when asked for" : spanText(of.everyMs)],
    ["next run", of.nextRunAt],
    ["under way", of.running],
  ]);
  const runs = of.runs.map((run) => {
    const kind = run.isTrial ? "trial" : run.state;
    return `${run.endedAt}  ${kind}: ${progressText(run)}\n${detailsText(run)}`;
  });
  return runs.length === 0 ? head : `${head}\nRuns:\n${runs.join("")}`;
}
