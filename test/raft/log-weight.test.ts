import assert from "node:assert/strict";
import fc from "fast-check";
import { LogWeight } from "../../src/raft/host/log-weight.ts";
import type { Index } from "../../src/raft/types.ts";

describe("raft host: weight of the log", () => {
  it("keeps what is asked for and little more, whatever the sizes, and never goes beyond a limit or back", () => {
    const keptBytes = 1600;
    const sizes = fc.array(fc.record({ bytes: fc.nat(400), limit: fc.nat(300) }), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(sizes, (entries) => {
        const weight = new LogWeight(keptBytes);
        const all: number[] = [];
        const behind = (index: number) => all.slice(index).reduce((sum, each) => sum + each, 0);
        let last = 0;
        for (const [place, { bytes, limit }] of entries.entries()) {
          weight.add((place + 1) as Index, bytes);
          all.push(bytes);
          for (const at of [0, last, place - 3, place + 1]) {
            if (at < last) continue;
            const told = weight.behind(at);
            assert(told >= behind(at), "it weighs less than it is");
            assert(told <= behind(at) + keptBytes / 16 + 400, "it weighs more than a step more");
          }
          const index = weight.forgettable(limit);
          assert(index <= limit || index === last);
          if (index === 0) continue;
          assert(index >= last, "it goes back");
          last = index;
          assert(behind(index) >= keptBytes, "too little is kept");
          // A step, and the entry that ends it.
          if (limit > place) assert(behind(index) <= keptBytes + keptBytes / 16 + 2 * 400);
        }
      }),
    );
  });

  it("forgets nothing of a log that is small", () => {
    const weight = new LogWeight(1000);
    for (let index = 1; index <= 100; index++) weight.add(index as Index, 9);
    assert.equal(weight.forgettable(100), 0);
  });
});
