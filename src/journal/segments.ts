/**
 * The row of segments that a running journal writes to: the active one at its end, sealed ones before it, and a spare
 * that is prepared in the background before it is needed.
 *
 * Invariants
 * 1. A segment gets its name only after its header and first frame are durable; the directory is synced before the
 *    segment counts.
 * 2. Sealed segments are removed oldest first, so that what is left is always without a hole.
 */
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import type { Logger } from "../lib/logger.ts";
import type { DiskSpace } from "./disk-space.ts";
import {
  encodeFrame,
  encodeSegmentHeader,
  type JournalRecord,
  type SegmentHeader,
  sectorBytes,
} from "./format.ts";
import { nameOfSegment } from "./recovery.ts";
import {
  type OpenSegmentWriter,
  prepareSegment,
  type SegmentWriter,
  syncDirectory,
} from "./segment-file.ts";

/** Size of the first segment: an empty journal opens at once, each further one is up to four times as long. */
const firstSegmentBytes = 1024 * 1024;

export interface Segment {
  readonly path: string;
  readonly header: SegmentHeader;
  /** Byte of the file where the next frame goes. */
  end: number;
  /** Highest index of an entry in it, superseded ones included; 0 without entries. */
  maxIndex: number;
}

export class Segments {
  readonly #directory: string;
  readonly #segmentBytes: number;
  readonly #reservedDiskBytes: number;
  readonly #space: DiskSpace;
  readonly #openWriter: OpenSegmentWriter;
  readonly #logger: Logger;
  readonly #sealed: Segment[] = [];
  #active: { readonly segment: Segment; readonly writer: SegmentWriter } | undefined;
  #spare: { readonly path: string; readonly sizeBytes: number; ready: Promise<void> } | undefined;
  #spareCount = 0;
  #removal: Promise<void> = Promise.resolve();

  constructor(options: {
    directory: string;
    segmentBytes: number;
    reservedDiskBytes: number;
    space: DiskSpace;
    openWriter: OpenSegmentWriter;
    logger: Logger;
  }) {
    this.#directory = options.directory;
    this.#segmentBytes = Math.ceil(options.segmentBytes / sectorBytes) * sectorBytes;
    this.#reservedDiskBytes = options.reservedDiskBytes;
    this.#space = options.space;
    this.#openWriter = options.openWriter;
    this.#logger = options.logger;
  }

  /** Takes what recovery found; the last one goes on being written, behind its `end`. */
  async adopt(segments: readonly Segment[], tornEnd: number): Promise<void> {
    const last = segments[segments.length - 1];
    if (last === undefined) return;
    this.#sealed.push(...segments.slice(0, -1));
    const writer = await this.#openWriter(last.path);
    this.#active = { segment: last, writer };
    if (tornEnd > last.end) await writer.write(Buffer.alloc(tornEnd - last.end), last.end);
  }

  get isEmpty(): boolean {
    return this.#active === undefined;
  }

  /** Whether a frame of `bytes` fits behind the last one of the active segment. */
  fits(bytes: number): boolean {
    return (
      this.#active !== undefined &&
      this.#active.segment.end + bytes <= this.#active.segment.header.sizeBytes
    );
  }

  /** Where the next frame goes, for encoding it. */
  place(): { offset: number; salt: number } {
    const { header, end } = this.#active!.segment;
    return { offset: header.startOffset + end, salt: header.salt };
  }

  /** Writes a frame made for `place()`; resolves when it is durable. */
  async write(frame: Uint8Array, maxIndex: number): Promise<void> {
    const { segment, writer } = this.#active!;
    await writer.write(frame, segment.end);
    segment.end += frame.length;
    segment.maxIndex = Math.max(segment.maxIndex, maxIndex);
    if (segment.end * 2 > segment.header.sizeBytes) this.#prepareSpare();
  }

