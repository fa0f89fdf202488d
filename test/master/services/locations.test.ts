import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId, WorkerId, WriteId } from "../../../src/lib/ids.ts";
import { Locations } from "../../../src/master/services/locations.ts";
import { WorkerRegistry } from "../../../src/master/services/worker-registry.ts";
import { ManualClock } from "./manual-clock.ts";

const worker = fc.integer({ min: 1, max: 3 });
const inode = fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constantFrom(2 ** 32 + 1, 2 ** 40));
const writeId = fc.integer({ min: 1, max: 3 });

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("put"),
      worker,
      inode,
      writeId,
      blocks: fc.uniqueArray(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
      length: fc.option(fc.integer({ min: 0, max: 400 }), { nil: undefined }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove"), worker, inode, writeId }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget"), worker }) },
);

interface Copy {
  readonly worker: number;
  readonly inode: number;
  readonly writeId: number;
  blocks: readonly number[];
  length: number | undefined;
}

describe("Locations", () => {
  it("are those of a plain list, whatever workers tell and in whichever order", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const locations = new Locations();
        let copies: Copy[] = [];
        for (const of of steps) {
          const is = (copy: Copy) =>
            "inode" in of &&
            copy.worker === of.worker &&
            copy.inode === of.inode &&
            copy.writeId === of.writeId;
          if ("blocks" in of) {
            const { blocks, length } = of;
            locations.put(
              of.worker as WorkerId,
              of.inode as InodeId,
              of.writeId as WriteId,
              blocks,
              length,
            );
            const known = copies.find(is);
            if (known === undefined) copies.push({ ...of });
            else Object.assign(known, { blocks, length });
          } else if ("inode" in of) {
            locations.remove(of.worker as WorkerId, of.inode as InodeId, of.writeId as WriteId);
            copies = copies.filter((copy) => !is(copy));
          } else {
            locations.removeWorker(of.worker as WorkerId);
            copies = copies.filter((copy) => copy.worker !== of.worker);
          }
          compare(locations, copies);
        }
      }),
    );
  });

  it("A12: of two million containers are taken in pages, in little memory, and forgotten at once", function () {
    this.timeout(120_000);
    const locations = new Locations();
    const registry = new WorkerRegistry({ clock: new ManualClock(), locations });
    const containers = 2_000_000;
    const pageSize = 5000;
    const report = (incarnation: string, sequence: number, from: number, count: number) => {
      const changed = Array.from({ length: count }, (_, i) => ({
        inode: (from + i + 1) as InodeId,
        writeId: (from + i + 1024) as WriteId,
        blocks: [0],
        kept: true,
        length: 1000,
      }));
      const of = { worker: 1 as WorkerId, incarnation, sequence, full: true, changed, removed: [] };
      const rest = { usedBytes: [], freeSlots: 0, waitMs: 0, jobs: undefined };
      const complete = from + count === containers;
      assert.ok(registry.report({ ...of, ...rest, complete }));
    };
    const tell = (incarnation: string) => {
      for (let from = 0, page = 0; from < containers; from += pageSize) {
        report(incarnation, page++, from, pageSize);
      }
    };
    globalThis.gc?.();
    const before = process.memoryUsage();
    tell("first");
    globalThis.gc?.();
    const bytesOf = ({ arrayBuffers }: NodeJS.MemoryUsage) => arrayBuffers;
    const grown = bytesOf(process.memoryUsage()) - bytesOf(before);
    assert.ok(grown < containers * 64, `${grown / containers} bytes a container`);
    const has = (of: number) =>
      locations.workersWith((of + 1) as InodeId, (of + 1024) as WriteId, 0, 1000);
    for (const of of [0, 1, 65_535, 65_536, 1_234_567, containers - 1])
      assert.deepEqual(has(of), [1]);
    assert.notEqual(registry.standingOf(1 as WorkerId), undefined);
    // A new life begins with its first page: what the one before told is over, and its room is used again.
    report("second", 0, 0, 1);
    assert.deepEqual([has(0), has(1), has(containers - 1)], [[1], [], []]);
    tell("third");
    const again = bytesOf(process.memoryUsage()) - bytesOf(before);
    assert.ok(again < containers * 96, `${again / containers} bytes a container`);
    assert.deepEqual(has(containers - 1), [1]);
  });
});

function compare(locations: Locations, copies: readonly Copy[]): void {
  const inodes = new Set(copies.map((copy) => copy.inode));
  assert.deepEqual(new Set(locations.inodes()), inodes);
  for (const of of [1, 2, 3, 4, 5, 6, 2 ** 32 + 1, 2 ** 40]) {
    const own = copies.filter((copy) => copy.inode === of);
    assert.deepEqual(
      locations.containersOf(of as InodeId),
      own.map((copy) => ({ worker: copy.worker, writeId: copy.writeId })),
    );
    for (const write of [1, 2, 3]) {
      for (const block of [0, 1, 4]) {
        const wanted = own.filter(
          (copy) =>
            copy.writeId === write &&
            copy.blocks.includes(block) &&
            (copy.length === undefined || copy.length >= 200),
        );
        assert.deepEqual(
          locations.workersWith(of as InodeId, write as WriteId, block, 200),
          wanted.map((copy) => copy.worker),
        );
      }
      for (const by of [1, 2, 3]) {
        const copy = own.find((each) => each.writeId === write && each.worker === by);
        const wanted =
          copy !== undefined &&
          (copy.length === undefined
            ? [0, 1].every((block) => copy.blocks.includes(block))
            : copy.length >= 150);
        const name = { inode: of as InodeId, writeId: write as WriteId };
        assert.equal(locations.holds(by as WorkerId, name, 150, 100), wanted);
      }
    }
  }
}
