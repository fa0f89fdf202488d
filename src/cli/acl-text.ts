/**
 * Access control lists as text, in the way of getfacl(1) and setfacl(1), and what their options do to a list. Users and
 * groups are numbers. Pure.
 */
import { WeirError } from "../lib/errors.ts";
import { type Acl, type AclEntry, aclFault, type AclTag, aclTags, isNamed } from "../rpc/acl.ts";

/** What an entry is about; `permissions` is absent where it is only named, to be removed. */
interface ParsedEntry {
  readonly isDefault: boolean;
  readonly tag: AclTag;
  readonly id: number | undefined;
  readonly permissions: number | undefined;
}

/** Entries for the two lists of an inode. */
export interface AclChange {
  readonly access: readonly AclEntry[];
  readonly defaults: readonly AclEntry[];
}

const words: Readonly<Record<string, { readonly plain: AclTag; readonly named?: AclTag }>> = {
  user: { plain: "userObj", named: "user" },
  group: { plain: "groupObj", named: "group" },
  mask: { plain: "mask" },
  other: { plain: "other" },
};
const wordOf: Readonly<Record<AclTag, string>> = {
  userObj: "user",
  user: "user",
  groupObj: "group",
  group: "group",
  mask: "mask",
  other: "other",
};

/**
 * Entries as setfacl(1) takes them: `u:1000:rw,g::r,m::7,d:o::-`, separated by commas or lines; of one that is to be
 * removed (`isNaming`) without permissions. With `isDefault` all are for the default list.
 * @throws WeirError `InvalidArgument` that names the entry
 */
