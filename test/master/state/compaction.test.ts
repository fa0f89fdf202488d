/** Very many small extents that are put together: by one leader after the other, and never over what was written meanwhile. */
import assert from "node:assert/strict";
import {
  type InodeId,
  rootInodeId,
  type SessionId,
  type WorkerId,
  type WriteId,
} from "../../../src/lib/ids.ts";
import { fewExtents } from "../../../src/master/state/compaction.ts";
import { replaceLimit } from "../../../src/master/state/extent-rows.ts";
import { compactKey, containerKey } from "../../../src/master/state/keys.ts";
import { containerOf, containerUse } from "../../../src/master/state/queries.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { Extent } from "../../../src/rpc/namespace.ts";
import { blockSizeBytes, commitCommand, createCommand, Machine } from "./machine-fixture.ts";

const count = fewExtents + 200;

class Scattered {
  readonly machine: Machine;
  readonly session: SessionId;
  readonly worker: WorkerId;
  readonly inode: InodeId;

  /** A file of so many extents of one byte, at every other offset. */
  constructor(extentCount = count, level?: number) {
    this.machine = Machine.make(level);
    this.session = this.machine.openSession();
    this.worker = this.machine.worker("w");
    const writeType = "MUST_CACHE";
    const { status } = this.machine.done(createCommand(rootInodeId, "a", { writeType }));
    this.inode = status!.inode;
    for (let from = 0; from < extentCount; from += 400) {
      const to = Math.min(from + 400, extentCount);
      this.write(Array.from({ length: to - from }, (_, i) => 2 * (from + i)));
    }
  }

  get of() {
    return this.machine.inode(this.inode);
  }

  /** Bytes at these offsets, in one commit. */
  write(offsets: readonly number[], length = 1): void {
    const { machine, inode, session, worker } = this;
    const { writeId, status } = machine.done({ kind: "lease", inode }, session);
    const extents: Extent[] = offsets.map((fileOffset, i) => {
      const place = i * blockSizeBytes;
      return {
        fileOffset,
        length,
        writeId: writeId!,
        blockIndex: place / blockSizeBytes,
        offset: 0,
      };
    });
    const size = Math.max(status!.size, offsets.at(-1)! + length);
    const of = { inode, writeId: writeId!, size, extents, keepers: [worker], release: true };
    machine.done(commitCommand({ ...of, baseVersion: status!.version }), session);
  }

  start(from = 0, to = 1600) {
    const { inode } = this;
    return this.machine.done({ kind: "startCompaction", inode, from, to }).writeId!;
  }

  end(writeId?: WriteId): void {
    this.machine.done({ kind: "endCompaction", inode: this.inode, writeId });
  }

  compactCommand(writeId: WriteId): Extract<Command, { kind: "compactContent" }> {
    return { kind: "compactContent", inode: this.inode, writeId, keepers: [this.worker] };
  }

  isWanted(): boolean {
    return this.machine.state.get(compactKey(this.inode)) !== undefined;
  }
}

