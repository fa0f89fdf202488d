/** `weir fs du|count|df|quota`: what lies where, as the masters keep it up to date. Nothing is walked to be counted. */
import type { Command } from "commander";
import type { WeirClient } from "../../client/client.ts";
import type { InodeId } from "../../lib/ids.ts";
import type { FileStatus, InodeUsage } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, withClient } from "../context.ts";
import { answer, bytesText, countText, type Output, sheet, table } from "../output.ts";
import { joinPath, parsePath, showPath } from "../paths.ts";
import { parseNumber } from "../units.ts";
import { showQuotas } from "./quota.ts";

type FsCommand = (name: string, description: string, examples: readonly string[]) => Command;

/** Most inodes that are asked for at once. */
const askedAtOnce = 500;

interface Line extends InodeUsage {
  readonly path: string;
  readonly kind: FileStatus["kind"];
}

export function registerUsage(command: FsCommand, context: CliContext): void {
  command("du [path...]", "how much lies below directories, as it is kept up to date", [
    "du /data",
    "du --depth 1 --all /",
  ])
    .option("-d, --depth <levels>", "also the directories so many levels below", parseNumber, 0)
    .option("-a, --all", "also the files on those levels")
    .addHelpText(
      "after",
      "\nFiles count once, in the directory of their first name; mounts below count too. `at least`: some directories\nbelow have not been loaded from their store yet, and what lies in them is not counted.",
    )
    .action((paths: string[], options: CommonOptions & { depth: number; all?: true }) =>
      withClient(context, options, async (client, output) => {
        const lines: Line[] = [];
        for (const path of paths.length === 0 ? ["/"] : paths) {
          await attempt({ verb: "measure", subjects: [path] }, async () => {
            const at = parsePath(path);
            const { inode, kind } = await client.stat(at);
            const depth = kind === "directory" ? options.depth : 0;
            const below = { depth, all: options.all === true };
            lines.push(...(await usagesBelow(client, { path: at, inode, kind }, below)));
          });
        }
        answer(output, lines.map(lineValue), () => duTable(lines));
      }),
    );
  command("count <path...>", "how many files, directories and bytes lie below", [
    "count /data /logs",
  ]).action((paths: string[], options: CommonOptions) =>
    withClient(context, options, async (client, output) => {
      const lines: Line[] = [];
      for (const path of paths) {
        await attempt({ verb: "count", subjects: [path] }, async () => {
          const at = parsePath(path);
          const { kind } = await client.stat(at);
          lines.push({ path: at, kind, ...(await client.policies.usage(at)) });
        });
      }
      answer(output, lines.map(lineValue), () =>
        table(
          ["DIRECTORIES", "FILES", "BYTES", "PATH"],
          lines.map(({ usage, path, complete }) => [
            usage.directories,
            usage.files,
            usage.bytes,
            complete ? showPath(path) : `${showPath(path)} (at least)`,
          ]),
        ),
      );
    }),
  );
  command("quota [path]", "the quotas that hold for a path, and what is used of them", [
    "quota /data",
  ]).action((path: string | undefined, options: CommonOptions) =>
    showQuotas(context, path ?? "/", options),
  );
  command("df", "the room in the workers' tiers, and what the namespace has", ["df"]).action(
    (options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        await attempt({ verb: "show", subjects: ["/"] }, () => showRoom(client, output));
      }),
  );
}

/** A path and what lies on so many levels below it, in the order of a walk. */
async function usagesBelow(
  client: WeirClient,
  top: { readonly path: string; readonly inode: InodeId; readonly kind: FileStatus["kind"] },
  { depth, all }: { readonly depth: number; readonly all: boolean },
): Promise<Line[]> {
  const found = [top];
  if (depth > 0) {
    for await (const { name, status } of client.list(top.path)) {
      if (status.kind !== "directory" && !all) continue;
      found.push({ path: joinPath(top.path, name), inode: status.inode, kind: status.kind });
    }
  }
  const [own, ...children] = found;
  const lines = await usagesOf(client, [own!, ...children]);
  if (depth <= 1) return lines;
  const deeper: Line[] = lines.slice(0, 1);
  for (const line of lines.slice(1)) {
    if (line.kind !== "directory") deeper.push(line);
    else deeper.push(...(await usagesBelow(client, line, { depth: depth - 1, all })));
  }
  return deeper;
}

/** Those that went meanwhile are left out. */
async function usagesOf(
  client: WeirClient,
  wanted: readonly { path: string; inode: InodeId; kind: FileStatus["kind"] }[],
): Promise<Line[]> {
  const lines: Line[] = [];
  for (let from = 0; from < wanted.length; from += askedAtOnce) {
    const page = wanted.slice(from, from + askedAtOnce);
    const usages = await client.policies.usageOf(page.map(({ inode }) => inode));
    const byInode = new Map(usages.map((each) => [each.inode, each]));
    for (const each of page) {
      const usage = byInode.get(each.inode);
      if (usage !== undefined) lines.push({ ...each, ...usage });
    }
  }
  return lines;
}

function lineValue({ path, kind, usage, complete }: Line): Record<string, unknown> {
  return { path: showPath(path), kind, ...usage, complete };
}

function duTable(lines: readonly Line[]): string {
  return table(
    ["SIZE", "NOT PERSISTED", "FILES", "DIRECTORIES", "PATH"],
    lines.map(({ path, kind, usage, complete }) => [
      `${complete ? "" : "at least "}${bytesText(usage.bytes)}`,
      bytesText(usage.unpersistedBytes),
      kind === "directory" ? countText(usage.files) : "-",
      kind === "directory" ? countText(usage.directories) : "-",
      showPath(path),
    ]),
  );
}

async function showRoom(client: WeirClient, output: Output): Promise<void> {
  const { inodes, capacityBytes, usedBytes } = await client.inodes.statFs();
  const { usage, complete } = await client.policies.usage("/");
  const value = { capacityBytes, usedBytes, freeBytes: capacityBytes - usedBytes, inodes };
  answer(output, { ...value, namespace: { ...usage, complete } }, () =>
    sheet([
      ["tiers", bytesText(capacityBytes)],
      ["used", bytesText(usedBytes)],
      ["free", bytesText(capacityBytes - usedBytes)],
      ["inodes", countText(inodes)],
      ["content", `${complete ? "" : "at least "}${bytesText(usage.bytes)}`],
      ["not persisted", bytesText(usage.unpersistedBytes)],
    ]),
  );
}
