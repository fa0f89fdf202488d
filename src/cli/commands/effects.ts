/** `weir fs effects`: changes that stores have yet to see, and what becomes of those that they refuse. */
import type { Command } from "commander";
import type { WeirClient } from "../../client/client.ts";
import { WeirError } from "../../lib/errors.ts";
import type { UfsOpId } from "../../lib/ids.ts";
import type { Effect } from "../../rpc/master-api.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, withClient } from "../context.ts";
import { answer, countOf, durationText, table } from "../output.ts";
import { showPath } from "../paths.ts";

type FsCommand = (name: string, description: string, examples: readonly string[]) => Command;

/** Most that are shown or decided on at once. */
const longestList = 100_000;

export function registerEffects(command: FsCommand, context: CliContext): void {
  command("effects", "list the changes that stores have not seen yet, oldest first", [
    "effects",
    "effects --failed",
    "effects --json | jq '.[] | select(.attempts > 0)'",
  ])
    .option("--failed", "only those that were given up: they wait for effects-retry or -discard")
    .action((options: CommonOptions & { failed?: true }) =>
      withClient(context, options, async (client, output) => {
        const found = await effectsOf(client, options.failed === true);
        answer(output, found.map(shown), (all) =>
          table(
            ["ID", "CHANGE", "PATH", "STATE", "ATTEMPTS", "AGE", "ERROR"],
            all.map(({ op, kind, path, to, state, attempts, ageMs, error }) => [
              op,
              kind,
              to === undefined ? path : `${path} → ${to}`,
              state,
              attempts,
              ageMs === undefined ? "" : durationText(ageMs),
              error ?? "",
            ]),
          ),
        );
      }),
    );
  registerDecision(command, context, {
    name: "effects-retry [id...]",
    description: "try changes again that were given up, once their reason is gone",
    examples: ["effects-retry 17 18", "effects-retry --all"],
    verb: "retry",
    done: "tried again",
    decide: (client, ops) => client.retryEffects(ops),
  });
  registerDecision(command, context, {
    name: "effects-discard [id...]",
    description: "forget changes that were given up: the store keeps what it has",
    examples: ["effects-discard 17", "effects-discard --all"],
    verb: "discard",
    done: "discarded",
    decide: (client, ops) => client.discardEffects(ops),
  });
}

function registerDecision(
  command: FsCommand,
  context: CliContext,
  of: {
    readonly name: string;
    readonly description: string;
    readonly examples: readonly string[];
    readonly verb: string;
    readonly done: string;
    readonly decide: (client: WeirClient, ops: readonly UfsOpId[]) => Promise<void>;
  },
): void {
  command(of.name, of.description, of.examples)
    .option("--all", "all that were given up")
    .action((ids: string[], options: CommonOptions & { all?: true }) =>
      withClient(context, options, async (client, output) => {
        const all = options.all === true;
        if (all === ids.length > 0) {
          throw new WeirError(
            "InvalidArgument",
            `Cannot ${of.verb} changes: wanted ids as "weir fs effects --failed" shows them, or --all`,
          );
        }
        const ops = all
          ? (await effectsOf(client, true)).map(({ op }) => op)
          : ids.map((id) => parseOp(id, of.verb));
        for (const op of ops) {
          await attempt({ verb: of.verb, subjects: [String(op)] }, () => of.decide(client, [op]));
        }
        answer(output, { ops }, () => `${countOf(ops.length, "change")} ${of.done}`);
      }),
    );
}

async function effectsOf(client: WeirClient, onlyFailed: boolean): Promise<Effect[]> {
  const found: Effect[] = [];
  for await (const each of client.effects({ onlyFailed })) {
    if (found.push(each) >= longestList) break;
  }
  return found;
}

/** With paths from the root of the namespace. */
function shown({ mount, path, to, ...rest }: Effect) {
  const at = (below: string) => showPath(mount === "/" ? `/${below}` : `${mount}/${below}`);
  return { ...rest, path: at(path), to: to === undefined ? undefined : at(to) };
}

function parseOp(text: string, verb: string): UfsOpId {
  const op = Number(text);
  if (Number.isSafeInteger(op) && op > 0) return op as UfsOpId;
  throw new WeirError(
    "InvalidArgument",
    `Cannot ${verb} "${text}": wanted an id as "weir fs effects --failed" shows it`,
  );
}
