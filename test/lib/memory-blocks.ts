/** Containers in the heap behind the interface of the block client, with workers that can be made to fail. */
import type {
  BlockClient,
  BlockRead,
  ContainerId,
  ContainerWriter,
} from "../../src/blocks/types.ts";
import { containerName } from "../../src/blocks/types.ts";
import { WeirError } from "../../src/lib/errors.ts";
import type { WorkerId } from "../../src/lib/ids.ts";

export class MemoryBlocks implements BlockClient {
  readonly blockSizeBytes: number;
  /** Container name → what was flushed to it. */
  readonly containers = new Map<string, Buffer>();
  readonly down = new Set<WorkerId>();
  /** Calls to a container until one fails, with its worker; 0 never. */
  failAfter = 0;
  failWith: WeirError = new WeirError("Unavailable", "Cannot write: the worker died");

  constructor(blockSizeBytes: number) {
    this.blockSizeBytes = blockSizeBytes;
  }

  async openContainer(
    chain: readonly WorkerId[],
    container: ContainerId,
    options: { resumeAt: number },
  ): Promise<ContainerWriter> {
    const name = containerName(container);
    const held = this.containers.get(name) ?? Buffer.alloc(0);
    if (options.resumeAt !== held.length) {
      throw new WeirError("InvalidArgument", `Cannot resume: it has ${held.length} bytes`);
    }
    const chunks: Buffer[] = [held];
    let length = held.length;
    let ended = false;
    const alive = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.failAfter > 0 && --this.failAfter === 0) ended = true;
      if (ended || chain.some((worker) => this.down.has(worker))) {
        ended = true;
        throw this.failWith;
      }
    };
    await alive();
    return {
      workers: chain,
      get length() {
        return length;
      },
      write: async (chunk) => {
        const copy = Buffer.from(chunk);
        await alive();
        chunks.push(copy);
        length += copy.length;
      },
      flush: async () => {
        await alive();
        this.containers.set(name, Buffer.concat(chunks));
      },
      close: async ({ keep }) => {
        if (!keep) this.containers.delete(name);
      },
      abort: async () => undefined,
    };
  }

  async *read(_worker: WorkerId, request: BlockRead): AsyncGenerator<Uint8Array> {
    const bytes = this.containers.get(containerName(request.container));
    const start = request.blockIndex * this.blockSizeBytes + request.offset;
    if (bytes === undefined || bytes.length < start + request.length) {
      throw new WeirError("NotFound", `Cannot read ${containerName(request.container)}: not here`);
    }
    yield bytes.subarray(start, start + request.length);
  }

  async close(): Promise<void> {
    this.containers.clear();
  }
}
