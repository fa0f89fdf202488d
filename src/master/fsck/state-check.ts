/**
 * Checks a whole namespace state, row by row, in memory that hardly grows with it: a few numbers for each directory, and
 * some for what waits to be done. It reads the state several times, in the order of its keys, and says itself what it has to
 * be given. Pure: who runs it reads the rows, and rests between them.
 *
 * Everything that lies under the id of one inode (or session) is compared as the rows come by. What is written in two
 * places is summed up on both sides (`Relation`), and only where the sums differ a second reading collects what differs.
 *
 * Nothing is mended: state changes by committed commands alone, on all masters alike.
 */
import type { InodeId } from "../../lib/ids.ts";
import { everything, type KeyRange, prefixRange } from "../store/types.ts";
import { type CheckContext, shownKey } from "./check-context.ts";
import { DirectoryTree } from "./directory-tree.ts";
import { FactSet } from "./fact-set.ts";
import type { Found } from "./finding.ts";
import { type Holders, InodeRows, inodeTables } from "./inode-rows.ts";
import { foundIn } from "./differences.ts";
import { Relation } from "./relation.ts";
import { SessionRows, sessionTables } from "./session-rows.ts";
import { TableRows } from "./table-rows.ts";
import { TreeOpRows, treeOpTables } from "./tree-op-rows.ts";

/** One reading: of each range all rows, merged by the first id in their keys, and then by the place of the range. */
export interface Reading {
  readonly ranges: readonly KeyRange[];
  row(range: number, key: string, value: Uint8Array): void;
}

export interface StateCheckOptions {
  /** Log index that the state is of. */
  readonly index: number;
  readonly report: (found: Found) => void;
  /** What is known of who has copies; without it, keepers that are not lost are believed to have theirs. */
  readonly holders?: Holders | undefined;
  /** Garbage rows that are held at once: 4,000,000. */
  readonly mostGarbage?: number;
  /** Of `Relation`. */
  readonly buckets?: number;
}

/** All words with which keys of the state begin, in order. */
const words = [
  "answers/",
  "arrival/",
  "clearing/",
  "compact/",
  "container/",
  "datapolicy/",
  "edge/",
  "extent/",
  "extents/",
  "garbage/",
  "inode/",
  "kept/",
  "lease/",
  "lineage/",
  "meta/",
  "mount/",
  "parent/",
  "policy/",
  "reading/",
  "recall/",
  "result/",
  "retained/",
  "session/",
  "tomb/",
  "treedir/",
  "treeop/",
  "ufsop/",
  "uuid/",
  "worker/",
  "xattr/",
] as const;

export class StateCheck {
  readonly #options: StateCheckOptions;
  readonly #context: CheckContext;
  readonly #tree = new DirectoryTree();
  readonly #inodes: InodeRows;
  readonly #sessions: SessionRows;
  readonly #treeOps: TreeOpRows;
  readonly #tables: TableRows;

  constructor(options: StateCheckOptions) {
    this.#options = options;
    this.#context = {
      index: options.index,
      tables: {
        blockSizeBytes: 0,
        mounts: new Map(),
        mountRoots: new Set(),
        covered: new Set(),
        workers: new Set(),
        live: new Set(),
        treeOps: [],
        filesOnTheWay: new Map(),
        tree: undefined,
      },
      relation: new Relation(options.buckets),
      known: new FactSet(),
      parts: 1,
      part: 0,
      mode: "check",
      report: (found) => {
        if (this.#context.mode !== "collect") options.report(found);
      },
    };
    this.#inodes = new InodeRows(this.#context, this.#tree, options.holders);
    this.#sessions = new SessionRows(this.#context);
    this.#treeOps = new TreeOpRows(this.#context);
    this.#tables = new TableRows(this.#context);
  }

  /** The parent of a directory, once the inodes were read. */
  parentOf(directory: InodeId): InodeId | undefined {
    return this.#tree.parentOf(directory);
  }

  get inodeCount(): number {
    return this.#inodes.count;
  }

