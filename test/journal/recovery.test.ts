import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { sectorBytes } from "../../src/journal/format.ts";
import { readJournalFiles } from "../../src/journal/files.ts";
import { verifyJournal } from "../../src/journal/inspect.ts";
import type { JournalState } from "../../src/journal/types.ts";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import type { Entry, Index, Term } from "../../src/raft/types.ts";
import { entriesOf, entryAt, identity } from "../contract/journal.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";

/** A segment with some acknowledged writes and the bytes of one more, which is at the end. */
interface Recorded {
  readonly path: string;
  readonly bytes: Buffer;
  /** Where the last write begins and ends. */
  readonly from: number;
  readonly to: number;
  /** How many entries were acknowledged before it, and how many it brought. */
  readonly before: number;
  readonly brought: number;
}

/** Payload sizes per write; the payloads hold runs of zeros too. */
type Writes = readonly (readonly number[])[];

const writes: fc.Arbitrary<Writes> = fc.array(
  fc.array(fc.integer({ min: 0, max: 1800 }), { minLength: 1, maxLength: 3 }),
  { minLength: 1, maxLength: 4 },
);

function payload(size: number, index: number): Uint8Array {
  const bytes = new Uint8Array(size).fill(0x41 + (index % 26));
  if (index % 3 === 0) bytes.fill(0, size >>> 2, size - (size >>> 2));
  return bytes;
}

/** The last write is not attested before its bytes are read, however slow this machine is. */
const stoppedClock: Clock = { ...systemClock, after: () => () => undefined };

async function record(directory: JournalDirectory, sizes: Writes): Promise<Recorded> {
  const journal = await directory.open({ segmentBytes: 64 * 1024, clock: stoppedClock });
  await journal.initialize(identity);
  let [path = ""] = await directory.segments();
  let from = 0;
  let index = 0;
  let before = 0;
  for (const [i, write] of sizes.entries()) {
    const entries = write.map((size): Entry => {
      index++;
      const place = { index: index as Index, term: (i + 1) as Term };
      return { ...place, kind: "command", payload: payload(size, index) };
    });
    if (i === sizes.length - 1) {
      from = endOf(await readFile(path));
      before = index - entries.length;
    }
    await journal.append({ hardState: { term: (i + 1) as Term, vote: `v${i + 1}` }, entries });
  }
  const segments = await directory.segments();
  path = segments[0]!;
  assert.equal(segments.length, 1);
  // As a kill leaves it: closing attests the last write.
  const bytes = await readFile(path);
  await journal.close();
  await writeFile(path, bytes);
  return { path, bytes, from, to: endOf(bytes), before, brought: index - before };
}

/** Behind the last sector that is not zero. */
function endOf(bytes: Buffer): number {
  let end = bytes.length;
  while (bytes.subarray(end - sectorBytes, end).every((byte) => byte === 0)) end -= sectorBytes;
  return end;
}

/** What opens, or the message of the refusal. */
async function reopen(directory: JournalDirectory): Promise<JournalState | string> {
  try {
    const journal = await directory.open();
    const { state } = journal;
    if (state.nodeId !== undefined) {
      // It is written to again: what was cut must not come back.
      const index = (state.baseIndex + state.entries.length + 1) as Index;
      await journal.append({ entries: [{ ...entryAt(index, 99), kind: "noop" }] });
    }
    await journal.close();
    const again = await directory.open();
    assert.equal(
      again.state.entries.length,
      state.entries.length + (state.nodeId === undefined ? 0 : 1),
    );
    await again.close();
    return state;
  } catch (thrown) {
    assert.equal((thrown as { code?: unknown }).code, "Corrupt", String(thrown));
    return (thrown as Error).message;
  }
}

function assertPrefix(state: JournalState, count: number, term: number): void {
  assert.deepEqual(
    state.entries.map((entry) => entry.index),
    Array.from({ length: count }, (_, i) => i + 1),
  );
  for (const { index, payload: bytes } of state.entries) {
    assert.deepEqual(new Uint8Array(bytes), payload(bytes.length, index));
  }
  const vote = term === 0 ? undefined : `v${term}`;
  assert.deepEqual(state.hardState, { term, vote });
}

async function withDirectory<T>(work: (directory: JournalDirectory) => Promise<T>): Promise<T> {
  const directory = await JournalDirectory.make();
  try {
    return await work(directory);
  } finally {
    await directory.remove();
  }
}

