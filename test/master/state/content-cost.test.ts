/** What commands on content cost: rows of the state that they look at and change, however many a file has. */
import assert from "node:assert/strict";
import { type InodeId, rootInodeId, type SessionId, type WorkerId } from "../../../src/lib/ids.ts";

import { clearStepLimit } from "../../../src/master/state/extent-rows.ts";
import { clearingOfKey } from "../../../src/master/state/keys.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { Extent } from "../../../src/rpc/namespace.ts";
import {
  blockSizeBytes,
  commitCommand,
  createCommand,
  entryOf,
  Machine,
  pageOf,
} from "./machine-fixture.ts";

/** Rows that a command on one extent may look at and change. */
const few = 60;
/** The same for a command that takes as much away as one command may. */
const step = 4000;

class Costs {
  readonly machine = Machine.make();
  readonly session: SessionId = this.machine.openSession();
  readonly worker: WorkerId = this.machine.worker("w");
  /** Of the dearest command since it was set to 0. */
  most = 0;

  constructor() {
    this.machine.isChecked = false;
  }

  done(command: Command, session?: SessionId) {
    const { state } = this.machine;
    const before = state.rowsUsed;
    const result = this.machine.done(command, session);
    this.most = Math.max(this.most, state.rowsUsed - before);
    return result;
  }

  file(name = "a"): InodeId {
    return this.done(createCommand(rootInodeId, name)).status!.inode;
  }

  /** Writes one extent under the lease that there is, or a new one. */
  write(inode: InodeId, fileOffset: number, of: { length: number; at: number; release: boolean }) {
    const { writeId, status } = this.done({ kind: "lease", inode }, this.session);
    const offset = of.at % blockSizeBytes;
    const extent: Extent = {
      ...{ fileOffset, length: of.length, writeId: writeId!, offset },
      blockIndex: (of.at - offset) / blockSizeBytes,
    };
    const command = commitCommand({
      ...{ inode, writeId: writeId!, extents: [extent], keepers: [this.worker] },
      size: Math.max(status!.size, fileOffset + of.length),
      release: of.release,
    });
    this.done({ ...command, baseVersion: status!.version }, this.session);
  }

  /** Appends of one byte, each under a lease of its own: nothing joins them. */
  scattered(count: number, name?: string): InodeId {
    const inode = this.file(name);
    for (let i = 0; i < count; i++) this.write(inode, i, { length: 1, at: 0, release: true });
    return inode;
  }

  clearAll(): void {
    for (;;) {
      const [first] = this.machine.state.entries("clearing/");
      if (first === undefined) return;
      this.done({ kind: "clearExtents", ...clearingOfKey(first[0]) });
    }
  }
}

