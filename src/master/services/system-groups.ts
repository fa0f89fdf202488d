/**
 * Who belongs to which groups by this machine's /etc/passwd and /etc/group, read again every so often. Users that come from
 * elsewhere (LDAP and its like) are not known to these files.
 *
 * Invariants
 * 1. A question waits for no file: what was read last answers it, at most as old as the lifetime and one read.
 * 2. Files that cannot be read change nothing: what was known before stays.
 */
import { readFile } from "node:fs/promises";
import type { Clock } from "../../lib/clock.ts";
import { toWeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";

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

export async function readUserFiles(): Promise<UserFiles> {
  const [passwd, group] = await Promise.all(
    ["/etc/passwd", "/etc/group"].map((file) => readFile(file, "utf8")),
  );
  return { passwd: passwd!, group: group! };
}

export class SystemGroups {
  readonly #read: () => Promise<UserFiles>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #lifetimeMs: number;
  #users: ReadonlyMap<number, UserGroups>;
  #readAtMs: number;
  #isReading = false;

  /** @throws WeirError when the files cannot be read */
  static async open(options: {
    read?: () => Promise<UserFiles>;
    clock: Clock;
    logger: Logger;
    lifetimeMs: number;
  }): Promise<SystemGroups> {
    const { read = readUserFiles, ...rest } = options;
    try {
      const readAtMs = options.clock.monotonicMs();
      return new SystemGroups({ ...rest, read, readAtMs, users: usersOf(await read()) });
    } catch (thrown) {
      throw toWeirError(thrown, "Cannot read the users and groups of this machine");
    }
  }

  private constructor(options: {
    read: () => Promise<UserFiles>;
    clock: Clock;
    logger: Logger;
    lifetimeMs: number;
    readAtMs: number;
    users: ReadonlyMap<number, UserGroups>;
  }) {
    this.#read = options.read;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#lifetimeMs = options.lifetimeMs;
    this.#readAtMs = options.readAtMs;
    this.#users = options.users;
  }

  /** The groups of the user; undefined for one that this machine does not know. */
  of(uid: number): UserGroups | undefined {
    const isOld = this.#clock.monotonicMs() - this.#readAtMs >= this.#lifetimeMs;
    if (isOld && !this.#isReading) void this.#refresh();
    return this.#users.get(uid);
  }

  async #refresh(): Promise<void> {
    this.#isReading = true;
    this.#readAtMs = this.#clock.monotonicMs();
    try {
      this.#users = usersOf(await this.#read());
    } catch (error) {
      this.#logger.warn({ error: String(error) }, "users and groups could not be read again");
    } finally {
      this.#isReading = false;
    }
  }
}

/** Lines that are none of a user or group are passed over, as getpwent(3) does. */
function usersOf({ passwd, group }: UserFiles): Map<number, UserGroups> {
  const byName = new Map<string, number[]>();
  for (const [, , gidText, members = ""] of fieldsOf(group)) {
    const gid = idOf(gidText);
    if (gid === undefined) continue;
    for (const name of members.split(",")) {
      const known = byName.get(name);
      if (known === undefined) byName.set(name, [gid]);
      else known.push(gid);
    }
  }
  const users = new Map<number, UserGroups>();
  for (const [name, , uidText, gidText] of fieldsOf(passwd)) {
    const [uid, gid] = [idOf(uidText), idOf(gidText)];
    // Of two names for one uid the first counts.
    if (uid === undefined || gid === undefined || users.has(uid)) continue;
    const further = new Set(byName.get(name!));
    further.delete(gid);
    users.set(uid, { gid, groups: [...further].sort((a, b) => a - b) });
  }
  return users;
}

function fieldsOf(text: string): string[][] {
  return text.split("\n").map((line) => line.split(":"));
}

function idOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