describe("journal recovery", function () {
  this.timeout(60_000);

  it("R22: opens without a write of which any sectors were lost, with all that was acknowledged", () =>
    fc.assert(
      fc.asyncProperty(writes, fc.array(fc.nat(), { minLength: 1 }), async (sizes, picks) =>
        withDirectory(async (directory) => {
          const { path, bytes, from, to, before, brought } = await record(directory, sizes);
          const torn = Buffer.from(bytes);
          for (const pick of picks) {
            const at = from + (pick % ((to - from) / sectorBytes)) * sectorBytes;
            torn.fill(0, at, at + sectorBytes);
          }
          await writeFile(path, torn);
          const state = await reopen(directory);
          if (typeof state === "string") assert.fail(state);
          // Sectors that were zero anyway are no loss.
          const kept = torn.equals(bytes) ? 1 : 0;
          assertPrefix(state, before + kept * brought, sizes.length - 1 + kept);
        }),
      ),
      { numRuns: 100 },
    ));

  it("opens without a torn write though bytes of it flipped as well", () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 1000, max: 3000 }), fc.nat(), async (size, pick) =>
        withDirectory(async (directory) => {
          const recorded = await record(directory, [[10], [size]]);
          const { path, bytes, from, to, before } = recorded;
          const torn = Buffer.from(bytes);
          torn.fill(0, to - sectorBytes, to);
          const at = from + sectorBytes + (pick % (to - from - 2 * sectorBytes));
          torn[at] = torn[at]! ^ 0x10;
          await writeFile(path, torn);
          const state = await reopen(directory);
          if (typeof state === "string") assert.fail(state);
          assertPrefix(state, before, 1);
        }),
      ),
      { numRuns: 50 },
    ));

  it("never loses what was acknowledged to a write that was cut at any byte", async () => {
    await withDirectory(async (directory) => {
      const { path, bytes, from, to, before, brought } = await record(directory, [[300], [5, 700]]);
      for (let at = from; at < to; at += 7) {
        await writeFile(
          path,
          Buffer.concat([bytes.subarray(0, at), Buffer.alloc(bytes.length - at)]),
        );
        const state = await reopen(directory);
        // Within a sector no disk tears; it may be refused, but nothing is opened that is not whole.
        if (typeof state === "string") assert.notEqual((at - from) % sectorBytes, 0, state);
        else assertPrefix(state, state.entries.length === before ? before : before + brought, 1);
      }
    });
  });

  it("R21: refuses to open when any byte that was synced has flipped, and never cuts it", () =>
    withDirectory(async (directory) => {
      const { path, bytes, to } = await record(directory, [[1], [40, 600], [0], [3, 2200]]);
      for (let at = 0; at < to; at++) {
        // One bit, another one for each byte.
        bytes[at] = bytes[at]! ^ (1 << (at % 8));
        await writeFile(path, bytes);
        await assert.rejects(
          verifyJournal(readJournalFiles(directory.path)),
          { code: "Corrupt" },
          `byte ${at}`,
        );
        bytes[at] = bytes[at]! ^ (1 << (at % 8));
      }
      await writeFile(path, bytes);
      const { frameCount, state } = await verifyJournal(readJournalFiles(directory.path));
      assert.deepEqual([frameCount, state.entries.length], [5, 6]);
    }));

  it("R21: refuses to open when sectors before the last write were lost", () =>
    withDirectory(async (directory) => {
      const { path, bytes, from } = await record(directory, [[1], [40, 600], [0], [3]]);
      for (let at = 0; at < from; at += sectorBytes) {
        const damaged = Buffer.from(bytes);
        damaged.fill(0, at, at + sectorBytes);
        await writeFile(path, damaged);
        await assert.rejects(
          verifyJournal(readJournalFiles(directory.path)),
          { code: "Corrupt" },
          `byte ${at}`,
        );
      }
    }));

  it("names the file, the offset and the two ways back when it refuses", () =>
    withDirectory(async (directory) => {
      const { path, bytes, from } = await record(directory, [[100], [100]]);
      bytes[from + 100] = bytes[from + 100]! ^ 1;
      await writeFile(path, bytes);
      const message = await reopen(directory);
      assert.ok(typeof message === "string");
      assert.ok(message.includes(path) && message.includes(`byte ${from}`), message);
      assert.match(message, /empty data directory.*learner.*weir cluster replace/);
      assert.match(message, /restore a backup.*weir backup restore/);
    }));

  it("R3: never finds a term with the vote of another term", () =>
    withDirectory(async (directory) => {
      const journal = await directory.open();
      await journal.initialize(identity);
      await journal.append({ hardState: { term: 5 as Term, vote: "node-a" }, entries: [] });
      const [path = ""] = await directory.segments();
      const before = await readFile(path);
      const from = endOf(before);
      await journal.append({ hardState: { term: 6 as Term, vote: "node-b" }, entries: [] });
      const after = await readFile(path);
      await journal.close();
      const to = endOf(after);
      assert.equal(to - from, sectorBytes);
      for (let at = from; at <= to; at++) {
        const cut = Buffer.concat([after.subarray(0, at), before.subarray(at)]);
        await writeFile(path, cut);
        const state = await reopen(directory);
        if (typeof state === "string") continue;
        assert.ok(cut.equals(before) || cut.equals(after), `opened with a write cut at ${at}`);
        const vote = cut.equals(after) ? { term: 6, vote: "node-b" } : { term: 5, vote: "node-a" };
        assert.deepEqual(state.hardState, vote);
      }
    }));

  it("R23: takes a first record that was not finished for one that was never written", () =>
    withDirectory(async (directory) => {
      const journal = await directory.open();
      await journal.close();
      // A crash before the first segment got its name.
      await writeFile(`${directory.path}/spare-0.tmp`, Buffer.alloc(700, 1));
      const again = await directory.open();
      assert.equal(again.state.nodeId, undefined);
      await again.initialize(identity);
      await again.close();
    }));

  it("R23: takes a first hard state that was not finished for one that was never written", () =>
    withDirectory(async (directory) => {
      const { path, bytes, from, to } = await record(directory, [[0]]);
      bytes.fill(0, from, to);
      await writeFile(path, bytes);
      const state = await reopen(directory);
      assert.ok(typeof state !== "string");
      assert.deepEqual(state.hardState, { term: 0, vote: undefined });
      assert.equal(state.nodeId, identity.nodeId);
    }));

  it("R23: refuses a first record that is empty or half-written though it was attested", () =>
    withDirectory(async (directory) => {
      const { path, bytes } = await record(directory, [[0]]);
      for (const length of [0, 1, sectorBytes, sectorBytes + 20, bytes.length - 1]) {
        await writeFile(path, bytes.subarray(0, length));
        assert.equal(typeof (await reopen(directory)), "string");
      }
      const blank = Buffer.from(bytes).fill(0, sectorBytes, 2 * sectorBytes);
      await writeFile(path, blank);
      assert.equal(typeof (await reopen(directory)), "string");
    }));

  it("R17: refuses to open when a segment is missing, whichever it is", () =>
    withDirectory(async (directory) => {
      const journal = await directory.open({ segmentBytes: 4096 });
      await journal.initialize(identity);
      for (const entry of entriesOf(1, 30)) await journal.append({ entries: [entry] });
      await journal.close();
      const segments = await directory.segments();
      assert.ok(segments.length >= 4);
      for (const path of segments.slice(0, -1)) {
        const bytes = await readFile(path);
        await rm(path);
        await assert.rejects(directory.open(), { code: "Corrupt" });
        await writeFile(path, bytes);
      }
      const whole = await directory.open();
      assert.equal(whole.state.entries.length, 29);
      await whole.close();
    }));

  it("R17: never opens with a gap behind its base, wherever appends, compactions and resets were killed", () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant("append" as const),
          count: fc.integer({ min: 1, max: 6 }),
        }),
      },
      fc.record({ kind: fc.constant("truncate" as const), back: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ kind: fc.constant("compact" as const), back: fc.integer({ min: 0, max: 5 }) }),
      fc.record({ kind: fc.constant("reset" as const), ahead: fc.integer({ min: -3, max: 9 }) }),
      fc.record({ kind: fc.constant("kill" as const) }),
    );
    return fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) =>
        withDirectory(async (directory) => {
          let journal = await directory.open({ segmentBytes: 4096 });
          await journal.initialize(identity);
          let [base, last, term] = [0, 0, 1];
          for (const each of steps) {
            // What is not waited for here is under way when a kill comes.
            switch (each.kind) {
              case "append":
                void journal.append({ entries: entriesOf(last + 1, last + 1 + each.count, term) });
                last += each.count;
                break;
              case "truncate": {
                const from = Math.max(base, last - each.back) + 1;
                term++;
                await journal.append({ entries: entriesOf(from, from + 1, term) });
                last = from;
                break;
              }
              case "compact": {
                const index = Math.max(base, last - each.back);
                void journal.compact(index as Index, term as Term);
                base = index;
                break;
              }
              case "reset":
                base = last = Math.max(0, last + each.ahead);
                await journal.reset(base as Index, term as Term);
                break;
              case "kill": {
                const { state } = await killAndOpen();
                base = state.baseIndex;
                last = base + state.entries.length;
                break;
              }
            }
          }
          const { state } = await killAndOpen();
          await journal.close();
          assert.ok(state.baseIndex + state.entries.length <= last);

          async function killAndOpen(): Promise<{ state: JournalState }> {
            const killed = journal;
            await copyAsItIs(directory);
            await killed.close();
            journal = await directory.open({ segmentBytes: 4096 });
            const { state: found } = journal;
            found.entries.forEach((entry, i) => assert.equal(entry.index, found.baseIndex + 1 + i));
            return { state: found };
          }
        }),
      ),
      { numRuns: 60 },
    );
  });
});

/** A copy taken while writes go on; segments that vanish meanwhile make it begin anew. */
async function copyAsItIs(directory: JournalDirectory): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      await directory.copy();
      return;
    } catch (thrown) {
      assert.equal((thrown as NodeJS.ErrnoException).code, "ENOENT");
      directory.discardCopy();
    }
  }
  assert.fail("the journal did not hold still");
}
