/** `weir path`: policies on paths. */
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { WeirError } from "../../lib/errors.ts";
import { type PathPolicy, type PolicyKey, policyKeys } from "../../rpc/path-policy.ts";
import { withPaths } from "../attempt.ts";
import { type CliContext, type CommonOptions, commandsBelow, withClient } from "../context.ts";
import { answer, countOf, durationText, sheet, table } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";
import { parseDuration, parseMode, parseNumber, parseSize, spanText } from "../units.ts";
import {
  effectiveSheet,
  effectiveValue,
  keyNames,
  policyLines,
  policyValue,
} from "./policy-text.ts";
import { fetchTree } from "./fetch-tree.ts";
import { registerQuota } from "./quota.ts";

type PathCommand = ReturnType<typeof commandsBelow>;

const writeTypes = ["MUST_CACHE", "ASYNC_THROUGH", "CACHE_THROUGH", "THROUGH"] as const;
const readTypes = ["CACHE", "NO_CACHE"] as const;
const ttlActions = ["free", "delete"] as const;

export function registerPath(program: Command, context: CliContext): void {
  const path = program
    .command("path")
    .helpCommand(false)
    .description(
      "what is asked of files and of all below a directory: pins, quotas, times to live",
    );
  path.addHelpText(
    "after",
    "\nExamples:\n  $ weir path quota set /data --bytes 10GiB --inodes 1M\n  $ weir path get /data/a.txt",
  );
  const command = commandsBelow(path, "weir path");
  registerReading(command, context);
  registerSetting(command, context);
  registerSingle(command, context);
  registerClock(command, context);
  registerQuota(path, context);
}

function registerReading(command: PathCommand, context: CliContext): void {
  command("get <path>", "show what holds for a path, and where it is said", ["get /data/a.txt"])
    .option("--own", "only what is said for the path itself")
    .action((path: string, options: CommonOptions & { own?: true }) =>
      withPaths(context, options, { verb: "show", subjects: [path] }, async (client, output) => {
        const at = parsePath(path);
        const { own, effective } = await client.policies.get(at);
        if (options.own === true) {
          answer(output, { path, ...policyValue(own) }, () =>
            effectiveSheet({ policy: own, sources: [] }, at),
          );
          return;
        }
        answer(output, { path, ...effectiveValue(effective) }, () => effectiveSheet(effective, at));
      }),
    );
  command("ls [path]", "list the paths that have a policy of their own", ["ls", "ls /data"]).action(
    (path: string | undefined, options: CommonOptions) =>
      withPaths(
        context,
        options,
        { verb: "list", subjects: [path ?? "/"] },
        async (client, output) => {
          const above = parsePath(path ?? "/");
          const found: { path: string; policy: PathPolicy }[] = [];
          for await (const { path: at, policy } of client.policies.all()) {
            if (isBelow(at, above)) found.push({ path: at, policy });
          }
          found.sort((a, b) => (a.path < b.path ? -1 : 1));
          answer(
            output,
            found.map((each) => ({ path: showPath(each.path), ...policyValue(each.policy) })),
            () =>
              table(
                ["PATH", "KEY", "VALUE"],
                found.flatMap((each) =>
                  policyLines(each.policy).map(([name, value]) => [
                    showPath(each.path),
                    name,
                    value,
                  ]),
                ),
              ),
          );
        },
      ),
  );
}

function isBelow(path: string, above: string): boolean {
  return path !== "" && (above === "/" || path === above || path.startsWith(`${above}/`));
}

interface SetOptions extends CommonOptions {
  readonly pin?: true;
  readonly ttl?: number;
  readonly ttlAction?: (typeof ttlActions)[number];
  readonly replicationMin?: number;
  readonly replicationMax?: number;
  readonly writeType?: (typeof writeTypes)[number];
  readonly readType?: (typeof readTypes)[number];
  readonly keepers?: number;
  readonly syncInterval?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mode?: number;
  readonly umask?: number;
  readonly bytes?: number;
  readonly inodes?: number;
}

