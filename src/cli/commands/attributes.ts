/** `weir fs getfattr`, `setfattr`, `getfacl`, `setfacl`: what an inode has beyond its mode. */
import type { Command } from "commander";
import { WeirError } from "../../lib/errors.ts";
import type { AccessLists, WeirClient } from "../../client/client.ts";
import type { Acl } from "../../rpc/acl.ts";
import { aclLines, baseEntries, parseAclText, withEntries, withoutEntries } from "../acl-text.ts";
import { attempt } from "../attempt.ts";
import { type CliContext, type CommonOptions, withClient } from "../context.ts";
import { answer } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";

type FsCommand = (name: string, description: string, examples: readonly string[]) => Command;

export function registerAttributes(command: FsCommand, context: CliContext): void {
  registerXattrs(command, context);
  registerAcls(command, context);
}

function registerXattrs(command: FsCommand, context: CliContext): void {
  command("getfattr <path>", "show the extended attributes of a file or directory", [
    "getfattr /data/a.txt",
    "getfattr --name user.comment /data/a.txt",
  ])
    .option("-n, --name <name>", "this one alone")
    .action((path: string, options: CommonOptions & { name?: string }) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "read the attributes of", subjects: [path] }, async () => {
          const at = parsePath(path);
          const names =
            options.name === undefined ? await client.listXattrs(at) : [bytesOf(options.name)];
          const values: [string, Uint8Array][] = [];
          for (const name of names) values.push([name, await client.getXattr(at, name)]);
          const base64 = (value: Uint8Array) => Buffer.from(value).toString("base64");
          const attributes = Object.fromEntries(
            values.map(([name, value]) => [showPath(name), base64(value)]),
          );
          answer(output, { path, attributes }, () =>
            values.map(([name, value]) => `${showPath(name)}=${shownValue(value)}\n`).join(""),
          );
        }),
      ),
    );
  command("setfattr <path>", "set or remove an extended attribute", [
    'setfattr --name user.comment --value "first draft" /data/a.txt',
    "setfattr --name user.key --value 0x00ff /data/a.txt",
    "setfattr --remove user.comment /data/a.txt",
  ])
    .option("-n, --name <name>", "to set, with its namespace")
    .option("-v, --value <value>", "text, 0x and hex, or 0s and base64; empty by default")
    .option("-x, --remove <name>", "to remove")
    .action(
      (path: string, options: CommonOptions & { name?: string; value?: string; remove?: string }) =>
        withClient(context, options, (client, output) =>
          attempt({ verb: "change the attributes of", subjects: [path] }, async () => {
            const { name, value = "", remove } = options;
            if ((name === undefined) === (remove === undefined)) {
              throw new WeirError(
                "InvalidArgument",
                `Cannot change the attributes of "${path}": wanted either --name or --remove`,
              );
            }
            const at = parsePath(path);
            if (remove !== undefined) await client.removeXattr(at, bytesOf(remove));
            else await client.setXattr(at, bytesOf(name!), valueOf(value));
            answer(output, { path, name: name ?? remove }, () => "");
          }),
        ),
    );
}

function bytesOf(name: string): string {
  return Buffer.from(name, "utf8").toString("latin1");
}

/** A value as getfattr(1) writes it: text where it is printable, else base64. */
function shownValue(value: Uint8Array): string {
  const bytes = Buffer.from(value);
  const text = bytes.toString("utf8");
  // What is no UTF-8 does not come back from its text.
  const isText = Buffer.from(text, "utf8").equals(bytes) && !/\p{Cc}/u.test(text);
  return isText ? JSON.stringify(text) : `0s${bytes.toString("base64")}`;
}

/** @throws WeirError `InvalidArgument` for what is announced as hex or base64 and is none */
function valueOf(text: string): Uint8Array {
  if (/^0x/i.test(text)) {
    const bytes = Buffer.from(text.slice(2), "hex");
    if (bytes.length * 2 === text.length - 2) return bytes;
    throw new WeirError("InvalidArgument", `Cannot use the value "${text}": it is no hex`);
  }
  if (/^0s/i.test(text)) {
    const bytes = Buffer.from(text.slice(2), "base64");
    if (bytes.toString("base64") === text.slice(2)) return bytes;
    throw new WeirError("InvalidArgument", `Cannot use the value "${text}": it is no base64`);
  }
  return Buffer.from(text, "utf8");
}

