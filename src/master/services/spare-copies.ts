/**
 * Drops cached copies beyond the most that a replication policy allows: those of persisted files that workers have without
 * having to keep them. Walks over all that workers reported, a bounded number of files at a time. Lives as long as one reign.
 */
import type { Clock } from "../../lib/clock.ts";
import { hasCode, toWeirError } from "../../lib/errors.ts";
import type { InodeId, WriteId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { nearestValue } from "../state/path-policies.ts";
import { inodeOf, treeOf } from "../state/queries.ts";
import type { PointReader } from "../store/types.ts";
import { type Copy, copiesToFree } from "./cached-copies.ts";
import type { Reign } from "./leadership.ts";
import type { Locations } from "./locations.ts";

const everyMs = 2000;
const filesPerStep = 1000;

export interface SpareCopiesOptions {
  readonly reader: PointReader;
  readonly locations: Locations;
  /** Has workers drop copies. */
  readonly drop: (copies: readonly Copy[], signal: AbortSignal) => Promise<number>;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class SpareCopies {
  readonly #options: SpareCopiesOptions;
  #cancel: () => void = () => undefined;
  #walk: Iterator<InodeId> | undefined;

  constructor(options: SpareCopiesOptions) {
    this.#options = options;
    options.reign.signal.addEventListener("abort", () => this.#cancel());
    this.#plan();
  }

  #plan(): void {
    const { reign, clock, logger } = this.#options;
    if (reign.signal.aborted) return;
    this.#cancel = clock.after(everyMs, () => {
      void this.#step()
        .catch((thrown: unknown) => {
          if (reign.signal.aborted || hasCode(thrown, "NotLeader")) return;
          const { message } = toWeirError(thrown, "Cannot drop spare copies");
          logger.warn({ error: message }, "spare copies stay for now");
        })
        .finally(() => this.#plan());
    });
  }

  async #step(): Promise<void> {
    const { reader, locations, drop, reign } = this.#options;
    if ((treeOf(reader)?.replications ?? 0) === 0) return;
    this.#walk ??= locations.inodes();
    const spare: Copy[] = [];
    for (let i = 0; i < filesPerStep; i++) {
      const next = this.#walk.next();
      if (next.done === true) {
        this.#walk = undefined;
        break;
      }
      spare.push(...this.#spareOf(next.value));
    }
    if (spare.length > 0) await drop(spare, reign.signal);
  }

  /** The copies of each container beyond the most; those that have to be kept count, and stay. */
  #spareOf(inode: InodeId): readonly Copy[] {
    const { reader, locations } = this.#options;
    const all = locations.containersOf(inode);
    const of = all.length < 2 ? undefined : inodeOf(reader, inode);
    if (of === undefined) return [];
    const most = nearestValue(reader, inode, "replication")?.max;
    if (most === undefined) return [];
    const holders = new Map<WriteId, number>();
    for (const { writeId } of all) holders.set(writeId, (holders.get(writeId) ?? 0) + 1);
    return copiesToFree(reader, locations, of).filter(({ writeId }) => {
      const left = holders.get(writeId)!;
      if (left <= most) return false;
      holders.set(writeId, left - 1);
      return true;
    });
  }
}
