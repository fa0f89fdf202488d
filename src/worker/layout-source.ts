/** Reading files by their layout on a worker: its own copy first, then the store, then other workers. */
import { type Layout, readLayout } from "../blocks/layout-reader.ts";
import type { BlockClient, BlockRead } from "../blocks/types.ts";
import { hasCode } from "../lib/errors.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { FileLayout } from "../rpc/namespace.ts";

export interface LayoutSourceOptions {
  /** This worker's own side. */
  readonly read: (request: BlockRead, signal: AbortSignal) => AsyncIterable<Uint8Array>;
  readonly client: BlockClient;
  readonly worker: () => WorkerId | undefined;
}

/** What is handed on at once of a block that is here. */
const pieceBytes = 4 * 1024 * 1024;

/**
 * All bytes of the file at the version of its layout.
 * @throws WeirError as `readLayout`
 */
export function readWholeFile(
  layout: FileLayout,
  options: LayoutSourceOptions,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  return readRangeOf(layout, { offset: 0, length: layout.status.size }, options, signal);
}

/** As `readWholeFile`, of a part of the file that the layout has. */
export function readRangeOf(
  layout: FileLayout,
  range: { readonly offset: number; readonly length: number },
  options: LayoutSourceOptions,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  const own = options.worker();
  const { ufs } = layout;
  const lengths = new Map<string, number>();
  for (const { block } of layout.segments) {
    if (block !== undefined) lengths.set(`${block.writeId}.${block.blockIndex}`, block.length);
  }
  const others: Layout = {
    ...layout,
    segments: layout.segments.map((segment) => ({
      ...segment,
      locations: segment.locations.filter((worker) => worker !== own),
    })),
  };
  return readLayout(others, range, {
    client: options.client,
    anyWorker: () => [],
    signal,
    local: async (container, blockIndex, offset, length) => {
      const blockLength = lengths.get(`${container.writeId}.${blockIndex}`);
      if (blockLength === undefined) return undefined;
      const source =
        ufs?.writeId === container.writeId
          ? { ...ufs, blockOffset: blockIndex * layout.blockSizeBytes }
          : undefined;
      const request: BlockRead = {
        container,
        blockIndex,
        blockLength,
        offset,
        length: Math.min(length, pieceBytes),
        ufs: source,
        cache: true,
      };
      const parts: Uint8Array[] = [];
      try {
        for await (const part of options.read(request, signal)) parts.push(part);
      } catch (error) {
        signal.throwIfAborted();
        if (hasCode(error, "Stale")) throw error;
      }
      // What came before an error is good; the rest is looked for elsewhere.
      return parts.length === 0 ? undefined : Buffer.concat(parts);
    },
  });
}
