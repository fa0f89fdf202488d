/** Commands of policies on paths. */
import type { Command, CommandResult } from "../../rpc/commands.ts";
import {
  noPolicy,
  type PathPolicy,
  pathPolicy,
  type PolicyKey,
  policyKeys,
} from "../../rpc/path-policy.ts";
import { type Context, countPolicy, needInode, patchPolicies, refuse } from "./context.ts";
import { policyRowKey } from "./keys.ts";
import type { Inode } from "./model.ts";
import { shown } from "./namespace-commands.ts";
import { bitsOf, ownPolicy } from "./path-policies.ts";
import { needOwner, needSuperuser } from "./permissions.ts";
import { noteIntervals } from "./sync-interval.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** What limits or takes from others than the owner of a directory; so does a time to live that deletes. */
const superuserKeys: ReadonlySet<PolicyKey> = new Set(["quota", "owner", "pin"]);

/** Most copies that may be asked for, as of keepers. */
const maxCopies = 8;

/** Replaces the values of the keys that `policy` has; others stay. Result: the status. */
export function setPathPolicy(context: Context, command: Of<"setPathPolicy">): CommandResult {
  const of = needNamed(context, command.inode);
  const { policy: wanted } = command;
  if (wanted.ttl?.action === "delete") needSuperuser(context);
  if (policyKeys.some((key) => superuserKeys.has(key) && wanted[key] !== undefined)) {
    needSuperuser(context);
  }
  const flaw = flawOf(of, command.policy);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  const policy: Record<string, unknown> = { ...(ownPolicy(context.state, of) ?? noPolicy) };
  for (const key of policyKeys) {
    if (command.policy[key] !== undefined) policy[key] = command.policy[key];
  }
  putPolicy(context, of, policy as PathPolicy);
  return shown(context, of.id);
}

/** Takes the named keys away, or all. Result: the status. */
export function clearPathPolicy(context: Context, command: Of<"clearPathPolicy">): CommandResult {
  const of = needNamed(context, command.inode);
  const before = ownPolicy(context.state, of);
  if (before === undefined) return shown(context, of.id);
  const keys = command.keys.length === 0 ? policyKeys : command.keys;
  if (keys.some((key) => superuserKeys.has(key) && before[key] !== undefined)) {
    needSuperuser(context);
  }
  putPolicy(context, of, { ...before, ...Object.fromEntries(keys.map((key) => [key, undefined])) });
  return shown(context, of.id);
}

function needNamed(context: Context, id: Inode["id"]): Inode {
  const of = needInode(context, id);
  if (of.nlink === 0) refuse("NotFound", `inode ${of.id} was removed`);
  needOwner(context, of);
  return of;
}

function putPolicy(context: Context, of: Inode, policy: PathPolicy): void {
  const before = ownPolicy(context.state, of);
  const policies = bitsOf(policy);
  if (policies === undefined) context.state.delete(policyRowKey(of.id));
  else context.state.write(pathPolicy, policyRowKey(of.id), policy);
  patchPolicies(context, of.id, policies);
  if (policy.syncIntervalMs !== undefined) noteIntervals(context);
  countPolicy(context, before, policies === undefined ? undefined : policy);
}

function flawOf(of: Inode, policy: PathPolicy): string | undefined {
  if (bitsOf(policy) === undefined) return "nothing is said, wanted at least one key";
  if (of.kind !== "directory") {
    if (policy.quota !== undefined) return `a ${of.kind} has no quota, wanted a directory`;
    if (policy.owner !== undefined) return `nothing is made below a ${of.kind}, wanted a directory`;
  }
  const { replication, keepers, syncIntervalMs, owner, ttl, quota } = policy;
  if (quota !== undefined && quota.bytes === undefined && quota.inodes === undefined) {
    return "the quota limits nothing, wanted bytes or inodes";
  }
  if (replication !== undefined) {
    const { min, max } = replication;
    if (min > maxCopies) return `${min} copies are asked for, wanted at most ${maxCopies}`;
    if (max !== undefined && (max === 0 || max < min)) {
      return `at most ${max} copies and at least ${min}, wanted 1 or more and no less than the least`;
    }
  }
  if (keepers !== undefined && (keepers === 0 || keepers > maxCopies)) {
    return `${keepers} keepers, wanted 1 to ${maxCopies}`;
  }
  if (ttl?.seconds === 0) return "files would end as they are made, wanted a second or more";
  if (syncIntervalMs !== undefined && syncIntervalMs < -1) {
    return `an interval of ${syncIntervalMs} ms, wanted 0 or more, or -1 for never`;
  }
  if ((owner?.mode ?? 0) > 0o7777 || (owner?.umask ?? 0) > 0o777) {
    return "the mode has bits that no mode has, wanted up to 7777, and 777 for a mask";
  }
  return undefined;
}
