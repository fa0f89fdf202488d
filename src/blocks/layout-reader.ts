/**
 * Reads a file by its layout: each stretch from the best place that has it, going on at the byte where a place failed.
 * Clients and workers share it. The layout's types are structural, since this folder knows nothing of the masters.
 */
import { hasCode, WeirError } from "../lib/errors.ts";
import type { InodeId, MountId, WorkerId, WriteId } from "../lib/ids.ts";
import type { BlockClient, BlockRead, ContainerId } from "./types.ts";

/** What is needed of a file's layout (`FileLayout` of the RPC fits). */
export interface Layout {
  readonly status: { readonly inode: InodeId; readonly size: number };
  readonly blockSizeBytes: number;
  readonly segments: readonly LayoutSegment[];
  readonly ufs?:
    | {
        readonly mountId: MountId;
        readonly path: string;
        readonly fingerprint: string;
        readonly writeId: WriteId;
      }
    | undefined;
}

export interface LayoutSegment {
  readonly fileOffset: number;
  readonly length: number;
  /** Absent: a hole. */
  readonly block?:
    | {
        readonly writeId: WriteId;
        readonly blockIndex: number;
        readonly offset: number;
        readonly length: number;
      }
    | undefined;
  readonly locations: readonly WorkerId[];
}

export interface LayoutSources {
  /** Up to `length` bytes that are at hand without a worker, at least one; `undefined` when they are not. */
  readonly local?: (
    container: ContainerId,
    blockIndex: number,
    offset: number,
    length: number,
  ) => Promise<Uint8Array | undefined>;
  readonly client: BlockClient;
  /** Workers that could read from under storage, in the order to prefer. */
  anyWorker(): readonly WorkerId[];
  readonly signal: AbortSignal;
  /** Whether what is read from under storage stays in the worker's tiers; default true. */
  readonly cache?: boolean;
}

const zeros = new Uint8Array(256 * 1024);

/**
 * Bytes [offset, offset + length) of the file, cut at its end, in chunks of any size.
 * @throws WeirError `Unavailable` when no place can serve a stretch; `Corrupt` when all copies are damaged; `Stale` when
 * the store's object is no longer what the layout says: ask for a new layout
 */
export async function* readLayout(
  layout: Layout,
  range: { readonly offset: number; readonly length: number },
  sources: LayoutSources,
): AsyncIterable<Uint8Array> {
  const end = Math.min(range.offset + range.length, layout.status.size);
  let at = range.offset;
  for (const segment of layout.segments) {
    const segmentEnd = segment.fileOffset + segment.length;
    if (at >= end) return;
    if (segmentEnd <= at) continue;
    if (segment.fileOffset > at) {
      const holeEnd = Math.min(segment.fileOffset, end);
      yield* hole(holeEnd - at);
      at = holeEnd;
    }
    const stretchEnd = Math.min(segmentEnd, end);
    if (stretchEnd <= at) continue;
    if (segment.block === undefined) yield* hole(stretchEnd - at);
    else yield* readSegment(layout, segment, { from: at, to: stretchEnd }, sources);
    at = stretchEnd;
  }
  if (at < end) yield* hole(end - at);
}

function* hole(length: number): Iterable<Uint8Array> {
  for (let left = length; left > 0; left -= zeros.length) {
    yield zeros.subarray(0, Math.min(left, zeros.length));
  }
}

async function* readSegment(
  layout: Layout,
  segment: LayoutSegment,
  range: { readonly from: number; readonly to: number },
  sources: LayoutSources,
): AsyncIterable<Uint8Array> {
  const block = segment.block!;
  const { inode } = layout.status;
  const container = { inode, writeId: block.writeId };
  let at = range.from;
  const offsetInBlock = (): number => block.offset + at - segment.fileOffset;

  if (sources.local !== undefined) {
    while (at < range.to) {
      const bytes = await sources.local(
        container,
        block.blockIndex,
        offsetInBlock(),
        range.to - at,
      );
      if (bytes === undefined || bytes.length === 0) break;
      at += bytes.length;
      yield bytes;
    }
  }

  const { ufs } = layout;
  // The store holds one write's blocks; what other writes put into the file is not there yet.
  const source =
    ufs === undefined || ufs.writeId !== block.writeId
      ? undefined
      : {
          mountId: ufs.mountId,
          path: ufs.path,
          fingerprint: ufs.fingerprint,
          blockOffset: block.blockIndex * layout.blockSizeBytes,
        };
  const places: { worker: WorkerId; ufs: BlockRead["ufs"] }[] = segment.locations.map((worker) => ({
    worker,
    // A location may have evicted its copy meanwhile: it then reads the store itself.
    ufs: source,
  }));
  if (source !== undefined) {
    for (const worker of sources.anyWorker()) {
      if (!segment.locations.includes(worker)) places.push({ worker, ufs: source });
    }
  }
  const failures: WeirError[] = [];
  for (const place of places) {
    if (at >= range.to) return;
    sources.signal.throwIfAborted();
    try {
      const request: BlockRead = {
        container,
        blockIndex: block.blockIndex,
        blockLength: block.length,
        offset: offsetInBlock(),
        length: range.to - at,
        ufs: place.ufs,
        cache: sources.cache ?? true,
      };
      for await (const chunk of sources.client.read(place.worker, request, sources)) {
        at += chunk.length;
        yield chunk;
      }
    } catch (error) {
      // Another place may do better; an object that changed is the same for all of them.
      if (!(error instanceof WeirError) || sources.signal.aborted || hasCode(error, "Stale")) {
        throw error;
      }
      failures.push(error);
    }
  }
  if (at >= range.to) return;
  const [first] = failures;
  const corrupt = failures.length > 0 && failures.every((error) => hasCode(error, "Corrupt"));
  throw new WeirError(
    corrupt ? "Corrupt" : "Unavailable",
    `Cannot read bytes ${at} to ${range.to} of inode ${inode}: ${
      first === undefined
        ? "no worker has them"
        : `${places.length} places failed, first: ${first.message}`
    }`,
    { cause: first },
  );
}
