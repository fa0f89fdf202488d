import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rowsOfBackup, verifyBackup } from "../../../src/master/backup/read.ts";
import { writeBackup } from "../../../src/master/backup/write.ts";
import { pieces } from "../../../src/master/services/serve-backup.ts";
import { encodeChunk } from "../../../src/master/store/chunk-codec.ts";
import { StateHash } from "../../../src/master/store/state-hash.ts";
import type { KeyValue } from "../../../src/master/store/types.ts";
import type { BackupItem } from "../../../src/rpc/backup-items.ts";
import { encodeBody, maxMessageBytes } from "../../../src/rpc/wire.ts";
import { backupItem } from "../../../src/rpc/backup-items.ts";

const row = (key: string, bytes: number): KeyValue => [key, new Uint8Array(bytes).fill(7)];

/** As a master sends them, with what `changes` makes it say. */
async function* itemsOf(
  rows: readonly KeyValue[],
  changes: { stateHash?: string; rows?: number; chunks?: number } = {},
): AsyncGenerator<BackupItem> {
  const hash = new StateHash();
  for (const [key, value] of rows) hash.add(key, value);
  const about = { clusterId: "c", clusterName: "weir", index: 7, term: 1, takenMs: 1 };
  const stateHash = changes.stateHash ?? hash.digest();
  yield { kind: "header", ...about, stateHash, master: "master-1", version: "1" };
  let chunks = 0;
  for (const piece of pieces(rows)) {
    chunks++;
    yield { kind: "rows", chunk: encodeChunk(piece) };
  }
  const sums = { chunks: changes.chunks ?? chunks, rows: changes.rows ?? rows.length };
  yield { kind: "end", ...sums, inodes: 0, sha256: undefined };
}

describe("Writing a backup", () => {
  let base: string;

  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), "weir-write-"));
  });
  afterEach(async () => {
    await rm(base, { recursive: true, force: true });
  });

  it("leaves no file when the rows are not the state that the header names", async () => {
    const rows = [row("a", 10), row("b", 20)];
    const path = join(base, "b.weirbackup");
    for (const changes of [{ stateHash: "0123456789abcdef" }, { rows: 3 }, { chunks: 2 }]) {
      await assert.rejects(writeBackup(path, itemsOf(rows, changes)), {
        code: "Corrupt",
        message: /its (hash|rows|chunks) are .*, wanted .*--from NAME/,
      });
      assert.deepEqual(await readdir(base), []);
    }
    await writeBackup(path, itemsOf(rows));
    assert.equal((await verifyBackup(path)).end.rows, 2);
  });

  it("carries rows of up to a message between small ones, each item within a message", async () => {
    const large = maxMessageBytes - 4096;
    const rows = [
      row("a", 10),
      row("b", large),
      row("c", 60_000),
      row("d", 3_000_000),
      row("e", 1),
    ];
    for await (const item of itemsOf(rows)) {
      assert(encodeBody(backupItem, item).length + 64 <= maxMessageBytes);
    }
    const path = join(base, "large.weirbackup");
    await writeBackup(path, itemsOf(rows));
    const sizes: [string, number][] = [];
    for await (const page of rowsOfBackup(path)) {
      for (const [key, value] of page) sizes.push([key, value.length]);
    }
    assert.deepEqual(
      sizes,
      rows.map(([key, value]) => [key, value.length]),
    );
  });

  it("names the row that no message can carry", () => {
    assert.throws(() => [...pieces([row("a", 1), row("big", maxMessageBytes)])], {
      code: "NotSupported",
      message: /^Cannot back up the row "big": it has \d+ bytes, wanted at most \d+$/,
    });
  });
});