interface SetAclOptions {
  readonly modify?: string;
  readonly remove?: string;
  readonly removeAll?: true;
  readonly removeDefault?: true;
  readonly default?: true;
  readonly mask: boolean;
}

function registerAcls(command: FsCommand, context: CliContext): void {
  command("getfacl <path>", "show who may do what: the access control lists of a path", [
    "getfacl /data",
  ]).action((path: string, options: CommonOptions) =>
    withClient(context, options, (client, output) =>
      attempt({ verb: "read the access list of", subjects: [path] }, async () => {
        const { status, access, defaults } = await client.getAcls(parsePath(path));
        const { uid, gid } = status;
        answer(output, { path, uid, gid, access, defaults: defaults ?? [] }, () =>
          [
            `# file: ${path}`,
            `# owner: ${String(uid)}`,
            `# group: ${String(gid)}`,
            ...aclLines(access),
            ...aclLines(defaults ?? [], "default:"),
            "",
          ].join("\n"),
        );
      }),
    ),
  );
  command("setfacl <path>", "change who may do what: the access control lists of a path", [
    "setfacl --modify u:1001:rw,g:2000:r /data/a.txt",
    "setfacl --default --modify g:2000:rwx /data",
    "setfacl --remove u:1001 /data/a.txt",
    "setfacl --remove-all /data/a.txt",
  ])
    .option("-m, --modify <entries>", "set these: user, group, mask or other:NUMBER:rwx, …")
    .option("-x, --remove <entries>", "remove these: user or group:NUMBER, …")
    .option("-b, --remove-all", "leave nothing but what the mode says")
    .option("-k, --remove-default", "remove the default list of a directory")
    .option("-d, --default", "all entries are for the default list, which new names inherit")
    .option("-n, --no-mask", "leave the mask as it is")
    .action((path: string, options: CommonOptions & SetAclOptions) =>
      withClient(context, options, (client, output) =>
        attempt({ verb: "change the access list of", subjects: [path] }, async () => {
          await changeAcls(client, path, options);
          answer(output, { path }, () => "");
        }),
      ),
    );
}

async function changeAcls(client: WeirClient, path: string, options: SetAclOptions): Promise<void> {
  const { modify, remove, removeAll, removeDefault } = options;
  if (modify === undefined && remove === undefined && !removeAll && !removeDefault) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot change the access list of "${path}": wanted --modify, --remove, --remove-all or --remove-default`,
    );
  }
  const isDefault = options.default === true;
  const added = modify === undefined ? none : parseAclText(modify, { isDefault, isNaming: false });
  const removed = remove === undefined ? none : parseAclText(remove, { isDefault, isNaming: true });
  const at = parsePath(path);
  const before = await client.getAcls(at);
  const takesDefaults = removeAll === true || removeDefault === true;
  const access = changed(removeAll ? baseEntries(before.access) : before.access, {
    added: added.access,
    removed: removed.access,
    keepsMask: !options.mask,
  });
  // A default list begins with what the mode says.
  const base = takesDefaults ? undefined : before.defaults;
  const changesDefaults = added.defaults.length + removed.defaults.length > 0;
  const defaults = changesDefaults
    ? changed(base ?? baseEntries(before.access), {
        added: added.defaults,
        removed: removed.defaults,
        keepsMask: !options.mask,
      })
    : [];
  const lists: { -readonly [K in keyof AccessLists]?: Acl } = {};
  if (access !== before.access) lists.access = access;
  if (changesDefaults || (takesDefaults && before.defaults !== undefined)) {
    lists.defaults = defaults;
  }
  await client.setAcls(at, lists);
}

const none = { access: [], defaults: [] } as const;

function changed(
  acl: Acl,
  by: { readonly added: Acl; readonly removed: Acl; readonly keepsMask: boolean },
): Acl {
  let now = acl;
  if (by.removed.length > 0) now = withoutEntries(now, by.removed, by.keepsMask);
  if (by.added.length > 0) now = withEntries(now, by.added, by.keepsMask);
  return now;
}