export function parseAclText(
  text: string,
  options: { readonly isDefault: boolean; readonly isNaming: boolean },
): AclChange {
  const parsed = text
    .split(/[,\n]/)
    .map((each) => each.replace(/#.*/, "").trim())
    .filter((each) => each !== "")
    .map((each) => parseEntry(each, options));
  if (parsed.length === 0) throw wrong(text, "it has no entries");
  const of = (isDefault: boolean) =>
    parsed
      .filter((each) => each.isDefault === isDefault)
      .map(({ tag, id, permissions = 0 }) => ({
        tag,
        ...(id === undefined ? {} : { id }),
        permissions,
      }));
  return { access: of(false), defaults: of(true) };
}

function parseEntry(
  text: string,
  options: { readonly isDefault: boolean; readonly isNaming: boolean },
): ParsedEntry {
  const fields = text.split(":").map((field) => field.trim());
  const saysDefault = isShortFor(fields[0]!, "default") && fields.length > 1;
  if (saysDefault) fields.shift();
  const word = Object.keys(words).find((each) => isShortFor(fields[0]!, each));
  if (word === undefined) throw wrong(text, "wanted user, group, mask or other");
  const { plain, named } = words[word]!;
  const qualifier = fields[1] ?? "";
  // `m:rx` and `o:rx` are fine too.
  const hasQualifier = named !== undefined || fields.length > 2 || options.isNaming;
  if (hasQualifier && named === undefined && qualifier !== "") {
    throw wrong(text, `"${word}" is nobody by number`);
  }
  const shown = fields.slice(hasQualifier ? 2 : 1);
  if (shown.length > 1 || (options.isNaming ? shown.length > 0 : shown.length === 0)) {
    const wanted = options.isNaming ? "without permissions" : "with permissions";
    throw wrong(text, `wanted an entry ${wanted}`);
  }
  const id = hasQualifier && qualifier !== "" ? parseId(text, qualifier) : undefined;
  return {
    isDefault: options.isDefault || saysDefault,
    tag: id === undefined ? plain : named!,
    id,
    permissions: shown[0] === undefined ? undefined : parsePermissions(text, shown[0]),
  };
}

/** Whether `text` is a beginning of the word, of one letter at least. */
function isShortFor(text: string, word: string): boolean {
  return text !== "" && (text === word || text === word[0]);
}

function parseId(entry: string, text: string): number {
  const id = Number(text);
  if (/^\d+$/.test(text) && id < 0xffff_ffff) return id;
  throw wrong(entry, `"${text}" is no number of a user or group`);
}

function parsePermissions(entry: string, text: string): number {
  if (/^[0-7]$/.test(text)) return Number(text);
  if (!/^[rwx-]{1,3}$/.test(text)) {
    throw wrong(entry, `"${text}" are no permissions, wanted some of r, w, x and -, or 0 to 7`);
  }
  const bit = (letter: string, value: number) => (text.includes(letter) ? value : 0);
  return bit("r", 4) | bit("w", 2) | bit("x", 1);
}

function wrong(text: string, reason: string): WeirError {
  return new WeirError("InvalidArgument", `Cannot use the access entry "${text}": ${reason}`);
}

/** The lines of a list, each with `prefix`; what the mask takes away is said beside. */
export function aclLines(acl: Acl, prefix = ""): string[] {
  const mask = acl.find(({ tag }) => tag === "mask")?.permissions ?? 7;
  return acl.map(({ tag, id, permissions }) => {
    const line = `${prefix}${wordOf[tag]}:${id ?? ""}:${permissionsText(permissions)}`;
    const isMasked = isNamed(tag) || tag === "groupObj";
    const effective = permissions & mask;
    if (!isMasked || effective === permissions) return line;
    return `${line}\t#effective:${permissionsText(effective)}`;
  });
}

function permissionsText(permissions: number): string {
  return `${permissions & 4 ? "r" : "-"}${permissions & 2 ? "w" : "-"}${permissions & 1 ? "x" : "-"}`;
}

function isSame(a: AclEntry, b: AclEntry): boolean {
  return a.tag === b.tag && a.id === b.id;
}

/**
 * The list with these entries instead of those for the same users and groups. Unless `keepsMask`, or an entry says it, the
 * mask becomes what grants all that is granted to groups and to users by number.
 */
export function withEntries(acl: Acl, entries: readonly AclEntry[], keepsMask: boolean): Acl {
  const kept = acl.filter((each) => !entries.some((entry) => isSame(entry, each)));
  const saysMask = entries.some(({ tag }) => tag === "mask");
  return masked([...kept, ...entries], keepsMask || saysMask);
}

/** The list without the entries for these users and groups. @throws WeirError `InvalidArgument` where it has none of them */
export function withoutEntries(acl: Acl, entries: readonly AclEntry[], keepsMask: boolean): Acl {
  for (const entry of entries) {
    if (acl.some((each) => isSame(entry, each))) continue;
    throw wrong(`${wordOf[entry.tag]}:${entry.id ?? ""}`, "the list has no such entry");
  }
  const kept = acl.filter((each) => !entries.some((entry) => isSame(entry, each)));
  return masked(kept, keepsMask);
}

/** What a list says of owner, owning group and all others. */
export function baseEntries(acl: Acl): Acl {
  return acl.filter(({ tag }) => !isNamed(tag) && tag !== "mask");
}

function masked(entries: Acl, keepsMask: boolean): Acl {
  const bounded = entries.filter(({ tag }) => isNamed(tag) || tag === "groupObj");
  const needsMask = bounded.some(({ tag }) => isNamed(tag));
  const hasMask = entries.some(({ tag }) => tag === "mask");
  let all = entries;
  if ((needsMask || hasMask) && !(keepsMask && hasMask)) {
    const permissions = bounded.reduce((sum, each) => sum | each.permissions, 0);
    all = [...entries.filter(({ tag }) => tag !== "mask"), { tag: "mask", permissions }];
  }
  const place = ({ tag, id }: AclEntry) => aclTags.indexOf(tag) * 2 ** 32 + (id ?? 0);
  const sorted = [...all].sort((a, b) => place(a) - place(b));
  const fault = aclFault(sorted);
  if (fault === undefined) return sorted;
  throw new WeirError("InvalidArgument", `Cannot make that access control list: ${fault}`);
}
