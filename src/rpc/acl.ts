/**
 * POSIX access control lists as values: what they say, their binary form (that of the kernel's
 * `system.posix_acl_access` and `system.posix_acl_default`), and how they and a mode follow from each other.
 *
 * Invariants
 * 1. A list that was decoded or checked is valid: one entry each for the owner, the owning group and all others, further
 *    users and groups once each, and a mask if there is any of these. It is in the order of `aclTags`.
 * 2. Lists are values: each function returns a new one.
 */
/** In the order in which entries stand in a list. */
export const aclTags = ["userObj", "user", "groupObj", "group", "mask", "other"] as const;
export type AclTag = (typeof aclTags)[number];

export interface AclEntry {
  readonly tag: AclTag;
  /** Of `user` and `group`, who is meant: a uid or a gid; all others have none. */
  readonly id?: number | undefined;
  /** 4 read, 2 write, 1 execute. */
  readonly permissions: number;
}
export type Acl = readonly AclEntry[];

/** Most entries of a list: it is looked through at each access. */
export const maxAclEntries = 1024;

/** The names of the attributes that hold the two lists of an inode. */
export const accessAclName = "system.posix_acl_access";
export const defaultAclName = "system.posix_acl_default";

const binaryVersion = 2;
const headerBytes = 4;
const entryBytes = 8;
/** Most bytes of a list. */
export const maxAclBytes = headerBytes + maxAclEntries * entryBytes;

/** What the binary form has for entries that mean nobody by id; it is no uid and no gid. */
const noId = 0xffff_ffff;

const tagBits: Readonly<Record<AclTag, number>> = {
  userObj: 0x01,
  user: 0x02,
  groupObj: 0x04,
  group: 0x08,
  mask: 0x10,
  other: 0x20,
};
const tagOfBit = new Map(aclTags.map((tag) => [tagBits[tag], tag]));

/** Whether an entry with this tag means somebody by id. */
export function isNamed(tag: AclTag): boolean {
  return tag === "user" || tag === "group";
}

/** Why `acl` is not valid, as the end of a sentence; undefined for one that is. */
export function aclFault(acl: Acl): string | undefined {
  if (acl.length > maxAclEntries) {
    return `it has ${acl.length} entries, wanted at most ${maxAclEntries}`;
  }
  const seen = new Set<string>();
  let place = 0;
  for (const { tag, id, permissions } of acl) {
    if (!Number.isInteger(permissions) || permissions < 0 || permissions > 7) {
      return `${permissions} are no permissions, wanted 0 to 7`;
    }
    if (isNamed(tag) !== (id !== undefined)) {
      return isNamed(tag) ? `an entry "${tag}" has no id` : `an entry "${tag}" has an id`;
    }
    if (id !== undefined && (!Number.isInteger(id) || id < 0 || id >= noId)) {
      return `${id} is no id, wanted 0 to ${noId - 1}`;
    }
    const at = aclTags.indexOf(tag);
    if (at < place) return `an entry "${tag}" follows "${aclTags[place]!}"`;
    place = at;
    const key = `${tag}:${id ?? ""}`;
    if (seen.has(key)) return `the entry "${key}" is there twice`;
    seen.add(key);
  }
  for (const tag of ["userObj", "groupObj", "other"]) {
    if (!seen.has(`${tag}:`)) return `it has no entry "${tag}"`;
  }
  if (acl.some(({ tag }) => isNamed(tag)) && !seen.has("mask:")) {
    return `it names users or groups and has no "mask"`;
  }
  return undefined;
}

/** The binary form: version 2, little endian, 8 bytes an entry. */
export function encodeAcl(acl: Acl): Uint8Array {
  const encoded = new Uint8Array(headerBytes + acl.length * entryBytes);
  const view = new DataView(encoded.buffer);
  view.setUint32(0, binaryVersion, true);
  let at = headerBytes;
  for (const { tag, id, permissions } of acl) {
    view.setUint16(at, tagBits[tag], true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id ?? noId, true);
    at += entryBytes;
  }
  return encoded;
}

