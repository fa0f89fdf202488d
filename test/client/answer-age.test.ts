/** How old an answer is when it comes counts, on a clock that moves while the masters are asked. */
import assert from "node:assert/strict";
import { InodeClient } from "../../src/client/inode-client.ts";
import { MetadataCache } from "../../src/client/metadata-cache.ts";
import { Session } from "../../src/client/session.ts";
import { loadConfig } from "../../src/lib/config.ts";
import { WeirError } from "../../src/lib/errors.ts";
import { type InodeId, positionOf, rootInodeId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import type { FileStatus } from "../../src/rpc/namespace.ts";
import { MemoryBlocks } from "../lib/memory-blocks.ts";
import { ManualClock } from "../master/services/manual-clock.ts";

const inodes = [21, 22, 23] as InodeId[];
const statusOf = (inode: InodeId) => ({ inode, kind: "file", size: 0, version: 1 }) as FileStatus;

describe("what a client keeps of an answer", () => {
  let clock: ManualClock;
  let cache: MetadataCache;
  let client: InodeClient;
  /** How long every answer is under way. */
  let underWayMs: number;
  /** How often a command gets no answer first. */
  let lost: number;
  let index: number;

  beforeEach(() => {
    clock = new ManualClock();
    cache = new MetadataCache(clock);
    underWayMs = lost = 0;
    index = 5;
    const call = async (method: unknown) => {
      clock.advance(underWayMs);
      const status = statusOf(inodes[0]!);
      if (method === masterApi.list) {
        const entries = inodes.map((inode) => ({ name: `f${inode}`, status: statusOf(inode) }));
        return { appliedIndex: index, more: false, entries };
      }
      if (method === masterApi.layout) {
        return { appliedIndex: index, layout: { status, blockSizeBytes: 1000, segments: [] } };
      }
      if (method === masterApi.openSession) return { session: 1, timeoutMs: 60_000 };
      if (method !== masterApi.mutate) return { appliedIndex: index, status };
      if (lost-- > 0) throw new WeirError("Unavailable", "Cannot say", { outcome: "unknown" });
      return { position: positionOf(++index, 0), results: [{ ok: true, status }] };
    };
    const masters = { call } as unknown as MasterConnection;
    const shared = { masters, clock, logger: silentLogger };
    client = new InodeClient({
      ...shared,
      ...{ cache, blocks: new MemoryBlocks(1000), config: loadConfig({ environment: {} }) },
      session: new Session({ ...shared, clientName: "test", operationTimeoutMs: 10_000 }),
    });
  });

  async function listed(): Promise<void> {
    for await (const { name } of client.list(rootInodeId)) assert.match(name, /^f2/);
  }

  const questions: Readonly<Record<string, () => Promise<unknown>>> = {
    "a status": () => client.getStatus(inodes[0]!),
    "a name": () => client.lookup(rootInodeId, "f21"),
    "a listing": () => listed(),
    "a layout": () => client.layouts.fetch(inodes[0]!, 0),
    "a command": () => client.setAttributes(inodes[0]!, { mode: 0o600 }),
  };
  for (const [what, ask] of Object.entries(questions)) {
    it(`is as old as the question: ${what}`, async () => {
      await questions["a command"]!();
      for (const [ms, known] of [
        [999, true],
        [1000, false],
      ] as const) {
        clock.advance(10_000);
        underWayMs = ms;
        await ask();
        assert.equal(cache.status(inodes[0]!) !== undefined, known, `${ms} ms`);
      }
    });
  }

  it("is as old as the first try of a command that was repeated", async () => {
    await questions["a command"]!();
    clock.advance(10_000);
    [underWayMs, lost] = [600, 1];
    await questions["a command"]!();
    assert.equal(cache.status(inodes[0]!), undefined);
  });

  it("is as old as the question also of entries that are taken late from a listing", async () => {
    let taken = 0;
    for await (const { status } of client.list(rootInodeId)) {
      assert.equal(cache.status(status.inode) !== undefined, taken === 0);
      if (taken++ === 0) clock.advance(1000);
    }
    assert.equal(taken, 3);
  });
});
