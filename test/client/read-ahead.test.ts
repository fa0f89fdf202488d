import assert from "node:assert/strict";
import fc from "fast-check";
import { type Fetch, ReadAhead, ReadBudget } from "../../src/client/read-ahead.ts";
import { WeirError } from "../../src/lib/errors.ts";

const size = 10 * 1024 * 1024;
const file = Buffer.alloc(size);
for (let i = 0; i < size; i += 4) file.writeUInt32LE(i * 7, i);

function source(): { fetch: Fetch; asked: [number, number][]; failing: { next: number } } {
  const asked: [number, number][] = [];
  const failing = { next: 0 };
  const fetch: Fetch = async function* (offset, length, signal) {
    asked.push([offset, length]);
    for (let done = 0; done < length; done += 100_000) {
      await new Promise((resolve) => setImmediate(resolve));
      signal.throwIfAborted();
      if (failing.next > 0 && failing.next-- === 1)
        throw new WeirError("Unavailable", "Cannot: broken");
      yield file.subarray(offset + done, offset + Math.min(done + 100_000, length));
    }
  };
  return { fetch, asked, failing };
}

describe("read-ahead", () => {
  it("answers any reads, at once or in turn, with the bytes of the file", async () => {
    const read = fc.record({
      offset: fc.nat(size - 1),
      length: fc.integer({ min: 1, max: 600_000 }),
      wait: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(read, { maxLength: 12 }), async (reads) => {
        const budget = new ReadBudget(4 * 1024 * 1024);
        const ahead = new ReadAhead(source().fetch, budget);
        const pending: Promise<void>[] = [];
        for (const { offset, length, wait } of reads) {
          const target = Buffer.alloc(Math.min(length, size - offset));
          const done = ahead.read(target, offset, size).then(() => {
            assert(target.equals(file.subarray(offset, offset + target.length)));
          });
          if (wait) await done;
          else pending.push(done);
        }
        await Promise.all(pending);
        ahead.clear();
        assert.equal(budget.usedBytes, 0);
      }),
      { numRuns: 30 },
    );
  });

  it("fetches few large stretches for a sequential reader, each byte once", async () => {
    const { fetch, asked } = source();
    const ahead = new ReadAhead(fetch, new ReadBudget());
    for (let at = 0; at < size; at += 131_072) {
      await ahead.read(Buffer.alloc(131_072), at, size);
    }
    assert(asked.length <= 8, `${asked.length} stretches`);
    assert.equal(
      asked.reduce((sum, [, length]) => sum + length, 0),
      size,
    );
  });

  it("takes reads out of order as the kernel sends them (A4), each byte once", async () => {
    const { fetch, asked } = source();
    const ahead = new ReadAhead(fetch, new ReadBudget());
    for (let at = 0; at < size; at += 4 * 131_072) {
      await Promise.all(
        [2, 0, 3, 1].map((i) => ahead.read(Buffer.alloc(131_072), at + i * 131_072, size)),
      );
    }
    assert.equal(
      asked.reduce((sum, [, length]) => sum + length, 0),
      size,
    );
  });

  it("fetches little for a random read", async () => {
    const { fetch, asked } = source();
    const ahead = new ReadAhead(fetch, new ReadBudget());
    for (const at of [9_000_000, 5_000_000, 1_000_000])
      await ahead.read(Buffer.alloc(4096), at, size);
    for (const [, length] of asked) assert(length <= 256 * 1024);
  });

  it("fails the reads of a stretch that fails, and fetches it anew for the next", async () => {
    const { fetch, failing } = source();
    const ahead = new ReadAhead(fetch, new ReadBudget());
    failing.next = 1;
    await assert.rejects(ahead.read(Buffer.alloc(10), 0, size), { code: "Unavailable" });
    const target = Buffer.alloc(10);
    await ahead.read(target, 0, size);
    assert(target.equals(file.subarray(0, 10)));
  });
});
