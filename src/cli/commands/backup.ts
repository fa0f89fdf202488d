/** `weir backup`: the whole metadata as a file, taken from a running cluster, and back into a new one. */
import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { processCaller } from "../../client/caller.ts";
import type { Config } from "../../lib/config.ts";
import { WeirError } from "../../lib/errors.ts";
import { silentLogger } from "../../lib/logger.ts";
import { listBackups, verifyBackup } from "../../master/backup/read.ts";
import { restoreBackup } from "../../master/backup/restore.ts";
import { writeBackup } from "../../master/backup/write.ts";
import { RpcClient } from "../../rpc/client.ts";
import { masterApi } from "../../rpc/master-api.ts";
import { attempt } from "../attempt.ts";
import { sourceOf } from "../whole-state-source.ts";
import {
  type CliContext,
  type CommonOptions,
  configOf,
  outputOf,
  commandsBelow,
} from "../context.ts";
import { answer, bytesText, countText, sheet, table } from "../output.ts";

interface CreateOptions extends CommonOptions {
  readonly from?: string;
  readonly force?: true;
}

interface RestoreFlags extends CommonOptions {
  readonly dataDir?: string;
  readonly name: string;
}

export function registerBackup(program: Command, context: CliContext): void {
  const backup = program
    .command("backup")
    .helpCommand(false)
    .description("the whole metadata as a file, taken online, and restored into a new cluster");
  backup.addHelpText(
    "after",
    "\nExamples:\n  $ weir backup create /backups/\n  $ weir backup ls /backups",
  );
  const command = commandsBelow(backup, "weir backup");

  command(
    "create <target>",
    "back up all metadata while the cluster works; TARGET is a file, or a directory that gets one",
    ["create /backups/", "create before-upgrade.weirbackup --from master-2"],
  )
    .option(
      "--from <master>",
      "which master to take it from (default: a follower that is not behind)",
    )
    .option("--force", "overwrite the file")
    .action(async (target: string, options: CreateOptions) => {
      const config = configOf(context, options);
      const path = targetPath(resolve(context.cwd, target), target, config, options.force === true);
      const written = await attempt({ verb: "back up to", subjects: [target] }, () =>
        create(config, path, options.from),
      );
      const { header, end, bytes } = written;
      answer(outputOf(context, options), { path, bytes, ...header, ...end }, () =>
        sheet([
          ["backup", path],
          ["size", bytesText(bytes)],
          ["taken from", header.master],
          ["index", header.index],
          ["inodes", countText(end.inodes)],
          ["sha256", end.sha256],
        ]),
      );
    });

  command("ls <directory>", "list the backups of a directory, oldest first", [
    "ls /backups",
  ]).action(async (directory: string, options: CommonOptions) => {
    const found = await listBackups(resolve(context.cwd, directory));
    answer(outputOf(context, options), found, () =>
      table(
        ["BACKUP", "TAKEN", "FROM", "INDEX", "INODES", "SIZE", "STATE"],
        found.map(({ path, header, end, bytes, damage }) => [
          path,
          header === undefined ? "-" : new Date(header.takenMs).toISOString(),
          header === undefined ? "-" : `${header.clusterName} ${header.master}`,
          header?.index ?? "-",
          end === undefined ? "-" : countText(end.inodes),
          bytesText(bytes),
          damage === undefined ? "complete" : "DAMAGED",
        ]),
      ),
    );
  });

  command("verify <file>", "read a backup from end to end and check every byte of it", [
    "verify /backups/weir-20260701T020000Z.weirbackup",
  ]).action(async (file: string, options: CommonOptions) => {
    const { path, bytes, header, end } = await verifyBackup(resolve(context.cwd, file));
    answer(outputOf(context, options), { path, bytes, ...header, ...end }, () =>
      sheet([
        ["backup", path],
        ["state", "whole: every checksum fits"],
        ["size", bytesText(bytes)],
        ["taken", new Date(header.takenMs).toISOString()],
        ["cluster", `${header.clusterName} (${header.clusterId})`],
        ["index", header.index],
        ["inodes", countText(end.inodes)],
        ["state hash", header.stateHash],
      ]),
    );
  });

  command(
    "restore <file>",
    "make the data directory of the first master of a new cluster; no process may use it",
    [
      "restore /backups/weir-20260701T020000Z.weirbackup --name master-1 --data-dir /srv/weir/master",
    ],
  )
    .requiredOption("-n, --name <name>", "which of the configuration's masters it is to be")
    .option("--data-dir <dir>", "missing or empty (default: master.dataDir of the configuration)")
    .action(async (file: string, options: RestoreFlags) => {
      const config = configOf(context, options);
      const dataDir = resolve(context.cwd, options.dataDir ?? config.master.dataDir);
      const { backup: of, ...restored } = await restoreBackup({
        backup: resolve(context.cwd, file),
        dataDir,
        name: options.name,
        config,
        logger: silentLogger,
      });
      const { name } = options;
      const isUsual = dataDir === config.master.dataDir;
      const start = isUsual ? "" : `WEIR_MASTER_DATA_DIR=${dataDir} `;
      answer(outputOf(context, options), { dataDir, name, ...restored }, () =>
        sheet([
          ["restored", `${of.path} (index ${String(of.header.index)})`],
          ["into", dataDir],
          ["inodes", countText(of.end.inodes)],
          ["new cluster", restored.clusterId],
          ["sessions ended", restored.sessions],
        ]).concat(nextSteps(config, name, start)),
      );
    });
}

/** What to run now; `start` goes before the master's own command. */
function nextSteps(config: Config, name: string, start: string): string {
  const others = config.masters.filter((master) => master.name !== name);
  const first = `\nNow start it:\n  ${start}weir master --name ${name}\n`;
  if (others.length === 0) return first;
  const adds = others.map((other) => `  weir cluster add ${other.name} --wait\n`).join("");
  return `${first}Then start the others with empty data directories, and add each:\n${adds}`;
}

/** The file to write: `target` itself, or a name in it that tells the time. */
function targetPath(path: string, typed: string, config: Config, force: boolean): string {
  if (typed.endsWith("/") || (existsSync(path) && statSync(path).isDirectory())) {
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
    return join(path, `${config.clusterName}-${time}.weirbackup`);
  }
  if (!force && existsSync(path)) {
    throw new WeirError(
      "AlreadyExists",
      `Cannot back up to "${typed}": it exists, wanted a new name, or --force`,
    );
  }
  return path;
}

async function create(config: Config, path: string, from: string | undefined) {
  const { host, port } = await sourceOf(config, from);
  const client = new RpcClient({ host, port, logger: silentLogger });
  try {
    const { signal } = new AbortController();
    return await writeBackup(
      path,
      client.stream(masterApi.backup, { caller: processCaller() }, { signal }),
    );
  } finally {
    client.close();
  }
}
