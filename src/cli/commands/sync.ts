/** `weir fs sync`, `load` and `sync-interval`: the namespace and what lies below in the stores. */
import type { Command } from "commander";
import type { TreeSyncProgress } from "../../client/tree-sync.ts";
import { type CliContext, type CommonOptions, withClient } from "../context.ts";
import { WeirError } from "../../lib/errors.ts";
import { attempt } from "../attempt.ts";
import { answer, countOf, countText, durationText, type Output } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";

type FsCommand = (name: string, description: string, examples: readonly string[]) => Command;

/** A line of progress at most so often. */
const progressMs = 500;

export function registerSync(command: FsCommand, context: CliContext): void {
  command(
    "sync <path>",
    "look again at what lies below in the store: new, changed and removed names are shown as they are",
    ["sync /data/report.csv", "sync --recursive /data", "sync --recursive --json /data"],
  )
    .option("-r, --recursive", "a directory with everything below")
    .action((path: string, options: CommonOptions & { recursive?: true }) =>
      walk(context, path, options, { verb: "sync", known: "stale" }),
    );
  command(
    "load <path>",
    "load the names of a whole tree from its store, as far as they are unknown",
    ["load /data"],
  ).action((path: string, options: CommonOptions) =>
    walk(context, path, { ...options, recursive: true }, { verb: "load", known: "enough" }),
  );
  command(
    "sync-interval <path> [interval]",
    "show or set how old what is known of a directory and all below may get before its store is asked again",
    [
      "sync-interval /data",
      "sync-interval /data 60s",
      "sync-interval /data always",
      "sync-interval /data never",
      "sync-interval /data inherit",
    ],
  ).action((path: string, interval: string | undefined, options: CommonOptions) =>
    withClient(context, options, (client, output) =>
      attempt({ verb: "set the sync interval of", subjects: [path] }, async () => {
        const at = parsePath(path);
        if (interval !== undefined) await client.setSyncInterval(at, parseInterval(interval));
        const { intervalMs, setOn, ageMs } = await client.syncInterval(at);
        const from = setOn === undefined ? undefined : showPath(setOn);
        answer(output, { path, intervalMs, setOn: from, ageMs }, () =>
          [
            `${intervalText(intervalMs)} (${from === undefined ? "master.syncIntervalMs" : `set on ${from}`})`,
            ageMs === undefined ? "" : `last listed ${durationText(ageMs)} ago`,
          ]
            .filter((line) => line !== "")
            .join("\n"),
        );
      }),
    ),
  );
}

async function walk(
  context: CliContext,
  path: string,
  options: CommonOptions & { recursive?: true },
  { verb, known }: { readonly verb: string; readonly known: "enough" | "stale" },
): Promise<void> {
  const signal = context.interruption();
  await withClient(context, options, (client, output) =>
    attempt({ verb, subjects: [path] }, async () => {
      const { recursive } = options;
      const onProgress = progressTo(context, output);
      const done = await client.sync(parsePath(path), { recursive, known, signal, onProgress });
      const failures = done.failures.map((each) => ({ ...each, path: showPath(each.path) }));
      answer(output, { path, ...done, failures }, () =>
        [
          summaryOf(done),
          ...failures.map((each) => `${each.path}: ${each.message}`),
          ...(done.failed > failures.length
            ? [`and ${countText(done.failed - failures.length)} more`]
            : []),
        ].join("\n"),
      );
      if (done.failed > 0) context.setExitCode(1);
    }),
  );
}

/** Lines on standard error, where somebody may read along. */
function progressTo(
  context: CliContext,
  output: Output,
): ((progress: TreeSyncProgress) => void) | undefined {
  if (output.json || context.stdout.isTTY !== true) return undefined;
  let lastMs = performance.now();
  return (progress) => {
    if (performance.now() - lastMs < progressMs) return;
    lastMs = performance.now();
    context.stderr.write(`${summaryOf(progress)} …\n`);
  };
}

function summaryOf({
  directories,
  names,
  added,
  changed,
  removed,
  kept,
  failed,
}: TreeSyncProgress): string {
  const parts = [
    countOf(directories, "directory", "directories"),
    countOf(names, "name"),
    `${countText(added)} added`,
    `${countText(changed)} changed`,
    `${countText(removed)} removed`,
  ];
  if (kept > 0) parts.push(`${countText(kept)} kept that the store does not have`);
  if (failed > 0) parts.push(`${countText(failed)} failed`);
  return parts.join(", ");
}

const units = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Milliseconds of `60s`, `5min`, `never`, `always`; undefined for `inherit`. */
export function parseInterval(text: string): number | undefined {
  if (text === "inherit") return undefined;
  if (text === "never") return -1;
  if (text === "always") return 0;
  const [, count, unit] = /^(\d{1,10})(ms|s|min|h|d)?$/.exec(text) ?? [];
  if (count !== undefined) return Number(count) * units[(unit ?? "ms") as keyof typeof units];
  throw new WeirError(
    "InvalidArgument",
    `"${text}" is no interval, wanted never, always, inherit, or a time like 500ms, 60s, 5min, 1h`,
  );
}

function intervalText(intervalMs: number): string {
  if (intervalMs < 0) return "never looked at again";
  return intervalMs === 0
    ? "looked at again every time"
    : `looked at again after ${durationText(intervalMs)}`;
}
