import assert from "node:assert/strict";
import { type JournalFiles, openJournalFiles } from "../../src/journal/files.ts";
import { entryAt, identity } from "../contract/journal.ts";
import { eventually } from "../lib/eventually.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";

/** The files of a journal, each write of which is `perform`'s to do. */
function withWrites(perform: (write: () => Promise<void>) => Promise<void>) {
  return async (path: string): Promise<JournalFiles> => {
    const files = await openJournalFiles(path);
    const openWriter: JournalFiles["openWriter"] = async (name) => {
      const writer = await files.openWriter(name);
      return {
        close: () => writer.close(),
        write: (bytes, position) => perform(() => writer.write(bytes, position)),
      };
    };
    return { ...files, openWriter };
  };
}

describe("journal, attesting its last write", () => {
  let directory: JournalDirectory;
  beforeEach(async () => {
    directory = await JournalDirectory.make();
  });
  afterEach(() => directory.remove());

  it("follows every write with a frame, also where none fits behind it any more", async function () {
    this.timeout(20_000);
    let writes = 0;
    const journal = await directory.open({
      segmentBytes: 8 * 512,
      openFiles: withWrites(async (write) => {
        await write();
        writes++;
      }),
    });
    await journal.initialize(identity);
    let index = 0;
    // Groups of one to three frames before each pause, so that segments end at all distances.
    for (let round = 0; round < 18; round++) {
      for (let i = 0; i <= round % 3; i++) await journal.append({ entries: [entryAt(++index)] });
      const before = writes;
      await eventually(`a frame behind entry ${index}`, () => writes > before);
    }
    await journal.close();
    await (await directory.open()).close();
  });

  it("shows no write under way once that has failed, and rejects the next append", async () => {
    let isFailing = false;
    let failures = 0;
    const journal = await directory.open({
      openFiles: withWrites(async (write) => {
        if (!isFailing) return write();
        failures++;
        throw new Error("EIO: i/o error, fdatasync");
      }),
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
