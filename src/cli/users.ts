/** Users and groups as people type them: by number, or by the names that this machine knows. */
import { WeirError } from "../lib/errors.ts";
import { readUserFiles, type Users, usersOf } from "../lib/user-files.ts";
import type { Caller } from "../rpc/namespace.ts";

/** The largest uid or gid. */
const maxId = 0xffff_fffe;

/** The users of this machine. Tests hand in their own. */
export async function localUsers(): Promise<Users> {
  return usersOf(await readUserFiles());
}

/** What chown(1) takes: `USER`, `USER:GROUP`, `:GROUP`, and `USER:` for the user's own group. */
export function parseOwnership(
  text: string,
  users: Users,
): { readonly uid: number | undefined; readonly gid: number | undefined } {
  const colon = text.indexOf(":");
  const user = colon < 0 ? text : text.slice(0, colon);
  const group = colon < 0 ? undefined : text.slice(colon + 1);
  if (user === "" && (group ?? "") === "") {
    throw wrong(text, "wanted USER, USER:GROUP or :GROUP");
  }
  const uid = user === "" ? undefined : parseUser(user, users);
  if (group !== "") return { uid, gid: group === undefined ? undefined : parseGroup(group, users) };
  const own = users.groups.get(uid!);
  if (own === undefined) throw wrong(text, `this machine does not know the group of "${user}"`);
  return { uid, gid: own.gid };
}

/**
 * A name of digits is a name where there is one, as POSIX has it for chgrp(1) and chown(1).
 * @throws WeirError `InvalidArgument` for a name that this machine does not know
 */
export function parseGroup(text: string, users: Users): number {
  return users.gidOfName.get(text) ?? numberOf(text) ?? fail(text, "group");
}

function parseUser(text: string, users: Users): number {
  return users.uidOfName.get(text) ?? numberOf(text) ?? fail(text, "user");
}

/**
 * Who `--as` means: `USER` with the groups that this machine knows of him, or `USER:GROUP[,GROUP…]`.
 * @throws WeirError `NotPermitted` for all but root: the masters believe a client, so who is whom is decided here
 */
export async function actingAs(text: string): Promise<Caller> {
  if (process.geteuid?.() !== 0) {
    throw new WeirError(
      "NotPermitted",
      `Cannot act as "${text}": wanted to be run by root for that`,
    );
  }
  return parseCaller(text, await localUsers());
}

/** Exported for its test. */
export function parseCaller(text: string, users: Users): Caller {
  const [user = "", groups] = text.split(":", 2);
  const uid = parseUser(user, users);
  if (groups !== undefined) {
    const [gid, ...further] = groups.split(",").map((group) => parseGroup(group, users));
    return { uid, gid: gid!, groups: further };
  }
  const known = users.groups.get(uid);
  if (known === undefined) {
    throw wrong(
      text,
      `this machine does not know the groups of "${user}", wanted ${user}:GID[,GID…]`,
    );
  }
  return { uid, ...known };
}

function numberOf(text: string): number | undefined {
  return /^\d{1,10}$/.test(text) && Number(text) <= maxId ? Number(text) : undefined;
}

function fail(text: string, what: "user" | "group"): never {
  throw wrong(text, `this machine knows no such ${what}, wanted a name or a number up to ${maxId}`);
}

function wrong(text: string, why: string): WeirError {
  return new WeirError("InvalidArgument", `Cannot use "${text}": ${why}`);
}
