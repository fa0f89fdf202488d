/**
 * Compares the totals of directories with what lies below them, one level at a time: what a directory says is what its
 * files weigh, and what its directories weigh and say. And policies with what inodes and the tree as a whole say of them.
 * Pure.
 */
import type { InodeId } from "../../lib/ids.ts";
import { type Usage, usageCarryBytes } from "../../rpc/namespace.ts";
import { type PathPolicy, pathPolicy } from "../../rpc/path-policy.ts";
import { treeKey } from "../state/keys.ts";
import * as model from "../state/model.ts";
import { bitsOf, countsOf, type PolicyCounts } from "../state/path-policies.ts";
import { weightOf } from "../state/usage.ts";
import { type CheckContext, facts, recordOf } from "./check-context.ts";
import type { CheckName } from "../../rpc/fsck-items.ts";

/** What is and what was wanted. */
type Problem = readonly [check: CheckName, is: string, wanted: string];

export class UsageRows {
  readonly #context: CheckContext;
  #policy: PathPolicy | undefined;
  readonly #counts: Record<keyof PolicyCounts, number> = { ...countsOf(undefined) };

  constructor(context: CheckContext) {
    this.#context = context;
  }

  /** The row of a policy. */
  policy(key: string, value: Uint8Array): void {
    this.#policy = recordOf(this.#context, pathPolicy, key, value);
  }

  /** What does not fit to the inode, whose first name is in `parent`; begins anew. */
  end(of: model.Inode, parent: InodeId | undefined): readonly Problem[] {
    const { mode } = this.#context;
    if (mode !== "garbage") this.#charge(of, parent);
    const policy = this.#policy;
    this.#policy = undefined;
    const problems: Problem[] = [];
    const bits = policy === undefined ? undefined : bitsOf(policy);
    if (bits !== of.policies) {
      const is = `says ${of.policies ?? 0} as the bits of its policy`;
      problems.push(["policies", is, `${bits ?? 0}, as its row has`]);
    }
    if (of.kind !== "directory" && of.usage !== undefined) {
      problems.push(["usage", "is no directory and has a total", "none"]);
    }
    if (mode !== "check") return problems;
    const counts = countsOf(policy);
    for (const name of Object.keys(counts) as (keyof PolicyCounts)[]) {
      this.#counts[name] += counts[name];
    }
    return problems;
  }

  #charge(of: model.Inode, parent: InodeId | undefined): void {
    const { relation, tables } = this.#context;
    const add = (directory: InodeId, usage: Usage, sign: 1 | -1) => {
      const { bytesAbove = 0, unpersistedBytesAbove = 0, ...exact } = usage;
      const say = (field: keyof typeof exact, value: number) => {
        if (value !== 0) relation.add(facts.usage(directory, field), sign * value);
      };
      for (const field of Object.keys(exact) as (keyof typeof exact)[]) say(field, exact[field]);
      // Apart: each of the two is exact, their sum need not be.
      say("bytes", bytesAbove * usageCarryBytes);
      say("unpersistedBytes", unpersistedBytesAbove * usageCarryBytes);
    };
    const { usage } = of;
    if (usage !== undefined) add(of.id, usage, 1);
    if (parent === undefined) return;
    const { tree } = tables;
    const isCounted =
      tree !== undefined && (of.id < tree.countedBelow || of.id >= tree.countedFrom);
    if (isCounted) add(parent, weightOf(of), -1);
    if (usage !== undefined) add(parent, usage, -1);
  }

  /** After all rows. */
  counts(): void {
    const said = this.#context.tables.tree;
    for (const name of Object.keys(this.#counts) as (keyof PolicyCounts)[]) {
      if ((said?.[name] ?? 0) === this.#counts[name]) continue;
      this.#context.report({
        check: "policies",
        inode: undefined,
        subject: `the number of ${name} (${treeKey})`,
        is: `is ${said?.[name] ?? 0}`,
        wanted: `${this.#counts[name]}`,
      });
    }
  }
}
