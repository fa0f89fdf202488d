import assert from "node:assert/strict";
import type { InodeId, SessionId, WorkerId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { Compactor } from "../../../src/master/services/compactor.ts";
import { firstRange } from "../../../src/master/services/compaction-range.ts";
import { Layouts } from "../../../src/master/services/layouts.ts";
import { fewExtents } from "../../../src/master/state/compaction.ts";
import type { WriteId } from "../../../src/lib/ids.ts";
import type { Extent } from "../../../src/rpc/namespace.ts";
import type { Task, TaskResult } from "../../../src/rpc/tasks.ts";
import { blockSizeBytes, commitCommand } from "../state/machine-fixture.ts";
import { turn } from "./manual-clock.ts";
import { LeaderFixture, ObservedMachine, obey } from "./leader-fixture.ts";

type CompactTask = Extract<Task, { kind: "compact" }>;

describe("Compactor", function () {
  this.timeout(30_000);
  let fixture: LeaderFixture;
  let session: SessionId;
  let able: WorkerId[];
  /** What workers were asked to put together. */
  let tasks: CompactTask[];
  let answer: (task: CompactTask) => TaskResult;

  beforeEach(() => {
    fixture = new LeaderFixture(ObservedMachine.start());
    fixture.machine.isChecked = false;
    session = fixture.machine.openSession(1e9);
    tasks = [];
    answer = ({ taskId, chain }) => ({ kind: "compacted", taskId, keepers: chain });
    able = ["a", "b", "c"].map((uuid) =>
      fixture.worker(uuid, (task) => {
        if (task.kind !== "compact") return obey(task);
        tasks.push(task);
        return answer(task);
      }),
    );
  });
  afterEach(() => fixture.end());

  function start(): void {
    const { machine, locations } = fixture;
    const layouts = new Layouts({
      reader: machine.state,
      locations,
      pendingRenames: () => [],
      silentMs: () => 0,
    });
    new Compactor({
      reader: machine.state,
      propose: fixture.propose,
      layoutOf: (inode, offset, length) => layouts.layoutOf(inode, offset, length),
      run: (task, placement, signal) => fixture.dispatcher.run(task, placement, signal),
      workers: () => able.map((id) => ({ id, compacts: true })),
      reign: fixture.reign,
      clock: fixture.clock,
      logger: silentLogger,
    });
  }

  /** A file of extents of one byte with one between them. */
  function scattered(
    path: string,
    keepers: readonly WorkerId[],
    count = fewExtents + 100,
  ): InodeId {
    const { machine } = fixture;
    const inode = machine.create(path, { writeType: "MUST_CACHE" }).inode;
    const { writeId } = machine.done({ kind: "lease", inode }, session);
    for (let from = 0, version = 1; from < count; from += 500, version++) {
      const extents: Extent[] = [];
      for (let i = from; i < Math.min(count, from + 500); i++) {
        const place = { blockIndex: i, offset: 0 };
        extents.push({ fileOffset: 2 * i, length: 1, writeId: writeId!, ...place });
      }
      const size = 2 * Math.min(count, from + 500);
      const of = { inode, writeId: writeId!, size, extents, keepers, baseVersion: version };
      machine.done(commitCommand({ ...of, release: size === 2 * count }), session);
    }
    return inode;
  }

  /** Lets time pass until `condition` holds. */
  async function until(condition: () => boolean): Promise<void> {
    for (let i = 0; !condition(); i++) {
      assert.ok(i < 500, "it does not come");
      fixture.clock.advance(500);
      await turn();
    }
  }

  async function pass(seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i++) {
      fixture.clock.advance(1000);
      await turn();
    }
  }

  it("goes through a file, on as many workers as keep it, those first that have it", async () => {
    const inode = scattered("/a", [able[1]!, able[2]!]);
    start();
    await until(() => fixture.machine.inode(inode).compaction?.isWanted === false);
    assert.ok(fixture.machine.inode(inode).extentCount < fewExtents / 20);
    for (const { chain } of tasks) assert.deepEqual(chain, [able[1], able[2]]);
    assert.deepEqual(tasks[0]!.from, 0);
    assert.ok(tasks.every(({ to }, i) => i === 0 || to > tasks[i - 1]!.to));
  });

  it("tries again, later each time, what has failed, and leaves nothing under way", async () => {
    const inode = scattered("/a", [able[0]!]);
    let failures = 0;
    const succeed = answer;
    answer = ({ taskId }) => {
      failures++;
      return { kind: "failed", taskId, code: "Unavailable", message: "no" };
    };
    start();
    await until(() => failures === 3);
    await until(() => fixture.machine.inode(inode).compaction?.running === undefined);
    answer = succeed;
    await until(() => fixture.machine.inode(inode).compaction?.isWanted === false);
    assert.ok(fixture.machine.inode(inode).extentCount < fewExtents / 20);
  });

  it("takes nothing that fewer workers keep, nor where there are too few", async () => {
    const inode = scattered("/a", [able[0]!, able[1]!]);
    const { extentCount } = fixture.machine.inode(inode);
    answer = ({ taskId, chain }) => ({ kind: "compacted", taskId, keepers: chain.slice(0, 1) });
    start();
    await until(() => tasks.length >= 2);
    able = [able[0]!];
    const before = tasks.length;
    await pass(100);
    assert.ok(tasks.length <= before + 1);
    assert.equal(fixture.machine.inode(inode).extentCount, extentCount);
  });

  it("ends what a leader before has left, and does it anew", async () => {
    const inode = scattered("/a", [able[0]!]);
    const { machine } = fixture;
    const left = machine.done({ kind: "startCompaction", inode, from: 0, to: 50 }).writeId;
    start();
    await until(() => machine.inode(inode).compaction?.isWanted === false);
    assert.ok(tasks.every(({ writeId }) => writeId !== left));
    assert.ok(machine.inode(inode).extentCount < fewExtents / 20);
  });

  it("goes on behind what is written again and again, and comes back to it", async () => {
    const inode = scattered("/a", [able[0]!]);
    const { machine } = fixture;
    const succeed = answer;
    let writes = 0;
    answer = (task) => {
      if (task.from === 0 && writes++ < 3) {
        const { writeId, status } = machine.done({ kind: "lease", inode }, session);
        const extents = [{ fileOffset: 0, length: 1, writeId: writeId!, blockIndex: 0, offset: 0 }];
        const { size, version } = status!;
        const of = { inode, writeId: writeId!, size, extents, keepers: [able[0]!] };
        machine.done(commitCommand({ ...of, baseVersion: version, release: true }), session);
      }
      return succeed(task);
    };
    start();
    await until(() => machine.inode(inode).extentCount < fewExtents / 3);
    assert.equal(writes, 1);
    await until(() => machine.inode(inode).compaction?.isWanted === false);
    assert.equal(writes, 4);
    assert.ok(machine.inode(inode).extentCount < fewExtents / 20);
  });

  it("waits while the file is persisted", async () => {
    const inode = scattered("/a", [able[0]!]);
    fixture.machine.done({ kind: "persist", inode });
    start();
    await pass(100);
    assert.equal(tasks.length, 0);
    for (const op of fixture.machine.pending())
      fixture.machine.ufsDone(op.id, { fingerprint: "p" });
    await until(() => fixture.machine.inode(inode).compaction?.isWanted === false);
    assert.equal(tasks.length, 0);
  });

  it("forgets a file that went meanwhile", async () => {
    const inode = scattered("/a", [able[0]!]);
    fixture.machine.done({ kind: "unlink", parent: 1 as InodeId, name: "a", held: false });
    start();
    await until(() => fixture.machine.inode(inode).compaction?.isWanted === false);
    assert.equal(tasks.length, 0);
  });
});

