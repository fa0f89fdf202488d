/**
 * The row of segments that a running journal writes to: the active one, sealed ones before it, and the next one, which
 * is prepared in the background: named, opened and announced before it is needed, so that going over to it is one write
 * like any other.
 *
 * Invariants
 * 1. A segment gets its name after its header and its zeros are durable; the directory is synced, and a frame of the
 *    active segment says that the next one exists, before anything is written into that one. So the last segment is
 *    missed when it is gone.
 * 2. The active segment keeps a sector free for that frame.
 * 3. Sealed segments are removed oldest first, each durably before the next, so that what is left has no hole.
 */
import type { Logger } from "../lib/logger.ts";
import type { DiskSpace } from "./disk-space.ts";
import type { JournalFiles, SegmentWriter } from "./files.ts";
import {
  encodeFrame,
  encodeSegmentHeader,
  formatVersion,
  type FramePlace,
  frameBytes,
  type JournalRecord,
  recordBytes,
  type SegmentHeader,
  sectorBytes,
} from "./format.ts";
import type { Opening } from "./opening.ts";
import { nameOfSegment } from "./recovery.ts";

/** Size of the first segment: an empty journal opens at once, each further one is up to four times as long. */
const firstSegmentBytes = 1024 * 1024;
const scratchBytes = 256 * 1024;
const temporaryName = "next.tmp";

export interface Segment {
  readonly name: string;
  readonly header: SegmentHeader;
  /** Byte of the file where the next frame goes. */
  end: number;
  /** Highest index of an entry in it, superseded ones included; 0 without entries. */
  maxIndex: number;
  /** Whether a frame in it says that the next segment exists. */
  isNextAnnounced: boolean;
}

/** A segment that is written, or will be. */
interface OpenSegment {
  readonly segment: Segment;
  readonly writer: SegmentWriter;
}

export class Segments {
  readonly #files: JournalFiles;
  readonly #segmentBytes: number;
  readonly #reservedDiskBytes: number;
  readonly #space: DiskSpace;
  readonly #newSalt: () => number;
  readonly #logger: Logger;
  /** One write is in flight at a time, so most frames are made in the same bytes. */
  readonly #scratch = Buffer.allocUnsafeSlow(scratchBytes);
  readonly #sealed: Segment[] = [];
  #active: OpenSegment | undefined;
  /** Named, synced and open. */
  #next: OpenSegment | undefined;
  #preparing: Promise<void> | undefined;
  #preparingBytes = 0;
  /** Preparing failed, and is not tried again before the need is there. */
  #hasFailed = false;
  #removal: Promise<void> | undefined;

  constructor(options: {
    files: JournalFiles;
    segmentBytes: number;
    reservedDiskBytes: number;
    space: DiskSpace;
    newSalt: () => number;
    logger: Logger;
  }) {
    this.#files = options.files;
    this.#segmentBytes = Math.ceil(options.segmentBytes / sectorBytes) * sectorBytes;
    this.#reservedDiskBytes = options.reservedDiskBytes;
    this.#space = options.space;
    this.#newSalt = options.newSalt;
    this.#logger = options.logger;
  }

