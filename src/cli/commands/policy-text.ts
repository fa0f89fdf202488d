/** Policies as the CLI shows them: a line for each key. */
import {
  type EffectivePolicy,
  type PathPolicy,
  type PolicyKey,
  policyKeys,
} from "../../rpc/path-policy.ts";
import { bytesText, countText, sheet } from "../output.ts";
import { showPath } from "../paths.ts";
import { spanText } from "../units.ts";

/** What people type for a key. */
export const keyNames: Readonly<Record<PolicyKey, string>> = {
  pin: "pin",
  ttl: "ttl",
  replication: "replication",
  writeType: "write-type",
  readType: "read-type",
  keepers: "keepers",
  syncIntervalMs: "sync-interval",
  owner: "owner",
  quota: "quota",
};

const texts: { readonly [K in PolicyKey]: (value: NonNullable<PathPolicy[K]>) => string } = {
  pin: () => "yes",
  ttl: ({ seconds, action }) => `${action} after ${spanText(seconds * 1000)}`,
  replication: ({ min, max }) =>
    `at least ${String(min)}${max === undefined ? "" : `, at most ${String(max)}`}`,
  writeType: (value) => value,
  readType: (value) => value,
  keepers: (value) => String(value),
  syncIntervalMs: (value) => (value < 0 ? "never" : value === 0 ? "always" : spanText(value)),
  owner: ({ uid, gid, mode, umask }) =>
    [
      uid === undefined ? "" : `user ${String(uid)}`,
      gid === undefined ? "" : `group ${String(gid)}`,
      mode === undefined ? "" : `with mode ${mode.toString(8)}`,
      umask === undefined ? "" : `without mode ${umask.toString(8)}`,
    ]
      .filter((part) => part !== "")
      .join(", "),
  quota: ({ bytes, inodes }) =>
    [
      bytes === undefined ? "" : `${String(bytes)} bytes (${bytesText(bytes)})`,
      inodes === undefined ? "" : `${countText(inodes)} inodes`,
    ]
      .filter((part) => part !== "")
      .join(", "),
};

function valueText<K extends PolicyKey>(key: K, value: NonNullable<PathPolicy[K]>): string {
  return texts[key](value);
}

/** The keys that a policy has, with their values in words. */
export function policyLines(policy: PathPolicy): [name: string, value: string][] {
  return policyKeys.flatMap((key) => {
    const value = policy[key];
    return value === undefined ? [] : [[keyNames[key], valueText(key, value)]];
  });
}

/** What holds for a path, and where it is said. */
export function effectiveSheet({ policy, sources }: EffectivePolicy, path: string): string {
  const from = new Map(sources.map((source) => [keyNames[source.key], source.path]));
  const lines = policyLines(policy).map(([name, value]): [string, string] => {
    const source = from.get(name) ?? path;
    return [name, source === path ? value : `${value} (from ${showPath(source)})`];
  });
  return lines.length === 0 ? "No policy holds here" : sheet(lines);
}

/** A policy as JSON, without the keys that it does not have. */
export function policyValue(policy: PathPolicy): Record<string, unknown> {
  return Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== undefined));
}

/** What holds, as JSON: `from` says for each key where. */
export function effectiveValue({ policy, sources }: EffectivePolicy): Record<string, unknown> {
  const from = Object.fromEntries(sources.map(({ key, path }) => [key, showPath(path)]));
  return { ...policyValue(policy), from };
}