describe("which extents are put together", () => {
  const block = blockSizeBytes * 1000;
  const extentAt = (fileOffset: number, length: number): Extent => {
    return { fileOffset, length, writeId: 1 as WriteId, blockIndex: 0, offset: 0 };
  };
  const small = (from: number, count: number, gap: number) =>
    Array.from({ length: count }, (_, i) => extentAt(from + i * (10 + gap), 10));

  it("are small ones that lie close to each other, and many", () => {
    assert.deepEqual(firstRange(small(0, 8, 0), block), { from: 0, to: 80, extentCount: 8 });
    assert.equal(firstRange(small(0, 7, 0), block), undefined);
    assert.equal(firstRange(small(0, 100, 70_000), block), undefined);
  });

  it("end at a large one, and begin behind it", () => {
    const extents = [...small(0, 3, 0), extentAt(30, block / 2), ...small(block, 9, 0)];
    assert.deepEqual(firstRange(extents, block), { from: block, to: block + 90, extentCount: 9 });
    const before = [...small(0, 8, 0), extentAt(80, block / 2)];
    assert.deepEqual(firstRange(before, block), { from: 0, to: 80, extentCount: 8 });
  });

  it("are no more bytes than a container is to have", () => {
    const all = small(0, 1000, 990);
    const range = firstRange(all, block)!;
    assert.ok(range.to - range.from <= 4 * block);
    assert.ok(range.extentCount < all.length);
  });
});
