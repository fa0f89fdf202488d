import assert from "node:assert/strict";
import fc from "fast-check";
import { Log } from "../../src/raft/log.ts";
import type { Entry, Index, Term } from "../../src/raft/types.ts";
import { entry } from "./lib/core-cluster.ts";

const start = { index: 0 as Index, term: 0 as Term };

describe("raft log", () => {
  it("behaves as a plain list does, through appends, truncations and compactions", () => {
    const step = fc.record({
      kind: fc.constantFrom("append", "append", "append", "truncate", "compact"),
      amount: fc.nat(40),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const log = new Log(start, []);
        let base = 0;
        let baseTerm = 0;
        let model: Entry[] = [];
        for (const { kind, amount } of steps) {
          if (kind === "append") {
            for (let i = 0; i < amount * 10; i++) {
              const last = model.at(-1)?.term ?? baseTerm;
              const next = entry(base + model.length + 1, last + (i % 9 === 0 ? 1 : 0));
              log.append(next);
              model.push(next);
            }
          } else if (kind === "truncate" && model.length > 0) {
            const keep = amount % model.length;
            log.truncateFrom(base + keep + 1);
            model = model.slice(0, keep);
          } else if (kind === "compact" && model.length > 0) {
            const count = 1 + ((amount * 7) % model.length);
            baseTerm = model[count - 1]!.term;
            log.compact((base + count) as Index);
            model = model.slice(count);
            base += count;
          }
          assert.equal(log.baseIndex, base);
          assert.equal(log.lastIndex, base + model.length);
          assert.equal(log.lastTerm, model.at(-1)?.term ?? baseTerm);
          assert.equal(log.termAt(base), baseTerm);
          const middle = base + 1 + Math.floor(model.length / 2);
          assert.equal(log.termAt(middle), model[middle - base - 1]?.term);
        }
        assert.deepEqual(log.slice(base + 1, base + model.length + 1), model);
      }),
    );
  });

  it("returns at least one entry, and no more than asked for in bytes", () => {
    const entries = Array.from({ length: 9 }, (_, i) => ({
      ...entry(i + 1, 1),
      payload: Buffer.alloc(10),
    }));
    const log = new Log(start, entries);
    const counts = [1, 10, 19, 20, 1000].map((bytes) => log.slice(1, 10, bytes).length);
    assert.deepEqual(counts, [1, 1, 1, 2, 9]);
  });
});
