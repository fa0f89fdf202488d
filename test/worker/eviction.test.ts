import assert from "node:assert/strict";
import fc from "fast-check";
import { chooseVictims, isEvictable } from "../../src/worker/eviction.ts";

const candidate = fc.record({
  bytes: fc.nat(100),
  kept: fc.boolean(),
  leases: fc.nat(1),
  writers: fc.nat(1),
});

describe("eviction", () => {
  it("never chooses what is kept, leased or being written, and frees enough or nothing", () => {
    fc.assert(
      fc.property(fc.array(candidate), fc.nat(500), (candidates, needed) => {
        const victims = chooseVictims(candidates, needed);
        const evictable = candidates.filter(isEvictable);
        const possible = evictable.reduce((sum, { bytes }) => sum + bytes, 0);
        if (victims === undefined) {
          assert.ok(possible < needed);
          return;
        }
        assert.ok(victims.every(isEvictable));
        assert.ok(victims.reduce((sum, { bytes }) => sum + bytes, 0) >= needed);
        // The oldest ones, and none too many.
        assert.deepEqual(victims, evictable.slice(0, victims.length));
        const without = victims.slice(0, -1).reduce((sum, { bytes }) => sum + bytes, 0);
        assert.ok(victims.length === 0 || without < needed);
      }),
    );
  });
});
