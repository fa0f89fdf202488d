/** The journal where planted bugs went unseen. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { hasCode } from "../../src/lib/errors.ts";
import { inspectJournal, openStoppedJournal } from "../../src/journal/inspect.ts";
import { Replay } from "../../src/journal/replay.ts";
import type { Index, Term } from "../../src/raft/types.ts";
import { entriesOf, entryAt, identity } from "../contract/journal.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";

describe("journal, cases", () => {
  it("R17: misses the last segment, also one that nothing was written to yet", async () => {
    const directory = await JournalDirectory.make();
    try {
      const journal = await directory.open({ segmentBytes: 8192 });
      await journal.initialize(identity);
      let index = 1;
      for (; (await directory.segments()).length < 3; index++) {
        assert.ok(index < 100);
        await journal.append({ entries: [entryAt(index)] });
      }
      await journal.close();
      // It knows all segments from its opening on, and prepares no other: the next frame says that they exist.
      const reopened = await directory.open({ segmentBytes: 8192 });
      await reopened.append({ entries: [entryAt(index)] });
      await reopened.close();
      const segments = await directory.segments();
      await rm(segments[segments.length - 1]!);
      await assert.rejects(directory.open(), (error) => {
        assert.ok(hasCode(error, "Corrupt"));
        assert.match(error.message, /the segment "[0-9a-f]{12}\.wal" is missing/);
        return true;
      });
    } finally {
      await directory.remove();
    }
  });

  it("R17: takes no record of an entry that does not follow the one before", () => {
    const replay = new Replay();
    for (const entry of entriesOf(1, 3))
      assert.equal(replay.add({ type: "entry", entry }), undefined);
    assert.equal(replay.add({ type: "entry", entry: entryAt(4) }), "entry 4 follows entry 2");
  });

  it("says at the head of each segment where the log begins", async () => {
    const directory = await JournalDirectory.make();
    try {
      const journal = await directory.open({ segmentBytes: 8192 });
      await journal.initialize(identity);
      await journal.append({ entries: entriesOf(1, 4) });
      await journal.compact(2 as Index, 1 as Term);
      for (let index = 4; (await directory.segments()).length < 4; index++) {
        assert.ok(index < 200);
        await journal.append({ entries: [entryAt(index)] });
      }
      await journal.close();
      const bases = new Set<string>();
      for await (const found of inspectJournal(await openStoppedJournal(directory.path))) {
        if (found.kind === "record" && found.record.type === "base") bases.add(found.segment);
      }
      assert.ok(bases.size >= 2, `the base stands in ${bases.size} segments`);
    } finally {
      await directory.remove();
    }
  });
});
