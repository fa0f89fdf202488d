/** Where the bytes of files are, as the masters last said: per inode, one version, in windows of the file. */
import type { Clock } from "../lib/clock.ts";
import { hasCode } from "../lib/errors.ts";
import type { InodeId } from "../lib/ids.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import type { FileLayout, Segment } from "../rpc/namespace.ts";
import type { MetadataCache } from "./metadata-cache.ts";

/** Bytes of a file whose layout is fetched at once. */
export const layoutWindowBytes = 256 * 1024 ** 2;
const capacity = 10_000;
/** Most extents that are asked for at once. */
const mostExtents = 4096;
/** How often another version may come while a layout is put together from several answers, before it is asked for as a whole. */
const mostRestarts = 5;

interface Known {
  readonly version: number;
  readonly windows: Map<number, FileLayout>;
}

interface LayoutsOptions {
  readonly masters: MasterConnection;
  readonly clock: Clock;
  readonly cache: MetadataCache;
  readonly operationTimeoutMs: number;
  readonly recoveryWaitMs: number;
}

export class Layouts {
  readonly #options: LayoutsOptions;
  readonly #masters: MasterConnection;
  readonly #clock: Clock;
  readonly #cache: MetadataCache;
  readonly #operationTimeoutMs: number;
  readonly #recoveryWaitMs: number;
  readonly #known: Map<InodeId, Known>;
  #blockSizeBytes: number | undefined;

  /** `known`: of another one, with which it shares what the masters said. */
  constructor(options: LayoutsOptions, known = new Map<InodeId, Known>()) {
    this.#options = options;
    this.#known = known;
    this.#masters = options.masters;
    this.#clock = options.clock;
    this.#cache = options.cache;
    this.#operationTimeoutMs = options.operationTimeoutMs;
    this.#recoveryWaitMs = options.recoveryWaitMs;
  }