  /**
   * Takes what recovery found, and cuts what is torn. The last frame is written once more: if the sync of it
   * failed in a process before this one, the kernel holds it as clean though no disk does.
   */
  async adopt({ sealed, active, unused }: Opening): Promise<void> {
    if (unused !== undefined) {
      const writer = await this.#files.openWriter(unused.segment.name);
      this.#next = { segment: unused.segment, writer };
      await cut(this.#next, unused.tornEnd);
    }
    if (active === undefined) return;
    const { segment, lastFrame, tornEnd } = active;
    this.#sealed.push(...sealed);
    this.#active = { segment, writer: await this.#files.openWriter(segment.name) };
    await this.#active.writer.write(lastFrame, segment.end - lastFrame.length);
    await cut(this.#active, tornEnd);
  }

  get isEmpty(): boolean {
    return this.#active === undefined;
  }

  /** Whether a frame of `bytes` fits behind the last one of the active segment. */
  fits(bytes: number): boolean {
    if (this.#active === undefined) return false;
    const { header, end, isNextAnnounced } = this.#active.segment;
    // What an older version began is left as it is.
    if (header.version < formatVersion) return false;
    return end + bytes + (isNextAnnounced ? 0 : sectorBytes) <= header.sizeBytes;
  }

  /** Whether the segment to go over to is there already. */
  get hasNext(): boolean {
    return this.#next !== undefined;
  }

  /** Whether going over to the next segment takes no room, and leaving this one gives more than the one after that takes. */
  get isWorthLeaving(): boolean {
    return this.hasNext && (this.#active?.segment.header.sizeBytes ?? 0) > firstSegmentBytes;
  }

  /** Records that the next frame of the active segment is to carry besides its own. */
  get announcement(): readonly JournalRecord[] {
    if (this.#next === undefined || this.#active?.segment.isNextAnnounced !== false) return [];
    return [{ type: "next", startOffset: this.#next.segment.header.startOffset }];
  }

  /** Writes a frame of `records`, which fits, and of the announcement in them; resolves when it is durable. */
  async write(records: readonly JournalRecord[], maxIndex: number): Promise<void> {
    const { segment, writer } = this.#active!;
    const frame = encodeFrame(records, placeIn(segment), this.#scratch);
    await writer.write(frame, segment.end);
    segment.end += frame.length;
    segment.maxIndex = Math.max(segment.maxIndex, maxIndex);
    segment.isNextAnnounced ||= records[records.length - 1]?.type === "next";
    if (segment.end * 2 > segment.header.sizeBytes) this.#prepareNext();
  }

  /** Goes over to the next segment, whose first frame holds `head`, the link to this one, and `records`. */
  async roll(
    head: readonly JournalRecord[],
    records: readonly JournalRecord[],
    maxIndex: number,
  ): Promise<void> {
    const first = [...head];
    const previous = this.#active;
    if (previous !== undefined) {
      const { header, end } = previous.segment;
      // Room for the announcement, which may come to it.
      const previousEnd = header.startOffset + end;
      first.push({ type: "link", previousEnd, previousSalt: header.salt });
    }
    first.push(...records);
    let bytes = 0;
    for (const record of first) bytes += recordBytes(record);
    await this.#provideNext(sectorBytes + frameBytes(bytes) + sectorBytes);
    const { announcement } = this;
    if (announcement.length > 0 && previous!.segment.header.version === formatVersion) {
      await this.write(announcement, 0);
      const { header, end } = previous!.segment;
      const previousEnd = header.startOffset + end;
      first[head.length] = { type: "link", previousEnd, previousSalt: header.salt };
    }
    const next = this.#next!;
    this.#next = undefined;
    this.#hasFailed = false;
    this.#active = next;
    if (previous !== undefined) this.#sealed.push(previous.segment);
    await this.write(first, maxIndex);
    await previous?.writer.close();
  }

  /** Waits for a next segment of at least `leastBytes`. */
  async #provideNext(leastBytes: number): Promise<void> {
    this.#prepareNext();
    await this.#preparing;
    if (this.#next !== undefined && this.#next.segment.header.sizeBytes >= leastBytes) return;
    await this.#next?.writer.close();
    this.#next = undefined;
    await this.#prepare(Math.ceil(leastBytes / sectorBytes) * sectorBytes + 64 * sectorBytes);
  }

  #prepareNext(): void {
    if (this.#next !== undefined || this.#preparing !== undefined || this.#hasFailed) return;
    this.#preparing = this.#prepare(this.#nextSize())
      .catch((thrown: unknown) => {
        this.#hasFailed = true;
        // No record was lost with it, so trying again with less, when it is needed, forgets nothing.
        this.#logger.warn({ error: String(thrown) }, "cannot prepare a segment ahead of its use");
      })
      .finally(() => {
        this.#preparing = undefined;
      });
    // Less is free now; a disk that does not answer shows in the writes.
    this.#space.check().catch(() => undefined);
  }

  async #prepare(sizeBytes: number): Promise<void> {
    const files = this.#files;
    const { startOffset: activeOffset, sizeBytes: activeBytes } = this.#active?.segment.header ?? {
      startOffset: 0,
      sizeBytes: 0,
    };
    const startOffset = activeOffset + activeBytes;
    const header = { version: formatVersion, salt: this.#newSalt(), startOffset, sizeBytes };
    const name = nameOfSegment(startOffset);
    this.#preparingBytes = sizeBytes;
    let writer: SegmentWriter | undefined;
    try {
      await files.create(temporaryName, sizeBytes, encodeSegmentHeader(header));
      writer = await files.openWriter(temporaryName);
      // In place of one that was too short for the frame to come, if there is one.
      await files.rename(temporaryName, name);
      await files.syncDirectory();
      const segment = { name, header, end: sectorBytes, maxIndex: 0, isNextAnnounced: false };
      this.#next = { segment, writer };
    } catch (thrown) {
      await writer?.close();
      throw thrown;
    } finally {
      this.#preparingBytes = 0;
    }
  }

  #nextSize(): number {
    const free = this.#space.freeBytes;
    if (free < this.#reservedDiskBytes + this.#segmentBytes) {
      return Math.min(firstSegmentBytes, this.#segmentBytes);
    }
    const previous = this.#active?.segment.header.sizeBytes ?? firstSegmentBytes / 4;
    return Math.min(this.#segmentBytes, previous * 4);
  }

  /** Makes all sealed segments removable: the log began anew in the active one. */
  forgetEntries(): void {
    for (const segment of this.#sealed) segment.maxIndex = 0;
  }

  /** Removes, in the background, sealed segments whose entries all lie at or below `index`, from the oldest on. */
  removeBehind(index: number): void {
    this.#removal = (this.#removal ?? Promise.resolve()).then(async () => {
      while (this.#sealed.length > 0 && this.#sealed[0]!.maxIndex <= index) {
        try {
          await this.#files.remove(this.#sealed[0]!.name);
          await this.#files.syncDirectory();
        } catch (thrown) {
          this.#logger.warn({ error: String(thrown) }, "cannot remove a segment, will try again");
          return;
        }
        this.#sealed.shift();
        // Who waits for room is to know of it soon.
        this.#space.check().catch(() => undefined);
      }
    });
  }

  sizeBytes(): number {
    let total = this.#active?.segment.header.sizeBytes ?? 0;
    total += this.#next?.segment.header.sizeBytes ?? this.#preparingBytes;
    for (const segment of this.#sealed) total += segment.header.sizeBytes;
    return total;
  }

  /** Resolves when nothing is prepared or removed any more. */
  async settle(): Promise<void> {
    await this.#preparing;
    await this.#removal;
  }

  async close(): Promise<void> {
    await this.settle();
    await this.#next?.writer.close();
    await this.#active?.writer.close();
    this.#next = this.#active = undefined;
  }
}

function placeIn({ header, end }: Segment): FramePlace {
  return { offset: header.startOffset + end, salt: header.salt };
}

/** Puts back the zeros behind the last frame, up to byte `tornEnd`. */
async function cut({ segment, writer }: OpenSegment, tornEnd: number): Promise<void> {
  if (tornEnd > segment.end) await writer.write(Buffer.alloc(tornEnd - segment.end), segment.end);
}
