import assert from "node:assert/strict";
import fc from "fast-check";
import { WriteLog } from "../../src/client/write-log.ts";

describe("the write log", () => {
  it("gives back what was appended, whole or from any position, until it is dropped", () => {
    const sizes = fc.array(fc.oneof(fc.nat(100), fc.nat(700_000), fc.constant(1 << 20)), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (lengths, seed, dropAt) => {
        const log = new WriteLog();
        const all: Buffer[] = [];
        for (const [index, length] of lengths.entries()) {
          const data = Buffer.alloc(length, `${index}${seed}`);
          assert.equal(log.append(data), log.end - length);
          all.push(data);
        }
        const wanted = Buffer.concat(all);
        assert.equal(log.end, wanted.length);
        const start = wanted.length === 0 ? 0 : dropAt % wanted.length;
        log.dropBefore(start);
        assert(log.start <= start);
        const copy = Buffer.alloc(wanted.length - start);
        log.copy(start, copy);
        assert(copy.equals(wanted.subarray(start)));
        const chunks: Uint8Array[] = [];
        for (let at = start; at < log.end; ) {
          const chunk = log.chunkAt(at, true)!;
          chunks.push(chunk);
          at += chunk.length;
        }
        assert(Buffer.concat(chunks).equals(wanted.subarray(start)));
      }),
      { numRuns: 40 },
    );
  });

  it("gives no chunk that can still grow, unless it is sealed", () => {
    const log = new WriteLog();
    log.append(Buffer.alloc(10, 1));
    assert.equal(log.chunkAt(0, false), undefined);
    const sealed = log.chunkAt(0, true)!;
    log.append(Buffer.alloc(10, 2));
    assert.deepEqual([...sealed], new Array(10).fill(1));
    assert.equal(log.chunkAt(10, true)!.length, 10);
  });
});
