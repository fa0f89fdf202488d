import assert from "node:assert/strict";
import { cp, readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { readJournalFiles } from "../../src/journal/files.ts";
import {
  decodeSegmentHeader,
  encodeFrame,
  encodeSegmentHeader,
  formatVersion,
  sectorBytes,
} from "../../src/journal/format.ts";
import { verifyJournal } from "../../src/journal/inspect.ts";
import type { JournalState } from "../../src/journal/types.ts";
import { entryAt } from "../contract/journal.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";
import { type Disk, readDisk } from "../lib/recorded-files.ts";

const fixtures = fileURLToPath(new URL("./fixtures/", import.meta.url));
const versions = ["v1", "v2"];
const names = ["plain", "segments", "reset", "torn"];

/** As the fixture's file says it. */
function shown({ entries, ...rest }: JournalState): unknown {
  const texts = entries.map(({ payload, ...place }) => ({
    ...place,
    payload: Buffer.from(payload).toString("base64"),
  }));
  return JSON.parse(JSON.stringify({ ...rest, entries: texts }));
}

async function wantedOf(version: string, name: string): Promise<unknown> {
  return JSON.parse(await readFile(`${fixtures}${version}/${name}.json`, "utf8"));
}

async function diskOf(version: string, name: string): Promise<Disk> {
  const disk: Disk = new Map();
  for (const file of await readdir(`${fixtures}${version}/${name}`)) {
    disk.set(file, await readFile(`${fixtures}${version}/${name}/${file}`));
  }
  return disk;
}

describe("journal format", () => {
  for (const version of versions) {
    for (const name of names) {
      it(`opens "${name}" of format ${version}, goes on with it and opens it again`, async () => {
        const directory = await JournalDirectory.make();
        try {
          await cp(`${fixtures}${version}/${name}`, directory.path, { recursive: true });
          const journal = await directory.open({ segmentBytes: 4096 });
          const { state } = journal;
          assert.deepEqual(shown(state), await wantedOf(version, name));
          const last = state.baseIndex + state.entries.length;
          for (let i = 1; i <= 20; i++) {
            await journal.append({ entries: [entryAt(last + i, 9, "x".repeat(i * 40))] });
          }
          await journal.close();
          const again = await directory.open();
          assert.deepEqual(
            again.state.entries.map((entry) => entry.index),
            Array.from({ length: state.entries.length + 20 }, (_, i) => state.baseIndex + 1 + i),
          );
          await again.close();
          // What the older version began was left as it was.
          const [newest = ""] = (await directory.segments()).slice(-1);
          const header = decodeSegmentHeader(await readFile(newest));
          assert.ok(typeof header !== "string" && header.version === formatVersion);
        } finally {
          await directory.remove();
        }
      });
    }
  }

  it("refuses every flipped bit of an older format's frames and headers", async () => {
    for (const name of ["plain", "segments", "reset"]) {
      const disk = await diskOf("v1", name);
      for (const bytes of disk.values()) {
        let end = bytes.length;
        while (bytes.subarray(end - sectorBytes, end).every((byte) => byte === 0)) {
          end -= sectorBytes;
        }
        for (let at = 0; at < end; at++) {
          bytes[at] = bytes[at]! ^ (1 << (at % 8));
          const how = `${name} byte ${at}`;
          await assert.rejects(verifyJournal(readDisk(disk)), { code: "Corrupt" }, how);
          bytes[at] = bytes[at]! ^ (1 << (at % 8));
        }
      }
      await verifyJournal(readDisk(disk));
    }
  });

  it("says that a newer version wrote a segment, and takes a flipped version for damage", async () => {
    const header = { salt: 7, startOffset: 0, sizeBytes: 4 * sectorBytes };
    const files = (first: Buffer) =>
      readDisk(new Map([["000000000000.wal", Buffer.concat([first], header.sizeBytes)]]));
    const newer = encodeSegmentHeader({ ...header, version: formatVersion + 1 });
    await assert.rejects(verifyJournal(files(newer)), {
      code: "NotSupported",
      message: `Cannot read the journal: a newer version wrote a segment of format ${formatVersion + 1}`,
    });
    for (const version of [1, formatVersion]) {
      const own = encodeSegmentHeader({ ...header, version });
      own[9] = own[9]! ^ 4;
      await assert.rejects(verifyJournal(files(own)), { code: "Corrupt" });
    }
  });

  it("says that a newer version wrote a record", async () => {
    const header = { version: formatVersion, salt: 7, startOffset: 0, sizeBytes: 4 * sectorBytes };
    const frame = encodeFrame([{ type: "next", startOffset: 1 }], {
      offset: sectorBytes,
      salt: header.salt,
    });
    // An unknown type, with both crcs made right again.
    frame[32 + 4] = 99;
    frame.writeUInt32BE(crc32(frame.subarray(32, frame.readUInt32BE(0)), header.salt), 22);
    const length = crc32(frame.subarray(0, 4), header.salt);
    frame.writeUInt32BE(crc32(frame.subarray(8, 32), length), 4);
    const bytes = Buffer.concat([encodeSegmentHeader(header), frame], header.sizeBytes);
    await assert.rejects(verifyJournal(readDisk(new Map([["000000000000.wal", bytes]]))), {
      code: "NotSupported",
      message: "Cannot read the journal: a newer version wrote a record of type 99",
    });
  });

  it("keeps the files of the tests as they were written", async () => {
    for (const version of versions) {
      for (const name of names) {
        const { state } = await verifyJournal(readJournalFiles(`${fixtures}${version}/${name}`));
        assert.deepEqual(shown(state), await wantedOf(version, name));
      }
    }
  });
});
