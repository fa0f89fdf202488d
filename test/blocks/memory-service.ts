/** A worker's side in memory, for tests of the protocol: containers as growing byte arrays. */
import { WeirError } from "../../src/lib/errors.ts";
import {
  type BlockRead,
  type BlockService,
  type ContainerId,
  type ContainerSink,
  containerName,
} from "../../src/blocks/types.ts";

export const pieceBytes = 256 * 1024;

export class MemoryBlockService implements BlockService {
  readonly containers = new Map<string, { bytes: Buffer; flushed: number }>();
  /** Reads that run now. */
  active = 0;
  /** Bytes that were asked of this side so far. */
  yieldedBytes = 0;
  /** Signals of reads that were cancelled. */
  cancelled = 0;
  appendDelay: Promise<void> | undefined;

  put(container: ContainerId, bytes: Buffer): void {
    this.containers.set(containerName(container), { bytes, flushed: bytes.length });
  }

  async *read(request: BlockRead, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const found = this.containers.get(containerName(request.container));
    if (found === undefined) {
      throw new WeirError("NotFound", `Cannot read "${containerName(request.container)}"`);
    }
    this.active += 1;
    try {
      const end = request.offset + request.length;
      for (let at = request.offset; at < end; at += pieceBytes) {
        signal.throwIfAborted();
        const piece = found.bytes.subarray(at, Math.min(end, at + pieceBytes));
        this.yieldedBytes += piece.length;
        yield piece;
      }
    } finally {
      this.active -= 1;
      if (signal.aborted) this.cancelled += 1;
    }
  }

  async openContainer(id: ContainerId, { resumeAt }: { resumeAt: number }): Promise<ContainerSink> {
    const name = containerName(id);
    const container = this.containers.get(name) ?? { bytes: Buffer.alloc(0), flushed: 0 };
    if (container.bytes.length !== resumeAt) {
      throw new WeirError("InvalidArgument", `"${name}" has ${container.bytes.length} bytes`);
    }
    this.containers.set(name, container);
    const parts: Uint8Array[] = [];
    let length = resumeAt;
    const flush = async (): Promise<void> => {
      container.bytes = Buffer.concat([container.bytes, ...parts.splice(0)]);
      container.flushed = container.bytes.length;
    };
    return {
      get length() {
        return length;
      },
      append: async (chunk) => {
        await this.appendDelay;
        parts.push(Buffer.from(chunk));
        length += chunk.length;
      },
      flush,
      close: async ({ keep }) => {
        if (keep) await flush();
        else this.containers.delete(name);
      },
      abort: async () => {
        parts.length = 0;
      },
    };
  }
}
