import assert from "node:assert/strict";
import fc from "fast-check";
import { type Layout, type LayoutSegment, readLayout } from "../../src/blocks/layout-reader.ts";
import type { BlockClient } from "../../src/blocks/types.ts";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import type { InodeId, MountId, WorkerId, WriteId } from "../../src/lib/ids.ts";

const blockSizeBytes = 100;
const writeId = 9 as WriteId;
const w = (id: number): WorkerId => id as WorkerId;
const content = Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 7) % 251));

/** Workers that hold everything; those of `broken` stop with an error after so many bytes. */
function fakeClient(
  broken: Record<number, number>,
  code: "Unavailable" | "Corrupt" = "Unavailable",
) {
  const asked: { worker: WorkerId; offset: number; ufs: boolean }[] = [];
  const client: BlockClient = {
    async *read(worker, request) {
      asked.push({ worker, offset: request.offset, ufs: request.ufs !== undefined });
      const from = request.blockIndex * blockSizeBytes + request.offset;
      const good = Math.min(request.length, broken[worker] ?? Number.POSITIVE_INFINITY);
      if (good > 0) yield content.subarray(from, from + good);
      if (good < request.length) throw new WeirError(code, `worker ${worker} broke`);
    },
    openContainer: () => Promise.reject(new Error("not used")),
    close: () => Promise.resolve(),
  };
  return { client, asked };
}

function layoutOf(size: number, locations: WorkerId[], holes: number[], ufs = false): Layout {
  const segments: LayoutSegment[] = [];
  for (let index = 0; index * blockSizeBytes < size; index++) {
    const fileOffset = index * blockSizeBytes;
    const length = Math.min(blockSizeBytes, size - fileOffset);
    const block = { writeId, blockIndex: index, offset: 0, length };
    const hole = holes.includes(index);
    segments.push({ fileOffset, length, block: hole ? undefined : block, locations });
  }
  return {
    status: { inode: 3 as InodeId, size },
    blockSizeBytes,
    segments,
    ...(ufs ? { ufs: { mountId: 1 as MountId, path: "a", fingerprint: "f", writeId } } : {}),
  };
}

async function read(
  layout: Layout,
  range: { offset: number; length: number },
  client: BlockClient,
  anyWorker: WorkerId[] = [],
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const signal = new AbortController().signal;
  for await (const part of readLayout(layout, range, {
    client,
    anyWorker: () => anyWorker,
    signal,
  })) {
    parts.push(Buffer.from(part));
  }
  return Buffer.concat(parts);
}

describe("reading by layout", () => {
  it("returns exactly the asked range, holes as zeros, cut at the end of the file", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(900),
        fc.nat(1000),
        fc.nat(1000),
        fc.array(fc.nat(9)),
        async (size, offset, length, holes) => {
          const expected = Buffer.from(content.subarray(0, size));
          for (const index of holes) {
            expected.fill(0, Math.min(size, index * 100), Math.min(size, index * 100 + 100));
          }
          const { client } = fakeClient({});
          const got = await read(layoutOf(size, [w(1)], holes), { offset, length }, client);
          assert.ok(got.equals(expected.subarray(offset, offset + length)));
        },
      ),
      { numRuns: 200 },
    );
  });

  it("goes on at the next copy at the byte where one failed", async () => {
    const { client, asked } = fakeClient({ 1: 30 });
    const layout = layoutOf(100, [w(1), w(2)], []);
    assert.ok(
      (await read(layout, { offset: 10, length: 80 }, client)).equals(content.subarray(10, 90)),
    );
    assert.deepEqual(
      asked.map(({ worker, offset }) => [worker, offset]),
      [
        [1, 10],
        [2, 40],
      ],
    );
  });

  it("asks any worker for the store's object when no copy is left", async () => {
    const { client, asked } = fakeClient({ 1: 0 });
    const layout = layoutOf(250, [w(1)], [], true);
    assert.ok(
      (await read(layout, { offset: 0, length: 250 }, client, [w(1), w(7)])).equals(
        content.subarray(0, 250),
      ),
    );
    assert.ok(asked.some(({ worker, ufs }) => worker === w(7) && ufs));
  });

  it("says Unavailable when nobody can serve, Corrupt when all copies are damaged", async () => {
    const layout = layoutOf(100, [w(1), w(2)], []);
    const range = { offset: 0, length: 100 };
    await assert.rejects(read(layout, range, fakeClient({ 1: 0, 2: 5 }).client), (error) =>
      hasCode(error, "Unavailable"),
    );
    await assert.rejects(
      read(layout, range, fakeClient({ 1: 0, 2: 5 }, "Corrupt").client),
      (error) => hasCode(error, "Corrupt"),
    );
    await assert.rejects(read(layoutOf(100, [], []), range, fakeClient({}).client), (error) =>
      hasCode(error, "Unavailable"),
    );
  });
});
