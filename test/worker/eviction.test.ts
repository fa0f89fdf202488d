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

  it("leaves what is pinned as long as there is another way, and takes it last for what must have room", () => {
    const pinnable = fc.record({ bytes: fc.nat(100), kept: fc.boolean(), pinned: fc.boolean() });
    fc.assert(
      fc.property(fc.array(pinnable), fc.nat(500), fc.boolean(), (all, needed, giveWay) => {
        const candidates = all.map((each) => ({ ...each, leases: 0, writers: 0 }));
        const isPinned = (each: (typeof candidates)[number]) => each.pinned;
        const victims = chooseVictims(candidates, needed, { isPinned, giveWay });
        const evictable = candidates.filter(isEvictable);
        const others = evictable.filter((each) => !each.pinned);
        const order = giveWay ? [...others, ...evictable.filter(isPinned)] : others;
        const possible = order.reduce((sum, { bytes }) => sum + bytes, 0);
        if (victims === undefined) assert.ok(possible < needed);
        else assert.deepEqual(victims, order.slice(0, victims.length));
      }),
    );
  });
});
