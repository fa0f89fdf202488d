import assert from "node:assert/strict";
import { silentLogger } from "../../../src/lib/logger.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { Housekeeping } from "../../../src/master/services/housekeeping.ts";
import { sessionOf, workerOf } from "../../../src/master/state/queries.ts";
import { eventually } from "../../lib/eventually.ts";
import { LeaderFixture, obey } from "./leader-fixture.ts";
import { turn } from "./manual-clock.ts";

describe("Housekeeping", () => {
  let fixture: LeaderFixture;

  beforeEach(() => {
    fixture = new LeaderFixture();
    const { machine, locations, registry, dispatcher, propose, reign, clock } = fixture;
    new Housekeeping({
      reader: machine.state,
      appliedIndex: () => machine.index,
      locations,
      registry,
      dispatcher,
      propose,
      leadership: { clusterTimeMs: () => machine.clusterTimeMs },
      reign,
      clock,
      logger: silentLogger,
      workerTimeoutMs: 10_000,
      retiredGraceMs: 60_000,
    });
  });

  afterEach(() => fixture.end());

  /** Lets steps pass until `probe` holds. */
  const steps = (what: string, probe: () => boolean) =>
    eventually(what, async () => {
      fixture.clock.advance(500);
      await turn();
      return probe();
    });

  it("closes a session when cluster time has passed its end, not before", async () => {
    const { machine } = fixture;
    const [early, late] = [machine.openSession(1000), machine.openSession(5000)];
    machine.clusterTimeMs += 999;
    for (let i = 0; i < 5; i++) await steps("a step", () => true);
    assert(sessionOf(machine.state, early) !== undefined);
    machine.clusterTimeMs += 1;
    await steps("the session to be closed", () => sessionOf(machine.state, early) === undefined);
    assert(sessionOf(machine.state, late) !== undefined);
  });

  it("declares a worker lost after its silence during this reign, not before", async () => {
    const { machine, clock, registry } = fixture;
    const [silent, heard] = [machine.worker("silent"), machine.worker("heard")];
    const beat = {
      worker: heard,
      incarnation: "x",
      sequence: 0,
      full: true,
      changed: [],
      removed: [],
      usedBytes: [],
      freeSlots: 0,
      waitMs: 0,
      complete: undefined,
      jobs: undefined,
    };
    const state = (worker: typeof silent) => workerOf(machine.state, worker)?.state;
    for (let i = 0; i < 20; i++) {
      assert.equal(state(silent), "live");
      registry.report(beat);
      clock.advance(500);
      await turn();
    }
    for (let i = 0; i < 2; i++) {
      registry.report(beat);
      clock.advance(500);
      await turn();
    }
    assert.equal(state(silent), "lost");
    assert.equal(state(heard), "live");
  });

  it("empties the trash, however deep what lies in it", async () => {
    const { machine } = fixture;
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    machine.mkdir("/a/b/c");
    for (const path of ["/a/1", "/a/b/2", "/a/b/c/3"]) machine.create(path);
    const inodes = machine.state.entries("inode/").length;
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "a" });
    await steps("the trash to be empty", () => machine.state.entries("edge/").length === 0);
    machine.clusterTimeMs += 60_001;
    await steps(
      "the inodes to be gone",
      () => machine.state.entries("inode/").length === inodes - 6,
    );
  });

  it("reclaims replaced content after its grace, and has its holders drop it", async () => {
    const { machine, locations } = fixture;
    const dropped: string[] = [];
    const worker = fixture.worker("w", (task) => {
      assert(task.kind === "dropContainers" && task.kept);
      dropped.push(...task.containers.map(({ inode, writeId }) => `${inode}.${writeId}`));
      for (const { inode, writeId } of task.containers) locations.remove(worker, inode, writeId);
      return obey(task);
    });
    const session = machine.openSession(10_000_000);
    const { inode, writeId } = machine.write("/f", 100, {
      keepers: [worker],
      session,
      writeType: "MUST_CACHE",
    });
    const kept = machine.write("/g", 100, {
      keepers: [worker],
      session,
      writeType: "MUST_CACHE",
    });
    locations.put(worker, inode, writeId, [0]);
    locations.put(worker, kept.inode, kept.writeId, [0]);
    machine.done({ kind: "unlink", parent: rootInodeId, name: "f", held: false }, session);
    machine.clusterTimeMs += 59_000;
    for (let i = 0; i < 5; i++) await steps("a step", () => true);
    assert.deepEqual(dropped, []);
    machine.clusterTimeMs += 1001;
    await steps("the container to be dropped", () => dropped.length > 0);
    for (let i = 0; i < 5; i++) await steps("a step", () => true);
    assert.deepEqual(dropped, [`${String(inode)}.${String(writeId)}`]);
    assert.equal(machine.inode(kept.inode).size, 100);
  });

  it("leaves alone what is being written, and what is newer than the applied state", async () => {
    const { machine, locations } = fixture;
    const dropped: unknown[] = [];
    const worker = fixture.worker("w", (task) => {
      dropped.push(task);
      return obey(task);
    });
    const session = machine.openSession(10_000_000);
    const made = machine.create("/f", { lease: true }, session);
    const { writeId } = machine.inode(made.inode).lease!;
    locations.put(worker, made.inode, writeId, [0]);
    locations.put(worker, 12_345 as never, ((machine.index + 1000) * 1024) as never, [0]);
    for (let i = 0; i < 10; i++) {
      fixture.registry.report({
        worker,
        incarnation: "w",
        sequence: 0,
        full: false,
        changed: [],
        removed: [],
        usedBytes: [],
        freeSlots: 0,
        waitMs: 0,
        complete: undefined,
        jobs: undefined,
      });
      await steps("a step", () => true);
    }
    assert.deepEqual(dropped, []);
  });
});
