import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { inspectJournal, type Inspected, verifyJournal } from "../../src/journal/inspect.ts";
import {
  type JournalFiles,
  openJournalFiles,
  readJournalFiles,
  type SegmentWriter,
} from "../../src/journal/files.ts";
import { seededRandom } from "../../src/lib/clock.ts";
import type { Index, Term } from "../../src/raft/types.ts";
import { entriesOf, entryAt, identity } from "../contract/journal.ts";
import { payloadAt } from "../lib/journal-child.ts";
import { eventually } from "../lib/eventually.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";
import { RecordedFiles } from "../lib/recorded-files.ts";

const childPath = fileURLToPath(new URL("../lib/journal-child.ts", import.meta.url));

function startChild(directory: string): ChildProcess {
  return spawn(process.execPath, ["--import", "tsx", childPath, directory], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => child.once("close", () => resolve()));
}

/** Files of the disk, but for the writers, which `wrap` makes of the real ones. */
function withWriter(
  wrap: (writer: SegmentWriter) => SegmentWriter,
): (directory: string) => Promise<JournalFiles> {
  return async (directory) => {
    const files = await openJournalFiles(directory);
    return { ...files, openWriter: async (name) => wrap(await files.openWriter(name)) };
  };
}

describe("journal on files", () => {
  let directory: JournalDirectory;
  beforeEach(async () => {
    directory = await JournalDirectory.make();
  });
  afterEach(() => directory.remove());

  it("writes appends that arrive during a write together as the next one", async () => {
    const journal = await directory.open();
    await journal.initialize(identity);
    await Promise.all(entriesOf(1, 101).map((entry) => journal.append({ entries: [entry] })));
    const { frameCount } = await verifyJournal(readJournalFiles(directory.path));
    // The head, the first append, and the other 99.
    assert.equal(frameCount, 3);
    await journal.close();
  });

  it("starts new segments, and removes those that lie wholly behind a compaction", async () => {
    const journal = await directory.open({ segmentBytes: 8192 });
    await journal.initialize(identity);
    for (const entry of entriesOf(1, 100)) await journal.append({ entries: [entry] });
    const before = await directory.segments();
    assert.ok(before.length > 5);
    await journal.compact(90 as Index, 1 as Term);
    await eventually("the old segments to go", async () => {
      const after = await directory.segments();
      assert.ok(after.length <= 4 && after[0]! > before[0]!);
      const size = journal.sizeBytes();
      assert.ok(size <= 4 * 8192, `${size} bytes`);
      return true;
    });
    await journal.close();
    const again = await directory.open();
    assert.equal(again.state.nodeId, identity.nodeId);
    assert.deepEqual(again.state.members, identity.members);
    assert.equal(again.state.entries.length, 9);
    await again.close();
  });

  it("takes an entry that is longer than a segment", async () => {
    const journal = await directory.open({ segmentBytes: 4096 });
    await journal.initialize(identity);
    const payload = new Uint8Array(3_000_000).fill(7);
    await journal.append({ entries: [entryAt(1), { ...entryAt(2), payload }, entryAt(3)] });
    await journal.close();
    const again = await directory.open();
    assert.equal(again.state.entries.length, 3);
    assert.ok(Buffer.from(again.state.entries[1]!.payload).equals(payload));
    await again.close();
  });

  it("rejects with the first failed write, and everything after it, without another write", async () => {
    let [writes, failing] = [0, false];
    const journal = await directory.open({
      openFiles: withWriter((writer) => ({
        close: () => writer.close(),
        write: async (bytes, position) => {
          writes++;
          if (failing) throw new Error("EIO: i/o error, fdatasync");
          await writer.write(bytes, position);
        },
      })),
    });
    await journal.initialize(identity);
    await journal.append({ entries: [entryAt(1)] });
    failing = true;
    const results = await Promise.allSettled([
      journal.append({ entries: [entryAt(2)] }),
      journal.append({ entries: [entryAt(3)] }),
      journal.compact(1 as Index, 1 as Term),
    ]);
    const atFailure = writes;
    failing = false;
    for (const result of results) assert.equal(result.status, "rejected");
    await assert.rejects(journal.append({ entries: [entryAt(4)] }), { code: "Unavailable" });
    await assert.rejects(journal.reset(9 as Index, 1 as Term), { code: "Unavailable" });
    assert.equal(writes, atFailure);
    await journal.close();
  });

  it("refuses entries while the disk is nearly full, and lets votes through", async () => {
    const journal = await directory.open({ reservedDiskBytes: Number.MAX_SAFE_INTEGER });
    await journal.initialize(identity);
    assert.equal(journal.diskFull, true);
    await assert.rejects(journal.append({ entries: [entryAt(1)] }), { code: "DiskFull" });
    await journal.append({ hardState: { term: 3 as Term, vote: "node-b" }, entries: [] });
    await journal.close();
    const again = await directory.open();
    assert.equal(again.diskFull, false);
    assert.deepEqual(again.state.hardState, { term: 3, vote: "node-b" });
    assert.equal(again.state.entries.length, 0);
    await again.append({ entries: [entryAt(1)] });
    await again.close();
  });

  it("tells the age of the write under way", async () => {
    let nowMs = 1000;
    let go: () => void = () => undefined;
    const journal = await directory.open({
      clock: { monotonicMs: () => nowMs, wallMs: () => nowMs, after: () => () => undefined },
      openFiles: withWriter((writer) => ({
        close: () => writer.close(),
        write: async (bytes, position) => {
          if (position === 1024) await new Promise<void>((resolve) => (go = resolve));
          await writer.write(bytes, position);
        },
      })),
    });
    await journal.initialize(identity);
    const pending = journal.append({ entries: [entryAt(1)] });
    nowMs += 250;
    assert.equal(journal.oldestWriteAgeMs(), 250);
    go();
    await pending;
    assert.equal(journal.oldestWriteAgeMs(), 0);
    await journal.close();
  });

  it("lets nobody else open it, in this process or another, until it is closed or killed", async function () {
    this.timeout(60_000);
    const journal = await directory.open();
    await assert.rejects(directory.open(), { code: "Busy" });
    await journal.close();
    await (await directory.open()).close();

    const child = startChild(directory.path);
    const closed = ended(child);
    await new Promise<void>((resolve) =>
      createInterface(child.stdout!).once("line", () => resolve()),
    );
    await assert.rejects(directory.open(), { code: "Busy" });
    child.kill("SIGKILL");
    await closed;
    await (await directory.open()).close();
    assert.deepEqual(
      (await readdir(directory.path)).filter((name) => !name.endsWith(".wal")),
      [],
    );
  });

  it("opens past the lock of a process whose id is in use again", async () => {
    await (await directory.open()).close();
    await writeFile(`${directory.path}/lock`, `${process.ppid} other-boot:12345 0`);
    await (await directory.open()).close();
  });

  it("lists what it holds, and where it is damaged", async () => {
    const journal = await directory.open();
    await journal.initialize(identity);
    await journal.append({
      hardState: { term: 1 as Term, vote: undefined },
      entries: [entryAt(1)],
    });
    await journal.append({ entries: [entryAt(2)] });
    await journal.close();
    const list = async () => {
      const found: Inspected[] = [];
      for await (const each of inspectJournal(readJournalFiles(directory.path))) found.push(each);
      return found;
    };
    assert.deepEqual(
      (await list()).map((each) =>
        each.kind === "record" ? [each.offset, each.record.type] : [0, each.kind],
      ),
      [
        [0, "segment"],
        [512, "identity"],
        [1024, "hardState"],
        [1024, "entry"],
        [1536, "entry"],
      ],
    );
    const [path = ""] = await directory.segments();
    const bytes = await readFile(path);
    bytes[1100] = bytes[1100]! ^ 1;
    await writeFile(path, bytes);
    const damaged = await list();
    assert.deepEqual(
      damaged.map((each) => ("offset" in each ? [each.offset, each.kind] : [0, each.kind])),
      [
        [0, "segment"],
        [512, "record"],
        [1024, "problem"],
        [1536, "record"],
      ],
    );
  });

  it("has everything that a process killed at random had acknowledged", async function () {
    this.timeout(120_000);
    const random = seededRandom(20_240_611);
    for (let round = 0; round < 6; round++) {
      const child = startChild(directory.path);
      const closed = ended(child);
      let [index, term, lines] = [0, 0, 0];
      const killAfter = 1 + random.below(400);
      createInterface(child.stdout!).on("line", (line) => {
        const [acknowledged = 0, withTerm = 0] = line.split(" ").map(Number);
        index = Math.max(index, acknowledged);
        term = Math.max(term, withTerm);
        if (++lines === killAfter) child.kill("SIGKILL");
      });
      await closed;
      assert.ok(lines >= killAfter, "the child ended by itself");
      const journal = await directory.open();
      const { entries, baseIndex, hardState } = journal.state;
      await journal.close();
      assert.ok(baseIndex + entries.length >= index, `entry ${index} is missing`);
      assert.ok(hardState.term >= term, `term ${term} is missing`);
      assert.equal(hardState.vote, `voted-${hardState.term}`);
      entries.forEach((entry, i) => {
        assert.equal(entry.index, baseIndex + 1 + i);
        assert.deepEqual(new Uint8Array(entry.payload), payloadAt(entry.index));
      });
    }
  });
});

