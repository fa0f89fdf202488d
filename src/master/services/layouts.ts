/** Where a file's bytes are: what the state says of its blocks, joined with what the workers told of their copies. */
import { WeirError } from "../../lib/errors.ts";
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import { unlinkedPath } from "../../lib/store-names.ts";
import type { Extent, FileLayout, Segment, UfsObject } from "../../rpc/namespace.ts";
import { endOf, withSource } from "../state/extents.ts";
import { ufsOpKey } from "../state/keys.ts";
import { type Inode, type UfsOp, ufsOp } from "../state/model.ts";
import { nearestValue } from "../state/path-policies.ts";
import {
  clusterOf,
  containerOf,
  inodeOf,
  isUnmade,
  pathInStore,
  shownSource,
  statusOf,
  ufsPathOf,
  workerOf,
  treeOf,
} from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { extentsOf } from "./listings.ts";
import type { Locations } from "./locations.ts";

export class Layouts {
  readonly #reader: StateReader;
  readonly #locations: Locations;
  readonly #pendingRenames: (of: Inode) => readonly UfsOp[];
  readonly #silentMs: (worker: WorkerId) => number;

  constructor(options: {
    reader: StateReader;
    locations: Locations;
    /** Renames of the inode's mount that the store has not seen yet, in order. */
    pendingRenames: (of: Inode) => readonly UfsOp[];
    silentMs: (worker: WorkerId) => number;
  }) {
    this.#reader = options.reader;
    this.#locations = options.locations;
    this.#pendingRenames = options.pendingRenames;
    this.#silentMs = options.silentMs;
  }