  /** The same layouts, asked for through `masters`: in the name of another caller. */
  through(masters: MasterConnection): Layouts {
    return new Layouts({ ...this.#options, masters }, this.#known);
  }

  /** The cluster's block size in bytes; `inode` is any file. */
  async blockSizeBytes(inode: InodeId): Promise<number> {
    if (this.#blockSizeBytes === undefined) {
      await this.#ask({ inode, offset: 0, length: 0 }, this.#operationTimeoutMs);
    }
    return this.#blockSizeBytes!;
  }

  /** The window around `offset` at `version`, if it is known: for who has opened the file. */
  cached(inode: InodeId, version: number, offset: number): FileLayout | undefined {
    const known = this.#known.get(inode);
    if (known?.version !== version) return undefined;
    return known.windows.get(Math.floor(offset / layoutWindowBytes));
  }

  /**
   * The window around `offset`, linearizable. Of a lost file: waits for its recovery, at most the configured time.
   * `changed` is the fingerprint of an object that is in the store no more: as the store has it now.
   * `opening`: the caller must have the right to read now; otherwise it was found when the file was opened.
   * @throws WeirError `Lost` with what can be done; `PermissionDenied`
   */
  async fetch(
    inode: InodeId,
    offset: number,
    { opening = false, changed }: { opening?: boolean; changed?: string | undefined } = {},
  ): Promise<FileLayout> {
    const window = Math.floor(offset / layoutWindowBytes);
    const endMs =
      this.#clock.monotonicMs() + Math.max(this.#recoveryWaitMs, this.#operationTimeoutMs);
    for (;;) {
      const leftMs = endMs - this.#clock.monotonicMs();
      try {
        const range = { offset: window * layoutWindowBytes, length: layoutWindowBytes };
        const layout = await inPages(range, (page) => {
          const deadlineMs = Math.min(leftMs, this.#operationTimeoutMs);
          return this.#ask({ inode, opened: !opening, changed, ...page }, deadlineMs);
        });
        this.#keep(inode, window, layout);
        return layout;
      } catch (error) {
        // A recovery may take longer than an operation: the next call joins it.
        const waits = hasCode(error, "DeadlineExceeded") && leftMs > this.#operationTimeoutMs;
        if (!waits) throw error;
      }
    }
  }

  /** Forgets the file; `version` spares what is known of that version. */
  forget(inode: InodeId, version?: number): void {
    if (this.#known.get(inode)?.version !== version) this.#known.delete(inode);
  }

  async #ask(
    wanted: {
      inode: InodeId;
      offset: number;
      length: number;
      opened?: boolean;
      changed?: string | undefined;
      most?: number | undefined;
    },
    deadlineMs: number,
  ): Promise<FileLayout> {
    const { askedMs } = this.#cache.mark();
    const { layout, appliedIndex } = await this.#masters.call(
      masterApi.layout,
      { ...wanted, consistency: "linearizable" },
      { deadlineMs, idempotent: true },
    );
    this.#blockSizeBytes = layout.blockSizeBytes;
    this.#cache.putStatus(layout.status, { index: appliedIndex, askedMs });
    return layout;
  }

  #keep(inode: InodeId, window: number, layout: FileLayout): void {
    const { version } = layout.status;
    let known = this.#known.get(inode);
    this.#known.delete(inode);
    if (known?.version !== version) known = { version, windows: new Map() };
    known.windows.set(window, layout);
    this.#known.set(inode, known);
    if (this.#known.size > capacity) this.#known.delete(this.#known.keys().next().value!);
  }
}

/** A part of a file, and the most extents that are to be told of. */
interface Page {
  readonly offset: number;
  readonly length: number;
  readonly most: number | undefined;
}

/** The layout of a range, put together from answers that end where they have told of many extents. */
export async function inPages(
  { offset, length }: { readonly offset: number; readonly length: number },
  ask: (page: Page) => Promise<FileLayout>,
): Promise<FileLayout> {
  for (let restarts = 0; ; restarts++) {
    const most = restarts < mostRestarts ? mostExtents : undefined;
    const first = await ask({ offset, length, most });
    const segments = [...first.segments];
    let last = first;
    while (last.end !== undefined && isSame(first, last)) {
      last = await ask({ offset: last.end, length: offset + length - last.end, most });
      for (const segment of last.segments) segments.push(segment);
    }
    if (isSame(first, last)) return { ...last, segments };
  }
}

/** Whether two parts of a layout fit together. */
function isSame(a: FileLayout, b: FileLayout): boolean {
  return a.status.version === b.status.version && a.ufs?.fingerprint === b.ufs?.fingerprint;
}

/** The segment of `layout` that holds byte `offset`; undefined where nothing was ever written. */
export function segmentAt(layout: FileLayout, offset: number): Segment | undefined {
  const { segments } = layout;
  let low = 0;
  let high = segments.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const segment = segments[middle]!;
    if (segment.fileOffset + segment.length > offset) high = middle;
    else low = middle + 1;
  }
  const segment = segments[low];
  return segment !== undefined && segment.fileOffset <= offset ? segment : undefined;
}

/** Where the next segment behind `offset` starts, at most `end`. */
export function nextSegmentStart(layout: FileLayout, offset: number, end: number): number {
  for (const segment of layout.segments) {
    if (segment.fileOffset > offset) return Math.min(segment.fileOffset, end);
  }
  return end;
}

/** Whether two files' states agree on where the bytes [offset, end) are. */
export function samePlaces(
  before: FileLayout,
  after: FileLayout,
  offset: number,
  end: number,
): boolean {
  return placesOf(before, offset, end) === placesOf(after, offset, end);
}

function placesOf(layout: FileLayout, offset: number, end: number): string {
  const places: string[] = [];
  let previous = "";
  for (const { fileOffset, length, block } of layout.segments) {
    if (fileOffset >= end || fileOffset + length <= offset || block === undefined) continue;
    const from = Math.max(fileOffset, offset);
    // Where byte 0 of the file would lie: equal for neighbours that are cut differently.
    const place = `${String(block.writeId)}.${String(block.blockIndex)}@${String(block.offset - fileOffset)}`;
    if (place !== previous) places.push(`${String(from)}:${place}`);
    previous = place;
  }
  return places.join(" ");
}
