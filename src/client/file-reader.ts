/**
 * Reads one version of a file: from local containers where the storage is shared, else from workers, with read-ahead.
 * When no source answers it asks the masters anew, until the deadline: they may know other keepers, or wait for a
 * recovery.
 *
 * Invariants
 * 1. All bytes of one `readInto` are of one version.
 * 2. The version moves on only by `adopt`, or when the layout of a part not read so far is no longer that of the
 *    version; a read whose blocks are gone with their version is `Stale`, unless nothing was read before: then it is one
 *    of the next version.
 */
import { readLayout } from "../blocks/layout-reader.ts";
import type { BlockClient, ContainerId } from "../blocks/types.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { FileLayout, FileStatus, Segment } from "../rpc/namespace.ts";
import {
  type Layouts,
  layoutWindowBytes,
  nextSegmentStart,
  samePlaces,
  segmentAt,
} from "./layouts.ts";
import type { LocalStorage } from "./local-storage.ts";
import { ReadAhead, type ReadBudget } from "./read-ahead.ts";
import type { Workers } from "./workers.ts";

/** Windows of a file that are located ahead: of one that is larger a reader moves on with the version. */
const mostWindows = 256;

/** What all readers of a client share. */
export interface ReadSources {
  readonly layouts: Layouts;
  readonly local: LocalStorage;
  readonly workers: Workers;
  readonly blocks: BlockClient;
  readonly budget: ReadBudget;
  readonly clock: Clock;
  readonly operationTimeoutMs: number;
  readonly recoveryWaitMs: number;
}

export class FileReader {
  readonly #sources: ReadSources;
  readonly #readAhead: ReadAhead;
  #status: FileStatus;
  /** Where the bytes of the version are, by window: known for as long as it is read, whatever the masters say by then. */
  readonly #windows = new Map<number, FileLayout>();
  #closed = false;
  /** Bytes of the version were given away: those of another do not belong to them. */
  #hasRead = false;

