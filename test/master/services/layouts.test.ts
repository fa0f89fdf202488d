import assert from "node:assert/strict";
import { hasCode } from "../../../src/lib/errors.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { Layouts } from "../../../src/master/services/layouts.ts";
import type { UfsOp } from "../../../src/master/state/model.ts";
import { commitCommand, entryOf, extentsOver, pageOf } from "../state/machine-fixture.ts";
import { LeaderFixture, ObservedMachine } from "./leader-fixture.ts";

describe("Layouts", () => {
  let fixture: LeaderFixture;
  let layouts: Layouts;
  let renames: UfsOp[];

  function start(machine = ObservedMachine.start()) {
    fixture = new LeaderFixture(machine);
    renames = [];
    layouts = new Layouts({
      reader: machine.state,
      locations: fixture.locations,
      pendingRenames: () => renames,
      silentMs: () => 0,
    });
    return machine;
  }

  afterEach(() => fixture.end());

  it("shows a store's file as blocks that every worker can read there", async () => {
    const machine = start(ObservedMachine.start({ rootLoaded: false }));
    machine.done(pageOf(rootInodeId, [entryOf("f", { size: 250 })]));
    const worker = machine.worker("w");
    const { id, source } = machine.at("/f");
    fixture.locations.put(worker, id, source!.writeId, [1]);
    const { segments, ufs } = await layouts.layoutOf(id);
    assert.deepEqual(
      segments.map(({ fileOffset, length, block, locations }) => [
        fileOffset,
        length,
        block!.blockIndex,
        block!.length,
        locations,
      ]),
      [
        [0, 100, 0, 100, []],
        [100, 100, 1, 100, [worker]],
        [200, 50, 2, 50, []],
      ],
    );
    assert.deepEqual(ufs, {
      mountId: 1,
      path: "f",
      fingerprint: "print of f",
      writeId: source!.writeId,
    });
    assert.equal(layouts.isLost(await layouts.layoutOf(id)), false);
  });

  it("cuts the layout at what was asked for and at the end of the file", async () => {
    const machine = start(ObservedMachine.start({ rootLoaded: false }));
    machine.done(pageOf(rootInodeId, [entryOf("f", { size: 250 })]));
    const { id } = machine.at("/f");
    const part = await layouts.layoutOf(id, 150, 60);
    assert.deepEqual(
      part.segments.map(({ fileOffset, length, block }) => [fileOffset, length, block!.offset]),
      [
        [150, 50, 50],
        [200, 10, 0],
      ],
    );
    assert.deepEqual((await layouts.layoutOf(id, 250, 10)).segments, []);
    assert.deepEqual((await layouts.layoutOf(id, 1e9, 10)).segments, []);
  });

  it("shows holes, and keepers before cached copies", async () => {
    const machine = start();
    const session = machine.openSession();
    const [keeper, cache] = [machine.worker("keeper"), machine.worker("cache")];
    const made = machine.create("/f", { lease: true }, session);
    const { writeId } = machine.inode(made.inode).lease!;
    machine.done(
      commitCommand({
        inode: made.inode,
        writeId,
        size: 300,
        extents: extentsOver(writeId, 120, 180),
        keepers: [keeper],
        release: true,
      }),
      session,
    );
    fixture.locations.put(cache, made.inode, writeId, [0, 1]);
    const { segments } = await layouts.layoutOf(made.inode);
    assert.deepEqual(
      segments.map(({ fileOffset, length, block, locations }) => [
        fileOffset,
        length,
        block?.offset,
        locations,
      ]),
      [
        [0, 120, undefined, []],
        [120, 60, 20, [keeper, cache]],
        [180, 120, undefined, []],
      ],
    );
  });

  it("is lost when no live worker and no store has some byte, and whole again when the keeper returns", async () => {
    const machine = start();
    const session = machine.openSession();
    const keeper = machine.worker("keeper");
    const { inode, writeId } = machine.write("/f", 150, { keepers: [keeper], session });
    assert.equal(await layouts.isMissing(inode), false);
    machine.done({ kind: "workerLost", worker: keeper });
    assert.equal(await layouts.isMissing(inode), true);
    const cache = machine.worker("cache");
    fixture.locations.put(cache, inode, writeId, [0]);
    assert.equal(await layouts.isMissing(inode), true, "one of two blocks is not enough");
    fixture.locations.put(cache, inode, writeId, [0, 1]);
    assert.equal(await layouts.isMissing(inode), false);
    fixture.locations.removeWorker(cache);
    machine.worker("keeper");
    assert.equal(await layouts.isMissing(inode), false);
  });

  it("names the place in the store that a rename has not reached yet", async () => {
    const machine = start(ObservedMachine.start({ rootLoaded: false }));
    machine.done(pageOf(rootInodeId, [entryOf("f")]));
    const session = machine.openSession();
    const { id } = machine.at("/f");
    machine.done(
      {
        kind: "rename",
        sourceParent: rootInodeId,
        sourceName: "f",
        targetParent: rootInodeId,
        targetName: "g",
        noReplace: true,
      },
      session,
    );
    renames = machine.pending();
    assert.equal((await layouts.layoutOf(id)).ufs!.path, "f");
    machine.settle();
    renames = [];
    assert.equal((await layouts.layoutOf(id)).ufs!.path, "g");
  });

  it("refuses what is no file", async () => {
    const machine = start();
    await assert.rejects(layouts.layoutOf(rootInodeId), (error) => hasCode(error, "IsDirectory"));
    const link = machine.create("/l", { fileKind: "symlink", target: "x" });
    await assert.rejects(layouts.layoutOf(link.inode), (error) =>
      hasCode(error, "InvalidArgument"),
    );
    await assert.rejects(layouts.layoutOf(999 as never), (error) => hasCode(error, "NotFound"));
  });

  it("ends behind as many extents as are wanted, and goes on there", async () => {
    const machine = start();
    const worker = machine.worker("w");
    const session = machine.openSession();
    const { inode, writeId } = machine.write("/f", 10, { keepers: [worker], session });
    const lease = machine.done({ kind: "lease", inode }, session);
    const extents = [20, 40, 60].map((fileOffset, blockIndex) => {
      return { fileOffset, length: 5, writeId: lease.writeId!, blockIndex, offset: 0 };
    });
    const of = { inode, writeId: lease.writeId!, size: 90, extents, keepers: [worker] };
    machine.done(commitCommand({ ...of, baseVersion: 2 }), session);
    assert.notEqual(writeId, lease.writeId);
    const whole = await layouts.layoutOf(inode);
    assert.equal(whole.end, undefined);
    const segments: unknown[] = [];
    for (let at: number | undefined = 0, ends = [25, 65, undefined]; at !== undefined; ) {
      const page = await layouts.layoutOf(inode, at, 1000, 2);
      segments.push(...page.segments);
      assert.equal(page.end, ends.shift());
      at = page.end;
    }
    const told = whole.segments.filter(({ block }) => block !== undefined);
    const found = (segments as typeof told).filter(({ block }) => block !== undefined);
    assert.deepEqual(found, told);
  });
});
