/**
 * Attributes and names as this client last saw them. With the change feed entries live until a change invalidates
 * them, at most `feedLifetimeMs`; without it for `blindLifetimeMs`, and absences are not kept at all.
 *
 * Invariants
 * 1. What is answered was true at some time within the last `blindLifetimeMs`: either it was asked for then, or the feed
 *    was confirmed then. It is checked as it is asked for, so no timer that is late makes it older. An answer may be as
 *    old as its question, however long it was under way.
 * 2. An answer that reflects log index i is not kept when a change of the same key at an index above i is known. What a
 *    command at i answered does not reflect the rest of its entry: it is not kept when a change at i is known either.
 * 3. The number of entries is bounded; the oldest go first.
 */
import type { Clock } from "../lib/clock.ts";
import type { InodeId } from "../lib/ids.ts";
import type { FileStatus } from "../rpc/namespace.ts";
import { type ChangeListener, feedSilenceMs } from "./change-feed.ts";

/** A second bound, should a change ever be missed. */
const feedLifetimeMs = 10_000;
const blindLifetimeMs = feedSilenceMs;

/** What an answer reflects. */
export interface AnswerTime {
  /** Of a read: all changes up to this log index. Of a command: those before its entry, and what it did itself. */
  readonly index: number;
  /** Everything acknowledged before this time of the monotonic clock: that of the question, or earlier. */
  readonly askedMs: number;
}

interface Held<T> {
  readonly value: T;
  /** Changes up to this log index are in it. */
  readonly index: number;
  readonly askedMs: number;
}

/** The moment before a question. */
export interface Mark {
  /** How many changes were heard of. */
  readonly heard: number;
  readonly askedMs: number;
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

  /** To be taken before the question whose answer is put. */
  mark(): Mark {
    return { heard: this.#heard, askedMs: this.#clock.monotonicMs() };
  }

  status(inode: InodeId): FileStatus | undefined {
    return this.#fresh(this.#statuses, inode)?.value;
  }

  /** The inode of a name, "absent", or undefined when it is not known. */
  name(parent: InodeId, name: string): InodeId | "absent" | undefined {
    const held = this.#fresh(this.#names, nameKey(parent, name));
    return held === undefined ? undefined : (held.value ?? "absent");
  }

  /** Keeps what a read answered. */
  putStatus(status: FileStatus, { index, askedMs }: AnswerTime): void {
    if (index < this.#lastChange(status.inode).index) return;
    this.#put(this.#statuses, status.inode, { value: status, index, askedMs });
  }

  putName(parent: InodeId, name: string, inode: InodeId, { index, askedMs }: AnswerTime): void {
    const key = nameKey(parent, name);
    if (index < this.#lastChange(key).index) return;
    this.#put(this.#names, key, { value: inode, index, askedMs });
  }

  /** Keeps that a name is absent, which answers tell without an index: unless it changed since `mark`. */
  putAbsence(parent: InodeId, name: string, { heard, askedMs }: Mark): void {
    const key = nameKey(parent, name);
    if (this.#live && this.#lastChange(key).heard <= heard) {
      this.#put(this.#names, key, { value: undefined, index: 0, askedMs });
    }
  }

  /**
   * Keeps what a command of this client answered. Commands of others in the same entry may have come after it, so the
   * feed's word on that entry counts, whether it comes later or has come before.
   */
  putResult(status: FileStatus, { index, askedMs }: AnswerTime): void {
    const isNews = index > this.#lastChange(status.inode).index;
    this.invalidateStatus(status.inode, index);
    if (!isNews) return;
    this.#put(this.#statuses, status.inode, { value: status, index: index - 1, askedMs });
  }

  putNameResult(parent: InodeId, name: string, inode: InodeId, at: AnswerTime): void {
    const { index, askedMs } = at;
    const key = nameKey(parent, name);
    const isNews = index > this.#lastChange(key).index;
    this.invalidateName(parent, name, index);
    if (!isNews) return;
    this.#put(this.#names, key, { value: inode, index: index - 1, askedMs });
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
    const ageMs = nowMs - held.askedMs;
    const lifetimeMs = this.#live ? feedLifetimeMs : blindLifetimeMs;
    if (ageMs >= lifetimeMs) {
      map.delete(key);
      return undefined;
    }
    const isConfirmed = this.#live && nowMs - this.#confirmedMs < blindLifetimeMs;
    const isAbsence = held.value === undefined;
    return isConfirmed || (ageMs < blindLifetimeMs && !isAbsence) ? held : undefined;
  }

  #put<K, T>(map: Map<K, Held<T>>, key: K, held: Held<T>): void {
    map.delete(key);
    map.set(key, held);
    if (map.size > this.#capacity) map.delete(map.keys().next().value!);
  }

  /** The last change of a key that is known, or that may have been forgotten. */
  #lastChange(key: InodeId | string): { index: number; heard: number } {
    return this.#changed.get(key) ?? this.#floor;
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
