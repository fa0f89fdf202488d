/**
 * Moves that stores have not seen yet, by mount: with them it can be said where in a store lies what the namespace
 * shows elsewhere. Lives as long as one reign.
 */
import type { MountId, UfsOpId } from "../../lib/ids.ts";
import type { StateEvent } from "../state/context.ts";
import { ufsOpKey } from "../state/keys.ts";
import { readRecord, type UfsOp, ufsOp } from "../state/model.ts";
import { mountsOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { pendingUfsOps } from "./listings.ts";

export class PendingRenames {
  readonly #reader: StateReader;
  readonly #renames = new Map<MountId, Map<UfsOpId, UfsOp>>();
  /** Resolves when those of the state at the start are known. */
  readonly ready: Promise<void>;

  constructor(reader: StateReader) {
    this.#reader = reader;
    this.ready = this.#readAll();
    this.ready.catch(() => undefined);
  }

  /** In the order of their ids. */
  of(mount: MountId): readonly UfsOp[] {
    const renames = this.#renames.get(mount);
    return renames === undefined ? [] : [...renames.values()].sort((a, b) => a.id - b.id);
  }

  /** Takes what an entry did. */
  applied(events: readonly StateEvent[]): void {
    for (const event of events) {
      if (event.kind === "ufsOpQueued") this.#add(event.mount, event.op);
      else if (event.kind === "ufsOpDone") this.#renames.get(event.mount)?.delete(event.op);
      else if (event.kind === "unmounted") this.#renames.delete(event.mount);
    }
  }

  async #readAll(): Promise<void> {
    for (const { id, pendingOps } of mountsOf(this.#reader)) {
      if (pendingOps === 0) continue;
      for await (const op of pendingUfsOps(this.#reader, id)) {
        if (op.action.kind === "rename") this.#add(id, op.id);
      }
    }
  }

  #add(mount: MountId, id: UfsOpId): void {
    const op = readRecord(this.#reader, ufsOp, ufsOpKey(mount, id));
    if (op?.action.kind !== "rename") return;
    const renames = this.#renames.get(mount);
    if (renames === undefined) this.#renames.set(mount, new Map([[id, op]]));
    else renames.set(id, op);
  }
}
