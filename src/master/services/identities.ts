/**
 * Who a caller is to this cluster: whether he counts as the superuser, which groups he has, and whether he is to be nobody.
 * The leader maps the caller of a request before it enters the log, so that all masters apply it for the same one; of a read
 * the master that answers it does.
 *
 * What a client says of its user is taken for true, as by NFS with AUTH_SYS: who can reach the masters with a program of his
 * own can be anybody.
 *
 * Invariant: what is mapped has no caller exactly if it is the superuser who asks.
 */
import type { Clock } from "../../lib/clock.ts";
import type { SecurityConfig } from "../../lib/config.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import type { UserFiles, UserGroups } from "../../lib/user-files.ts";
import { isMember } from "../../rpc/access.ts";
import type { Command, Request } from "../../rpc/commands.ts";
import { type Caller, maxGroups } from "../../rpc/namespace.ts";
import { SystemGroups } from "./system-groups.ts";

/** The largest uid or gid; the next number means nobody to the kernel. */
const maxId = 0xffff_fffe;

export class Identities {
  readonly #security: SecurityConfig;
  readonly #superusers: ReadonlySet<number>;
  /** The groups of a user where the client's word does not count. */
  readonly #groupsOf: ((uid: number) => UserGroups | undefined) | undefined;

  /** `ownUid`: of this process. @throws WeirError when the machine's groups are to count and cannot be read */
  static async open(options: {
    security: SecurityConfig;
    ownUid: number;
    clock: Clock;
    logger: Logger;
    readUserFiles?: () => Promise<UserFiles>;
  }): Promise<Identities> {
    const { security, ownUid, clock, logger, readUserFiles: read } = options;
    if (security.groupMapping === "client") return new Identities(security, ownUid, undefined);
    if (security.groupMapping === "static") {
      return new Identities(security, ownUid, staticGroups(security));
    }
    const system = await SystemGroups.open({
      clock,
      logger,
      lifetimeMs: security.groupCacheMs,
      ...(read === undefined ? {} : { read }),
    });
    return new Identities(security, ownUid, (uid) => system.of(uid));
  }

  private constructor(
    security: SecurityConfig,
    ownUid: number,
    groupsOf: ((uid: number) => UserGroups | undefined) | undefined,
  ) {
    this.#security = security;
    this.#superusers = new Set([...security.superusers, ownUid]);
    this.#groupsOf = groupsOf;
  }

  /** The caller as permissions are decided for him; undefined: the superuser. @throws WeirError `InvalidArgument` */
  of(sent: Caller | undefined): Caller | undefined {
    if (sent === undefined || !this.#security.permissionChecks) return undefined;
    const { squash, supergroup, anonymousUid: uid, anonymousGid: gid } = this.#security;
    if (squash === "root" && sent.uid === 0) return { uid, gid, groups: [] };
    if (this.#superusers.has(sent.uid)) return undefined;
    check(sent);
    const caller = this.#withGroups(sent);
    if (supergroup !== undefined && isMember(caller, supergroup)) return undefined;
    return squash === "all" ? { uid, gid, groups: [] } : caller;
  }

  /**
   * Any request that may have a caller, as it is served. What its commands make for the caller is made for who that is here.
   */
  identified<Q>(request: Q): Q {
    const { caller: sent, commands } = request as Partial<Request>;
    if (sent === undefined) return request;
    const caller = this.of(sent);
    if (caller === sent) return request;
    if (caller === undefined || commands === undefined) return { ...request, caller };
    return {
      ...request,
      caller,
      commands: commands.map((command) => owned(command, sent, caller)),
    };
  }

  #withGroups(sent: Caller): Caller {
    if (this.#groupsOf === undefined) return sent;
    const { uid } = sent;
    const groups = this.#groupsOf(uid);
    return groups === undefined
      ? { uid, gid: this.#security.anonymousGid, groups: [] }
      : { uid, ...groups };
  }
}

function staticGroups(security: SecurityConfig): (uid: number) => UserGroups | undefined {
  const table = new Map<number, UserGroups>();
  for (const [uid, [gid, ...groups]] of Object.entries(security.staticGroups)) {
    table.set(Number(uid), { gid: gid!, groups });
  }
  return (uid) => table.get(uid);
}

/** What belongs to the caller as he called himself belongs to him as he is called here. */
function owned(command: Command, sent: Caller, caller: Caller): Command {
  if (command.kind !== "create") return command;
  const uid = command.uid === sent.uid ? caller.uid : command.uid;
  const isOurs = isMember(sent, command.gid) && !isMember(caller, command.gid);
  return { ...command, uid, gid: isOurs ? caller.gid : command.gid };
}

function check({ uid, gid, groups }: Caller): void {
  const wrong = [uid, gid, ...groups.slice(0, maxGroups)].find((id) => id > maxId);
  if (wrong !== undefined) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot take user ${uid}: ${wrong} is no uid or gid, wanted at most ${maxId}`,
    );
  }
  if (groups.length > maxGroups) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot take user ${uid}: it has ${groups.length} groups, wanted at most ${maxGroups}`,
    );
  }
}
