/** `weir tree`: operations on whole trees, which the masters go on with by themselves. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { WeirClient } from "../../client/client.ts";
import { WeirError } from "../../lib/errors.ts";
import type { TreeOpId } from "../../lib/ids.ts";
import type { TreeOpInfo } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, commandsBelow, withClient } from "../context.ts";
import { answer, type Output, table } from "../output.ts";
import { showPath } from "../paths.ts";
import { detailsText, progressText, timeText, treeOpValue, workText } from "./tree-text.ts";

/** Between two looks at an operation that is waited for. */
const lookMs = 250;
/** Between two lines about its progress. */
const tellMs = 5000;

export function registerTree(program: Command, context: CliContext): void {
  const tree = program
    .command("tree")
    .helpCommand(false)
    .description("operations on whole trees, under way in the background");
  tree.addHelpText("after", "\nExamples:\n  $ weir tree ls\n  $ weir tree wait 3");
  const command = commandsBelow(tree, "weir tree");
  command("ls", "list operations that are under way or ended lately", ["ls", "ls --json"]).action(
    (options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        const operations = await client.treeOps();
        answer(output, operations.map(treeOpValue), () => listText(operations));
      }),
  );
  command("wait <id>", "wait until an operation has ended", ["wait 3"]).action(
    (text: string, options: CommonOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "wait for operation", subjects: [text] }, async () => {
          await finishTreeOp(context, output, client, await client.treeOp(parseId(text)));
        }),
      ),
  );
  command("cancel <id>", "end an operation; what it has done stays done", ["cancel 3"]).action(
    (text: string, options: CommonOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "cancel operation", subjects: [text] }, async () => {
          const id = parseId(text);
          await client.cancelTreeOp(id);
          answer(output, treeOpValue(await client.treeOp(id)), () => `Cancelled operation ${text}`);
        }),
      ),
  );
}

function parseId(text: string): TreeOpId {
  const id = Number(text);
  if (Number.isSafeInteger(id) && id > 0) return id as TreeOpId;
  throw new WeirError(
    "InvalidArgument",
    `Cannot use "${text}": wanted the number of an operation, see \`weir tree ls\``,
  );
}

function listText(operations: readonly TreeOpInfo[]): string {
  return table(
    ["ID", "PATH", "WHAT", "STATE", "STARTED", "PROGRESS"],
    operations.map((each) => [
      each.id,
      each.path === undefined ? "(removed)" : showPath(each.path),
      workText(each),
      each.state,
      timeText(each.startedAt),
      progressText(each),
    ]),
  );
}

function isUnderWay({ openDirectories, pendingFiles }: TreeOpInfo): boolean {
  return openDirectories > 0 || pendingFiles > 0;
}

/**
 * Waits for the end of an operation, tells how far it is meanwhile, and what it came to. An interruption leaves the
 * operation alone: it goes on.
 * @throws WeirError `Cancelled`, when waiting was interrupted
 */
export async function finishTreeOp(
  context: CliContext,
  output: Output,
  client: WeirClient,
  begun: TreeOpInfo,
): Promise<void> {
  const interruption = context.interruption();
  let told = Date.now();
  let now = begun;
  while (isUnderWay(now)) {
    try {
      await sleep(lookMs, undefined, { signal: interruption });
    } catch {
      const id = String(begun.id);
      throw new WeirError(
        "Cancelled",
        `Cannot wait for operation ${id} any longer: it goes on, see \`weir tree wait ${id}\``,
      );
    }
    now = await client.treeOp(begun.id);
    if (Date.now() - told < tellMs) continue;
    told = Date.now();
    context.stderr.write(`${progressText(now)}\n`);
  }
  if (now.failed > 0) context.setExitCode(1);
  answer(output, treeOpValue(now), (_) => `${progressText(now)}\n${detailsText(now)}`);
}
