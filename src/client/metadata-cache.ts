/**
 * Attributes and names as this client last saw them. With the change feed entries live until a change invalidates
 * them, at most `feedLifetimeMs`; without it for `blindLifetimeMs`, and absences are not kept at all.
 *
 * Invariants
 * 1. What is answered was true at some time within the last `blindLifetimeMs`: either it was read then, or the feed was
 *    confirmed then. It is checked as it is asked for, so no timer that is late makes it older. (What a change needs
 *    from a master to this client comes on top.)
 * 2. An answer that reflects log index i is not kept when a change of the same key at an index above i is known.
 * 3. The number of entries is bounded; the oldest go first.
 */
import type { Clock } from "../lib/clock.ts";
import type { InodeId } from "../lib/ids.ts";
import type { FileStatus } from "../rpc/namespace.ts";
import { type ChangeListener, feedSilenceMs } from "./change-feed.ts";

/** A second bound, should a change ever be missed. */
const feedLifetimeMs = 10_000;
const blindLifetimeMs = feedSilenceMs;

interface Held<T> {
  readonly value: T;
  /** Changes up to this log index are in it. */
  readonly index: number;
  readonly readMs: number;
}

export class MetadataCache implements ChangeListener {
  readonly #clock: Clock;
  readonly #capacity: number;
  readonly #statuses = new Map<InodeId, Held<FileStatus>>();
  /** `parent/name` → inode, or undefined for a name that is known to be absent. */
  readonly #names = new Map<string, Held<InodeId | undefined>>();
  /** Key → its last known change: the log index, and when we heard of it, counted in changes. */
  readonly #changed = new Map<InodeId | string, { index: number; heard: number }>();
  /** Changes up to this index, or heard before this count, may have been forgotten from `#changed`. */
  #floor = { index: 0, heard: 0 };
  #heard = 0;
  #live = false;
  /** The feed was complete up to this time. */
  #confirmedMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, capacity = 100_000) {
    this.#clock = clock;
    this.#capacity = capacity;
  }

  onChange({ index, inodes, names }: Parameters<ChangeListener["onChange"]>[0]): void {
    for (const inode of inodes) this.invalidateStatus(inode, index);
    for (const [parent, name] of names) this.invalidateName(parent, name, index);
  }

  /** The feed came or went: either way what is held may have missed changes. */
  onLive(live: boolean, index: number): void {
    this.#live = live;
    this.#confirmedMs = Number.NEGATIVE_INFINITY;
    this.onGap(index);
  }

  /** All that was acknowledged before `atMs` of the monotonic clock has been heard of. */
  onConfirmed(atMs: number): void {
    this.#confirmedMs = Math.max(this.#confirmedMs, atMs);
  }

  /** Changes up to `index` are not all known: forgets everything. */
  onGap(index: number): void {
    this.#statuses.clear();
    this.#names.clear();
    this.#changed.clear();
    this.#floor = { index: Math.max(this.#floor.index, index), heard: ++this.#heard };
  }

  /** How many changes were heard of: for `putAbsence`, to be taken before the question. */
  mark(): number {
    return this.#heard;
  }

  status(inode: InodeId): FileStatus | undefined {
    return this.#fresh(this.#statuses, inode)?.value;
  }

  /** The inode of a name, "absent", or undefined when it is not known. */
  name(parent: InodeId, name: string): InodeId | "absent" | undefined {
    const held = this.#fresh(this.#names, nameKey(parent, name));
    return held === undefined ? undefined : (held.value ?? "absent");
  }

  /** Keeps what a read answered that reflects all of the log up to `index`. */
  putStatus(status: FileStatus, index: number): void {
    if (this.#current(status.inode, index)) {
      this.#put(this.#statuses, status.inode, { value: status, index });
    }
  }

  putName(parent: InodeId, name: string, inode: InodeId, index: number): void {
    const key = nameKey(parent, name);
    if (this.#current(key, index)) this.#put(this.#names, key, { value: inode, index });
  }

  /** Keeps that a name is absent, which answers tell without an index: unless it changed since `mark`. */
  putAbsence(parent: InodeId, name: string, mark: number): void {
    const key = nameKey(parent, name);
    const { heard } = this.#changed.get(key) ?? this.#floor;
    if (this.#live && heard <= mark) this.#put(this.#names, key, { value: undefined, index: 0 });
  }

  /**
   * Keeps what a command of this client answered from the entry at `index`. Commands of others in the same entry may
   * have come after it, so the feed's word on that entry still counts.
   */
  putResult(status: FileStatus, index: number): void {
    this.invalidateStatus(status.inode, index);
    this.#put(this.#statuses, status.inode, { value: status, index: index - 1 });
  }

  putNameResult(parent: InodeId, name: string, inode: InodeId, index: number): void {
    this.invalidateName(parent, name, index);
    this.#put(this.#names, nameKey(parent, name), { value: inode, index: index - 1 });
  }

  /** A change committed at `index`, by this client or another. */
  invalidateStatus(inode: InodeId, index: number): void {
    this.#note(inode, index);
    const held = this.#statuses.get(inode);
    if (held !== undefined && held.index < index) this.#statuses.delete(inode);
  }

  invalidateName(parent: InodeId, name: string, index: number): void {
    const key = nameKey(parent, name);
    this.#note(key, index);
    const held = this.#names.get(key);
    if (held !== undefined && held.index < index) this.#names.delete(key);
  }

  #fresh<K, T>(map: Map<K, Held<T>>, key: K): Held<T> | undefined {
    const held = map.get(key);
    if (held === undefined) return undefined;
    const nowMs = this.#clock.monotonicMs();
    const ageMs = nowMs - held.readMs;
    const lifetimeMs = this.#live ? feedLifetimeMs : blindLifetimeMs;
    if (ageMs >= lifetimeMs) {
      map.delete(key);
      return undefined;
    }
    const isConfirmed = this.#live && nowMs - this.#confirmedMs < blindLifetimeMs;
    const isAbsence = held.value === undefined;
    return isConfirmed || (ageMs < blindLifetimeMs && !isAbsence) ? held : undefined;
  }

  #put<K, T>(map: Map<K, Held<T>>, key: K, held: { value: T; index: number }): void {
    map.delete(key);
    map.set(key, { ...held, readMs: this.#clock.monotonicMs() });
    if (map.size > this.#capacity) map.delete(map.keys().next().value!);
  }

  #current(key: InodeId | string, index: number): boolean {
    return index >= (this.#changed.get(key) ?? this.#floor).index;
  }

  #note(key: InodeId | string, index: number): void {
    const known = this.#changed.get(key)?.index ?? 0;
    this.#changed.delete(key);
    this.#changed.set(key, { index: Math.max(known, index), heard: ++this.#heard });
    if (this.#changed.size > this.#capacity) {
      const [oldest, at] = this.#changed.entries().next().value!;
      this.#changed.delete(oldest);
      this.#floor = { index: Math.max(this.#floor.index, at.index), heard: at.heard };
    }
  }
}

function nameKey(parent: InodeId, name: string): string {
  return `${String(parent)}/${name}`;
}
