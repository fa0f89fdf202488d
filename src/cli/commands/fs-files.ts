/** `weir fs head|tail|test|touch|cp|fetch`: single files, and copies within the namespace. */
import { type Command, Option } from "commander";
import type { WeirClient } from "../../client/client.ts";
import { hasCode, WeirError } from "../../lib/errors.ts";
import type { FileStatus } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, withClient } from "../context.ts";
import { answer, bytesText, countOf } from "../output.ts";
import { parsePath } from "../paths.ts";
import { parseSize } from "../units.ts";
import { copyTree } from "./copy-tree.ts";
import { fetchTree } from "./fetch-tree.ts";
import type { WriteOptions } from "./transfer.ts";

type FsCommand = (name: string, description: string, examples: readonly string[]) => Command;

const shownBytes = 1024;

export function registerFiles(command: FsCommand, context: CliContext): void {
  registerEnds(command, context);
  registerTest(command, context);
  command("touch <path...>", "make empty files, or set the times of what is there to now", [
    "touch /data/done",
  ])
    .option("--no-create", "what is not there stays so")
    .action((paths: string[], options: CommonOptions & { create: boolean }) =>
      withClient(context, options, async (client, output) => {
        for (const path of paths) {
          await attempt({ verb: "touch", subjects: [path] }, () =>
            touch(client, parsePath(path), options.create),
          );
        }
        answer(output, { touched: paths }, () => "");
      }),
    );
  command("cp <from> <to>", "copy a file, or a whole tree, within the namespace", [
    "cp /data/a.txt /data/b.txt",
    "cp --recursive --preserve /data /copy",
  ])
    .option("-r, --recursive", "a directory with everything below it")
    .option("-p, --preserve", "owners and times too")
    .addOption(
      new Option("-w, --write-type <type>", "how the copies become durable").choices([
        "MUST_CACHE",
        "ASYNC_THROUGH",
        "CACHE_THROUGH",
        "THROUGH",
      ]),
    )
    .action(
      (
        from: string,
        to: string,
        options: CommonOptions & WriteOptions & { recursive?: true; preserve?: true },
      ) =>
        withClient(context, options, (client, output) =>
          attempt({ verb: "copy", subjects: [from, to], preposition: "to" }, async () => {
            const done = await copyTree(client, parsePath(from), parsePath(to), {
              recursive: options.recursive === true,
              preserve: options.preserve === true,
              ...options,
            });
            answer(
              output,
              done,
              ({ files, bytes }) => `${countOf(files, "file")}, ${bytesText(bytes)}`,
            );
          }),
        ),
    );
  command("fetch <path>", "have workers read into their tiers what none of them has", [
    "fetch /models",
  ]).action((path: string, options: CommonOptions) =>
    withClient(context, options, (client, output) =>
      attempt({ verb: "fetch", subjects: [path] }, async () => {
        const done = await fetchTree(client, parsePath(path));
        answer(
          output,
          { path, ...done },
          ({ files, bytes }) => `${countOf(files, "file")}, ${bytesText(bytes)} fetched`,
        );
      }),
    ),
  );
}

function registerEnds(command: FsCommand, context: CliContext): void {
  const ends = (name: "head" | "tail", which: string) =>
    command(`${name} <path>`, `write the ${which} bytes of a file to standard output`, [
      `${name} /logs/today.log`,
      `${name} --bytes 4KiB /logs/today.log`,
    ])
      .option("-n, --bytes <size>", "how many", parseSize, shownBytes)
      .action((path: string, options: CommonOptions & { bytes: number }) =>
        withClient(context, options, (client, output) =>
          attempt({ verb: "read", subjects: [path] }, async () => {
            const at = parsePath(path);
            const { size, kind } = await client.stat(at);
            if (kind === "directory") {
              throw new WeirError("IsDirectory", `Cannot read "${path}": it is a directory`);
            }
            const offset = name === "head" ? 0 : Math.max(0, size - options.bytes);
            const chunks: Uint8Array[] = [];
            for await (const chunk of client.readFile(at, { offset, length: options.bytes })) {
              if (output.json) chunks.push(chunk);
              else await written(context, chunk);
            }
            if (!output.json) return;
            const base64 = Buffer.concat(chunks).toString("base64");
            answer(output, { path, offset, size, base64 }, () => "");
          }),
        ),
      );
  ends("head", "first");
  ends("tail", "last");
}

function written(context: CliContext, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    context.stdout.write(chunk, resolve);
  });
}

const tests: Readonly<Record<string, (status: FileStatus) => boolean>> = {
  exists: () => true,
  directory: ({ kind }) => kind === "directory",
  file: ({ kind }) => kind === "file",
  link: ({ kind }) => kind === "symlink",
  notEmpty: ({ size }) => size > 0,
  empty: ({ size }) => size === 0,
};

function registerTest(command: FsCommand, context: CliContext): void {
  command("test <path>", "exit with 0 if it is so, with 1 if not", [
    "test --directory /data",
    "test --exists --not-empty /data/done && echo yes",
  ])
    .option("-e, --exists", "there is such a path (what is asked when nothing else is)")
    .option("-d, --directory", "it is a directory")
    .option("-f, --file", "it is a file")
    .option("-l, --link", "it is a symbolic link")
    .option("-s, --not-empty", "it has bytes, or names")
    .option("-z, --empty", "it has none")
    .action((path: string, options: CommonOptions & Record<string, unknown>) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "look at", subjects: [path] }, async () => {
          const status = await statusIfAny(client, parsePath(path));
          const asked = Object.entries(tests).filter(([name]) => options[name] === true);
          const result = status !== undefined && asked.every(([, is]) => is(status));
          if (!result) context.setExitCode(1);
          answer(output, { path, result }, () => "");
        }),
      ),
    );
}

async function statusIfAny(client: WeirClient, path: string): Promise<FileStatus | undefined> {
  try {
    return await client.stat(path);
  } catch (error) {
    if (hasCode(error, "NotFound", "NotDirectory")) return undefined;
    throw error;
  }
}

async function touch(client: WeirClient, path: string, creates: boolean): Promise<void> {
  const now = Date.now();
  const time = { sec: Math.floor(now / 1000), nsec: (now % 1000) * 1_000_000 };
  const existing = await statusIfAny(client, path);
  if (existing === undefined) {
    if (creates) await client.writeFile(path, new Uint8Array(0), { append: true });
    return;
  }
  await client.setAttributes(path, { atime: time, mtime: time });
}
