/**
 * Bytes that a file has and no live worker: looked for while the state is gone through, and decided when each keeper has
 * told again what it holds, since a report may be younger or older than the state that was looked at.
 */
import { sleep } from "../../lib/clock.ts";
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import type { Finding } from "../../rpc/fsck-items.ts";
import { cures } from "../fsck/finding.ts";
import { containerOf, inodeOf, liveKeepersOf, pathOf } from "../state/queries.ts";
import type { MasterParts } from "./parts.ts";

/** Longest wait for the next reports of the keepers; they come every few seconds. */
const longestWaitMs = 15_000;
const lookEveryMs = 100;

interface Suspect {
  readonly inode: InodeId;
  readonly writeId: WriteId;
  /** Keepers, each with the report of it that decides. */
  readonly decidedBy: readonly { readonly worker: WorkerId; readonly sequence: number }[];
}

export class MissingCopies {
  readonly #parts: Pick<MasterParts, "store" | "locations" | "registry" | "clock">;
  readonly #limit: number;
  readonly #suspects: Suspect[] = [];

  /** At most `limit` are looked into. */
  constructor(
    parts: Pick<MasterParts, "store" | "locations" | "registry" | "clock">,
    limit: number,
  ) {
    this.#parts = parts;
    this.#limit = limit;
  }

  /** For a check of the state: false where it is known already that nobody has the bytes. */
  readonly holders = (
    { inode, writeId }: { readonly inode: InodeId; readonly writeId: WriteId },
    live: readonly WorkerId[],
  ): boolean => {
    if (this.#isHeld(inode, writeId)) return true;
    const { registry } = this.#parts;
    const standings = live.map((worker) => ({ worker, standing: registry.standingOf(worker) }));
    // Who has not told all yet may have it.
    if (standings.some(({ standing }) => standing === undefined)) return true;
    if (live.length === 0) return false;
    if (this.#suspects.length >= this.#limit) return true;
    const decidedBy = standings.map(({ worker, standing }) => ({
      worker,
      // The next report may be on its way already.
      sequence: standing!.nextSequence + 1,
    }));
    this.#suspects.push({ inode, writeId, decidedBy });
    return true;
  };

  #isHeld(inode: InodeId, writeId: WriteId): boolean {
    const { locations } = this.#parts;
    return locations.containersOf(inode).some((each) => each.writeId === writeId);
  }

  /** What turns out to be missing, once the keepers have reported again. */
  async decided(signal: AbortSignal): Promise<Finding[]> {
    const { registry, clock } = this.#parts;
    const endMs = clock.monotonicMs() + longestWaitMs;
    const isDecided = ({ decidedBy }: Suspect) =>
      decidedBy.every(({ worker, sequence }) => {
        const standing = registry.standingOf(worker);
        return standing !== undefined && standing.completeSequence >= sequence;
      });
    while (!this.#suspects.every(isDecided) && clock.monotonicMs() < endMs) {
      for (const { worker } of this.#suspects.flatMap(({ decidedBy }) => decidedBy)) {
        registry.pollOf(worker)?.answer([]);
      }
      await sleep(lookEveryMs, signal);
    }
    return this.#suspects.filter(isDecided).flatMap((suspect) => this.#findingOf(suspect));
  }

  #findingOf({ inode, writeId }: Suspect): Finding[] {
    const { store } = this.#parts;
    const now = containerOf(store, inode, writeId);
    const isNeeded = now !== undefined && now.references > 0;
    const isWritten = inodeOf(store, inode)?.lease?.writeId === writeId;
    if (!isNeeded || isWritten || this.#isHeld(inode, writeId)) return [];
    const keepers = liveKeepersOf(store, now).join(", ");
    return [
      {
        check: "lost",
        inode,
        path: pathOf(store, inode),
        subject: `container ${inode}.${writeId}`,
        is: `is named by the file, and its keepers (${keepers}) do not have it`,
        wanted: "a copy at one of its keepers",
        cure: cures.lost,
      },
    ];
  }
}
