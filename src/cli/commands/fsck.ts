/** `weir fsck`: looks through all metadata for what does not fit together. */
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { Config } from "../../lib/config.ts";
import { exitCodeOf, WeirError } from "../../lib/errors.ts";
import { silentLogger } from "../../lib/logger.ts";
import { checkOffline } from "../../master/fsck/offline.ts";
import { RpcClient } from "../../rpc/client.ts";
import type { Finding, FsckEnd } from "../../rpc/fsck-items.ts";
import { masterApi } from "../../rpc/master-api.ts";
import { sourceOf } from "../whole-state-source.ts";
import {
  type CliContext,
  type CommonOptions,
  configOf,
  outputOf,
  withCommonOptions,
} from "../context.ts";
import { answer, countOf, countText } from "../output.ts";
import { showMessage, showPath } from "../paths.ts";

interface FsckOptions extends CommonOptions {
  readonly from?: string;
  readonly rate: number;
  readonly limit: number;
}

/** Rows a second: about a quarter of the thread of the master that is asked. */
const usualRate = 50_000;
const usualLimit = 1000;

export function registerFsck(program: Command, context: CliContext): void {
  const command = program
    .command("fsck [source]")
    .description(
      "check all metadata: names, links, trees, extents, keepers, leases, side effects, counts; exit status 65 with findings",
    )
    .addHelpText(
      "after",
      `
SOURCE is a backup, or the data directory of a master that is stopped. Without it a running master looks through its own
state while it works. Nothing is mended: each finding says what can be done.

Examples:
  $ weir fsck
  $ weir fsck --from master-2 --rate 0
  $ weir fsck /backups/weir-20260701T020000Z.weirbackup
  $ weir fsck /srv/weir/master --json`,
    );
  withCommonOptions(command)
    .option("--from <master>", "which master is to check (default: a follower that is not behind)")
    .option("--rate <rows>", "rows a second that it reads; 0: what it likes", parseCount, usualRate)
    .option("--limit <findings>", "findings that are shown", parseCount, usualLimit)
    .action(async (source: string | undefined, options: FsckOptions) => {
      if (source !== undefined && options.from !== undefined) {
        throw new WeirError(
          "InvalidArgument",
          `Cannot check "${source}" from "${options.from}": wanted a source or a master`,
        );
      }
      const end =
        source === undefined
          ? await online(configOf(context, options), options, progressOf(context, options))
          : await checkOffline(resolve(context.cwd, source), {
              limit: options.limit,
              told: progressOf(context, options),
            });
      const findings = end.findings.map(({ path, ...rest }) => ({
        ...rest,
        path: path === undefined ? undefined : showPath(path),
      }));
      const output = outputOf(context, options);
      answer(output, output.json ? { ...end, findings } : end, textOf);
      // Copies that nobody wants go by themselves.
      if (end.found > end.findings.filter(({ check }) => check === "orphan").length) {
        context.setExitCode(exitCodeOf.Corrupt);
      }
    });
}

async function online(
  config: Config,
  options: FsckOptions,
  told: (rows: number) => void,
): Promise<FsckEnd> {
  const { host, port } = await sourceOf(config, options.from);
  const client = new RpcClient({ host, port, logger: silentLogger });
  try {
    const { signal } = new AbortController();
    const request = { rowsPerSecond: options.rate, limit: options.limit };
    for await (const item of client.stream(masterApi.fsck, request, { signal })) {
      if (item.kind === "end") return item;
      told(item.rows);
    }
    throw new WeirError("ProtocolError", "Cannot check the metadata: the master ended in between");
  } finally {
    client.close();
  }
}

/** Says how far it is where people read along. */
function progressOf(context: CliContext, options: FsckOptions): (rows: number) => void {
  if (options.json === true || context.stdout.isTTY !== true) return () => undefined;
  return (rows) => void context.stderr.write(`\r${countText(rows)} rows`);
}

function textOf(end: FsckEnd): string {
  const { findings, found, inodes, index, master } = end;
  const lines = findings.map(lineOf);
  const left = found - findings.length;
  if (left > 0) lines.push(`and ${countOf(left, "more finding")} (--limit)`);
  const counts = [...countsOf(findings)].map(([check, count]) => `${countText(count)} ${check}`);
  const verdict =
    found === 0 ? "no findings" : `${countOf(found, "finding")}: ${counts.join(", ")}`;
  lines.push(`${verdict}; ${countOf(inodes, "inode")}, index ${countText(index)}, by ${master}`);
  return lines.join("\n");
}

function lineOf({ check, path, subject, is, wanted, cure }: Finding): string {
  const where = path === undefined ? "" : ` (${path})`;
  return showMessage(`${check}: ${subject}${where} ${is}, wanted ${wanted}. Cure: ${cure}`);
}

function countsOf(findings: readonly Finding[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { check } of findings) counts.set(check, (counts.get(check) ?? 0) + 1);
  return counts;
}

function parseCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("wanted a number from 0");
}
