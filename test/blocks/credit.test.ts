import assert from "node:assert/strict";
import fc from "fast-check";
import { CreditPool, type CreditShare, SendWindow } from "../../src/blocks/credit.ts";
import { hasCode } from "../../src/lib/errors.ts";

const options = { totalBytes: 1000, floorBytes: 50, streams: 8 };

describe("credit", () => {
  it("never grants more than the pool has, and every stream that holds nothing gets some", async () => {
    const step = fc.record({
      stream: fc.nat(7),
      bytes: fc.integer({ min: 1, max: 600 }),
      take: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const pool = new CreditPool(options);
        const shares: CreditShare[] = [];
        for (let i = 0; i < 8; i++) shares.push(await pool.open({ waitMs: 1 }));
        for (const { stream, bytes, take } of steps) {
          const share = shares[stream]!;
          if (take) {
            const idle = share.held === 0;
            const taken = share.take(bytes);
            assert.ok(taken <= bytes);
            if (idle) assert.ok(taken >= Math.min(bytes, options.floorBytes));
          } else {
            share.give(Math.min(bytes, share.held));
          }
          const held = shares.reduce((sum, each) => sum + each.held, 0);
          assert.equal(pool.heldBytes, held);
          assert.ok(held <= options.totalBytes);
        }
        for (const share of shares) share.close();
        assert.equal(pool.heldBytes, 0);
        const alone = await pool.open({ waitMs: 1 });
        assert.equal(alone.take(10_000), options.totalBytes - 7 * options.floorBytes);
      }),
    );
  });

  it("lets streams beyond the limit in when others end, in their order, or says Busy", async () => {
    const pool = new CreditPool({ ...options, streams: 1 });
    const first = await pool.open({ waitMs: 1 });
    await assert.rejects(pool.open({ waitMs: 1 }), (error) => hasCode(error, "Busy"));
    const order: number[] = [];
    const waiting = [1, 2].map(async (place) => {
      const share = await pool.open({ waitMs: 5000 });
      order.push(place);
      share.close();
    });
    first.close();
    await Promise.all(waiting);
    assert.deepEqual(order, [1, 2]);
    (await pool.open({ waitMs: 1 })).close();
  });

  it("holds a sender until it has credit, and ends its waiting", async () => {
    const window = new SendWindow(10);
    assert.equal(await window.take(5, 20), 10);
    const waiting = window.take(8, 100);
    window.grant(7);
    window.grant(7);
    assert.equal(await waiting, 14);
    const stopped = window.take(1, 1);
    window.abort(new Error("over"));
    await assert.rejects(stopped, /over/);
    await assert.rejects(window.take(1, 1), /over/);
  });
});
