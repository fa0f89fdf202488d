/**
 * Values read from LevelDB, absent ones included, bounded in bytes. Two generations stand in for a list of uses: what is
 * found in the old one moves to the young one, and when the young one has its half of the bytes it becomes the old one.
 * Pure.
 */
const entryOverheadBytes = 100;

export class ReadCache {
  readonly #maxBytes: number;
  #young = new Map<string, Uint8Array | null>();
  #old = new Map<string, Uint8Array | null>();
  #youngBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The value, null when the key is known to be absent, undefined when nothing is known. */
  get(key: string): Uint8Array | null | undefined {
    const value = this.#young.get(key);
    if (value !== undefined) return value;
    const aged = this.#old.get(key);
    if (aged !== undefined) this.set(key, aged);
    return aged;
  }

  set(key: string, value: Uint8Array | null): void {
    this.#young.set(key, value);
    // An overwritten value counts twice until the generation ends: the bound holds all the more.
    this.#youngBytes += key.length + (value?.length ?? 0) + entryOverheadBytes;
    if (this.#youngBytes * 2 < this.#maxBytes) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngBytes = 0;
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
  }
}
