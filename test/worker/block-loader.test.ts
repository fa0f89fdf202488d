import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openUfs } from "../../src/ufs/open.ts";
import type { UnderFileSystem } from "../../src/ufs/types.ts";
import { BlockLoader } from "../../src/worker/block-loader.ts";
import { WorkerBlockService } from "../../src/worker/block-service.ts";
import type { BlockStore } from "../../src/worker/block-store.ts";
import type { ContainerWriters } from "../../src/worker/container-sink.ts";
import {
  blockSizeBytes,
  collect,
  containerOf,
  never,
  openStore,
  readOf,
  temporaryDirectory,
  twoTiers,
  until,
  write,
} from "./tools.ts";

const MiB = 1024 * 1024;
setMaxListeners(0, never);

describe("blocks from under storage", () => {
  let root: { path: string; remove(): Promise<void> };
  let ufs: UnderFileSystem;
  let store: BlockStore;
  let writers: ContainerWriters;
  let service: WorkerBlockService;
  let loader: BlockLoader;
  let storeReads: { offset: number; length: number }[];
  let gate: Promise<void> | undefined;
  const bytes = randomBytes(3 * MiB + 5000);
  let fingerprint: string;

  const start = async (quotas: [number, number]) => {
    ({ store, writers } = await openStore(twoTiers(root.path, quotas)));
    const counted: UnderFileSystem = Object.assign(Object.create(ufs) as UnderFileSystem, {
      read: async function* (path: string, options: Parameters<UnderFileSystem["read"]>[1]) {
        storeReads.push({ offset: options.offset, length: options.length });
        for await (const chunk of ufs.read(path, options)) {
          await gate;
          yield chunk;
        }
      },
    });
    loader = new BlockLoader({
      store,
      mounts: { get: () => Promise.resolve(counted) },
      logger: silentLogger,
    });
    service = new WorkerBlockService(store, loader, writers);
  };
  beforeEach(async () => {
    root = await temporaryDirectory();
    storeReads = [];
    gate = undefined;
    const under = join(root.path, "under");
    await mkdir(under);
    await writeFile(join(under, "file"), bytes);
    ufs = await openUfs({ uri: `file://${under}`, readOnly: false, options: {} });
    fingerprint = (await ufs.stat("file"))!.fingerprint;
  });
  afterEach(async () => {
    await loader.close();
    await store.close();
    await ufs.close();
    await root.remove();
  });
  /** It is here whole, and nobody is at it any more: who reads while the load ends still reads what the load holds. */
  const loaded = (inode: number) => {
    const id = containerOf(inode);
    const isOver = () => store.report(id) !== undefined && store.peek(id)?.writers === 0;
    return until(isOver, `container ${inode} to be loaded`);
  };
  const read = (inode: number, blockIndex: number, offset: number, length: number) => {
    const blockLength = Math.min(blockSizeBytes, bytes.length - blockIndex * blockSizeBytes);
    const range = { blockIndex, offset, length, blockLength };
    const request = readOf(containerOf(inode), range, { path: "file", fingerprint });
    return collect(service.read(request, never));
  };
  const expected = (blockIndex: number, offset: number, length: number) => {
    const at = blockIndex * blockSizeBytes + offset;
    return bytes.subarray(at, at + length);
  };

  it("loads a missing block once for many readers, who get their ranges at once", async () => {
    await start([16 * MiB, MiB]);
    const readers = Array.from({ length: 40 }, (_, i) =>
      read(1, 1, i * 1000, 20_000).then((got) => {
        assert.ok(got.equals(expected(1, i * 1000, 20_000)));
      }),
    );
    await Promise.all(readers);
    await until(() => store.report(containerOf(1)) !== undefined, "the block is published");
    assert.deepEqual(storeReads, [{ offset: MiB, length: MiB }]);
    assert.deepEqual(store.report(containerOf(1)), {
      ...containerOf(1),
      blocks: [1],
      kept: false,
      length: undefined,
    });
    assert.ok((await read(1, 1, 0, MiB)).equals(expected(1, 0, MiB)));
    assert.equal(storeReads.length, 1);
  });

  it("holds sparse blocks, the short last one as well, and serves them after a restart", async () => {
    await start([16 * MiB, MiB]);
    for (const index of [3, 0]) {
      const length = index === 3 ? 5000 : MiB;
      assert.ok((await read(1, index, 0, length)).equals(expected(index, 0, length)));
    }
    await until(() => store.report(containerOf(1))?.blocks.length === 2, "both are published");
    await loader.close();
    await store.close();
    await start([16 * MiB, MiB]);
    assert.deepEqual(store.report(containerOf(1))!.blocks, [0, 3]);
    storeReads = [];
    assert.ok((await read(1, 3, 100, 4900)).equals(expected(3, 100, 4900)));
    assert.equal(storeReads.length, 0);
    assert.equal(store.usage[0]!.usedBytes, MiB + 5000);
  });

  it("reads without caching when the tiers are full of kept data", async () => {
    await start([MiB, 1]);
    await write(writers, containerOf(9), randomBytes(MiB));
    assert.ok((await read(1, 0, 10, 100)).equals(expected(0, 10, 100)));
    assert.deepEqual(storeReads, [{ offset: 10, length: 100 }]);
    assert.equal(store.report(containerOf(1)), undefined);
  });

  it("evicts cached copies for newer ones, within the quota", async () => {
    await start([2 * MiB, 1]);
    for (let inode = 1; inode <= 5; inode++) {
      assert.ok((await read(inode, 0, 0, MiB)).equals(expected(0, 0, MiB)));
      await until(() => store.report(containerOf(inode)) !== undefined, "it is published");
      assert.ok(store.usage[0]!.usedBytes <= 2 * MiB);
    }
    assert.equal(store.report(containerOf(1)), undefined);
    assert.equal(store.evictions, 3);
  });

  it("does not evict a container to make room for its own next block", async () => {
    await start([2 * MiB, 1]);
    for (const index of [0, 1, 2]) {
      assert.ok((await read(1, index, 0, MiB)).equals(expected(index, 0, MiB)));
      await until(() => store.peek(containerOf(1))?.writers === 0, "the load has ended");
    }
    assert.deepEqual(store.report(containerOf(1))!.blocks, [0, 1]);
    assert.equal(store.usage[0]!.usedBytes, 2 * MiB);
  });

  it("moves a cached container to a lower tier when it outgrows its own", async () => {
    await start([2 * MiB, 8 * MiB]);
    for (const index of [0, 1, 2]) {
      assert.ok((await read(1, index, 0, MiB)).equals(expected(index, 0, MiB)));
      await until(() => store.peek(containerOf(1))?.writers === 0, "the load has ended");
    }
    storeReads = [];
    for (const index of [0, 1, 2]) {
      assert.ok((await read(1, index, 0, MiB)).equals(expected(index, 0, MiB)));
    }
    assert.equal(storeReads.length, 0);
    assert.deepEqual(
      store.usage.map(({ usedBytes }) => usedBytes),
      [0, 3 * MiB],
    );
  });

  it("A14: never serves an object that was replaced by one of the same length", async () => {
    await start([16 * MiB, MiB]);
    await writeFile(join(root.path, "under", "file"), randomBytes(bytes.length));
    await assert.rejects(read(1, 0, 0, 1000), (error) => hasCode(error, "Stale"));
    assert.equal(store.report(containerOf(1)), undefined);
    await until(() => store.usage[0]!.usedBytes === 0, "its room is free again");
  });

  it("lets a reader in the middle of a block follow its load", async () => {
    await start([16 * MiB, MiB]);
    let go = (): void => undefined;
    gate = new Promise((resolve) => {
      go = resolve;
    });
    const following = read(1, 0, 500_000, 1000);
    await until(() => storeReads.length === 1, "the load has begun");
    go();
    assert.ok((await following).equals(expected(0, 500_000, 1000)));
    assert.equal(storeReads.length, 1);
  });

  it("falls back to under storage in the middle of a damaged copy: no flipped byte reaches a reader", async () => {
    await start([16 * MiB, MiB]);
    await read(1, 0, 0, MiB);
    await loaded(1);
    const { path } = store.peek(containerOf(1))!;
    const file = await open(path, "r+");
    const at = 700_000;
    await file.write(Buffer.from([(await readFile(path))[at]! ^ 0x10]), 0, 1, at);
    await file.close();
    assert.ok((await read(1, 0, 0, MiB)).equals(expected(0, 0, MiB)));
    await loaded(1);
    assert.ok((await read(1, 0, at - 5, 10)).equals(expected(0, at - 5, 10)));
  });

  it("A15: goes back to under storage when a copy is gone from the disk", async () => {
    await start([16 * MiB, MiB]);
    await read(1, 0, 0, MiB);
    await loaded(1);
    await rm(store.peek(containerOf(1))!.path);
    assert.ok((await read(1, 0, 5, 50)).equals(expected(0, 5, 50)));
    await loaded(1);
    assert.ok((await read(1, 0, 5, 50)).equals(expected(0, 5, 50)));
  });

  it("says NotFound for what is neither here nor in a store", async () => {
    await start([16 * MiB, MiB]);
    const request = readOf(containerOf(1), { length: 10 });
    await assert.rejects(collect(service.read(request, never)), (error) =>
      hasCode(error, "NotFound"),
    );
  });
});
