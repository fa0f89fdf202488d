/** Bugs of totals, quotas, policies on paths and times to live. */
import type { Mutant } from "./mutant.ts";

const usage = ["test/master/state/usage.test.ts"];
const policies = ["test/master/state/path-policy.test.ts"];
const ttl = ["test/master/state/ttl.test.ts", "test/master/services/time-to-live.test.ts"];
const ledger = "src/master/state/usage-ledger.ts";

export const pathMutants: readonly Mutant[] = [
  {
    name: "does not move a total with a first name",
    file: "src/master/state/links.ts",
    find: "if (from !== first?.parent) context.usage.moved(now, from, first?.parent);",
    replace: "if (from === undefined) context.usage.moved(now, from, first?.parent);",
    suites: usage,
  },
  {
    name: "leaves the charges of a refused command",
    file: ledger,
    find: "this.#charges.length = charges;",
    replace: "this.#charges.length = Math.max(charges, this.#charges.length);",
    suites: usage,
  },
  {
    name: "leaves what a refused command carried up",
    file: ledger,
    find: "accumulate(this.#totals.get(directory)!, usage, -1);",
    replace: "accumulate({ ...this.#totals.get(directory)! }, usage, -1);",
    suites: usage,
  },
  {
    name: "loses what a total of bytes has beyond its first part",
    file: "src/master/state/usage.ts",
    find: "sum[above] += sign * ((usage[above] ?? 0) + whole) + carry;",
    replace: "sum[above] += sign * ((usage[above] ?? 0) + whole);",
    suites: usage,
  },
  {
    name: "moves a directory without what was carried up to it in the same entry",
    file: ledger,
    find: "return carried === undefined ? written : changedUsage(written, carried);",
    replace: "return carried === undefined || written !== of.usage ? written : { ...written };",
    suites: usage,
  },
  {
    name: "counts what is not counted yet",
    file: ledger,
    find: "(id < known.countedBelow || id >= known.countedFrom);",
    replace: "(id <= known.countedBelow || id >= known.countedFrom);",
    suites: usage,
  },
  {
    name: "refuses what reaches a quota exactly",
    file: "src/master/state/quotas.ts",
    find: "change.bytes > 0 && total.bytes > limit.bytes",
    replace: "change.bytes > 0 && total.bytes >= limit.bytes",
    suites: usage,
  },
  {
    name: "refuses to shrink what is above its quota",
    file: "src/master/state/quotas.ts",
    find: "change.bytes > 0 && total.bytes > limit.bytes",
    replace: "total.bytes > limit.bytes",
    suites: usage,
  },
  {
    name: "keeps the policy of an inode that is gone",
    file: "src/master/state/context.ts",
    find: "context.state.delete(policyRowKey(id));",
    replace: "void policyRowKey(id);",
    suites: policies,
  },
  {
    name: "takes the farthest value of a policy",
    file: "src/master/state/path-policies.ts",
    find: "if (policy[key] === undefined || found.has(key)) continue;",
    replace: "if (policy[key] === undefined) continue;",
    suites: policies,
  },
  {
    name: "lets the owner of a directory give files away",
    file: "src/master/state/policy-commands.ts",
    find: `new Set(["quota", "owner", "pin"])`,
    replace: `new Set(["quota", "pin"])`,
    suites: policies,
  },
  {
    name: "deletes what was only to be freed",
    file: "src/master/state/ttl-commands.ts",
    find: `if (ttl?.action !== "delete" || !isOver(`,
    replace: `if (ttl === undefined || !isOver(`,
    suites: ttl,
  },
  {
    name: "deletes by a clock that is not trusted",
    file: "src/master/state/time-to-live.ts",
    find: "Math.abs(clockDriftMs(from, now)) <= clockToleranceMs;",
    replace: "Math.abs(clockDriftMs(from, now)) >= 0;",
    suites: ttl,
  },
  {
    name: "deletes what is being written",
    file: "src/master/state/ttl-commands.ts",
    find: "return of.lease === undefined || !isOpen(context.state, of.lease.session);",
    replace: "return of.holds === 0;",
    suites: ttl,
  },
  {
    name: "evicts pinned copies for others that can be loaded again",
    file: "src/worker/eviction.ts",
    find: "if (!pins.giveWay) return undefined;",
    replace: "if (pins.giveWay && victims.length < 0) return undefined;",
    suites: ["test/worker/eviction.test.ts", "test/worker/block-store.test.ts"],
  },
];