function registerSetting(command: PathCommand, context: CliContext): void {
  withOwnerOptions(
    command("set <path>", "set any of the policies of a path; the others stay", [
      "set /scratch --write-type MUST_CACHE --ttl 7d --ttl-action delete",
      "set /data --replication-min 2 --replication-max 3",
    ])
      .option("--pin", "keep copies in the tiers")
      .option("--ttl <duration>", "time to live since the last change of content", parseDuration)
      .addOption(
        new Option(
          "--ttl-action <action>",
          "free drops cached copies, delete removes files",
        ).choices(ttlActions),
      )
      .option("--replication-min <count>", "copies that workers are to have", parseNumber)
      .option("--replication-max <count>", "copies that workers may have", parseNumber)
      .addOption(
        new Option("-w, --write-type <type>", "of files that are made without one").choices(
          writeTypes,
        ),
      )
      .addOption(
        new Option("--read-type <type>", "whether reads leave copies in the tiers").choices(
          readTypes,
        ),
      )
      .option("-k, --keepers <count>", "copies of what is not persisted yet", parseNumber)
      .option("--sync-interval <duration>", "age of what is known of a store, or never", parseSync)
      .option("--bytes <size>", "quota", parseSize)
      .option("--inodes <count>", "quota", parseNumber),
  ).action((path: string, options: SetOptions) => setTo(context, path, options, policyOf(options)));
  command("clear <path>", "take policies of a path away: those named, or all", [
    "clear /data",
    "clear /data ttl pin",
  ])
    .argument("[key...]", "which", keysOf, [])
    .action((path: string, keys: PolicyKey[], options: CommonOptions) =>
      withPaths(context, options, { verb: "clear", subjects: [path] }, async (client, output) => {
        await client.policies.clear(parsePath(path), keys);
        const cleared = keys.length === 0 ? "all" : keys.map((key) => keyNames[key]);
        answer(output, { path, cleared }, () => "");
      }),
    );
}

function registerClock(command: PathCommand, context: CliContext): void {
  command("clock", "whether the clock is trusted that times to live go by", [
    "clock",
    "clock --accept",
  ])
    .option("--accept", "take the present time as the right one")
    .action((options: CommonOptions & { accept?: true }) =>
      withClient(context, options, async (client, output) => {
        if (options.accept === true) await client.policies.acceptClock();
        const found = await client.policies.clock();
        answer(output, found, ({ trusted, driftMs, toleranceMs }) =>
          sheet([
            ["trusted", trusted ? "yes" : "no: nothing is deleted by its time to live"],
            ["drift", durationText(Math.abs(driftMs))],
            ["tolerance", spanText(toleranceMs)],
          ]),
        );
      }),
    );
}

function withOwnerOptions(command: Command): Command {
  return command
    .option("--uid <uid>", "user of what is made below", parseNumber)
    .option("--gid <gid>", "group of what is made below", parseNumber)
    .option("--mode <bits>", "mode bits that what is made below has", parseMode)
    .option("--umask <bits>", "mode bits that what is made below lacks", parseMode);
}

/** A command each for what is asked for most. */
function registerSingle(command: PathCommand, context: CliContext): void {
  command("pin <path>", "keep copies in the tiers, and fetch what is not there yet", [
    "pin /models",
    "pin --no-fetch /models",
  ])
    .option("--no-fetch", "what is not cached is not fetched now")
    .action((path: string, options: CommonOptions & { fetch: boolean }) =>
      withPaths(context, options, { verb: "pin", subjects: [path] }, async (client, output) => {
        const at = parsePath(path);
        await client.policies.set(at, { pin: {} });
        const fetched = options.fetch ? await fetchTree(client, at) : undefined;
        answer(output, { path, pinned: true, fetched }, () =>
          fetched === undefined ? "" : `${countOf(fetched.files, "file")} fetched`,
        );
      }),
    );
  clearing(command, context, { name: "unpin", key: "pin", text: "let copies be evicted again" });
  command("ttl <path>", "let files end when they are not changed for so long", [
    "ttl /scratch 7d",
    "ttl --action delete /scratch/tmp 12h",
    "ttl /scratch/kept none",
  ])
    .argument("<duration>", "such as 12h or 7d; none takes it away", (text) =>
      text === "none" ? undefined : parseDuration(text),
    )
    .addOption(
      new Option(
        "--action <action>",
        "free drops cached copies of what is persisted, delete removes files, in their store too",
      )
        .choices(ttlActions)
        .default("free"),
    )
    .action(
      (
        path: string,
        ttl: number | undefined,
        options: CommonOptions & { action: (typeof ttlActions)[number] },
      ) =>
        ttl === undefined
          ? clearOf(context, path, options, "ttl")
          : setTo(context, path, options, {
              ttl: { seconds: secondsOf(ttl), action: options.action },
            }),
    );
  command("replication <path>", "how many workers are to have a file's bytes", [
    "replication --min 2 --max 3 /models",
  ])
    .option("--min <count>", "copies there are to be", parseNumber)
    .option("--max <count>", "copies there may be", parseNumber)
    .action(async (path: string, options: CommonOptions & { min?: number; max?: number }) => {
      const { min, max } = options;
      if (min === undefined && max === undefined) {
        throw new WeirError(
          "InvalidArgument",
          `Cannot set the replication of "${path}": wanted --min or --max`,
        );
      }
      await setTo(context, path, options, { replication: { min: min ?? 0, max } });
    });
  command("write-type <path>", "how files become durable that are made without saying it", [
    "write-type /scratch MUST_CACHE",
  ])
    .addArgument(new Argument("<type>").choices(writeTypes))
    .action((path: string, writeType: (typeof writeTypes)[number], options: CommonOptions) =>
      setTo(context, path, options, { writeType }),
    );
  command("read-type <path>", "whether reads leave copies in the tiers", [
    "read-type /archive NO_CACHE",
  ])
    .addArgument(new Argument("<type>").choices(readTypes))
    .action((path: string, readType: (typeof readTypes)[number], options: CommonOptions) =>
      setTo(context, path, options, { readType }),
    );
  withOwnerOptions(
    command("owner <path>", "whom what is made below belongs to, and its mode", [
      "owner --gid 100 --umask 007 /projects",
    ]),
  ).action((path: string, options: SetOptions) =>
    setTo(context, path, options, { owner: ownerOf(options) }),
  );
}

