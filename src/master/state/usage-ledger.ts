/**
 * The totals of directories, kept up to date while entries are applied. What an inode weighs is charged to the directory
 * of its first name; at the end of the entry each directory that was charged is walked up from once, and the sums are
 * added to the inodes of all directories above. So a thousand creates in one directory cost one walk.
 *
 * A total is what is written, plus what was carried up in this entry, plus the charges that wait in what lies below the
 * directory *now*. So a directory that moves takes along what waits below it: only what is written and carried is charged
 * to its old and new places. While there are quotas nothing waits: each charge is carried up at once, so that a command
 * meets what those before it in the same entry did.
 *
 * Invariants
 * 1. After each entry `usage` of every directory is the sum of the weights of all counted inodes below it, each charged to
 *    the directory of its first name. What has no name is charged to nobody.
 * 2. An inode is counted if its id is below `countedBelow`, or from `countedFrom` on: a count of older state goes through
 *    the ids in order, and nobody else has to know how far it is.
 * 3. Below level 2 nothing is counted: masters of earlier releases would not do it.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Quota, Usage } from "../../rpc/namespace.ts";
import type { StateWriter } from "../store/types.ts";
import { treeKey, inodeKey } from "./keys.ts";
import { type Inode, inode, type Tree, tree } from "./model.ts";
import { countsOf, ownPolicy } from "./path-policies.ts";
import { firstLinkOf, inodeOf } from "./queries.ts";
import { accumulate, changedUsage, isNothing, noUsage, type Sum, weightOf } from "./usage.ts";

interface Charge {
  readonly directory: InodeId;
  readonly usage: Usage;
  readonly sign: 1 | -1;
}

const nothingCounted: Tree = {
  countedBelow: 1 as InodeId,
  countedFrom: 1 as InodeId,
  ...countsOf(undefined),
};

/** What was added to the total of one directory. */
interface Carried {
  readonly directory: InodeId;
  readonly usage: Usage;
}

export interface LedgerMark {
  readonly charges: number;
  readonly settled: number;
  readonly carried: number;
}

/** A directory with a quota whose total a command changed. */
export interface Grown {
  readonly directory: InodeId;
  readonly quota: Quota;
  readonly total: Usage;
  /** By what the command changed it; parts may be negative. */
  readonly change: Usage;
}

export class UsageLedger {
  readonly #state: StateWriter;
  #tree: Tree | undefined;
  /** Of this entry, in order; those from `#settled` on wait. */
  readonly #charges: Charge[] = [];
  #settled = 0;
  /** What was carried up, in order, and its sums. */
  readonly #carried: Carried[] = [];
  readonly #totals = new Map<InodeId, Sum>();

  constructor(state: StateWriter) {
    this.#state = state;
    this.#tree = state.read(tree, treeKey);
  }

  /** What is noted so far, for `undo` and `grownSince`. */
  mark(): LedgerMark {
    return {
      charges: this.#charges.length,
      settled: this.#settled,
      carried: this.#carried.length,
    };
  }

  /** Forgets what was charged since the mark; the state is as it was then. */
  undo({ charges, settled, carried }: LedgerMark): void {
    for (let i = this.#carried.length - 1; i >= carried; i--) {
      const { directory, usage } = this.#carried[i]!;
      accumulate(this.#totals.get(directory)!, usage, -1);
    }
    this.#carried.length = carried;
    this.#charges.length = charges;
    this.#settled = settled;
    this.#tree = this.#state.read(tree, treeKey);
  }

  /** Changes what holds for the tree as a whole. */
  setTree(patch: Partial<Tree>): void {
    this.#tree = { ...(this.#tree ?? nothingCounted), ...patch };
    this.#state.write(tree, treeKey, this.#tree);
    // With the first quota nothing waits any more.
    if (this.hasQuotas) this.#settle();
  }

  /** Undefined: nothing is counted yet. */
  get tree(): Tree | undefined {
    return this.#tree;
  }

  get hasQuotas(): boolean {
    return this.#tree !== undefined && this.#tree.quotas > 0;
  }

  #counts(id: InodeId): boolean {
    const known = this.#tree;
    return known !== undefined && (id < known.countedBelow || id >= known.countedFrom);
  }

