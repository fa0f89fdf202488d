import assert from "node:assert/strict";
import fc from "fast-check";
import { containerName } from "../../src/blocks/types.ts";
import { ChangeLog } from "../../src/worker/change-log.ts";
import { containerOf } from "./tools.ts";

describe("change log", () => {
  it("brings a reader that takes pages at any time to the present state", () => {
    const step = fc.record({ inode: fc.nat(9), removed: fc.boolean(), read: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step), fc.integer({ min: 1, max: 3 }), (steps, limit) => {
        const log = new ChangeLog();
        const real = new Set<string>();
        const seen = new Set<string>();
        let told = 0;
        const read = (): number => {
          const page = log.since(told, limit)!;
          for (const { container, removed, sequence } of page) {
            if (removed) seen.delete(containerName(container));
            else seen.add(containerName(container));
            told = sequence;
          }
          return page.length;
        };
        for (const { inode, removed, read: now } of steps) {
          const id = containerOf(inode);
          log.note(containerName(id), id, removed);
          if (removed) real.delete(containerName(id));
          else real.add(containerName(id));
          if (now) read();
        }
        while (read() > 0);
        assert.deepEqual(seen, real);
      }),
    );
  });
});
