import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { InodeId, WorkerId, WriteId } from "../../../src/lib/ids.ts";
import { checkLive } from "../../../src/master/services/serve-fsck.ts";
import type { Heartbeat } from "../../../src/master/services/worker-registry.ts";
import type { FsckItem } from "../../../src/rpc/fsck-items.ts";
import { LeaderFixture } from "./leader-fixture.ts";

interface Copy {
  readonly inode: InodeId;
  readonly writeId: WriteId;
}

const wholeOf = ({ inode, writeId }: Copy, length: number): Heartbeat["changed"][number] => ({
  inode,
  writeId,
  blocks: [0],
  kept: true,
  length,
});

describe("A check of a live master", () => {
  let fixture: LeaderFixture;
  let worker: WorkerId;
  let sequence: number;

  beforeEach(() => {
    fixture = new LeaderFixture();
    worker = fixture.machine.worker("w");
    sequence = 0;
  });

  afterEach(() => fixture.end());

  const tell = (of: Partial<Heartbeat> = {}) => {
    const full = sequence === 0;
    const base = { worker, incarnation: "a", sequence: sequence++, full, changed: [], removed: [] };
    const rest = { usedBytes: [], freeSlots: 0, waitMs: 0, complete: true, jobs: undefined };
    assert.ok(fixture.registry.report({ ...base, ...rest, ...of }));
  };

  const write = (path: string): Copy =>
    fixture.machine.write(path, 50, {
      keepers: [worker],
      session: fixture.machine.openSession(10_000_000),
      writeType: "MUST_CACHE",
    });

  /** Runs a check, while the worker goes on to report. */
  const check = async (limit = 100): Promise<Extract<FsckItem, { kind: "end" }>> => {
    const { machine, locations, registry, clock } = fixture;
    const parts = { name: "master-1", store: machine.state, locations, registry, clock };
    const { signal } = new AbortController();
    const items: FsckItem[] = [];
    let isOver = false;
    const run = (async () => {
      for await (const item of checkLive(parts, { rowsPerSecond: 0, limit }, signal))
        items.push(item);
      isOver = true;
    })();
    while (!isOver) {
      if (sequence > 0) tell();
      await nextTurn();
    }
    await run;
    const end = items.at(-1);
    assert.ok(end?.kind === "end");
    return end;
  };

  it("finds nothing where each keeper has what it is to keep", async () => {
    const copy = write("/file");
    tell({ changed: [wholeOf(copy, 50)] });
    const { findings, found, inodes, master } = await check();
    assert.deepEqual(findings, []);
    assert.deepEqual({ found, inodes, master }, { found: 0, inodes: 3, master: "master-1" });
  });

  it("finds bytes that their keeper does not have, once it has told again all that it has", async () => {
    const [there, gone] = [write("/there"), write("/gone")];
    tell({ changed: [wholeOf(there, 50)] });
    const { findings } = await check();
    assert.deepEqual(
      findings.map(({ check: kind, inode, path }) => ({ kind, inode, path })),
      [{ kind: "lost", inode: gone.inode, path: "/gone" }],
    );
  });

  it("does not take bytes for lost that a report tells of which came after the state was read", async () => {
    const copy = write("/late");
    tell();
    const running = check();
    tell({ changed: [wholeOf(copy, 50)] });
    assert.deepEqual((await running).findings, []);
  });

  it("believes a keeper that has not told all yet", async () => {
    write("/file");
    assert.deepEqual((await check()).findings, []);
  });

  it("finds bytes whose keepers are all lost", async () => {
    const { inode } = write("/file");
    fixture.machine.done({ kind: "workerLost", worker });
    const { findings } = await check();
    assert.deepEqual(
      findings.map(({ check: kind, inode: of }) => ({ kind, of })),
      [{ kind: "lost", of: inode }],
    );
  });

  it("finds copies that nothing names, and not those of writes that it has not applied", async () => {
    const copy = write("/file");
    const stray = { inode: 900 as InodeId, writeId: 1 as WriteId };
    const coming = { inode: 901 as InodeId, writeId: (2 ** 40) as WriteId };
    tell({ changed: [wholeOf(copy, 50), wholeOf(stray, 50), wholeOf(coming, 50)] });
    const { findings } = await check();
    assert.deepEqual(
      findings.map(({ check: kind, inode }) => ({ kind, inode })),
      [{ kind: "orphan", inode: stray.inode }],
    );
  });

  it("gives as many findings as are asked for, and the number of all", async () => {
    for (let i = 0; i < 5; i++) write(`/file${i}`);
    fixture.machine.done({ kind: "workerLost", worker });
    const { findings, found } = await check(2);
    assert.deepEqual([findings.length, found], [2, 5]);
  });
});