  /** The inode was made with its first name in `directory`. */
  made(of: Inode, directory: InodeId): void {
    if (this.#counts(of.id)) this.#charge(directory, weightOf(of), 1);
  }

  /** An inode that was there before anything was counted is counted from now on. */
  found(of: Inode): void {
    const directory = firstLinkOf(this.#state, of.id)?.parent;
    if (directory !== undefined) this.#charge(directory, weightOf(of), 1);
  }

  /** The inode was `before`, and is `after` now; its first name is the same. */
  changed(before: Inode, after: Inode): void {
    if (!this.#counts(after.id)) return;
    const directory = firstLinkOf(this.#state, after.id)?.parent;
    if (directory === undefined) return;
    this.#charge(directory, weightOf(before), -1);
    this.#charge(directory, weightOf(after), 1);
  }

  /** The first name of the inode went from one directory to another; undefined: it had none, or has none now. */
  moved(of: Inode, from: InodeId | undefined, to: InodeId | undefined): void {
    const whole: Sum = { ...noUsage };
    accumulate(whole, this.#settledBelow(of), 1);
    if (this.#counts(of.id)) accumulate(whole, weightOf(of), 1);
    if (isNothing(whole)) return;
    if (from !== undefined) this.#charge(from, whole, -1);
    if (to !== undefined) this.#charge(to, whole, 1);
  }

  /** The total below a directory as of now; undefined while some of it is not counted yet. What is below has younger ids. */
  totalOf(of: Inode): Usage | undefined {
    const known = this.#tree;
    if (known === undefined) return undefined;
    const { countedBelow, countedFrom } = known;
    if (countedBelow < countedFrom && of.id < countedFrom) return undefined;
    this.#settle();
    return this.#settledBelow(of);
  }

  /** What is written and carried for a directory. */
  #settledBelow(of: Inode): Usage {
    const written = of.usage ?? noUsage;
    const carried = this.#totals.get(of.id);
    return carried === undefined ? written : changedUsage(written, carried);
  }

  #charge(directory: InodeId, usage: Usage, sign: 1 | -1): void {
    this.#charges.push({ directory, usage, sign });
    if (this.hasQuotas) this.#settle();
  }

  /** Carries up all charges that wait. */
  #settle(): void {
    const sums = new Map<InodeId, Sum>();
    for (; this.#settled < this.#charges.length; this.#settled++) {
      const { directory, usage, sign } = this.#charges[this.#settled]!;
      accumulate(sumOf(sums, directory), usage, sign);
    }
    for (const [directory, sum] of sums) {
      if (!isNothing(sum)) this.#carryUp(directory, sum);
    }
  }

  /** Adds to a directory and all above it. One that is gone took along what was charged to it. */
  #carryUp(directory: InodeId, usage: Usage): void {
    if (inodeOf(this.#state, directory) === undefined) return;
    for (let at: InodeId | undefined = directory; at !== undefined; ) {
      accumulate(sumOf(this.#totals, at), usage, 1);
      this.#carried.push({ directory: at, usage });
      at = firstLinkOf(this.#state, at)?.parent;
    }
  }

  /** The directories with a quota whose totals were changed since the mark; only while there are quotas. */
  grownSince({ carried }: LedgerMark): Grown[] {
    const changes = new Map<InodeId, Sum>();
    for (let i = carried; i < this.#carried.length; i++) {
      const { directory, usage } = this.#carried[i]!;
      accumulate(sumOf(changes, directory), usage, 1);
    }
    const grown: Grown[] = [];
    for (const [id, change] of changes) {
      const directory = inodeOf(this.#state, id);
      if (directory?.policies === undefined) continue;
      const quota = ownPolicy(this.#state, directory)?.quota;
      if (quota === undefined) continue;
      grown.push({ directory: id, quota, total: this.#settledBelow(directory), change });
    }
    return grown;
  }

  /** Ends the entry: writes the totals of all directories that it changed. */
  write(): void {
    if (this.#charges.length === 0) return;
    this.#settle();
    for (const [id, change] of this.#totals) {
      if (isNothing(change)) continue;
      const of = inodeOf(this.#state, id);
      if (of === undefined) continue;
      const total = changedUsage(of.usage ?? noUsage, change);
      const usage = isNothing(total) ? undefined : total;
      this.#state.write(inode, inodeKey(id), inode.with(of, { usage }));
    }
  }
}

function sumOf(sums: Map<InodeId, Sum>, directory: InodeId): Sum {
  let sum = sums.get(directory);
  if (sum === undefined) sums.set(directory, (sum = { ...noUsage }));
  return sum;
}
