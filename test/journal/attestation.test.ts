import assert from "node:assert/strict";
import { openJournalFiles } from "../../src/journal/files.ts";
import { entryAt, identity } from "../contract/journal.ts";
import { eventually } from "../lib/eventually.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";

describe("journal, attesting its last write", () => {
  let directory: JournalDirectory;
  beforeEach(async () => {
    directory = await JournalDirectory.make();
  });
  afterEach(() => directory.remove());

  it("shows no write under way once that has failed, and rejects the next append", async () => {
    let isFailing = false;
    let failures = 0;
    const journal = await directory.open({
      openFiles: async (path) => {
        const files = await openJournalFiles(path);
        return {
          ...files,
          openWriter: async (name) => {
            const writer = await files.openWriter(name);
            return {
              close: () => writer.close(),
              write: async (bytes, position) => {
                if (!isFailing) return writer.write(bytes, position);
                failures++;
                throw new Error("EIO: i/o error, fdatasync");
              },
            };
          },
        };
      },
    });
    await journal.initialize(identity);
    await journal.append({ entries: [entryAt(1)] });
    isFailing = true;
    await eventually("the attestation to be tried", () => failures > 0);
    // A host takes a write that does not end for a stalled disk, and would never campaign, nor write, again.
    await eventually("the failed write to be over", () => journal.oldestWriteAgeMs() === 0);
    await assert.rejects(journal.append({ entries: [entryAt(2)] }), { code: "Unavailable" });
    await journal.close();
  });
});
