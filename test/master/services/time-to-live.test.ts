import assert from "node:assert/strict";
import { silentLogger } from "../../../src/lib/logger.ts";
import { type Copy, dropCopies } from "../../../src/master/services/cached-copies.ts";
import { TimeToLive } from "../../../src/master/services/time-to-live.ts";
import { clockOf } from "../../../src/master/state/queries.ts";
import { clockToleranceMs } from "../../../src/master/state/time-to-live.ts";
import { noPolicy, type PathPolicy } from "../../../src/rpc/path-policy.ts";
import { entryOf, pageOf } from "../state/machine-fixture.ts";
import { LeaderFixture, obey } from "./leader-fixture.ts";
import { turn } from "./manual-clock.ts";

describe("times to live, as the leader looks after them", () => {
  let fixture: LeaderFixture;
  let dropped: Copy[];
  let jumpedSeconds = 0;
  const fixtures: LeaderFixture[] = [];

  function begin(next = new LeaderFixture()): void {
    fixture = next;
    fixtures.push(next);
    dropped = [];
    const { machine, locations, propose, reign, clock, dispatcher } = fixture;
    new TimeToLive({
      reader: machine.state,
      locations,
      propose,
      drop: (copies, signal) => {
        dropped.push(...copies);
        return dropCopies(dispatcher, locations, copies, signal);
      },
      now: () => {
        const { clusterTimeMs } = clockOf(machine.state);
        return { clusterTimeMs, wallTime: { sec: machine.wallSeconds + jumpedSeconds, nsec: 0 } };
      },
      reign,
      clock,
      logger: silentLogger,
    });
  }

  beforeEach(() => {
    jumpedSeconds = 0;
    begin();
  });
  afterEach(() => {
    for (const each of fixtures.splice(0)) each.end();
  });

  function set(path: string, policy: Partial<PathPolicy>): void {
    const { machine } = fixture;
    const inode = machine.at(path).id;
    machine.done({ kind: "setPathPolicy", inode, policy: { ...noPolicy, ...policy } });
  }

  /** Time passes, for all clocks alike. */
  async function pass(seconds: number): Promise<void> {
    const { machine, clock } = fixture;
    machine.wallSeconds += seconds;
    machine.clusterTimeMs += seconds * 1000;
    for (let i = 0; i < seconds; i++) {
      clock.advance(1000);
      await turn();
      await turn();
    }
  }

  it("delete what is over below a directory, level by level, and leave the rest", async () => {
    const { machine } = fixture;
    for (const path of ["/t", "/t/a", "/t/a/b", "/other"]) machine.mkdir(path);
    for (const path of ["/t/x", "/t/a/b/y", "/other/z"]) machine.create(path);
    set("/t", { ttl: { seconds: 20, action: "delete" } });
    await pass(10);
    assert.equal(machine.exists("/t/a/b/y"), true);
    await pass(40);
    for (const path of ["/t/x", "/t/a/b/y"]) assert.equal(machine.exists(path), false);
    assert.equal(machine.exists("/other/z"), true);
    // Each became empty with what was in it, and lives as long from then on.
    await pass(30);
    assert.equal(machine.exists("/t/a/b"), false);
    assert.equal(machine.exists("/t/a"), true);
    await pass(30);
    assert.equal(machine.exists("/t/a"), false);
    assert.equal(machine.exists("/t"), true);
  });

  it("look at no more than 500 names at a time, and come to the last of many", async () => {
    const { machine } = fixture;
    machine.mkdir("/t");
    const entries = Array.from({ length: 2100 }, (_, i) => entryOf(`f${String(i)}`));
    machine.isChecked = false;
    machine.unload(machine.at("/t").id);
    machine.done(pageOf(machine.at("/t").id, entries));
    set("/t", { ttl: { seconds: 10, action: "delete" } });
    for (let i = 0; i < 20; i++) {
      const before = fixture.proposed.length;
      await pass(1);
      const names = fixture.proposed
        .slice(before)
        .reduce((sum, each) => sum + (each.kind === "expire" ? each.names.length : 0), 0);
      assert.ok(names <= 500, `${String(names)} names in one step`);
    }
    assert.equal(machine.at("/t").childCount, 0);
  });

  it("free only cached copies of what is persisted, and none that are pinned", async () => {
    const { machine, locations } = fixture;
    const worker = fixture.worker("w", obey);
    const session = machine.openSession();
    machine.mkdir("/t");
    machine.mkdir("/t/pinned");
    const of = { session, keepers: [worker] };
    const stored = machine.write("/t/stored", 10, of);
    const pinned = machine.write("/t/pinned/x", 10, of);
    machine.settle();
    const kept = machine.write("/t/kept", 10, { ...of, writeType: "MUST_CACHE" });
    for (const each of [stored, pinned, kept]) {
      locations.put(worker, each.inode, each.writeId, [0], 10);
    }
    set("/t/pinned", { pin: {} });
    set("/t", { ttl: { seconds: 5, action: "free" } });
    await pass(10);
    assert.deepEqual(
      dropped.map(({ inode }) => inode),
      [stored.inode],
    );
    assert.equal(machine.exists("/t/stored"), true);
  });

  it("stop to delete when the clock jumps, and go on when it is back", async () => {
    const { machine } = fixture;
    machine.mkdir("/t");
    machine.create("/t/x");
    set("/t", { ttl: { seconds: 100, action: "delete" } });
    await pass(5);
    jumpedSeconds = clockToleranceMs / 1000 + 1000;
    await pass(20);
    assert.equal(fixture.proposed.filter(({ kind }) => kind === "expire").length, 0);
    jumpedSeconds = 0;
    await pass(120);
    assert.equal(machine.exists("/t/x"), false);
  });

  it("go on under the next leader, who knows nothing of the one before", async () => {
    const { machine } = fixture;
    machine.mkdir("/t");
    machine.create("/t/x");
    set("/t", { ttl: { seconds: 30, action: "delete" } });
    await pass(10);
    fixture.end();
    begin(new LeaderFixture(machine));
    await pass(40);
    assert.equal(machine.exists("/t/x"), false);
  });
});
