/** `weir status`: who leads, how far the masters are, which workers live, where it is mounted. */
import type { Command } from "commander";
import { type ClusterView, viewCluster } from "../cluster-view.ts";
import {
  type CliContext,
  type CommonOptions,
  configOf,
  outputOf,
  withCommonOptions,
} from "../context.ts";
import { answer, bytesText, countText, sheet, table } from "../output.ts";
import { showPath } from "../paths.ts";
import { mountAt } from "../start/mounts.ts";
import { healthText } from "./mounts.ts";

interface Status extends ClusterView {
  /** Of this machine: the configured mount point, and whether something is mounted there. */
  readonly mount: { readonly path: string; readonly mounted: boolean };
}

export function registerStatus(program: Command, context: CliContext): void {
  withCommonOptions(program.command("status"))
    .description(
      "show the leader, the masters, the workers and the mount; exit status 1 without a leader",
    )
    .addHelpText("after", "\nExamples:\n  $ weir status\n  $ weir status --json | jq .leader")
    .action(async (options: CommonOptions) => {
      const config = configOf(context, options);
      const view = await viewCluster(config);
      const path = config.fuse.mountPoint;
      const mounts = view.mounts.map((each) => ({ ...each, path: showPath(each.path) }));
      const status: Status = {
        ...view,
        mounts,
        mount: { path, mounted: mountAt(path) !== undefined },
      };
      answer(outputOf(context, options), status, statusText);
      context.setExitCode(status.leader === undefined ? 1 : 0);
    });
}

/** The status as people read it. */
export function statusText(status: Status): string {
  const head = sheet([
    ["cluster", status.clusterName],
    ["leader", status.leader ?? "none"],
    ["inodes", status.inodes === undefined ? "unknown" : countText(status.inodes)],
    ["mount", `${status.mount.path} (${status.mount.mounted ? "mounted" : "not mounted"})`],
  ]);
  const masters = table(
    ["MASTER", "ADDRESS", "ROLE", "TERM", "APPLIED"],
    status.masters.map((master) => [
      master.name,
      master.address,
      master.role,
      master.term ?? "-",
      master.appliedIndex ?? "-",
    ]),
  );
  const workers = table(
    ["WORKER", "ADDRESS", "STATE", "TIERS"],
    status.workers.map((worker) => [
      String(worker.id),
      worker.address,
      worker.state,
      worker.tiers
        .map(
          (tier) => `${tier.medium} ${bytesText(tier.usedBytes)} of ${bytesText(tier.quotaBytes)}`,
        )
        .join(", "),
    ]),
  );
  const silent = status.mounts.filter(({ unhealthy = [] }) => unhealthy.length > 0);
  if (silent.length === 0) return `${head}\n${masters}\n${workers}`;
  const mounts = table(
    ["MOUNT", "STORE", "HEALTH"],
    silent.map((mount) => [mount.path, mount.uri, healthText(mount)]),
  );
  return `${head}\n${masters}\n${workers}\n${mounts}`;
}
