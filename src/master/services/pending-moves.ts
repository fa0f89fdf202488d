/**
 * Moves and removals that stores have not seen yet, by mount: with them it can be said where in a store lies what the
 * namespace shows elsewhere, and which directories cannot be listed now. Every master knows them all the time: reading
 * through what may be a long queue is nothing to begin a reign with.
 */
import type { MountId, UfsOpId } from "../../lib/ids.ts";
import type { StateEvent } from "../state/context.ts";
import { ufsOpKey } from "../state/keys.ts";
import { type UfsOp, ufsOp } from "../state/model.ts";
import { mountsOf, touchesPath } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { pendingUfsOps } from "./listings.ts";

export class PendingMoves {
  readonly #reader: StateReader;
  #moves = new Map<MountId, Map<UfsOpId, UfsOp>>();
  #ready: Promise<void> = Promise.resolve();

  /** Begins to read those of the state. */
  constructor(reader: StateReader) {
    this.#reader = reader;
    this.replaced();
  }

  /** Resolves when those of the state at the start are known. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** The state was replaced as a whole. */
  replaced(): void {
    this.#moves = new Map();
    this.#ready = this.#readAll();
    this.#ready.catch(() => undefined);
  }

  /** Renames of files and directories, in the order of their ids. */
  renamesOf(mount: MountId): readonly UfsOp[] {
    const moves = this.#moves.get(mount);
    if (moves === undefined) return [];
    return [...moves.values()]
      .filter(({ action }) => action.kind === "rename")
      .sort((a, b) => a.id - b.id);
  }

  /** Whether a directory at `path` below the mount, or one above or below it, is about to be moved or removed. */
  isMoving(mount: MountId, path: string): boolean {
    for (const op of this.#moves.get(mount)?.values() ?? []) {
      if (op.moves && touchesPath(op, path)) return true;
    }
    return false;
  }

  /** Takes what an entry did. */
  applied(events: readonly StateEvent[]): void {
    for (const event of events) {
      if (event.kind === "ufsOpQueued") this.#add(event.mount, event.op);
      else if (event.kind === "ufsOpDone") this.#moves.get(event.mount)?.delete(event.op);
      else if (event.kind === "unmounted") this.#moves.delete(event.mount);
    }
  }

  async #readAll(): Promise<void> {
    for (const { id, pendingOps } of mountsOf(this.#reader)) {
      if (pendingOps === 0) continue;
      for await (const op of pendingUfsOps(this.#reader, id)) {
        if (isMove(op)) this.#add(id, op.id);
      }
    }
  }

  #add(mount: MountId, id: UfsOpId): void {
    const op = this.#reader.read(ufsOp, ufsOpKey(mount, id));
    if (op === undefined || !isMove(op)) return;
    const moves = this.#moves.get(mount);
    if (moves === undefined) this.#moves.set(mount, new Map([[id, op]]));
    else moves.set(id, op);
  }
}

function isMove(op: UfsOp): boolean {
  return op.moves || op.action.kind === "rename";
}
