import assert from "node:assert/strict";
import type { InodeId, WorkerId, WriteId } from "../../../src/lib/ids.ts";
import { Locations } from "../../../src/master/services/locations.ts";
import { type Heartbeat, WorkerRegistry } from "../../../src/master/services/worker-registry.ts";
import { ManualClock } from "./manual-clock.ts";

const worker = 1 as WorkerId;
const inode = 7 as InodeId;
const writeId = 3 as WriteId;

function beat(of: Partial<Heartbeat> = {}): Heartbeat {
  return {
    worker,
    incarnation: "first",
    sequence: 0,
    full: false,
    changed: [],
    removed: [],
    usedBytes: [],
    freeSlots: 4,
    waitMs: 1000,
    complete: undefined,
    jobs: undefined,
    ...of,
  };
}
const has = (...blocks: number[]) => [
  { inode, writeId, blocks, kept: undefined, length: undefined },
];

describe("WorkerRegistry", () => {
  let clock: ManualClock;
  let locations: Locations;
  let registry: WorkerRegistry;
  const holders = (block = 0) => locations.workersWith(inode, writeId, block);

  beforeEach(() => {
    clock = new ManualClock();
    locations = new Locations();
    registry = new WorkerRegistry({ clock, locations });
  });

  it("asks for a full report when it knows none", () => {
    assert.equal(registry.report(beat({ sequence: 5, changed: has(0) })), false);
    assert.deepEqual(holders(), []);
    assert.equal(registry.report(beat({ full: true, sequence: 6, changed: has(0) })), true);
    assert.deepEqual(holders(), [worker]);
  });

  it("takes a full report in pages, and then the changes", () => {
    assert(registry.report(beat({ full: true, changed: has(0, 1) })));
    assert(
      registry.report(
        beat({
          full: true,
          sequence: 1,
          changed: [
            { inode: 8 as InodeId, writeId, blocks: [2], kept: undefined, length: undefined },
          ],
        }),
      ),
    );
    assert.deepEqual(holders(1), [worker]);
    assert.deepEqual(locations.workersWith(8 as InodeId, writeId, 2), [worker]);
    assert.deepEqual(locations.workersWith(8 as InodeId, writeId, 0), []);
    assert(registry.report(beat({ sequence: 2, removed: [{ inode, writeId }] })));
    assert.deepEqual(holders(1), []);
  });

  it("asks again after a gap, and keeps what it knows until the full report begins", () => {
    assert(registry.report(beat({ full: true, changed: has(0) })));
    assert.equal(registry.report(beat({ sequence: 2, removed: [{ inode, writeId }] })), false);
    assert.deepEqual(holders(), [worker]);
    assert(registry.report(beat({ full: true, sequence: 0, changed: [] })));
    assert.deepEqual(holders(), []);
  });

  it("takes a repeated report as the same one", () => {
    assert(registry.report(beat({ full: true, changed: has(0) })));
    assert(registry.report(beat({ sequence: 1 })));
    assert(registry.report(beat({ sequence: 1 })));
    assert(registry.report(beat({ sequence: 2 })));
    assert.deepEqual(holders(), [worker]);
  });

  it("starts over when the worker was restarted", () => {
    assert(registry.report(beat({ full: true, changed: has(0) })));
    assert.equal(registry.report(beat({ incarnation: "second", sequence: 1 })), false);
    assert(registry.report(beat({ incarnation: "second", full: true, changed: [] })));
    assert.deepEqual(holders(), []);
  });

  it("holds a poll back until its time is over", async () => {
    const poll = registry.poll(beat({ waitMs: 500 }), 1, new AbortController().signal);
    assert.equal(registry.openPolls().length, 1);
    clock.advance(499);
    assert.equal(registry.openPolls().length, 1);
    clock.advance(1);
    assert.deepEqual(await poll, []);
    assert.equal(registry.openPolls().length, 0);
  });

  it("answers the older of two polls of one worker", async () => {
    const older = registry.poll(beat(), 1, new AbortController().signal);
    const newer = registry.poll(beat(), 2, new AbortController().signal);
    assert.deepEqual(await older, []);
    assert.equal(registry.pollOf(worker)?.connection, 2);
    registry.releasePolls();
    assert.deepEqual(await newer, []);
  });

  it("tells how long a worker has been silent", () => {
    assert.equal(registry.silentMs(worker), 2 ** 32);
    registry.report(beat({ full: true }));
    clock.advance(1500);
    assert.equal(registry.silentMs(worker), 1500);
  });
});