describe("compaction of extents", function () {
  this.timeout(60_000);

  it("is wanted as soon as a file has very many small ones, and the version stays when it is done", () => {
    assert.ok(!new Scattered(fewExtents).isWanted());
    const world = new Scattered();
    assert.ok(world.isWanted());
    const { version, size, mtime } = world.of;
    const writeId = world.start();
    world.machine.done(world.compactCommand(writeId));
    // 800 extents are 16 blocks.
    assert.equal(world.of.extentCount, count - 800 + 16);
    assert.deepEqual([world.of.version, world.of.size, world.of.mtime], [version, size, mtime]);
    const made = containerOf(world.machine.state, world.inode, writeId)!;
    assert.deepEqual([made.references, made.size, made.keepers], [16, 1600, [world.worker]]);
    world.end();
    assert.ok(!world.isWanted());
  });

  it("tells nobody of a change", () => {
    const world = new Scattered();
    const writeId = world.start();
    const { machine } = world;
    const command = world.compactCommand(writeId);
    const request = { session: 0 as SessionId, sequence: 0, acknowledgedBelow: 0, atomic: false };
    const { changes } = machine.apply({ ...request, commands: [command] });
    assert.deepEqual([...changes.inodes], []);
  });

  it("gives the containers that it takes the place of to the garbage, once nothing else names them", () => {
    const world = new Scattered();
    const { machine, inode } = world;
    const before = machine.state.entries("container/").length;
    machine.done(world.compactCommand(world.start(0, 2 * replaceLimit - 1)));
    machine.done(world.compactCommand(world.start(2 * replaceLimit - 1, 2 * count - 1)));
    assert.equal(machine.state.entries("container/").length, before + 2);
    assert.equal(machine.state.entries("garbage/").length, before);
    machine.clusterTimeMs += 1000;
    const keys = machine.state.entries("garbage/").map(([key]) => key);
    machine.done({ kind: "reapGarbage", keys });
    assert.equal(machine.state.entries("container/").length, 2);
    assert.ok(machine.state.get(containerKey(inode, world.of.compaction!.done!)));
  });

  it("is over as soon as a byte of its range is written, cut or replaced, and its container is nobody's", () => {
    const changes: ((world: Scattered) => void)[] = [
      (world) => world.write([1599]),
      (world) => world.write([0]),
      (world) => world.machine.done({ kind: "truncate", inode: world.inode, size: 1599 }),
      (world) => world.machine.done({ kind: "truncate", inode: world.inode, size: 0 }),
      (world) => {
        world.machine.done({ kind: "persist", inode: world.inode });
        world.machine.settle();
      },
    ];
    for (const change of changes) {
      const world = new Scattered();
      const { machine, inode } = world;
      const writeId = world.start();
      assert.equal(containerUse(machine.state, { inode, writeId }), "writing");
      change(world);
      assert.equal(containerUse(machine.state, { inode, writeId }), "unknown");
      machine.refused("Stale", world.compactCommand(writeId));
    }
  });

  it("goes on when something else of the file is written", () => {
    const world = new Scattered();
    const writeId = world.start();
    world.write([1600]);
    world.machine.done({ kind: "truncate", inode: world.inode, size: 2300 });
    world.machine.done({ kind: "truncate", inode: world.inode, size: 9000 });
    world.machine.done(world.compactCommand(writeId));
    assert.equal(world.of.extentCount, 1150 - 800 + 16);
  });

  it("is one at a time, and one that was left behind is ended by whoever leads", () => {
    const world = new Scattered();
    const { machine, inode } = world;
    const first = world.start();
    machine.refused("Busy", { kind: "startCompaction", inode, from: 0, to: 100 });
    machine.refused("Busy", { kind: "endCompaction", inode, writeId: undefined });
    world.end(first);
    world.end(first);
    const second = world.start();
    world.end(first);
    machine.refused("Stale", world.compactCommand(first));
    machine.done(world.compactCommand(second));
    machine.refused("Stale", world.compactCommand(second));
  });

  it("is not over for a file that was written since it was looked at", () => {
    const world = new Scattered();
    const { machine, inode } = world;
    const { version } = world.of;
    world.write([1600]);
    const wanted = () => machine.state.entries("compact/").length;
    machine.refused("Stale", { kind: "endCompaction", inode, writeId: undefined, version });
    assert.equal(wanted(), 1);
    const now = world.of.version;
    machine.done({ kind: "endCompaction", inode, writeId: undefined, version: now });
    assert.equal(wanted(), 0);
  });

  it("is for ranges of a bounded number of extents, with keepers, that become fewer", () => {
    const world = new Scattered();
    const { machine, inode } = world;
    for (const [from, to] of [
      [0, 0],
      [0, 2 * count],
    ] as const) {
      machine.refused("InvalidArgument", { kind: "startCompaction", inode, from, to });
    }
    const large = world.start(0, 2 * replaceLimit + 1);
    machine.refused("InvalidArgument", world.compactCommand(large));
    world.end(large);
    const one = world.start(0, 1);
    machine.refused("InvalidArgument", world.compactCommand(one));
    world.end(one);
    const nobody = world.start();
    machine.refused("InvalidArgument", { ...world.compactCommand(nobody), keepers: [] });
    const { session } = world;
    machine.refused("NotPermitted", { kind: "startCompaction", inode, from: 0, to: 9 }, session);
  });

  it("of what stays scattered is not asked for again before there is twice as much of it", () => {
    const world = new Scattered();
    world.end();
    for (let at = 2 * count; at <= 4 * count; at += 800) {
      assert.ok(!world.isWanted());
      world.write(Array.from({ length: 400 }, (_, i) => at + 2 * i));
    }
    assert.ok(world.isWanted());
  });

  it("is not asked for below level 2, nor for large extents", () => {
    assert.ok(!new Scattered(count, 1).isWanted());
    const world = new Scattered(10);
    for (let block = 1; block < 6; block++) {
      world.write(
        Array.from({ length: 300 }, (_, i) => block * 30_000 + i * blockSizeBytes),
        blockSizeBytes - 1,
      );
    }
    assert.ok(world.of.extentCount > fewExtents);
    assert.ok(!world.isWanted());
  });

  it("leaves nothing behind of a file that goes", () => {
    const world = new Scattered();
    const { machine } = world;
    world.start();
    machine.done({ kind: "unlink", parent: rootInodeId, name: "a", held: false });
    for (let i = 0; i < 20 && machine.state.entries("garbage/").length > 0; i++) {
      machine.clusterTimeMs += 1000;
      for (const [key] of machine.state.entries("clearing/")) {
        const generation = key.charCodeAt(key.length - 1);
        machine.done({ kind: "clearExtents", inode: world.inode, generation });
      }
      const keys = machine.state.entries("garbage/").map(([key]) => key);
      machine.done({ kind: "reapGarbage", keys });
    }
    assert.equal(machine.inode(world.inode), undefined);
    assert.equal(machine.state.entries("compact/").length, 0);
  });
});

