/** Looks at one session after the other, with its answers, leases and holds. Pure. */
import type { SessionId } from "../../lib/ids.ts";
import { firstIdOf, inodeAtEnd } from "../state/keys.ts";
import * as model from "../state/model.ts";
import { type CheckContext, facts, recordOf } from "./check-context.ts";
import type { CheckName } from "../../rpc/fsck-items.ts";

/** In the order in which the rows of one session come. */
export const sessionTables = ["session/", "answers/", "result/", "lease/", "retained/"] as const;

const checkOf: readonly CheckName[] = ["row", "row", "row", "leases", "holds"];

export class SessionRows {
  readonly #context: CheckContext;
  #id = 0 as SessionId;
  #isThere = false;
  /** Rows of a session that is not there, by table. */
  readonly #ownerless = new Map<number, number>();

  constructor(context: CheckContext) {
    this.#context = context;
  }

  /** The next row, by the place of its table in `sessionTables`. */
  row(table: number, key: string, value: Uint8Array): void {
    const id = firstIdOf(key) as SessionId;
    if (id !== this.#id) {
      this.end();
      this.#id = id;
      this.#isThere = false;
    }
    const { relation } = this.#context;
    if (table === 0) {
      recordOf(this.#context, model.session, key, value);
      this.#isThere = true;
      return;
    }
    if (!this.#isThere) this.#ownerless.set(table, (this.#ownerless.get(table) ?? 0) + 1);
    if (table === 1) recordOf(this.#context, model.storedAnswers, key, value);
    else if (table === 2) recordOf(this.#context, model.storedResults, key, value);
    else if (table === 3) relation.add(facts.lease(id, inodeAtEnd(key)), 1);
    else relation.add(facts.hold(inodeAtEnd(key)), 1);
  }

  /** After the last row of a session. */
  end(): void {
    for (const [table, count] of this.#ownerless) {
      this.#context.report({
        check: checkOf[table]!,
        inode: undefined,
        subject: `session ${this.#id}`,
        is: `is not there, and ${count} rows "${sessionTables[table]!}" are of it`,
        wanted: "none",
      });
    }
    this.#ownerless.clear();
  }
}
