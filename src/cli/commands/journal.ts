/** `weir journal`: looks at the journal of a stopped master, checks it and writes its entries out; it changes nothing. */
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { openStoppedJournal, verifyJournal } from "../../journal/inspect.ts";
import {
  configurationIn,
  type JournalSummary,
  type ReadableLog,
  readLog,
  type Span,
} from "../../journal/summary.ts";
import { exitCodeOf, toWeirError } from "../../lib/errors.ts";
import { decode } from "../../lib/schema.ts";
import { entryPayload } from "../../rpc/commands.ts";
import { payloadWithoutCredentials } from "../../rpc/credentials.ts";
import { type CliContext, outputOf } from "../context.ts";
import { answer, bytesText, countOf, countText, sheet, table } from "../output.ts";

type Entry = ReadableLog["entries"][number];

interface JournalOptions {
  readonly json?: true;
}

interface InspectOptions extends JournalOptions {
  readonly entries?: true;
  readonly decode?: true;
}

interface ExportOptions {
  readonly from?: number;
  readonly to?: number;
}

export function registerJournal(program: Command, context: CliContext): void {
  const journal = program
    .command("journal")
    .helpCommand(false)
    .description("the journal of a stopped master: look at it, check it, write its entries out");
  journal.addHelpText(
    "after",
    "\nExamples:\n  $ weir journal verify /srv/weir/master\n  $ weir journal inspect /srv/weir/master --entries --decode",
  );
  const command = (name: string, description: string, examples: readonly string[]) =>
    journal
      .command(`${name} <dir>`)
      .description(`${description}; <dir> is the master's data directory, or "journal" in it`)
      .addHelpText(
        "after",
        `\nExamples:\n${examples.map((each) => `  $ weir journal ${each}`).join("\n")}`,
      );
  const filesOf = (directory: string) => openStoppedJournal(resolve(context.cwd, directory));

  command("inspect", "show segments, identity, term and vote, and what cannot be read", [
    "inspect /srv/weir/master",
    "inspect /srv/weir/master --entries --decode | tail",
  ])
    .option("--entries", "show each entry of the log as well")
    .option("--decode", "with --entries: show what each one carries")
    .option("--json", "print JSON instead of text")
    .action(async (directory: string, options: InspectOptions) => {
      const { summary, entries } = await readLog(await filesOf(directory));
      const shown = options.entries === true ? entries : [];
      const rows = shown.map((entry) => ({
        index: entry.index,
        term: entry.term,
        kind: entry.kind,
        bytes: entry.payload.length,
        ...(options.decode === true && { carries: contentOf(entry) }),
      }));
      const value = { ...summary, ...(options.entries === true && { entries: rows }) };
      answer(outputOf(context, options), value, () => {
        const listed = rows.map((row) => [
          row.index,
          row.term,
          row.kind,
          row.bytes,
          row.carries?.join(", ") ?? "",
        ]);
        const list = table(
          ["INDEX", "TERM", "KIND", "BYTES", options.decode ? "CARRIES" : ""],
          listed,
        );
        return options.entries === true ? `${summaryText(summary)}\n${list}` : summaryText(summary);
      });
      context.setExitCode(summary.refusal === undefined ? 0 : exitCodeOf.Corrupt);
    });

  command(
    "verify",
    "decide as opening would: sound, with a torn tail, or damaged (exit status 65)",
    ["verify /srv/weir/master"],
  )
    .option("--json", "print JSON instead of text")
    .action(async (directory: string, options: JournalOptions) => {
      const files = await filesOf(directory);
      const { state, segmentCount, frameCount, tornTails } = await verifyJournal(files);
      const { baseIndex, entries } = state;
      const lastIndex = baseIndex + entries.length;
      const value = { segments: segmentCount, frames: frameCount, baseIndex, lastIndex, tornTails };
      answer(outputOf(context, options), value, () => {
        const torn = tornTails.map(
          ({ path, from, to }) =>
            `torn tail: "${path}", bytes ${from} to ${to}: a write that nobody was told of; opening cuts it\n`,
        );
        const found = [
          countOf(segmentCount, "segment"),
          countOf(frameCount, "frame"),
          `entries ${countText(baseIndex + 1)} to ${countText(lastIndex)}`,
        ];
        return `sound: ${found.join(", ")}\n${torn.join("")}`;
      });
    });

  command("export", "write the log as JSON lines: index, term, kind, payload (base64)", [
    "export /srv/weir/master > entries.jsonl",
    "export /srv/weir/master --from 1000 --to 1999",
  ])
    .option("--from <index>", "first index", parseIndex)
    .option("--to <index>", "last index", parseIndex)
    .action(async (directory: string, { from = 1, to = Infinity }: ExportOptions) => {
      const { summary, entries } = await readLog(await filesOf(directory));
      for (const { index, term, kind, payload } of entries) {
        if (index < from || index > to) continue;
        const shown = kind === "command" ? shownPayload(payload) : payload;
        const line = { index, term, kind, payload: Buffer.from(shown).toString("base64") };
        await new Promise<void>((done) => {
          context.stdout.write(`${JSON.stringify(line)}\n`, done);
        });
      }
      if (summary.refusal === undefined) return;
      context.stderr.write(`${summary.refusal}. What can be read was written out\n`);
      context.setExitCode(exitCodeOf.Corrupt);
    });
}

