/**
 * Who belongs to which groups by this machine's /etc/passwd and /etc/group, read again every so often.
 *
 * Invariants
 * 1. A question waits for no file: what was read last answers it, at most as old as the lifetime and one read.
 * 2. Files that cannot be read change nothing: what was known before stays.
 */
import type { Clock } from "../../lib/clock.ts";
import { toWeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { readUserFiles, type UserFiles, type UserGroups, usersOf } from "../../lib/user-files.ts";

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
      return new SystemGroups({ ...rest, read, readAtMs, users: usersOf(await read()).groups });
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
      this.#users = usersOf(await this.#read()).groups;
    } catch (error) {
      this.#logger.warn({ error: String(error) }, "users and groups could not be read again");
    } finally {
      this.#isReading = false;
    }
  }
}