describe("a commit over very many extents", function () {
  this.timeout(60_000);

  it("is done in parts of a bounded size, the rest by the same command, and by nobody else", () => {
    const world = new Scattered(3 * replaceLimit);
    const { machine, inode, session, worker } = world;
    machine.isChecked = false;
    const { writeId, status } = machine.done({ kind: "lease", inode }, session);
    const extents: Extent[] = [];
    for (let at = 0; at < status!.size; at += blockSizeBytes) {
      const length = Math.min(blockSizeBytes, status!.size - at);
      const blockIndex = at / blockSizeBytes;
      extents.push({ fileOffset: at, length, writeId: writeId!, blockIndex, offset: 0 });
    }
    const { version, size } = status!;
    const keepers = [worker];
    const of = { inode, writeId: writeId!, size, extents, keepers, release: true };
    const command = commitCommand({ ...of, baseVersion: version });
    let most = 0;
    let parts = 0;
    for (; ; parts++) {
      const before = machine.state.rowsUsed;
      const result = machine.run(command, session);
      most = Math.max(most, machine.state.rowsUsed - before);
      if (result.ok) break;
      assert.deepEqual([result.code, world.of.version], ["Busy", version + parts + 1]);
      const stale = commitCommand({ ...of, baseVersion: version - 1 });
      machine.refused("VersionConflict", stale, session);
    }
    assert.equal(parts, 3);
    assert.ok(most < 5 * replaceLimit, `${String(most)} rows`);
    machine.isChecked = true;
    assert.equal(world.of.extentCount, extents.length);
    machine.refused("LeaseLost", command, session);
  });
});
