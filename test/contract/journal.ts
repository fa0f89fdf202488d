/** What every `Journal` keeps to; run by the one on files and by the one in memory. */
import assert from "node:assert/strict";
import type { Journal } from "../../src/journal/types.ts";
import type { Entry, Index, Term } from "../../src/raft/types.ts";

/** One journal's place, which outlives the journals opened on it. */
export interface JournalPlace {
  open(): Promise<Journal>;
  /** Ends `journal` without closing it and opens what is left. */
  crash(journal: Journal): Promise<Journal>;
  dispose(): Promise<void>;
}

export const identity = {
  nodeId: "node-a",
  clusterId: "cluster-1",
  members: [
    { name: "master-1", nodeId: "node-a" },
    { name: "master-2", nodeId: "node-b" },
  ],
};

/** A command entry whose payload is told by its place. */
export function entryAt(index: number, term = 1, text = `${index}@${term}`): Entry {
  const payload = new Uint8Array(Buffer.from(text));
  return { index: index as Index, term: term as Term, kind: "command", payload };
}

/** Entries `from` … `to - 1` of one term. */
export function entriesOf(from: number, to: number, term = 1): Entry[] {
  return Array.from({ length: to - from }, (_, i) => entryAt(from + i, term));
}

export function describeJournal(name: string, makePlace: () => Promise<JournalPlace>): void {
  describe(`journal contract: ${name}`, () => {
    let place: JournalPlace;
    let journal: Journal;

    beforeEach(async () => {
      place = await makePlace();
      journal = await place.open();
    });
    afterEach(async () => {
      await journal.close();
      await place.dispose();
    });

    it("is empty before it was initialized", () => {
      assert.equal(journal.state.nodeId, undefined);
      assert.equal(journal.state.clusterId, undefined);
      assert.deepEqual(journal.state.hardState, { term: 0, vote: undefined });
      assert.deepEqual(journal.state.entries, []);
      assert.equal(journal.state.baseIndex, 0);
    });

    it("keeps identity, hard state and entries through a crash", async () => {
      await journal.initialize(identity);
      await journal.append({
        hardState: { term: 2 as Term, vote: "node-b" },
        entries: [
          ...entriesOf(1, 4),
          { ...entryAt(4, 2, ""), kind: "noop" },
          { ...entryAt(5, 2), kind: "configuration" },
        ],
      });
      journal = await place.crash(journal);
      assert.equal(journal.state.nodeId, "node-a");
      assert.equal(journal.state.clusterId, "cluster-1");
      assert.deepEqual(journal.state.members, identity.members);
      assert.deepEqual(journal.state.hardState, { term: 2, vote: "node-b" });
      assert.deepEqual(
        journal.state.entries.map(({ index, term, kind }) => [index, term, kind]),
        [
          [1, 1, "command"],
          [2, 1, "command"],
          [3, 1, "command"],
          [4, 2, "noop"],
          [5, 2, "configuration"],
        ],
      );
      assert.equal(Buffer.from(journal.state.entries[4]!.payload).toString(), "5@2");
    });

    it("resolves appends in the order of their calls", async () => {
      await journal.initialize(identity);
      const order: number[] = [];
      await Promise.all(
        entriesOf(1, 20).map(async (entry) => {
          await journal.append({ entries: [entry] });
          order.push(entry.index);
        }),
      );
      assert.deepEqual(
        order,
        entriesOf(1, 20).map((entry) => entry.index),
      );
    });

    it("replaces the suffix from the first entry of a later batch on", async () => {
      await journal.initialize(identity);
      await journal.append({ entries: entriesOf(1, 9) });
      await journal.append({ entries: entriesOf(4, 6, 2) });
      journal = await place.crash(journal);
      assert.deepEqual(
        journal.state.entries.map(({ index, term }) => [index, term]),
        [
          [1, 1],
          [2, 1],
          [3, 1],
          [4, 2],
          [5, 2],
        ],
      );
    });

    it("refuses a batch that would leave a gap", async () => {
      await journal.initialize(identity);
      await journal.append({ entries: entriesOf(1, 3) });
      await assert.rejects(journal.append({ entries: [entryAt(4)] }), /gap/);
    });

    it("forgets entries behind a compaction, and goes on behind it", async () => {
      await journal.initialize(identity);
      await journal.append({ entries: entriesOf(1, 10) });
      await journal.compact(6 as Index, 1 as Term);
      await journal.append({ entries: [entryAt(10, 3)] });
      journal = await place.crash(journal);
      assert.equal(journal.state.baseIndex, 6);
      assert.equal(journal.state.baseTerm, 1);
      assert.deepEqual(
        journal.state.entries.map((entry) => entry.index),
        [7, 8, 9, 10],
      );
    });

    it("keeps an empty log behind a compaction of all of it", async () => {
      await journal.initialize(identity);
      await journal.append({ entries: entriesOf(1, 4) });
      await journal.compact(3 as Index, 1 as Term);
      journal = await place.crash(journal);
      assert.equal(journal.state.baseIndex, 3);
      assert.deepEqual(journal.state.entries, []);
      await journal.append({ entries: [entryAt(4)] });
    });

    it("R16: begins anew behind a snapshot, before and after the last entry", async () => {
      await journal.initialize(identity);
      await journal.append({
        hardState: { term: 4 as Term, vote: undefined },
        entries: entriesOf(1, 10),
      });
      await journal.reset(100 as Index, 4 as Term);
      await journal.append({ entries: entriesOf(101, 103, 4) });
      journal = await place.crash(journal);
      assert.equal(journal.state.baseIndex, 100);
      assert.equal(journal.state.baseTerm, 4);
      assert.deepEqual(journal.state.hardState, { term: 4, vote: undefined });
      assert.deepEqual(
        journal.state.entries.map((entry) => entry.index),
        [101, 102],
      );
      await journal.reset(50 as Index, 3 as Term);
      await journal.append({ entries: [entryAt(51, 4)] });
      journal = await place.crash(journal);
      assert.deepEqual(
        journal.state.entries.map((entry) => entry.index),
        [51],
      );
    });

    it("takes entries behind a snapshot before that is on disk", async () => {
      await journal.initialize(identity);
      await journal.append({ entries: entriesOf(1, 10) });
      await journal.compact(6 as Index, 1 as Term);
      await Promise.all([
        journal.reset(4 as Index, 1 as Term),
        journal.append({ entries: entriesOf(5, 7, 2) }),
        journal.compact(5 as Index, 2 as Term),
      ]);
      journal = await place.crash(journal);
      assert.equal(journal.state.baseIndex, 5);
      assert.deepEqual(
        journal.state.entries.map((entry) => [entry.index, entry.term]),
        [[6, 2]],
      );
    });

    it("R3: keeps term and vote together, in one record with the entries they came with", async () => {
      await journal.initialize(identity);
      await journal.append({ hardState: { term: 5 as Term, vote: "node-b" }, entries: [] });
      await journal.append({ hardState: { term: 6 as Term, vote: undefined }, entries: [] });
      journal = await place.crash(journal);
      assert.deepEqual(journal.state.hardState, { term: 6, vote: undefined });
    });

    it("rejects what comes after it was closed", async () => {
      await journal.initialize(identity);
      await journal.close();
      await assert.rejects(journal.append({ entries: [entryAt(1)] }), { code: "Unavailable" });
    });

    it("tells no write age when nothing is under way", async () => {
      await journal.initialize(identity);
      assert.equal(journal.oldestWriteAgeMs(), 0);
    });
  });
}
