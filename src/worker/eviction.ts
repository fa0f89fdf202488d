/**
 * Which containers go when a tier needs room: the least recently used first, whole containers only.
 *
 * Invariant: a container that is kept, leased, being written or being loaded is never chosen.
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
): T[] | undefined {
  const victims: T[] = [];
  let freed = 0;
  if (neededBytes <= 0) return victims;
  for (const candidate of oldestFirst) {
    if (!isEvictable(candidate)) continue;
    victims.push(candidate);
    freed += candidate.bytes;
    if (freed >= neededBytes) return victims;
  }
  return undefined;
}
