/** `weir fs`: the namespace from the command line. Transfers of whole trees are in transfer.ts. */
import { createHash } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { WeirError } from "../../lib/errors.ts";
import type { FileStatus } from "../../rpc/namespace.ts";
import {
  type CliContext,
  type CommonOptions,
  withActingAs,
  withClient,
  commandsBelow,
} from "../context.ts";
import { attempt, withPaths } from "../attempt.ts";
import { answer, bytesText, countOf } from "../output.ts";
import { parsePath } from "../paths.ts";
import { registerAttributes } from "./attributes.ts";
import { registerEffects } from "./effects.ts";
import { registerFiles } from "./fs-files.ts";
import { registerUsage } from "./fs-usage.ts";
import { listTo, locationsOf, locationsText, statusSheet, statusValue } from "./file-text.ts";
import { registerMounts } from "./mounts.ts";
import { registerNodes } from "./nodes.ts";
import { registerOwners } from "./owners.ts";
import { registerSync } from "./sync.ts";
import {
  getFile,
  getTree,
  putStream,
  putTree,
  type Transferred,
  type WriteOptions,
} from "./transfer.ts";

type FsCommand = ReturnType<typeof commandsBelow>;

export function registerFs(program: Command, context: CliContext): void {
  const fs = program
    .command("fs")
    .helpCommand(false)
    .description("files, directories and mounts of the namespace");
  fs.addHelpText(
    "after",
    "\nExamples:\n  $ weir fs ls /\n  $ weir fs put report.csv /reports/today.csv",
  );
  const below = commandsBelow(fs, "weir fs");
  const command: FsCommand = (...of) => withActingAs(below(...of));
  fs.commandsGroup("Files and directories:");
  registerReading(command, context);
  registerWriting(command, context);
  registerFiles(command, context);
  registerNodes(command, context);
  fs.commandsGroup("Owners, permissions and attributes:");
  registerOwners(command, context);
  registerAttributes(command, context);
  fs.commandsGroup("Stores:");
  registerMounts(command, context);
  registerSync(command, context);
  registerEffects(command, context);
  fs.commandsGroup("Copies in the tiers:");
  registerPlacement(command, context);
  fs.commandsGroup("Usage:");
  registerUsage(command, context);
}

function registerReading(command: FsCommand, context: CliContext): void {
  command("ls [path]", "list a directory, in byte order of the names", [
    "ls /",
    "ls --recursive /data",
    "ls --json /data",
  ])
    .option("-r, --recursive", "with everything below")
    .action((path: string | undefined, options: CommonOptions & { recursive?: true }) =>
      withPaths(context, options, { verb: "list", subjects: [path ?? "/"] }, (client, output) =>
        listTo(output, client, parsePath(path ?? "/"), options.recursive === true),
      ),
    );
  command("cat <path...>", "write the bytes of files to standard output", [
    "cat /data/a.txt | head",
  ]).action((paths: string[], options: CommonOptions) =>
    withClient(context, options, async (client, output) => {
      for (const path of paths) {
        await attempt({ verb: "read", subjects: [path] }, async () => {
          const chunks = client.readFile(parsePath(path));
          if (!output.json) return copyOut(chunks, context);
          const kept: Uint8Array[] = [];
          for await (const chunk of chunks) kept.push(chunk);
          const content = Buffer.concat(kept);
          const base64 = content.toString("base64");
          answer(output, { path, size: content.length, base64 }, () => "");
        });
      }
    }),
  );
  command(
    "get <path> <local>",
    "copy a file, or a whole tree, to the local disk (- is standard output)",
    ["get /data/a.txt a.txt", "get --recursive /data ./data"],
  )
    .option("-r, --recursive", "a directory with everything below")
    .action((path: string, local: string, options: CommonOptions & { recursive?: true }) =>
      withPaths(
        context,
        options,
        { verb: "get", subjects: [path, local], preposition: "as" },
        async (client, output) => {
          const from = parsePath(path);
          if (local === "-") {
            await copyOut(client.readFile(from), context);
            return;
          }
          const status = await client.stat(from);
          if (status.kind === "directory" && options.recursive !== true) {
            throw new WeirError(
              "IsDirectory",
              `Cannot get "${path}" as "${local}": it is a directory, wanted --recursive`,
            );
          }
          const done =
            status.kind === "directory"
              ? await getTree(client, from, local)
              : await getFile(client, from, status, local);
          answer(output, done, transferredText);
        },
      ),
    );
  command("stat <path>", "show what is known of one file or directory", [
    "stat /data/a.txt",
  ]).action((path: string, options: CommonOptions) =>
    withPaths(context, options, { verb: "show", subjects: [path] }, async (client, output) => {
      const status = await client.stat(parsePath(path));
      answer(output, { path, ...statusValue(status) }, () => statusSheet(path, status));
    }),
  );
  command("checksum <path>", "sha256 of a file's bytes, read through Weir", [
    "checksum /data/a.txt",
  ]).action((path: string, options: CommonOptions) =>
    withPaths(context, options, { verb: "read", subjects: [path] }, async (client, output) => {
      const hash = createHash("sha256");
      for await (const chunk of client.readFile(parsePath(path))) hash.update(chunk);
      answer(
        output,
        { path, sha256: hash.digest("hex") },
        (value) => `${value.sha256}  ${value.path}`,
      );
    }),
  );
}

