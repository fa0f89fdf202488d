import assert from "node:assert/strict";
import { describeJournal } from "../contract/journal.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";

describeJournal("on files", async () => {
  const directory = await JournalDirectory.make();
  return {
    open: () => directory.open(),
    crash: async (journal) => {
      await directory.copy();
      await journal.close();
      return directory.open();
    },
    dispose: () => directory.remove(),
  };
});

describeJournal("in memory", async () => ({
  open: async () => new MemoryJournal(),
  crash: async (journal) => {
    assert(journal instanceof MemoryJournal);
    return journal.crash();
  },
  dispose: async () => undefined,
}));
