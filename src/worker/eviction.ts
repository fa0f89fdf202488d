/**
 * Which containers go when a tier needs room: the least recently used first, whole containers only.
 *
 * Invariants
 * 1. A container that is kept, leased, being written or being loaded is never chosen.
 * 2. One that is pinned is chosen only for bytes that nobody else has, and after all others.
 */
export interface Candidate {
  /** What dropping it frees. */
  readonly bytes: number;
  /** The duty of this worker: maybe the only copy. */
  readonly kept: boolean;
  /** Leases of clients that read its file. */
  readonly leases: number;
  /** Writers and loads that add to it. */
  readonly writers: number;
}

/** Which containers are to stay as long as there is another way, and whether they give way now. */
export interface Pins<T> {
  isPinned(candidate: T): boolean;
  readonly giveWay: boolean;
}

export function isEvictable(candidate: Candidate): boolean {
  return !candidate.kept && candidate.leases === 0 && candidate.writers === 0;
}

/**
 * The containers to drop so that `neededBytes` become free, from `oldestFirst`; `undefined` when that is not to be had,
 * nothing is to be dropped then.
 */
export function chooseVictims<T extends Candidate>(
  oldestFirst: Iterable<T>,
  neededBytes: number,
  pins: Pins<T> = { isPinned: () => false, giveWay: false },
): T[] | undefined {
  const victims: T[] = [];
  const pinned: T[] = [];
  let freed = 0;
  if (neededBytes <= 0) return victims;
  for (const candidate of oldestFirst) {
    if (!isEvictable(candidate)) continue;
    if (pins.isPinned(candidate)) {
      pinned.push(candidate);
      continue;
    }
    victims.push(candidate);
    freed += candidate.bytes;
    if (freed >= neededBytes) return victims;
  }
  if (!pins.giveWay) return undefined;
  for (const candidate of pinned) {
    victims.push(candidate);
    freed += candidate.bytes;
    if (freed >= neededBytes) return victims;
  }
  return undefined;
}
