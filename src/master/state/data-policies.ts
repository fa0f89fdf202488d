/**
 * Data policies: rules by which files of a union mount go from one of its layers to another, when they are asked for or by
 * themselves. A run is an operation on the tree below the policy's directory (tree-ops.ts).
 *
 * Invariants
 * 1. `meta/dataPolicies` has the ids of all policies, ascending; their names differ.
 * 2. A policy has at most one run under way.
 */
import type { DataPolicyId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { Timestamp } from "../../rpc/namespace.ts";
import { type Context, needDirectory, refuse, takeId } from "./context.ts";
import { dataPolicyIdsKey, dataPolicyKey } from "./keys.ts";
import { type DataPolicy, dataPolicy, dataPolicyIds } from "./model.ts";
import { flawOfWay } from "./migration-layers.ts";
import { needSuperuser } from "./permissions.ts";
import { dataPolicyOf, inodeOf, mountOf } from "./queries.ts";
import { beginTreeOp, stopTreeOp } from "./tree-ops.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Most policies of a cluster. */
export const maxDataPolicies = 256;
const longestName = 64;
/** A policy that runs by itself does so no more often. */
export const shortestEveryMs = 60_000;

/** Result: `id` is the policy. */
export function setDataPolicy(context: Context, command: Of<"setDataPolicy">): CommandResult {
  needSuperuser(context);
  const { name, inode, migration, everyMs } = command;
  if (!/^[A-Za-z0-9._-]+$/.test(name) || name.length > longestName) {
    const wanted = `1 to ${longestName} letters, digits, dots, lines or underscores`;
    refuse("InvalidArgument", `"${name.slice(0, longestName)}" is no name, wanted ${wanted}`);
  }
  if (everyMs !== undefined && everyMs < shortestEveryMs) {
    refuse("InvalidArgument", `every ${everyMs} ms, wanted at least ${shortestEveryMs}`);
  }
  const root = needDirectory(context, inode);
  const flaw = flawOfWay(mountOf(context.state, root.mountId), migration);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  const known = policyOfName(context, name);
  const ids = context.state.read(dataPolicyIds, dataPolicyIdsKey) ?? [];
  if (known === undefined && ids.length >= maxDataPolicies) {
    refuse("Busy", `there are ${ids.length} data policies, wanted fewer`);
  }
  const id = known?.id ?? (takeId(context, "DataPolicy") as DataPolicyId);
  if (known === undefined) {
    context.state.write(dataPolicyIds, dataPolicyIdsKey, [...ids, id]);
  }
  put(context, id, {
    ...{ name, root: root.id, migration, everyMs },
    nextRunAt: everyMs === undefined ? undefined : later(context.wallTime, everyMs),
    running: known?.of.running,
    // Another rule may be about files that the former one passed over.
    copiedUpTo: undefined,
    runs: known?.of.runs ?? [],
  });
  return { ok: true, id };
}

function put(context: Context, id: DataPolicyId, value: DataPolicy): void {
  context.state.write(dataPolicy, dataPolicyKey(id), value);
}

function later(of: Timestamp, ms: number): Timestamp {
  return { sec: of.sec + Math.floor(ms / 1000), nsec: of.nsec };
}

function policyOfName(
  context: Context,
  name: string,
): { readonly id: DataPolicyId; readonly of: DataPolicy } | undefined {
  for (const id of context.state.read(dataPolicyIds, dataPolicyIdsKey) ?? []) {
    const of = dataPolicyOf(context.state, id)!;
    if (of.name === name) return { id, of };
  }
  return undefined;
}

function needPolicy(context: Context, name: string) {
  const known = policyOfName(context, name);
  return known ?? refuse("NotFound", `no data policy is named "${name.slice(0, longestName)}"`);
}

export function deleteDataPolicy(context: Context, command: Of<"deleteDataPolicy">): CommandResult {
  needSuperuser(context);
  const { id, of } = needPolicy(context, command.name);
  if (of.running !== undefined) stopTreeOp(context, of.running);
  context.state.delete(dataPolicyKey(id));
  const ids = context.state.read(dataPolicyIds, dataPolicyIdsKey)!;
  context.state.write(
    dataPolicyIds,
    dataPolicyIdsKey,
    ids.filter((each) => each !== id),
  );
  return { ok: true, id };
}

/** Result: `id` is the operation. A policy that runs by itself waits its time again from now on. */
export function runDataPolicy(context: Context, command: Of<"runDataPolicy">): CommandResult {
  needSuperuser(context);
  const { isTrial } = command;
  const { id, of } = needPolicy(context, command.name);
  if (of.running !== undefined) refuse("Busy", `operation ${of.running} is a run of it`);
  const root = inodeOf(context.state, of.root);
  if (root === undefined) refuse("NotFound", "its directory is gone");
  const flaw = flawOfWay(mountOf(context.state, root.mountId), of.migration);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  const { migration } = of;
  const age = migration.olderThanMs;
  const before = age === undefined ? undefined : later(context.wallTime, -age);
  const work = {
    ...({ kind: "migrate", policy: id, migration, isTrial } as const),
    ...{ after: migration.keep ? of.copiedUpTo : undefined, before },
  };
  const treeOp = beginTreeOp(context, { root: of.root, isTree: true, work });
  put(context, id, {
    ...of,
    running: treeOp,
    nextRunAt:
      of.everyMs === undefined || isTrial ? of.nextRunAt : later(context.wallTime, of.everyMs),
  });
  return { ok: true, id: treeOp };
}