/** Without credentials of stores; what is no entry of ours is shown as it is. */
function shownPayload(payload: Uint8Array): Uint8Array {
  try {
    return payloadWithoutCredentials(payload);
  } catch {
    return payload;
  }
}

/** What an entry carries, in a few words each. */
function contentOf(entry: Entry): string[] {
  try {
    switch (entry.kind) {
      case "noop":
        return [];
      case "configuration": {
        const { voters, outgoing, learners } = configurationIn(entry);
        const groups = Object.entries({ voters, outgoing, learners });
        return groups.flatMap(([name, ids]) =>
          ids.length > 0 ? [`${name} ${ids.join(" ")}`] : [],
        );
      }
      case "command": {
        const { requests } = decode(entryPayload, entry.payload, `entry ${entry.index}`);
        return requests.flatMap(({ commands }) => commands.map(({ kind }) => kind));
      }
    }
  } catch (thrown) {
    return [toWeirError(thrown, "Cannot decode it").message];
  }
}

/** A summary as people read it. */
export function summaryText(summary: JournalSummary): string {
  const { identity, hardState, indexes, baseIndex, baseTerm, problems, refusal } = summary;
  const head = sheet([
    ["journal", summary.directory],
    ["node", identity?.nodeId ?? "none"],
    ["cluster", identity?.clusterId ?? "none"],
    ["term", hardState?.term ?? 0],
    ["vote", hardState?.vote ?? "none"],
    ["entries", spanText(indexes)],
    ["compacted", baseIndex === 0 ? "never" : `to ${countText(baseIndex)} (term ${baseTerm})`],
    ["size", bytesText(summary.sizeBytes)],
  ]);
  const segments = table(
    ["SEGMENT", "FORMAT", "SIZE", "RECORDS", "ENTRIES", "TERMS"],
    summary.segments.map((segment) => [
      segment.name,
      segment.version ?? "-",
      bytesText(segment.sizeBytes),
      segment.recordCount,
      spanText(segment.indexes),
      spanText(segment.terms),
    ]),
  );
  const found = problems.map(
    ({ segment, offset, problem }) => `${segment}, byte ${offset}: ${problem}\n`,
  );
  const verdict = refusal === undefined ? [] : [`\n${refusal}\n`];
  return [head, "\n", segments, ...(found.length > 0 ? ["\n"] : []), ...found, ...verdict].join("");
}

function spanText(span: Span): string {
  if (span === undefined) return "none";
  const { first, last } = span;
  return first === last ? countText(first) : `${countText(first)} to ${countText(last)}`;
}

function parseIndex(text: string): number {
  const index = Number(text);
  if (/^\d{1,15}$/.test(text) && index > 0) return index;
  throw new InvalidArgumentError("wanted an index from 1");
}