  /**
   * The layout of bytes [offset, offset + length) of a file, cut at its end, and where it would have more than `most`
   * extents, behind these.
   * @throws WeirError `NotFound`, `IsDirectory`, `InvalidArgument` (no file)
   */
  async layoutOf(
    inode: InodeId,
    offset = 0,
    length = Number.MAX_SAFE_INTEGER,
    most?: number,
  ): Promise<FileLayout> {
    const file = inodeOf(this.#reader, inode);
    if (file === undefined) {
      throw new WeirError("NotFound", `Cannot locate inode ${String(inode)}: it does not exist`);
    }
    if (file.kind !== "file") {
      throw new WeirError(
        file.kind === "directory" ? "IsDirectory" : "InvalidArgument",
        `Cannot locate inode ${String(inode)}: it is a ${file.kind}`,
      );
    }
    const { blockSizeBytes } = clusterOf(this.#reader)!;
    const from = Math.min(offset, file.size);
    const asked = Math.min(file.size, from + Math.min(length, file.size - from));
    const ufs = this.#objectOf(file);
    const containerSizes = new Map<WriteId, number>();
    // Everything below but the extents is read in one turn: the answer is of one version.
    const range = { from, to: asked, limit: most };
    const stored = file.form === "source" ? [] : await this.#extentStretches(file, range);
    const last = stored[stored.length - 1];
    const to = last !== undefined && stored.length === most ? endOf(last) : asked;
    const stretches = withSource(stored, shownSource(file), { from, to, blockSizeBytes });
    if (!isSameContent(inodeOf(this.#reader, inode), file)) {
      return this.layoutOf(inode, offset, length, most);
    }
    const segments: Segment[] = [];
    let at = from;
    for (const stretch of stretches) {
      if (stretch.fileOffset > at) segments.push(hole(at, stretch.fileOffset));
      const { writeId, blockIndex } = stretch;
      const size = containerSizes.get(writeId) ?? this.#sizeOf(file, writeId);
      containerSizes.set(writeId, size);
      const blockStart = blockIndex * blockSizeBytes;
      segments.push({
        fileOffset: stretch.fileOffset,
        length: stretch.length,
        block: {
          writeId,
          blockIndex,
          offset: stretch.offset,
          length: Math.max(
            stretch.offset + stretch.length,
            Math.min(blockSizeBytes, size - blockStart),
          ),
        },
        locations: this.#workersWith(inode, stretch, blockStart),
      });
      at = stretch.fileOffset + stretch.length;
    }
    if (at < to) segments.push(hole(at, to));
    return {
      status: statusOf(file),
      blockSizeBytes,
      segments,
      ufs,
      cache: this.#cacheOf(inode),
      end: to < asked ? to : undefined,
    };
  }

  /** False where a policy says that reads leave no copies. */
  #cacheOf(inode: InodeId): false | undefined {
    if ((treeOf(this.#reader)?.transfers ?? 0) === 0) return undefined;
    return nearestValue(this.#reader, inode, "readType") === "NO_CACHE" ? false : undefined;
  }

  /** True when some byte of the file can be read nowhere: neither from a live worker nor from the store. */
  async isMissing(inode: InodeId): Promise<boolean> {
    const file = inodeOf(this.#reader, inode);
    if (file === undefined || file.kind !== "file") return false;
    return isUnmade(this.#reader, file) || hasLostBytes(await this.layoutOf(inode));
  }

  /** The first segment that can be read nowhere makes a layout lost; so does an output that was never made. */
  isLost(layout: FileLayout): boolean {
    const file = inodeOf(this.#reader, layout.status.inode);
    return (file !== undefined && isUnmade(this.#reader, file)) || hasLostBytes(layout);
  }

  async #extentStretches(
    file: Inode,
    range: { readonly from: number; readonly to: number; readonly limit: number | undefined },
  ): Promise<Extent[]> {
    const { from, to } = range;
    if (from >= to) return [];
    const stretches: Extent[] = [];
    for (const extent of await extentsOf(this.#reader, file.id, range)) {
      const start = Math.max(extent.fileOffset, from);
      const end = Math.min(extent.fileOffset + extent.length, to);
      if (start >= end) continue;
      stretches.push({
        fileOffset: start,
        length: end - start,
        writeId: extent.writeId,
        blockIndex: extent.blockIndex,
        offset: extent.offset + (start - extent.fileOffset),
      });
    }
    return stretches;
  }

  #objectOf(file: Inode): UfsObject | undefined {
    if (file.source === undefined) return undefined;
    const path = this.#placeInStore(file);
    if (path === undefined) return undefined;
    return {
      mountId: file.mountId,
      path,
      fingerprint: file.source.fingerprint,
      writeId: file.source.writeId,
    };
  }

  #placeInStore(file: Inode): string | undefined {
    if (file.aside === true) return unlinkedPath(file.id);
    const path = ufsPathOf(this.#reader, file);
    const pending = this.#pendingRenames(file);
    if (path !== undefined || file.removeOp === undefined) {
      return path === undefined ? undefined : pathInStore(path, pending);
    }
    // No name leads to it any more, and the store has yet to hear of that.
    const removal = this.#reader.read(ufsOp, ufsOpKey(file.mountId, file.removeOp));
    if (removal === undefined) return undefined;
    const { action } = removal;
    const before = pending.filter(({ id }) => id < removal.id);
    return pathInStore(action.kind === "rename" ? action.to : action.path, before);
  }

  #sizeOf(file: Inode, writeId: WriteId): number {
    if (file.source?.writeId === writeId) return file.source.size;
    return containerOf(this.#reader, file.id, writeId)?.size ?? 0;
  }

  /** Keepers first, then cached copies; those not heard of lately last. */
  #workersWith(inode: InodeId, stretch: Extent, blockStart: number): WorkerId[] {
    const { writeId, blockIndex, offset, length } = stretch;
    const reach = blockStart + offset + length;
    const keepers = containerOf(this.#reader, inode, writeId)?.keepers ?? [];
    const cached = this.#locations.workersWith(inode, writeId, blockIndex, reach);
    const live = [...new Set([...keepers, ...cached])].filter(
      (worker) => workerOf(this.#reader, worker)?.state === "live",
    );
    const isSilent = (worker: WorkerId) => this.#silentMs(worker) > 3000;
    return [...live.filter((worker) => !isSilent(worker)), ...live.filter(isSilent)];
  }
}

/** Whether a file's bytes are still where they were: persists and compactions move them without another version. */
function isSameContent(now: Inode | undefined, before: Inode): boolean {
  return (
    now?.version === before.version &&
    now.form === before.form &&
    now.source?.writeId === before.source?.writeId &&
    now.cleared?.generation === before.cleared?.generation &&
    now.compaction?.done === before.compaction?.done
  );
}

function hole(from: number, to: number): Segment {
  return { fileOffset: from, length: to - from, block: undefined, locations: [] };
}

function hasLostBytes(layout: FileLayout): boolean {
  return layout.segments.some(
    ({ block, locations }) =>
      block !== undefined && locations.length === 0 && layout.ufs?.writeId !== block.writeId,
  );
}
