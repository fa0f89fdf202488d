import assert from "node:assert/strict";
import { InodeClient } from "../../src/client/inode-client.ts";
import { MetadataCache } from "../../src/client/metadata-cache.ts";
import { Session } from "../../src/client/session.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { loadConfig } from "../../src/lib/config.ts";
import { WeirError } from "../../src/lib/errors.ts";
import type { InodeId, Position, SessionId, WorkerId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { ClientCommand, CommandResult } from "../../src/rpc/commands.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { MasterConnection } from "../../src/rpc/master-connection.ts";
import type { Extent, FileLayout, FileStatus } from "../../src/rpc/namespace.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { MemoryBlocks } from "../lib/memory-blocks.ts";

const inode = 5 as InodeId;
const blockSizeBytes = 1000;
const keepers = [1, 2] as WorkerId[];
const epoch = { sec: 1, nsec: 0 };

/** One file of a master in the heap, behind a real wire. */
class OneFileMaster {
  status = {
    ...{ inode, kind: "file", mode: 0o644, uid: 0, gid: 0, size: 0, nlink: 1 },
    ...{ atime: epoch, mtime: epoch, ctime: epoch, version: 1, mountId: 1 },
    ...{ persistence: "none", loaded: false, writeType: "MUST_CACHE", mountPoint: false },
  } as FileStatus;
  extents: Extent[] = [];
  lease: WriteId | undefined;
  /** What the next question for the layout meets. */
  layoutFailure: WeirError | undefined;
  #index = 10;
  #rpc!: RpcServer;

  async start(): Promise<number> {
    this.#rpc = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    const rpc = this.#rpc;
    const session = 1 as SessionId;
    rpc.handle(masterApi.openSession, async () => ({ session, timeoutMs: 60_000 }));
    rpc.handle(masterApi.keepSession, async () => ({}));
    rpc.handle(masterApi.closeSession, async () => ({}));
    rpc.handle(masterApi.getStatus, async () => ({
      appliedIndex: this.#index,
      status: this.status,
    }));
    rpc.handle(masterApi.layout, async () => {
      if (this.layoutFailure !== undefined) throw this.layoutFailure;
      return { appliedIndex: this.#index, layout: this.#layout() };
    });
    rpc.handle(masterApi.workers, async () => ({
      appliedIndex: this.#index,
      workers: keepers.map((id) => ({
        ...{ id, uuid: `uuid-${id}`, host: "here", address: "127.0.0.1:1", state: "live" as const },
        ...{ tiers: [], silentMs: 0 },
      })),
    }));
    rpc.handle(masterApi.mutate, async ({ commands }) => {
      const index = ++this.#index;
      const results = commands.map((command, place) => this.#apply(command, index * 1024 + place));
      return { position: (index * 1024) as Position, results };
    });
    return rpc.port;
  }

  async stop(): Promise<void> {
    await this.#rpc.close();
  }

  #apply(command: ClientCommand, position: number): CommandResult {
    if (!isOfContent(command)) throw new Error(`unexpected ${command.kind}`);
    switch (command.kind) {
      case "lease":
        this.lease ??= position as WriteId;
        return { ok: true, writeId: this.lease, status: this.status };
      case "truncate":
        this.extents = this.extents
          .filter((each) => each.fileOffset < command.size)
          .map((each) => ({
            ...each,
            length: Math.min(each.length, command.size - each.fileOffset),
          }));
        return command.size === this.status.size
          ? { ok: true, status: this.status }
          : this.#next(command.size);
      case "commit":
        if (command.writeId !== this.lease) return { ok: false, code: "LeaseLost", detail: "over" };
        if (command.baseVersion !== this.status.version) {
          return { ok: false, code: "VersionConflict", detail: "it moved on" };
        }
        if (command.release) this.lease = undefined;
        if (command.extents.length === 0) return { ok: true, status: this.status };
        // One write of the whole file at a time is all that is written here.
        this.extents = [...command.extents];
        return this.#next(command.size);
      case "releaseLease":
        if (command.writeId === this.lease) this.lease = undefined;
        return { ok: true, status: this.status };
    }
  }

  #next(size: number): CommandResult {
    this.status = { ...this.status, size, version: this.status.version + 1 };
    return { ok: true, status: this.status };
  }

  #layout(): FileLayout {
    const segments = this.extents.map(({ fileOffset, length, writeId, blockIndex, offset }) => ({
      fileOffset,
      length,
      block: { writeId, blockIndex, offset, length: offset + length },
      locations: keepers,
    }));
    return { status: this.status, blockSizeBytes, segments, ufs: undefined };
  }
}

