/** `weir fs ln`, `mkfifo`, `mknod`: names and inodes that are no plain files. */
import { type Command, InvalidArgumentError } from "commander";
import { WeirError } from "../../lib/errors.ts";
import type { FileKind, FileStatus } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, withClient } from "../context.ts";
import { answer, type Output } from "../output.ts";
import { parsePath } from "../paths.ts";
import { statusValue } from "./file-text.ts";

type FsCommand = (name: string, description: string, examples: readonly string[]) => Command;

const kindOfType: Readonly<Record<string, FileKind>> = {
  p: "fifo",
  s: "socket",
  c: "charDevice",
  b: "blockDevice",
};

export function registerNodes(command: FsCommand, context: CliContext): void {
  command("ln <target> <path>", "give a file one more name, or make a symbolic link", [
    "ln /data/a.txt /data/same.txt",
    "ln --symbolic ../a.txt /data/links/a.txt",
  ])
    .option("-s, --symbolic", "a link to any text, whether there is such a path or not")
    .action((target: string, path: string, options: CommonOptions & { symbolic?: true }) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "link", subjects: [target, path], preposition: "as" }, async () => {
          const status = options.symbolic
            ? await client.symlink(Buffer.from(target, "utf8").toString("latin1"), parsePath(path))
            : await client.link(parsePath(target), parsePath(path));
          showMade(output, path, status);
        }),
      ),
    );
  command("mkfifo <path>", "make a named pipe", ["mkfifo /run/pipe", "mkfifo --mode 600 /run/pipe"])
    .option("-m, --mode <mode>", "permissions in octal", parseMode, 0o644)
    .action((path: string, options: CommonOptions & { mode: number }) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "make", subjects: [path] }, async () => {
          const { mode } = options;
          const status = await client.makeNode(parsePath(path), { kind: "fifo", mode });
          showMade(output, path, status);
        }),
      ),
    );
  command(
    "mknod <path> <type> [major] [minor]",
    "make a device (c, b), a named pipe (p) or a socket (s)",
    ["mknod /dev/null c 1 3", "mknod --mode 660 /dev/loop3 b 7 3", "mknod /run/socket s"],
  )
    .option("-m, --mode <mode>", "permissions in octal", parseMode, 0o644)
    .action(
      (
        path: string,
        type: string,
        major: string | undefined,
        minor: string | undefined,
        options: CommonOptions & { mode: number },
      ) =>
        withClient(context, options, (client, output) =>
          attempt({ verb: "make", subjects: [path] }, async () => {
            const kind =
              kindOfType[type] ?? wrong(path, `"${type}" is no type, wanted c, b, p or s`);
            const rdev = deviceOf(path, kind, [major, minor]);
            const { mode } = options;
            showMade(output, path, await client.makeNode(parsePath(path), { kind, mode, rdev }));
          }),
        ),
    );
}

/** Of a device major · 2^32 + minor; anything else has no numbers. */
function deviceOf(
  path: string,
  kind: FileKind,
  numbers: readonly (string | undefined)[],
): number | undefined {
  if (kind !== "charDevice" && kind !== "blockDevice") {
    if (numbers.every((each) => each === undefined)) return undefined;
    return wrong(path, `a ${kind} has no device numbers`);
  }
  const [major, minor] = numbers.map((text, i) => {
    const number = Number(text);
    const limit = i === 0 ? maxMajor : maxMinor;
    if (text !== undefined && /^\d+$/.test(text) && number <= limit) return number;
    const which = i === 0 ? "major" : "minor";
    return wrong(path, `a device has a ${which} number, wanted 0 to ${String(limit)}`);
  }) as [number, number];
  return major * 2 ** 32 + minor;
}

/** What Linux can have. */
const maxMajor = 0xfff;
const maxMinor = 0xf_ffff;

function wrong(path: string, reason: string): never {
  throw new WeirError("InvalidArgument", `Cannot make "${path}": ${reason}`);
}

function showMade(output: Output, path: string, status: FileStatus): void {
  answer(output, { path, ...statusValue(status) }, () => "");
}

function parseMode(text: string): number {
  const mode = parseInt(text, 8);
  if (/^[0-7]{1,4}$/.test(text)) return mode;
  throw new InvalidArgumentError("wanted a mode in octal, such as 644");
}
