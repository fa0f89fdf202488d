/**
 * Users and groups as this machine's passwd(5) and group(5) have them. Those that come from elsewhere (LDAP and its like)
 * are not in these files.
 */
import { readFile } from "node:fs/promises";

/** The groups of one user. */
export interface UserGroups {
  readonly gid: number;
  /** Further ones, in ascending order. */
  readonly groups: readonly number[];
}

/** Text of passwd(5) and of group(5). */
export interface UserFiles {
  readonly passwd: string;
  readonly group: string;
}

export interface Users {
  /** uid → groups. */
  readonly groups: ReadonlyMap<number, UserGroups>;
  readonly uidOfName: ReadonlyMap<string, number>;
  readonly gidOfName: ReadonlyMap<string, number>;
}

/** @throws the system's error when one of them cannot be read */
export async function readUserFiles(): Promise<UserFiles> {
  const [passwd, group] = await Promise.all(
    ["/etc/passwd", "/etc/group"].map((file) => readFile(file, "utf8")),
  );
  return { passwd: passwd!, group: group! };
}

/** Lines that are none of a user or group are passed over, as getpwent(3) does; of two for one name or id the first counts. */
export function usersOf({ passwd, group }: UserFiles): Users {
  const gidOfName = new Map<string, number>();
  const gidsOfMember = new Map<string, number[]>();
  for (const [name, , gidText, members = ""] of fieldsOf(group)) {
    const gid = idOf(gidText);
    if (gid === undefined) continue;
    if (!gidOfName.has(name!)) gidOfName.set(name!, gid);
    for (const member of members.split(",")) {
      const known = gidsOfMember.get(member);
      if (known === undefined) gidsOfMember.set(member, [gid]);
      else known.push(gid);
    }
  }
  const uidOfName = new Map<string, number>();
  const groups = new Map<number, UserGroups>();
  for (const [name, , uidText, gidText] of fieldsOf(passwd)) {
    const [uid, gid] = [idOf(uidText), idOf(gidText)];
    if (uid === undefined || gid === undefined) continue;
    if (!uidOfName.has(name!)) uidOfName.set(name!, uid);
    if (groups.has(uid)) continue;
    const further = new Set(gidsOfMember.get(name!));
    further.delete(gid);
    groups.set(uid, { gid, groups: [...further].sort((a, b) => a - b) });
  }
  return { groups, uidOfName, gidOfName };
}

function fieldsOf(text: string): string[][] {
  return text.split("\n").map((line) => line.split(":"));
}

function idOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