  /**
   * What is to be read, one after the other; between two the generator may be left alone as long as one likes. An undefined
   * one only says that some work was done.
   */
  *readings(): Generator<Reading | undefined, void> {
    const tables = this.#tables;
    yield this.#strangers();
    yield reading(["meta/", "mount/", "worker/", "uuid/", "datapolicy/"], (table, key, value) => {
      tables.small(table, key, value);
    });
    tables.endSmall();
    yield reading(["lineage/", "ufsop/", "tomb/", "arrival/"], (table, key, value) => {
      tables.queue(table, key, value);
    });
    yield reading(["ufsop/", "tomb/", "arrival/"], (table, key, value) => {
      tables.queueAgain(table, key, value);
    });
    tables.endQueues();
    yield* this.#inodeReadings();
    yield* this.#others();
    yield reading(treeOpTables, (table, key, value) => {
      this.#treeOps.row(table, key, value);
    });
    this.#treeOps.endAll();
    yield* this.#wholes();
    yield* this.#differences();
  }

  /** Rows of no kind that is known. */
  #strangers(): Reading {
    const ranges: KeyRange[] = [];
    let { from } = everything;
    for (const word of words) {
      const known = prefixRange(word);
      if (from < known.from) ranges.push({ from, to: known.from });
      from = known.to;
    }
    ranges.push({ from, to: everything.to });
    return {
      ranges,
      row: (_, key) => {
        const subject = `row ${shownKey(key)}`;
        const is = "is of no kind that is known here";
        this.#report({ check: "row", inode: undefined, subject, is, wanted: "none" });
      },
    };
  }

  /** Of the inodes with all that is theirs, once for every part of the garbage that can be held. */
  *#inodeReadings(): Generator<Reading, void> {
    const context = this.#context;
    const { mostGarbage = 4_000_000 } = this.#options;
    let count = 0;
    yield reading(["garbage/"], () => {
      count++;
    });
    context.parts = Math.max(1, Math.ceil(count / mostGarbage));
    for (context.part = 0; context.part < context.parts; context.part++) {
      context.mode = context.part === 0 ? "check" : "garbage";
      if (context.part > 0) context.known = new FactSet();
      yield reading(["garbage/"], (_, key) => {
        this.#tables.garbage(key);
      });
      yield this.#inodeReading();
      this.#inodes.end();
    }
    context.mode = "check";
  }

  #inodeReading(): Reading {
    return reading(inodeTables, (table, key, value) => {
      this.#inodes.row(table, key, value);
    });
  }

  *#others(): Generator<Reading, void> {
    yield reading(sessionTables, (table, key, value) => {
      this.#sessions.row(table, key, value);
    });
    this.#sessions.end();
    yield reading(["kept/"], (_, key) => {
      this.#tables.kept(key);
    });
  }

  /** What can be said only when all was read. */
  *#wholes(): Generator<undefined, void> {
    this.#tables.counters(this.#inodes.count, {
      Inode: this.#inodes.greatestId,
      TreeOp: this.#treeOps.greatestId,
    });
    this.#inodes.counts();
    for (const id of this.#tree.unreached()) {
      yield undefined;
      if (id === undefined) continue;
      const parent = this.#tree.parentOf(id);
      const isThere = parent !== undefined && this.#tree.has(parent);
      const is = isThere
        ? "is reached from no root"
        : `lies in ${parent ?? "nothing"}, which is no directory`;
      const subject = `directory ${id}`;
      this.#report({ check: "tree", inode: id, subject, is, wanted: "a way from the root" });
    }
  }

  /** Where sums differ, what differs. */
  *#differences(): Generator<Reading, void> {
    const context = this.#context;
    const { differing, left } = context.relation.collect();
    if (differing === 0) return;
    context.mode = "collect";
    yield this.#inodeReading();
    this.#inodes.end();
    yield* this.#others();
    context.mode = "check";
    for (const found of foundIn(context.relation.differences())) this.#report(found);
    if (left === 0) return;
    this.#report({
      check: "names",
      inode: undefined,
      subject: "names, keepers, leases, holds and totals",
      is: `differ in ${left} more places or so`,
      wanted: "none: mend what is shown first",
    });
  }

  #report(found: Found): void {
    this.#context.report(found);
  }
}

function reading(prefixes: readonly string[], row: Reading["row"]): Reading {
  return { ranges: prefixes.map(prefixRange), row };
}

/** Orders rows of several ranges: by the first id in their keys. */
export function groupOf(key: string): string {
  const at = key.indexOf("/") + 1;
  return key.slice(at, at + 8);
}