function clearing(
  command: PathCommand,
  context: CliContext,
  { name, key, text }: { readonly name: string; readonly key: PolicyKey; readonly text: string },
): void {
  command(`${name} <path>`, text, [`${name} /data`]).action(
    (path: string, options: CommonOptions) => clearOf(context, path, options, key),
  );
}

function clearOf(
  context: CliContext,
  path: string,
  options: CommonOptions,
  key: PolicyKey,
): Promise<void> {
  return withPaths(
    context,
    options,
    { verb: "clear", subjects: [path] },
    async (client, output) => {
      await client.policies.clear(parsePath(path), [key]);
      answer(output, { path, cleared: [keyNames[key]] }, () => "");
    },
  );
}

function setTo(
  context: CliContext,
  path: string,
  options: CommonOptions,
  policy: Partial<PathPolicy>,
): Promise<void> {
  return withPaths(context, options, { verb: "set", subjects: [path] }, async (client, output) => {
    const at = parsePath(path);
    await client.policies.set(at, policy);
    const { own } = await client.policies.get(at);
    answer(output, { path, ...policyValue(own) }, () => "");
  });
}

function policyOf(options: SetOptions): Partial<PathPolicy> {
  const { pin, ttl, replicationMin: min, replicationMax: max, bytes, inodes } = options;
  if (ttl === undefined && options.ttlAction !== undefined) {
    throw new WeirError("InvalidArgument", "Cannot set what becomes of files: wanted --ttl too");
  }
  return {
    pin: pin === undefined ? undefined : {},
    ttl:
      ttl === undefined
        ? undefined
        : { seconds: secondsOf(ttl), action: options.ttlAction ?? "free" },
    replication: min === undefined && max === undefined ? undefined : { min: min ?? 0, max },
    writeType: options.writeType,
    readType: options.readType,
    keepers: options.keepers,
    syncIntervalMs: options.syncInterval,
    owner: ownerOf(options),
    quota: bytes === undefined && inodes === undefined ? undefined : { bytes, inodes },
  };
}

function ownerOf({ uid, gid, mode, umask }: SetOptions): PathPolicy["owner"] {
  const isNothing = [uid, gid, mode, umask].every((each) => each === undefined);
  return isNothing ? undefined : { uid, gid, mode, umask };
}

/** Whole seconds, and no less than one for what is no nothing. */
function secondsOf(durationMs: number): number {
  return Math.ceil(durationMs / 1000);
}

function parseSync(text: string): number {
  return text === "never" ? -1 : parseDuration(text);
}

function keysOf(name: string, before: readonly PolicyKey[]): PolicyKey[] {
  const found = policyKeys.find((key) => keyNames[key] === name);
  if (found !== undefined) return [...before, found];
  throw new InvalidArgumentError(`"${name}" is no policy, wanted one of ${allKeys}`);
}

const allKeys = policyKeys.map((key) => keyNames[key]).join(", ");