  constructor(sources: ReadSources, status: FileStatus) {
    this.#sources = sources;
    this.#status = status;
    this.#readAhead = new ReadAhead(
      (offset, length, signal) => this.#fetch(offset, length, signal),
      sources.budget,
    );
  }

  get status(): FileStatus {
    return this.#status;
  }

  /** Goes on with another version, or with newer attributes of the same one. */
  adopt(status: FileStatus): void {
    if (status.version !== this.#status.version) {
      this.#readAhead.clear();
      this.#hasRead = false;
      this.#windows.clear();
    }
    this.#status = status;
  }

  /** Whether it is known where all bytes of the version are: then it can be read on when the file has another one. */
  get isLocated(): boolean {
    for (let at = 0; at < this.#status.size; at += layoutWindowBytes) {
      if (this.#known(at) === undefined) return false;
    }
    return true;
  }

  /** Learns where all bytes of the version are, as long as it is the file's, of the first `mostWindows` windows. */
  async locateAll(): Promise<void> {
    const { version, size } = this.#status;
    const end = Math.min(size, mostWindows * layoutWindowBytes);
    for (let at = 0; at < end && !this.#closed; at += layoutWindowBytes) {
      if (this.#known(at) !== undefined) continue;
      const layout = await this.#sources.layouts.fetch(this.#status.inode, at);
      if (layout.status.version !== version || this.#status.version !== version) return;
      this.#windows.set(at / layoutWindowBytes, layout);
    }
  }

  /** Fills `target` from `offset` and answers the number of bytes: fewer only at the end of the file. */
  async readInto(target: Uint8Array, offset: number): Promise<number> {
    const { clock, operationTimeoutMs, recoveryWaitMs } = this.#sources;
    const startMs = clock.monotonicMs();
    let endMs = startMs + operationTimeoutMs;
    for (let attempt = 0; ; attempt++) {
      const { version, size } = this.#status;
      const length = Math.max(0, Math.min(target.length, size - offset));
      if (length === 0) return 0;
      try {
        await this.#readOnce(target.subarray(0, length), offset);
        this.#hasRead = true;
        if (this.#status.version === version) return length;
      } catch (error) {
        if (!mayHeal(error) || this.#closed) throw error;
        if (clock.monotonicMs() >= endMs) throw error;
        if (attempt > 0) await sleep(Math.min(20 * 2 ** attempt, 500));
        const askedMs = clock.monotonicMs();
        await this.#locateAnew(offset, offset + length, error);
        // A recovery that was waited for does not count against the read.
        endMs = Math.min(
          endMs + clock.monotonicMs() - askedMs,
          startMs + operationTimeoutMs + recoveryWaitMs,
        );
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#readAhead.clear();
  }

  async #readOnce(target: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const position = offset + done;
      const layout = this.#known(position) ?? (await this.#locate(position));
      const windowEnd = Math.min(
        this.#status.size,
        (Math.floor(position / layoutWindowBytes) + 1) * layoutWindowBytes,
      );
      const left = Math.min(target.length - done, windowEnd - position);
      // The version moved on to a shorter one: the caller starts over.
      if (left <= 0) return;
      const segment = segmentAt(layout, position);
      if (segment?.block === undefined) {
        const end =
          segment === undefined
            ? nextSegmentStart(layout, position, windowEnd)
            : segment.fileOffset + segment.length;
        const length = Math.min(left, end - position);
        target.fill(0, done, done + length);
        done += length;
        continue;
      }
      const length = Math.min(left, segment.fileOffset + segment.length - position);
      const part = target.subarray(done, done + length);
      if (await this.#readLocally(layout, segment, part, position)) {
        done += length;
        continue;
      }
      // Not here: everything up to the end of the range comes through the read-ahead, which crosses segments.
      await this.#readAhead.read(target.subarray(done, done + left), position, windowEnd);
      done += left;
    }
  }

  async #readLocally(
    layout: FileLayout,
    segment: Segment,
    target: Uint8Array,
    position: number,
  ): Promise<boolean> {
    const block = segment.block!;
    const { local, workers } = this.#sources;
    const container: ContainerId = { inode: layout.status.inode, writeId: block.writeId };
    const start =
      block.blockIndex * layout.blockSizeBytes + block.offset + position - segment.fileOffset;
    const end = start + target.length;
    const open = local.opened(container);
    if (open !== undefined && open.length >= end && (await open.read(target, start))) return true;
    // A store's file may have been loaded by any worker since the layout was made.
    const candidates =
      layout.ufs === undefined
        ? segment.locations
        : [...segment.locations, ...workers.liveNow().map((worker) => worker.id)];
    const leased = await local.open(container, candidates, end);
    return leased !== undefined && (await leased.read(target, start));
  }

  async *#fetch(offset: number, length: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const layout = this.#known(offset) ?? (await this.#locate(offset));
    const { workers, blocks } = this.#sources;
    const live = await workers.live();
    const order = await this.#preferred(
      layout,
      live.map((worker) => worker.id),
    );
    yield* readLayout(
      layout,
      { offset, length },
      { client: blocks, anyWorker: () => order, signal, cache: layout.cache ?? true },
    );
  }

  /** Live workers for what must come from the store: those whose storage is shared first, then spread by inode. */
  async #preferred(layout: FileLayout, live: WorkerId[]): Promise<WorkerId[]> {
    if (live.length < 2) return live;
    const turn = layout.status.inode % live.length;
    const spread = [...live.slice(turn), ...live.slice(0, turn)];
    const { workers, local } = this.#sources;
    const trusted = spread.filter((worker) => !workers.distrusts(worker));
    const shared = await Promise.all(trusted.map((worker) => local.shares(worker)));
    return [
      ...trusted.filter((_, index) => shared[index]),
      ...trusted.filter((_, index) => !shared[index]),
      ...spread.filter((worker) => workers.distrusts(worker)),
    ];
  }

  #known(position: number): FileLayout | undefined {
    const window = Math.floor(position / layoutWindowBytes);
    const own = this.#windows.get(window);
    if (own !== undefined) return own;
    const { inode, version } = this.#status;
    const cached = this.#sources.layouts.cached(inode, version, position);
    if (cached !== undefined) this.#windows.set(window, cached);
    return cached;
  }

  /** The layout around `position`; the version moves on when it is no longer the one that the masters have. */
  async #locate(position: number): Promise<FileLayout> {
    const layout = await this.#sources.layouts.fetch(this.#status.inode, position);
    if (layout.status.version !== this.#status.version) this.adopt(layout.status);
    this.#windows.set(Math.floor(position / layoutWindowBytes), layout);
    return layout;
  }

  /** After all sources failed: asks the masters where the bytes [offset, end) are now. */
  async #locateAnew(offset: number, end: number, failure: unknown): Promise<void> {
    const { layouts, workers } = this.#sources;
    await workers.refresh().catch(() => undefined);
    const before = this.#known(offset);
    const changed = isOfChangedObject(failure) ? before?.ufs?.fingerprint : undefined;
    const after = await layouts.fetch(this.#status.inode, offset, { changed });
    const window = Math.floor(offset / layoutWindowBytes);
    if (after.status.version === this.#status.version) {
      this.#windows.set(window, after);
      return;
    }
    if (this.#hasRead && before !== undefined && !samePlaces(before, after, offset, end)) {
      throw new WeirError(
        "Stale",
        `Cannot read version ${String(this.#status.version)} of inode ${String(this.#status.inode)}: it was replaced, and its blocks are gone`,
      );
    }
    this.adopt(after.status);
    this.#windows.set(window, after);
  }
}

/** Whether a worker found another object in the store than the layout said, or none. */
function isOfChangedObject(failure: unknown): boolean {
  if (hasCode(failure, "Stale", "NotFound")) return true;
  return failure instanceof WeirError && hasCode(failure.cause, "NotFound");
}

/** Failures that another source, or another layout, may get over. */
function mayHeal(error: unknown): boolean {
  return hasCode(
    error,
    "Unavailable",
    "NotFound",
    "Corrupt",
    "DeadlineExceeded",
    "Stale",
    "Busy",
    "ProtocolError",
  );
}
