/** How operations on trees and runs of data policies are shown. */
import type { DataPolicyRun, Timestamp, TreeOpInfo } from "../../rpc/namespace.ts";
import { bytesText, countOf, countText } from "../output.ts";
import { showPath } from "../paths.ts";

type Progress = Pick<
  TreeOpInfo,
  "state" | "done" | "failed" | "failures" | "scanned" | "matched" | "matchedBytes" | "samples"
>;

export function timeText({ sec }: Timestamp): string {
  return new Date(sec * 1000).toISOString().replace(".000", "");
}

/** As programs get it: paths as text, times as ISO 8601. */
export function treeOpValue(of: TreeOpInfo) {
  const { path, startedAt } = of;
  return {
    ...of,
    path: path === undefined ? undefined : showPath(path),
    startedAt: timeText(startedAt),
    ...shownPaths(of),
  };
}

export function runValue(of: DataPolicyRun) {
  const { startedAt, endedAt } = of;
  return {
    ...of,
    startedAt: timeText(startedAt),
    endedAt: timeText(endedAt),
    ...shownPaths(of),
  };
}

function shownPaths({ failures, samples }: Progress) {
  return {
    failures: failures.map((each) => ({ ...each, path: showPath(each.path) })),
    samples: samples.map(showPath),
  };
}

/** What an operation does, in a few words. */
export function workText({ work }: TreeOpInfo): string {
  if (work.kind === "migrate") return work.isTrial ? "trial of a policy" : "run of a policy";
  const { mode, uid, gid } = work.change;
  const parts = [
    mode && "mode",
    uid === undefined ? undefined : `user ${String(uid)}`,
    gid === undefined ? undefined : `group ${String(gid)}`,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

/** How far it is, on one line. */
export function progressText(
  of: Progress & Partial<Pick<TreeOpInfo, "work" | "openDirectories" | "pendingFiles">>,
): string {
  const parts = [
    // Of a change all that is looked at is changed.
    ...(of.work?.kind !== "change"
      ? [
          `${countOf(of.scanned, "name")} looked at`,
          `${countOf(of.matched, "file")} to go (${bytesText(of.matchedBytes)})`,
        ]
      : []),
    `${countText(of.done)} done`,
    ...(of.failed > 0 ? [`${countText(of.failed)} failed`] : []),
    ...(of.openDirectories
      ? [`${countOf(of.openDirectories, "directory", "directories")} left`]
      : []),
    ...(of.pendingFiles ? [`${countOf(of.pendingFiles, "file")} under way`] : []),
  ];
  return parts.join(", ");
}

/** The first failures and samples, a line each. */
export function detailsText({ failures, failed, samples, matched }: Progress): string {
  const lines = [
    ...samples.map((path) => `  would go: ${showPath(path)}`),
    ...(samples.length > 0 && matched > samples.length
      ? [`  … and ${countText(matched - samples.length)} more`]
      : []),
    ...failures.map(({ path, detail }) => `  failed: ${showPath(path)}: ${detail}`),
    ...(failed > failures.length ? [`  … and ${countText(failed - failures.length)} more`] : []),
  ];
  return lines.map((line) => `${line}\n`).join("");
}