function registerWriting(command: FsCommand, context: CliContext): void {
  const writing = (each: Command) =>
    each
      .addOption(
        new Option(
          "-w, --write-type <type>",
          "how the file becomes durable (default: client.writeType)",
        ).choices(["MUST_CACHE", "ASYNC_THROUGH", "CACHE_THROUGH", "THROUGH"]),
      )
      .option(
        "-k, --keepers <count>",
        "copies until it is persisted (default: client.keepers)",
        parseCount,
      );
  writing(
    command(
      "put <local> <path>",
      "copy a local file, or a whole tree, into the namespace (- is standard input)",
      [
        "put report.csv /reports/today.csv",
        "put --recursive ./data /data",
        "put --write-type CACHE_THROUGH report.csv /reports/today.csv",
      ],
    ),
  )
    .option("-r, --recursive", "a directory with everything below")
    .action(
      (local: string, path: string, options: CommonOptions & WriteOptions & { recursive?: true }) =>
        withPaths(
          context,
          options,
          { verb: "put", subjects: [local, path], preposition: "at" },
          async (client, output) => {
            const to = parsePath(path);
            const done =
              local === "-"
                ? await putStream(client, context.stdin, to, options)
                : await putTree(client, local, to, options.recursive === true, options);
            answer(output, done, transferredText);
          },
        ),
    );
  command("mkdir <path>", "make a directory", [
    "mkdir /reports",
    "mkdir --parents /reports/2026/05",
  ])
    .option("-p, --parents", "also those above it; an existing one is fine")
    .action((path: string, options: CommonOptions & { parents?: true }) =>
      withPaths(context, options, { verb: "make", subjects: [path] }, async (client, output) => {
        const status = await client.mkdir(parsePath(path), { parents: options.parents === true });
        answer(output, { path, ...statusValue(status) }, () => "");
      }),
    );
  command("mv <from> <to>", "rename a file or directory, replacing a file of that name", [
    "mv /a /b",
    "mv --exchange /current /next",
  ])
    .option("-n, --no-clobber", "refuse to replace")
    .option("--exchange", "have the two change places; both must be there")
    .action(
      (from: string, to: string, options: CommonOptions & { clobber: boolean; exchange?: true }) =>
        withPaths(
          context,
          options,
          { verb: "rename", subjects: [from, to], preposition: "to" },
          async (client, output) => {
            const { clobber, exchange } = options;
            await client.rename(parsePath(from), parsePath(to), { noReplace: !clobber, exchange });
            answer(output, { from, to }, () => "");
          },
        ),
    );
  command("rm <path...>", "remove files, links and empty directories", [
    "rm /a",
    "rm --recursive /old",
  ])
    .option("-r, --recursive", "directories with everything below")
    .action((paths: string[], options: CommonOptions & { recursive?: true }) =>
      withClient(context, options, async (client, output) => {
        for (const path of paths) {
          await attempt({ verb: "remove", subjects: [path] }, () =>
            client.remove(parsePath(path), { recursive: options.recursive === true }),
          );
        }
        answer(output, { removed: paths }, () => "");
      }),
    );
}

function registerPlacement(command: FsCommand, context: CliContext): void {
  command("persist <path>", "write a file, or all below a directory, to the under storage", [
    "persist /reports/today.csv",
    "persist --wait /reports",
  ])
    .option("--wait", "until it is there")
    .action((path: string, options: CommonOptions & { wait?: true }) =>
      withPaths(context, options, { verb: "persist", subjects: [path] }, async (client, output) => {
        const wait = options.wait === true;
        const files = await client.persist(parsePath(path), { wait });
        answer(
          output,
          { path, files, persisted: wait },
          () => `${countOf(files, "file")} ${wait ? "persisted" : "queued"}`,
        );
      }),
    );
  command("free <path>", "drop the cached copies of persisted files", ["free /data"]).action(
    (path: string, options: CommonOptions) =>
      withPaths(context, options, { verb: "free", subjects: [path] }, async (client, output) => {
        const containers = await client.free(parsePath(path));
        answer(
          output,
          { path, containers },
          () => `${countOf(containers, "cached copy is", "cached copies are")} going`,
        );
      }),
  );
  command("locations <path>", "which workers have a file's bytes, and where it lies in its store", [
    "locations /data/a.txt",
  ]).action((path: string, options: CommonOptions) =>
    withPaths(context, options, { verb: "locate", subjects: [path] }, async (client, output) => {
      const at = parsePath(path);
      const status: FileStatus = await client.stat(at);
      if (status.kind !== "file") {
        throw new WeirError(
          "InvalidArgument",
          `Cannot locate "${path}": it is a ${status.kind}, wanted a file`,
        );
      }
      answer(output, { path, ...locationsOf(await client.locations(at)) }, locationsText);
    }),
  );
}

async function copyOut(source: AsyncIterable<Uint8Array>, context: CliContext): Promise<void> {
  await pipeline(source, async (chunks: AsyncIterable<Uint8Array>) => {
    for await (const chunk of chunks) {
      await new Promise<void>((resolve) => {
        context.stdout.write(chunk, resolve);
      });
    }
  });
}

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= 8) return count;
  throw new InvalidArgumentError("wanted a number from 1 to 8");
}

function transferredText({ files, bytes }: Transferred): string {
  return `${countOf(files, "file")}, ${bytesText(bytes)}`;
}