type OfContent = Extract<ClientCommand, { kind: "lease" | "truncate" | "commit" | "releaseLease" }>;

function isOfContent(command: ClientCommand): command is OfContent {
  return ["lease", "truncate", "commit", "releaseLease"].includes(command.kind);
}

describe("the client of a cluster", () => {
  let master: OneFileMaster;
  let blocks: MemoryBlocks;
  let masters: MasterConnection;
  let session: Session;
  let client: InodeClient;

  beforeEach(async () => {
    master = new OneFileMaster();
    const port = await master.start();
    const shared = { clock: systemClock, logger: silentLogger };
    masters = new MasterConnection({ ...shared, masters: [{ host: "127.0.0.1", port }] });
    const operationTimeoutMs = 5000;
    session = new Session({ ...shared, masters, clientName: "test", operationTimeoutMs });
    blocks = new MemoryBlocks(blockSizeBytes);
    const config = loadConfig({ environment: {} });
    client = new InodeClient({
      ...shared,
      ...{ masters, session, blocks, cache: new MetadataCache(systemClock) },
      config: {
        ...config,
        client: {
          ...config.client,
          operationTimeoutMs,
          shortCircuit: false,
          writeType: "MUST_CACHE",
        },
      },
    });
  });

  afterEach(async () => {
    await client.close();
    await session.close();
    masters.close();
    await master.stop();
  });

  async function writeAnew(text: string): Promise<void> {
    const handle = await client.open(inode, { read: false, write: true, truncate: true });
    await handle.write(0, Buffer.from(text));
    await handle.close();
  }

  async function readAll(): Promise<string> {
    const handle = await client.open(inode, { read: true, write: false });
    try {
      return Buffer.from(await handle.read(0, 1000)).toString();
    } finally {
      await handle.close();
    }
  }

  it("loses no write to an emptied file while readers of the same file come and go", async () => {
    await writeAnew("first");
    let writing = true;
    const readers = [1, 2, 3].map(async () => {
      while (writing) {
        await readAll();
        // What is read from the writer alone waits for nothing.
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    try {
      for (let i = 0; i < 100; i++) {
        await writeAnew(`content ${i}`);
        assert.equal(await readAll(), `content ${i}`);
      }
    } finally {
      writing = false;
      await Promise.all(readers);
    }
    assert.equal(master.lease, undefined);
    assert.equal(client.openFiles, 0);
  });

  it("empties a file for several writers at once, and none of them fails", async () => {
    await writeAnew("first");
    for (let i = 0; i < 50; i++) {
      const texts = ["a", "b", "c"].map((name) => `${name}${String(i).padStart(4, "0")}`);
      await Promise.all([...texts.map((text) => writeAnew(text)), readAll(), readAll()]);
      const content = await readAll();
      assert(texts.includes(content), `it is "${content}"`);
    }
    assert.equal(master.lease, undefined);
    assert.equal(client.openFiles, 0);
  });

  it("truncates a file by its name while it is being written", async () => {
    for (let i = 0; i < 50; i++) {
      await Promise.all([writeAnew(`content ${i}`), client.truncate(inode, 0), readAll()]);
    }
    await writeAnew("last");
    assert.equal(await readAll(), "last");
    assert.equal(client.openFiles, 0);
  });

  it("says Lost at once when the masters know that the bytes are gone for good", async () => {
    await writeAnew("first");
    const handle = await client.open(inode, { read: true, write: false });
    blocks.containers.clear();
    master.layoutFailure = new WeirError("Lost", "Cannot rebuild: no lineage makes it");
    await assert.rejects(handle.read(0, 5), { code: "Lost" });
    await handle.close();
  });
});