describe("journal on a disk that fails or stalls", () => {
  let directory: JournalDirectory;
  beforeEach(async () => {
    directory = await JournalDirectory.make();
  });
  afterEach(() => directory.remove());

  it("writes once to go over to the next segment, which was prepared before", async () => {
    const files = new RecordedFiles<undefined>();
    const journal = await directory.open({ segmentBytes: 8192, openFiles: () => files.open() });
    await journal.initialize(identity);
    let rolls = 0;
    for (let i = 1; i <= 60; i++) {
      // Time for what is prepared in the background.
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      const from = files.history.length;
      await journal.append({ entries: [entryAt(i)] });
      const writes = files.history.slice(from).filter(({ kind }) => kind === "write");
      assert.equal(writes.length, 1, `entry ${i}`);
      const [write] = writes;
      if (write?.kind === "write" && write.position === 512) rolls++;
    }
    assert.ok(rolls >= 3, `${rolls} rolls`);
    await journal.close();
  });

  for (const step of ["create", "rename", "syncDirectory", "openWriter"] as const) {
    it(`goes on when "${step}" fails ahead of need, and ends, without another try, when the need is there`, async () => {
      let [isFailing, calls] = [false, 0];
      const journal = await directory.open({
        segmentBytes: 8192,
        openFiles: async (path) => {
          const files = await openJournalFiles(path);
          const fail = () => {
            calls++;
            return isFailing ? Promise.reject(new Error("EIO: i/o error")) : undefined;
          };
          return {
            ...files,
            [step]: async (...args: never[]) => {
              await fail();
              return (files[step] as (...each: never[]) => Promise<unknown>)(...args);
            },
          };
        },
      });
      await journal.initialize(identity);
      isFailing = true;
      let acknowledged = 0;
      const failure = await (async () => {
        for (let i = 1; i <= 60; i++) {
          await journal.append({ entries: [entryAt(i)] });
          acknowledged = i;
        }
      })().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      assert.equal((failure as { code?: string }).code, "Unavailable");
      assert.ok(acknowledged >= 10, "entries fit into the segment that was there");
      const atFailure = calls;
      isFailing = false;
      await assert.rejects(journal.append({ entries: [entryAt(acknowledged + 1)] }));
      assert.equal(calls, atFailure);
      await journal.close();
      const again = await directory.open();
      assert.equal(again.state.entries.length, acknowledged);
      await again.close();
    });
  }

  it("tells the age of a commit that waits for a segment to be made or named", async () => {
    for (const step of ["create", "rename", "syncDirectory"] as const) {
      const place = await JournalDirectory.make();
      let nowMs = 1000;
      let go: (() => void) | undefined;
      let isStalled = false;
      const journal = await place.open({
        segmentBytes: 4096,
        clock: { monotonicMs: () => nowMs, wallMs: () => nowMs, after: () => () => undefined },
        openFiles: async (path) => {
          const files = await openJournalFiles(path);
          return {
            ...files,
            [step]: async (...args: never[]) => {
              if (isStalled) await new Promise<void>((resolve) => (go = resolve));
              return (files[step] as (...each: never[]) => Promise<unknown>)(...args);
            },
          };
        },
      });
      await journal.initialize(identity);
      isStalled = true;
      const writes = Array.from({ length: 20 }, (_, i) =>
        journal.append({ entries: [entryAt(i + 1, 1, "x".repeat(400))] }),
      );
      await eventually("the disk to stall", () => go !== undefined);
      // As far as commits get without the next segment.
      await eventually("the commit to wait", () => {
        nowMs += 400;
        return journal.oldestWriteAgeMs() > 1000;
      });
      isStalled = false;
      go!();
      await Promise.all(writes);
      assert.equal(journal.oldestWriteAgeMs(), 0);
      await journal.close();
      await place.remove();
    }
  });

  async function compactOnFullDisk(needed: number): Promise<void> {
    let isFull = false;
    const journal = await directory.open({
      segmentBytes: 4 * 1024 * 1024,
      reservedDiskBytes: 1024,
      openFiles: async (path) => {
        const files = await openJournalFiles(path);
        return {
          ...files,
          freeBytes: async () => (isFull ? 0 : Number.MAX_SAFE_INTEGER),
          create: (name, sizeBytes, head) =>
            isFull
              ? Promise.reject(new Error("ENOSPC: no space left on device, write"))
              : files.create(name, sizeBytes, head),
        };
      },
    });
    await journal.initialize(identity);
    const payload = new Uint8Array(256 * 1024).fill(7);
    const last = 14;
    for (let index = 1; index <= last; index++) {
      await journal.append({ entries: [{ ...entryAt(index), payload }] });
    }
    await eventually("the next segment", () => journal.sizeBytes() > 8 * 1024 * 1024);
    isFull = true;
    await eventually("the disk to be found full", () => journal.diskFull);
    await journal.compact((last - needed) as Index, 1 as Term);
    if (needed === 0) {
      await eventually("the room", () => journal.sizeBytes() <= 4 * 1024 * 1024);
    }
    isFull = false;
    await eventually("the disk to have room", () => !journal.diskFull);
    await journal.append({ entries: [entryAt(last + 1)] });
    await journal.close();
    const { state } = await directory.open();
    assert.deepEqual([state.baseIndex, state.entries.length], [last - needed, 1 + needed]);
  }

  it("leaves its segment on a full disk when nothing in it is needed any more, and needs no room for that", () =>
    compactOnFullDisk(0));

  it("keeps its segment on a full disk while one entry in it is needed", () =>
    compactOnFullDisk(1));

  it("lets votes through for as long as the disk has no room for another segment", async () => {
    let isFull = false;
    const journal = await directory.open({
      segmentBytes: 16 * 1024,
      reservedDiskBytes: 1024,
      openFiles: async (path) => {
        const files = await openJournalFiles(path);
        return {
          ...files,
          freeBytes: async () => (isFull ? 0 : Number.MAX_SAFE_INTEGER),
          create: (name, sizeBytes, head) =>
            isFull
              ? Promise.reject(new Error("ENOSPC: no space left on device, write"))
              : files.create(name, sizeBytes, head),
        };
      },
    });
    await journal.initialize(identity);
    isFull = true;
    await eventually("the disk to be found full", () => journal.diskFull);
    await assert.rejects(journal.append({ entries: [entryAt(1)] }), { code: "DiskFull" });
    for (let term = 1; term <= 12; term++) {
      await journal.append({ hardState: { term: term as Term, vote: "node-b" }, entries: [] });
    }
    await journal.close();
    const again = await directory.open();
    assert.deepEqual(again.state.hardState, { term: 12, vote: "node-b" });
    await again.close();
  });
});
