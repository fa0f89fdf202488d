import assert from "node:assert/strict";
import type { InodeId, WorkerId, WriteId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { KeeperCheck } from "../../../src/master/services/keeper-check.ts";
import { Layouts } from "../../../src/master/services/layouts.ts";
import { isLost } from "../../../src/master/services/listings.ts";
import type { Heartbeat } from "../../../src/master/services/worker-registry.ts";
import { containerOf } from "../../../src/master/state/queries.ts";
import { commitCommand, extentsOver } from "../state/machine-fixture.ts";
import { LeaderFixture } from "./leader-fixture.ts";

interface Copy {
  readonly inode: InodeId;
  readonly writeId: WriteId;
}

/** What a worker tells, report by report. */
class Reports {
  readonly #fixture: LeaderFixture;
  readonly #worker: WorkerId;
  #incarnation = 0;
  #sequence = 0;

  constructor(fixture: LeaderFixture, worker: WorkerId) {
    this.#fixture = fixture;
    this.#worker = worker;
  }

  /** The process starts anew. */
  restart(): void {
    this.#incarnation++;
    this.#sequence = 0;
  }

  tell(of: Partial<Heartbeat> = {}): void {
    const sequence = this.#sequence++;
    const taken = this.#fixture.registry.report({
      worker: this.#worker,
      incarnation: String(this.#incarnation),
      sequence,
      full: sequence === 0,
      changed: [],
      removed: [],
      usedBytes: [],
      freeSlots: 0,
      waitMs: 0,
      complete: true,
      jobs: undefined,
      ...of,
    });
    assert.ok(taken);
  }
}

const copy = (of: Copy, blocks: number[], length?: number) => ({
  inode: of.inode,
  writeId: of.writeId,
  blocks,
  kept: true,
  length,
});

describe("KeeperCheck", () => {
  let fixture: LeaderFixture;
  let check: KeeperCheck;
  let worker: WorkerId;
  let reports: Reports;
  let session: ReturnType<LeaderFixture["machine"]["openSession"]>;

  const newCheck = (of: LeaderFixture) => {
    const { machine, locations, registry, propose, clock, reign } = of;
    const reader = machine.state;
    return new KeeperCheck({
      reader,
      locations,
      registry,
      propose,
      clock,
      reign,
      logger: silentLogger,
    });
  };
  const write = (path: string, size = 150): Copy =>
    fixture.machine.write(path, size, { keepers: [worker], session, writeType: "MUST_CACHE" });
  const keepers = ({ inode, writeId }: Copy) =>
    containerOf(fixture.machine.state, inode, writeId)!.keepers;
  /** Some reports, and steps after each. */
  const beats = async (count = 4) => {
    for (let i = 0; i < count; i++) {
      reports.tell();
      await check.step();
    }
  };

  beforeEach(() => {
    fixture = new LeaderFixture();
    check = newCheck(fixture);
    worker = fixture.machine.worker("w");
    session = fixture.machine.openSession(10_000_000);
    reports = new Reports(fixture, worker);
  });

  afterEach(() => fixture.end());

  it("takes the duty from a worker whose full report lacks what it kept, and from nothing else", async () => {
    const [there, gone] = [write("/there"), write("/gone")];
    reports.tell({ changed: [copy(there, [0, 1], 150), copy(gone, [0, 1], 150)] });
    await check.step();
    await beats();
    assert.deepEqual(fixture.proposed, []);
    reports.restart();
    reports.tell({ changed: [copy(there, [0, 1], 150)] });
    await check.step();
    await beats();
    assert.deepEqual(fixture.proposed, [{ kind: "keeperGone", worker, containers: [gone] }]);
    assert.deepEqual([keepers(there), keepers(gone)], [[worker], []]);
    assert.equal(await isLost(fixture.machine.state, gone.inode), true);
    assert.equal(await isLost(fixture.machine.state, there.inode), false);
  });

  it("waits for the last page of a full report", async () => {
    const [first, second] = [write("/1"), write("/2")];
    reports.tell({ changed: [copy(first, [0, 1])], complete: false });
    for (let i = 0; i < 5; i++) {
      reports.tell({ complete: false });
      await check.step();
    }
    assert.deepEqual(fixture.proposed, []);
    reports.tell({ changed: [copy(second, [0, 1])] });
    await check.step();
    await beats();
    assert.deepEqual(fixture.proposed, []);
  });

  it("never decides by a report that may be older than the commit", async () => {
    reports.tell();
    await check.step();
    // The report that comes next was made before the bytes came to the worker, the one after it too.
    const late = write("/late");
    fixture.clock.advance(60_000);
    await check.step();
    reports.tell();
    await check.step();
    assert.deepEqual(fixture.proposed, []);
    reports.tell({ changed: [copy(late, [0, 1])] });
    await check.step();
    await beats();
    assert.deepEqual(fixture.proposed, []);
    assert.deepEqual(keepers(late), [worker]);
  });

  it("believes a worker that says a copy is gone, or shorter than what was committed", async () => {
    const [removed, cut, short] = [write("/removed"), write("/cut"), write("/short")];
    const whole = [removed, cut, short].map((each) => copy(each, [0, 1], 150));
    reports.tell({ changed: whole });
    await check.step();
    await beats();
    assert.deepEqual(fixture.proposed, []);
    reports.tell({ removed: [removed], changed: [copy(cut, [0]), copy(short, [0, 1], 149)] });
    await beats();
    assert.deepEqual([keepers(removed), keepers(cut), keepers(short)], [[], [], []]);
    const { machine, locations } = fixture;
    const layouts = new Layouts({
      reader: machine.state,
      locations,
      pendingRenames: () => [],
      silentMs: () => 0,
    });
    assert.deepEqual(
      (await layouts.layoutOf(short.inode)).segments.map((segment) => segment.locations),
      [[worker], []],
      "what there is of a copy can still be read",
    );
    for (const { inode } of [removed, cut, short]) {
      assert.equal(await layouts.isMissing(inode), true);
    }
  });

  it("leaves alone what is being written, until the write is over", async () => {
    const { machine } = fixture;
    const { inode } = machine.create("/open", {}, session);
    const { writeId } = machine.done({ kind: "lease", inode }, session);
    const extents = extentsOver(writeId!, 0, 50);
    const open = { inode, writeId: writeId!, size: 50, extents, keepers: [worker] };
    machine.done(commitCommand({ ...open, baseVersion: machine.inode(inode).version }), session);
    reports.tell();
    await check.step();
    await beats();
    assert.deepEqual(fixture.proposed, []);
    machine.done({ kind: "releaseLease", inode, writeId: writeId! }, session);
    fixture.clock.advance(60_000);
    await beats();
    assert.deepEqual(keepers({ inode, writeId: writeId! }), []);
  });

  it("starts over with a leader that knows the reports from before its reign", async () => {
    const [there, gone] = [write("/there"), write("/gone")];
    reports.tell({ changed: [copy(there, [0, 1])] });
    check = newCheck(fixture);
    await check.step();
    await beats();
    assert.deepEqual([keepers(there), keepers(gone)], [[worker], []]);
  });

  it("compares all of very many, in bounded commands", async () => {
    fixture.machine.isChecked = false;
    for (let i = 0; i < 1200; i++) write(`/${i}`, 10);
    const left = write("/left", 10);
    reports.tell({ changed: [copy(left, [0])] });
    await check.step();
    await beats();
    const sizes = fixture.proposed.map((each) =>
      each.kind === "keeperGone" ? each.containers.length : -1,
    );
    assert.deepEqual(sizes, [500, 500, 200]);
    assert.deepEqual(keepers(left), [worker]);
  });
});
