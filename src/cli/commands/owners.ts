/** `weir fs chmod`, `chown`, `chgrp`: whose files are, and who may do what with them. */
import type { WeirClient } from "../../client/client.ts";
import { sleep } from "../../lib/clock.ts";
import { changedMode, parseModeChange } from "../../rpc/mode-change.ts";
import type { TreeChange, TreeOpInfo } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, type commandsBelow, withClient } from "../context.ts";
import { answer, countOf, type Output } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";
import { localUsers, parseGroup, parseOwnership } from "../users.ts";

interface ChangeOptions extends CommonOptions {
  readonly recursive?: true;
}

/** How often it is asked how far the masters have come with a tree. */
const pollMs = 200;

export function registerOwners(
  command: ReturnType<typeof commandsBelow>,
  context: CliContext,
): void {
  const changing = (name: string, description: string, examples: readonly string[]) =>
    command(name, description, examples).option(
      "-r, --recursive",
      "with everything below; the masters do it, and go on with it when this command is interrupted",
    );
  changing("chmod <mode> <path...>", "set permissions: octal digits, or clauses as of chmod(1)", [
    "chmod 640 /data/a.txt",
    "chmod --recursive u=rwX,go=rX /data",
  ]).action((mode: string, paths: string[], options: ChangeOptions) =>
    withClient(context, options, async (client, output) => {
      const change = { mode: parseModeChange(mode), uid: undefined, gid: undefined };
      await changeAll(context, { client, output, options }, paths, change);
    }),
  );
  changing("chown <owner> <path...>", "set owner and group: USER, USER:GROUP, USER: or :GROUP", [
    "chown ann /data/a.txt",
    "chown --recursive 1000:100 /data",
  ]).action((owner: string, paths: string[], options: ChangeOptions) =>
    withClient(context, options, async (client, output) => {
      const change = { mode: undefined, ...parseOwnership(owner, await localUsers()) };
      await changeAll(context, { client, output, options }, paths, change);
    }),
  );
  changing("chgrp <group> <path...>", "set the group, by name or number", [
    "chgrp staff /data/a.txt",
    "chgrp --recursive 100 /data",
  ]).action((group: string, paths: string[], options: ChangeOptions) =>
    withClient(context, options, async (client, output) => {
      const gid = parseGroup(group, await localUsers());
      await changeAll(context, { client, output, options }, paths, {
        mode: undefined,
        uid: undefined,
        gid,
      });
    }),
  );
}

interface Changed {
  readonly path: string;
  readonly done: number;
  readonly failed: number;
  readonly failures: readonly { path: string; code: string; detail: string }[];
}

/** Names below that could not be changed are told, and end the command with status 1: the answer is no for them. */
async function changeAll(
  context: CliContext,
  of: { client: WeirClient; output: Output; options: ChangeOptions },
  paths: readonly string[],
  change: TreeChange,
): Promise<void> {
  const { client, output, options } = of;
  const changed: Changed[] = [];
  for (const path of paths) {
    changed.push(
      await attempt({ verb: "change", subjects: [path] }, () =>
        options.recursive === true
          ? changeTree(client, path, change)
          : changeOne(client, path, change),
      ),
    );
  }
  answer(output, { changed }, () => (options.recursive === true ? textOf(changed) : ""));
  if (changed.some(({ failed }) => failed > 0)) context.setExitCode(1);
}

async function changeOne(client: WeirClient, path: string, change: TreeChange): Promise<Changed> {
  const at = parsePath(path);
  const { uid, gid } = change;
  const { mode, kind } = await client.stat(at);
  await client.setAttributes(at, {
    mode: change.mode && changedMode(change.mode, mode, kind === "directory"),
    uid,
    gid,
  });
  return { path, done: 1, failed: 0, failures: [] };
}

async function changeTree(client: WeirClient, path: string, change: TreeChange): Promise<Changed> {
  let op: TreeOpInfo = await client.startTreeOp(parsePath(path), change);
  while (op.state === "running") {
    await sleep(pollMs);
    op = await client.treeOp(op.id);
  }
  const failures = op.failures.map((each) => ({ ...each, path: showPath(each.path) }));
  return { path, done: op.done, failed: op.failed, failures };
}

function textOf(changed: readonly Changed[]): string {
  return changed
    .flatMap(({ path, done, failed, failures }) => [
      `${path}: ${countOf(done, "inode")} changed${failed === 0 ? "" : `, ${failed} could not be`}`,
      ...failures.map((each) => `  ${each.path}: ${each.detail}`),
      ...(failed > failures.length ? [`  and ${failed - failures.length} more`] : []),
    ])
    .join("\n");
}
