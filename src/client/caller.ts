/** In whose name a client asks, and what it can tell by itself of what he may do. */
import type { SecurityConfig } from "../lib/config.ts";
import { isMember } from "../rpc/access.ts";
import type { Caller } from "../rpc/namespace.ts";

/** The user of this process, by its effective ids. */
export function processCaller(): Caller {
  const uid = process.geteuid?.() ?? 0;
  const gid = process.getegid?.() ?? 0;
  const groups = (process.getgroups?.() ?? []).filter((each) => each !== gid);
  return { uid, gid, groups };
}

/**
 * The caller as the masters decide for him; undefined: the superuser; "unknown" where the masters go by what is not known
 * here. It is only to say yes by: who is refused by it asks the masters, who may take him for the superuser.
 */
export function callerToMasters(
  caller: Caller | undefined,
  security: SecurityConfig,
): Caller | undefined | "unknown" {
  if (caller === undefined || !security.permissionChecks) return undefined;
  const { groupMapping, squash, superusers, supergroup } = security;
  if (squash !== "none" || groupMapping !== "client") return "unknown";
  const isSuperuser =
    superusers.includes(caller.uid) || (supergroup !== undefined && isMember(caller, supergroup));
  return isSuperuser ? undefined : caller;
}
