import assert from "node:assert/strict";
import { silentLogger } from "../../../src/lib/logger.ts";
import { type Copy, dropCopies } from "../../../src/master/services/cached-copies.ts";
import { Layouts } from "../../../src/master/services/layouts.ts";
import { SpareCopies } from "../../../src/master/services/spare-copies.ts";
import { noPolicy, type PathPolicy } from "../../../src/rpc/path-policy.ts";
import { createCommand } from "../state/machine-fixture.ts";
import { LeaderFixture, obey } from "./leader-fixture.ts";
import { turn } from "./manual-clock.ts";

describe("policies of copies", () => {
  let fixture: LeaderFixture;
  beforeEach(() => {
    fixture = new LeaderFixture();
    fixture.machine.mkdir("/a");
  });
  afterEach(() => fixture.end());

  function set(policy: Partial<PathPolicy>): void {
    const { machine } = fixture;
    const inode = machine.at("/a").id;
    machine.done({ kind: "setPathPolicy", inode, policy: { ...noPolicy, ...policy } });
  }

  it("drop cached copies beyond the most, never those that have to be kept", async () => {
    const { machine, locations, dispatcher, reign, clock } = fixture;
    const workers = ["u", "v", "w"].map((name) => fixture.worker(name, obey));
    const session = machine.openSession();
    const of = { session, keepers: workers.slice(0, 2) };
    const stored = machine.write("/a/stored", 10, of);
    machine.settle();
    const kept = machine.write("/a/kept", 10, { ...of, writeType: "MUST_CACHE" });
    for (const { inode, writeId } of [stored, kept]) {
      for (const worker of workers) locations.put(worker, inode, writeId, [0], 10);
    }
    const dropped: Copy[] = [];
    new SpareCopies({
      reader: machine.state,
      locations,
      drop: (copies, signal) => {
        dropped.push(...copies);
        return dropCopies(dispatcher, locations, copies, signal);
      },
      reign,
      clock,
      logger: silentLogger,
    });
    const pass = async () => {
      for (let i = 0; i < 3; i++) {
        clock.advance(2000);
        await turn();
        await turn();
      }
    };
    await pass();
    assert.deepEqual(dropped, []);
    set({ replication: { min: 0, max: 1 } });
    await pass();
    assert.deepEqual(
      dropped.map(({ inode }) => inode),
      [stored.inode, stored.inode],
    );
    assert.equal(locations.containersOf(stored.inode).length, 1);
    assert.equal(locations.containersOf(kept.inode).length, 3);
  });

  it("tell who gets a lease how many workers are to keep the bytes", () => {
    const { machine } = fixture;
    const session = machine.openSession();
    const make = (name: string) =>
      machine.done(createCommand(machine.at("/a").id, name, { lease: true }), session).status!;
    assert.equal(make("x").keepers, undefined);
    set({ keepers: 2, replication: { min: 3, max: undefined } });
    const { keepers, inode } = make("y");
    assert.equal(keepers, 3);
    assert.equal(machine.done({ kind: "lease", inode }, session).status!.keepers, 3);
    machine.done({ kind: "clearPathPolicy", inode: machine.at("/a").id, keys: ["replication"] });
    assert.equal(make("z").keepers, 2);
  });

  it("tell readers with the layout whether they leave copies", async () => {
    const { machine, locations, registry } = fixture;
    const layouts = new Layouts({
      reader: machine.state,
      locations,
      pendingRenames: () => [],
      silentMs: (worker) => registry.silentMs(worker),
    });
    const { inode } = machine.create("/a/x");
    assert.equal((await layouts.layoutOf(inode)).cache, undefined);
    set({ readType: "NO_CACHE" });
    assert.equal((await layouts.layoutOf(inode)).cache, false);
    set({ readType: "CACHE" });
    assert.equal((await layouts.layoutOf(inode)).cache, undefined);
  });
});
