/** Looks at one operation on a tree after the other, with the directories that it has before it. Pure. */
import type { TreeOpId } from "../../lib/ids.ts";
import { firstIdOf } from "../state/keys.ts";
import * as model from "../state/model.ts";
import { type CheckContext, recordOf } from "./check-context.ts";

/** In the order in which the rows of one operation come. */
export const treeOpTables = ["treeop/", "treedir/"] as const;

export class TreeOpRows {
  readonly #context: CheckContext;
  #id = 0 as TreeOpId;
  #operation: model.TreeOp | undefined;
  #directories = 0;
  /** Bounded: few operations are remembered. */
  readonly #known: TreeOpId[] = [];

  constructor(context: CheckContext) {
    this.#context = context;
  }

  /** The greatest id so far. */
  get greatestId(): number {
    return this.#id;
  }

  /** The next row, by the place of its table in `treeOpTables`. */
  row(table: number, key: string, value: Uint8Array): void {
    const id = firstIdOf(key) as TreeOpId;
    if (id !== this.#id) {
      this.end();
      this.#id = id;
    }
    if (table === 0) this.#known.push(id);
    if (table === 0) this.#operation = recordOf(this.#context, model.treeOp, key, value);
    else {
      recordOf(this.#context, model.treeDirectory, key, value);
      this.#directories++;
    }
  }

  /** After the last row of an operation. */
  end(): void {
    const of = this.#operation;
    const directories = this.#directories;
    this.#operation = undefined;
    this.#directories = 0;
    if (of === undefined) {
      if (directories > 0) this.#report(`is gone, and has ${directories} directories`, "none");
      return;
    }
    if (of.openDirectories !== directories) {
      this.#report(`says ${of.openDirectories} directories`, `${directories}`);
    }
    const files = this.#context.tables.filesOnTheWay.get(this.#id) ?? 0;
    if (of.pendingFiles !== files) {
      this.#report(`says ${of.pendingFiles} files on their way`, `${files}`);
    }
    // One that was cancelled gives its directories up step by step.
    const left = directories + files;
    if (of.state !== "cancelled" && (of.state === "running") !== left > 0) {
      this.#report(
        `is ${of.state} and has ${directories} directories and ${files} files left`,
        "none once it is over",
      );
    }
  }

  /** After the last row of all. */
  endAll(): void {
    this.end();
    const { treeOps, filesOnTheWay } = this.#context.tables;
    if (treeOps.join() !== this.#known.join()) {
      const subject = "the list of operations on trees";
      const is = `is ${treeOps.join(", ")}`;
      const wanted = this.#known.join(", ");
      this.#context.report({ check: "operations", inode: undefined, subject, is, wanted });
    }
    for (const [id, files] of filesOnTheWay) {
      if (this.#known.includes(id)) continue;
      this.#id = id;
      this.#report(`is gone, and has ${files} files on their way`, "none");
    }
  }

  #report(is: string, wanted: string): void {
    const subject = `operation ${this.#id} on a tree`;
    this.#context.report({ check: "operations", inode: undefined, subject, is, wanted });
  }
}