  /** Seals the active segment and starts the next one with `head` as its first frame and room for `roomBytes` more. */
  async roll(head: readonly JournalRecord[], roomBytes: number): Promise<void> {
    const previous = this.#active;
    const salt = randomBytes(4).readUInt32BE();
    const startOffset =
      previous === undefined
        ? 0
        : previous.segment.header.startOffset + previous.segment.header.sizeBytes;
    const previousEnd =
      previous === undefined ? 0 : previous.segment.header.startOffset + previous.segment.end;
    const frame = encodeFrame(head, { offset: startOffset + sectorBytes, salt });
    const end = sectorBytes + frame.length;
    const spare = await this.#takeSpare(end + roomBytes);
    const header = { salt, startOffset, sizeBytes: spare.sizeBytes, previousEnd };
    const writer = await this.#openWriter(spare.path);
    await writer.write(Buffer.concat([encodeSegmentHeader(header), frame]), 0);
    const path = join(this.#directory, nameOfSegment(startOffset));
    await rename(spare.path, path);
    await syncDirectory(this.#directory);
    this.#active = { segment: { path, header, end, maxIndex: 0 }, writer };
    if (previous !== undefined) {
      this.#sealed.push(previous.segment);
      await previous.writer.close();
    }
    await this.#space.check();
  }

  #prepareSpare(): void {
    if (this.#spare !== undefined) return;
    const sizeBytes = this.#nextSize();
    const path = join(this.#directory, `spare-${this.#spareCount++}.tmp`);
    const ready = prepareSegment(path, sizeBytes);
    // Whoever takes the spare sees the failure; until then it is nobody's.
    ready.catch(() => undefined);
    this.#spare = { path, sizeBytes, ready };
  }

  #nextSize(): number {
    const free = this.#space.freeBytes;
    if (free < this.#reservedDiskBytes + this.#segmentBytes) {
      return Math.min(firstSegmentBytes, this.#segmentBytes);
    }
    const previous = this.#active?.segment.header.sizeBytes ?? firstSegmentBytes / 4;
    return Math.min(this.#segmentBytes, previous * 4);
  }

  async #takeSpare(leastBytes: number): Promise<{ path: string; sizeBytes: number }> {
    this.#prepareSpare();
    const spare = this.#spare!;
    this.#spare = undefined;
    try {
      await spare.ready;
      if (spare.sizeBytes >= leastBytes) return spare;
      await rm(spare.path, { force: true });
    } catch (thrown) {
      // Preparing writes no record, so trying again with less forgets nothing.
      this.#logger.warn({ error: String(thrown) }, "cannot prepare a segment, trying a short one");
    }
    const sizeBytes = Math.ceil(leastBytes / sectorBytes) * sectorBytes + 64 * sectorBytes;
    const path = join(this.#directory, `spare-${this.#spareCount++}.tmp`);
    await prepareSegment(path, sizeBytes);
    return { path, sizeBytes };
  }

  /** Makes all sealed segments removable: the log began anew in the active one. */
  forgetEntries(): void {
    for (const segment of this.#sealed) segment.maxIndex = 0;
  }

  /** Removes sealed segments whose entries all lie at or below `index`, from the oldest on. */
  removeBehind(index: number): Promise<void> {
    this.#removal = this.#removal.then(async () => {
      while (this.#sealed.length > 0 && this.#sealed[0]!.maxIndex <= index) {
        try {
          await rm(this.#sealed[0]!.path);
        } catch (thrown) {
          this.#logger.warn({ error: String(thrown) }, "cannot remove a segment, will try again");
          return;
        }
        this.#sealed.shift();
      }
    });
    return this.#removal;
  }

  sizeBytes(): number {
    let total = (this.#active?.segment.header.sizeBytes ?? 0) + (this.#spare?.sizeBytes ?? 0);
    for (const segment of this.#sealed) total += segment.header.sizeBytes;
    return total;
  }

  async close(): Promise<void> {
    await this.#removal;
    if (this.#spare !== undefined) {
      await this.#spare.ready.catch(() => undefined);
      await rm(this.#spare.path, { force: true });
      this.#spare = undefined;
    }
    await this.#active?.writer.close();
    this.#active = undefined;
  }
}