describe("what content costs", function () {
  this.timeout(60_000);

  it("an append is as cheap as the first one, and a stream of them is one extent per block", () => {
    const costs = new Costs();
    const inode = costs.file();
    for (let i = 0; i < 1000; i++) costs.write(inode, i, { length: 1, at: i, release: false });
    assert.equal(costs.machine.inode(inode).extentCount, 1000 / blockSizeBytes);
    assert.ok(costs.most <= few, `${String(costs.most)} rows`);
  });

  it("an append under another lease is as cheap, and so is a write in the middle", () => {
    const costs = new Costs();
    const inode = costs.scattered(1000);
    assert.equal(costs.machine.inode(inode).extentCount, 1000);
    for (let i = 0; i < 100; i++) {
      costs.write(inode, (i * 389) % 1000, { length: 1, at: 0, release: true });
    }
    assert.equal(costs.machine.inode(inode).extentCount, 1000);
    assert.ok(costs.most <= few, `${String(costs.most)} rows`);
  });

  it("a sparse file of 1 TiB and a part of an object of as much cost what is written", () => {
    const costs = new Costs();
    const { machine } = costs;
    const size = 2 ** 40;
    machine.done(pageOf(rootInodeId, [entryOf("object", { size })]));
    costs.most = 0;
    const sparse = costs.file();
    for (const inode of [sparse, machine.at("/object").id]) {
      costs.done({ kind: "truncate", inode, size }, costs.session);
      for (let i = 0; i < 50; i++) {
        costs.write(inode, i * 2 ** 34, { length: 10, at: 0, release: true });
      }
      costs.done({ kind: "truncate", inode, size: 2 * size }, costs.session);
      costs.done({ kind: "truncate", inode, size: size / 2 }, costs.session);
      assert.equal(machine.inode(inode).extentCount, 32);
    }
    assert.ok(costs.most <= 5 * few, `${String(costs.most)} rows`);
  });

  it("a long tail is cut off at once and taken away in steps, whoever leads then", () => {
    const costs = new Costs();
    const { machine, session } = costs;
    const inode = costs.scattered(1200);
    costs.most = 0;
    costs.done({ kind: "truncate", inode, size: 100 }, session);
    costs.done({ kind: "truncate", inode, size: 5000 }, session);
    assert.ok(costs.most <= step, `${String(costs.most)} rows`);
    // What was cut off does not come back, and is not in the way of what lies before.
    costs.write(inode, 50, { length: 1, at: 0, release: true });
    machine.isChecked = true;
    costs.clearAll();
    assert.ok(costs.most <= step, `${String(costs.most)} rows`);
    assert.equal(machine.inode(inode).extentCount, 100);
    costs.write(inode, 150, { length: 1, at: 0, release: true });
    assert.equal(machine.inode(inode).extentCount, 101);
  });

  it("a persist of many extents, and what is written after it, wait for nothing", () => {
    const costs = new Costs();
    const { machine, session } = costs;
    const inode = costs.scattered(1200);
    // A tail is being taken away as well, and is nearly gone.
    costs.done({ kind: "truncate", inode, size: 500 }, session);
    const [tail] = machine.state.entries("clearing/");
    costs.done({ kind: "clearExtents", ...clearingOfKey(tail![0]) });
    costs.most = 0;
    costs.done({ kind: "persist", inode });
    const op = machine.pending().at(-1)!;
    for (const stale of machine.pending().slice(0, -1)) machine.ufsDone(stale.id);
    const persisted = {
      kind: "ufsDone",
      op: op.id,
      fingerprint: "print",
      error: undefined,
    } as const;
    costs.done(persisted);
    assert.equal(machine.inode(inode).form, "source");
    costs.write(inode, 600, { length: 1, at: 0, release: true });
    machine.isChecked = true;
    costs.clearAll();
    assert.ok(costs.most <= step, `${String(costs.most)} rows`);
    assert.equal(machine.inode(inode).extentCount, 1);
  });

  it("nothing takes away what is written after a persist that came before the last of a tail was gone", () => {
    const costs = new Costs();
    const { machine, session } = costs;
    const inode = costs.scattered(600);
    for (const op of machine.pending()) machine.ufsDone(op.id);
    costs.done({ kind: "truncate", inode, size: 50 }, session);
    const [tail] = machine.state.entries("clearing/");
    for (let i = 0; i < 2; i++) {
      costs.done({ kind: "clearExtents", ...clearingOfKey(tail![0]) });
    }
    assert.ok(machine.inode(inode).extentCount <= clearStepLimit);
    machine.isChecked = true;
    costs.done({ kind: "persist", inode });
    for (const op of machine.pending()) machine.ufsDone(op.id, { fingerprint: "print" });
    assert.equal(machine.inode(inode).form, "source");
    costs.write(inode, 100, { length: 1, at: 0, release: true });
    costs.clearAll();
    assert.equal(machine.inode(inode).extentCount, 1);
  });

  it("a file of many extents and containers is reclaimed in steps, and leaves nothing", () => {
    const costs = new Costs();
    const { machine, session } = costs;
    costs.scattered(1200);
    costs.most = 0;
    costs.done({ kind: "unlink", parent: rootInodeId, name: "a", held: false }, session);
    machine.settle();
    machine.isChecked = true;
    for (let i = 0; i < 20; i++) {
      const keys = machine.state.entries("garbage/").map(([key]) => key);
      if (keys.length > 0) costs.done({ kind: "reapGarbage", keys: keys.slice(0, 500) });
      costs.clearAll();
    }
    assert.ok(costs.most <= step, `${String(costs.most)} rows`);
    assert.deepEqual(machine.state.entries("garbage/"), []);
    for (const prefix of ["extent/", "extents/", "clearing/", "container/"]) {
      assert.deepEqual(machine.state.entries(prefix), []);
    }
  });

  it("many files that are reclaimed at once are so in steps", () => {
    const costs = new Costs();
    const { machine, session } = costs;
    const names = Array.from({ length: 15 }, (_, i) => `f${String(i)}`);
    for (const name of names) costs.scattered(200, name);
    for (const name of names) {
      costs.done({ kind: "unlink", parent: rootInodeId, name, held: false }, session);
    }
    machine.settle();
    costs.most = 0;
    for (let i = 0; i < 20; i++) {
      const keys = machine.state.entries("garbage/").map(([key]) => key);
      if (keys.length > 0) costs.done({ kind: "reapGarbage", keys: keys.slice(0, 500) });
    }
    assert.ok(costs.most <= 2 * step, `${String(costs.most)} rows`);
    assert.deepEqual(machine.state.entries("garbage/"), []);
  });
});