/** The list of a binary form, or why it is none; one without entries is empty, which means that there is no list. */
export function decodeAcl(encoded: Uint8Array): { readonly acl: Acl } | { readonly fault: string } {
  const { length } = encoded;
  if (length < headerBytes || (length - headerBytes) % entryBytes !== 0) {
    return { fault: `its ${length} bytes are no whole number of entries` };
  }
  if (length > maxAclBytes) {
    return { fault: `it has ${length} bytes, wanted at most ${maxAclBytes}` };
  }
  const view = new DataView(encoded.buffer, encoded.byteOffset, length);
  const version = view.getUint32(0, true);
  if (version !== binaryVersion) {
    return { fault: `it has version ${version}, wanted ${binaryVersion}` };
  }
  const acl: AclEntry[] = [];
  for (let at = headerBytes; at < length; at += entryBytes) {
    const bit = view.getUint16(at, true);
    const tag = tagOfBit.get(bit);
    if (tag === undefined) return { fault: `${bit} is the tag of no entry` };
    const permissions = view.getUint16(at + 2, true);
    acl.push(
      isNamed(tag) ? { tag, id: view.getUint32(at + 4, true), permissions } : { tag, permissions },
    );
  }
  const fault = acl.length === 0 ? undefined : aclFault(acl);
  return fault === undefined ? { acl } : { fault };
}

/** The permissions of the entry with this tag that means nobody by id. */
function permissionsOf(acl: Acl, tag: AclTag): number | undefined {
  return acl.find((each) => each.tag === tag)?.permissions;
}

/** The list that says the same as the permission bits of a mode. */
export function aclOfMode(mode: number): Acl {
  return [
    { tag: "userObj", permissions: (mode >> 6) & 7 },
    { tag: "groupObj", permissions: (mode >> 3) & 7 },
    { tag: "other", permissions: mode & 7 },
  ];
}

/** Whether the permission bits of a mode say all that the list says. */
export function isEquivalentToMode(acl: Acl): boolean {
  return acl.length === 3;
}

/**
 * The mode of an inode that has this list: the group bits show the mask, or the owning group where there is none. What is
 * no permission bit (setuid, setgid, sticky) stays as in `mode`.
 */
export function modeOfAcl(acl: Acl, mode: number): number {
  const group = permissionsOf(acl, "mask") ?? permissionsOf(acl, "groupObj")!;
  const bits = (permissionsOf(acl, "userObj")! << 6) | (group << 3) | permissionsOf(acl, "other")!;
  return (mode & 0o7000) | bits;
}

/** The list after chmod(2): the group bits of the mode are the mask, or the owning group where there is none. */
export function chmodAcl(acl: Acl, mode: number): Acl {
  const shownAsGroup = acl.some(({ tag }) => tag === "mask") ? "mask" : "groupObj";
  return acl.map((entry) => {
    if (entry.tag === "userObj") return { ...entry, permissions: (mode >> 6) & 7 };
    if (entry.tag === shownAsGroup) return { ...entry, permissions: (mode >> 3) & 7 };
    if (entry.tag === "other") return { ...entry, permissions: mode & 7 };
    return entry;
  });
}

/**
 * What a new inode gets from the default list of its directory and the mode that its maker asked for: each grants only
 * what the other does (POSIX 1003.1e, 23.1.5; acl(5)). The umask plays no part. `acl` is undefined where the mode says
 * it all.
 */
export function inheritedAcl(
  defaults: Acl,
  mode: number,
): { readonly mode: number; readonly acl: Acl | undefined } {
  const granted = modeOfAcl(defaults, mode) & (mode | 0o7000);
  const acl = chmodAcl(defaults, granted);
  return { mode: granted, acl: isEquivalentToMode(acl) ? undefined : acl };
}
