/** Flipped, lost and torn bytes of LevelDB's files: refused when the store is opened, or nothing but an earlier state. */
import assert from "node:assert/strict";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { seededRandom, systemClock } from "../../../src/lib/clock.ts";
import { hasCode } from "../../../src/lib/errors.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { crc32c } from "../../../src/master/store/crc32c.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import { findDamage } from "../../../src/master/store/leveldb-check.ts";
import { readLog } from "../../../src/master/store/leveldb-log.ts";
import { damageOf } from "../../../src/master/store/leveldb-table.ts";
import type { StateStore } from "../../../src/master/store/types.ts";
import { withTempDir } from "../../lib/temp-dir.ts";

const rows = 300;
const entries = 3;
const blockBytes = 32_768;
const headerBytes = 7;

const open = (directory: string): Promise<StateStore> =>
  openStateStore({ clock: systemClock, logger: silentLogger, directory });

/** What row `i` is as of an entry: each later one changes a fifth of them. */
function valueAt(entry: number, i: number): string {
  const changedBy = i % 5 > 1 && i % 5 <= entry ? i % 5 : 1;
  return `${"x".repeat(i % 40)} row ${String(i)} of ${String(changedBy)}`;
}

/** Writes a state; all of it is in LevelDB's log then, or, opened once more, in a table. */
async function write(directory: string, wanted: "log" | "table"): Promise<void> {
  const store = await open(directory);
  for (let entry = 1; entry <= entries; entry++) {
    for (let i = 0; i < rows; i++) {
      if (entry === 1 || i % 5 === entry) {
        store.put(`inode/${String(i)}`, Buffer.from(valueAt(entry, i)));
      }
    }
    store.applied(entry, 1);
    await store.flush();
  }
  await store.close();
  if (wanted === "table") await (await open(directory)).close();
}

/** All rows, by key and in order: those of the entry that the store says. */
async function readAll(store: StateStore): Promise<void> {
  for (let i = 0; i < rows; i++) {
    const value = store.get(`inode/${String(i)}`);
    assert.equal(value && Buffer.from(value).toString(), valueAt(store.appliedIndex, i));
  }
  const snapshot = await store.snapshot();
  try {
    let count = 0;
    for await (const chunk of snapshot.chunks()) count += chunk.length;
    assert.equal(count, rows);
  } finally {
    await snapshot.close();
  }
}

/** The index of a state that opens and is right from its first row to its last; "refused" when it does not open. */
async function verdict(directory: string): Promise<number | "refused"> {
  let store: StateStore;
  try {
    store = await open(directory);
  } catch (thrown) {
    assert(hasCode(thrown, "Corrupt") && /cluster replace.*backup restore/.test(thrown.message));
    return "refused";
  }
  try {
    if (store.appliedIndex > 0) await readAll(store);
    return store.appliedIndex;
  } finally {
    await store.close();
  }
}

/** Calls `check` with copies of a state in which `change` has changed the one file of a kind. */
async function withChanged(
  root: string,
  kind: RegExp,
  places: (size: number) => Iterable<number>,
  change: (bytes: Buffer, place: number) => Buffer,
  check: (directory: string, place: number) => Promise<void>,
): Promise<void> {
  const names = await readdir(join(root, "sound", "state-1"));
  const name = names.find((each) => kind.test(each))!;
  const bytes = await readFile(join(root, "sound", "state-1", name));
  const directory = join(root, "changed");
  for (const place of places(bytes.length)) {
    await rm(directory, { recursive: true, force: true });
    await cp(join(root, "sound"), directory, { recursive: true });
    await writeFile(join(directory, "state-1", name), change(Buffer.from(bytes), place));
    await check(directory, place);
  }
}

function flip(bytes: Buffer, place: number): Buffer {
  bytes[place]! ^= 1 << (place % 8);
  return bytes;
}

function every(step: number): (size: number) => Iterable<number> {
  return function* (size) {
    for (let place = 0; place < size; place += step) yield place;
  };
}

/** A log of LevelDB's with these appends. */
function logOf(appends: readonly Buffer[]): Buffer {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const append of appends) {
    let from = 0;
    do {
      const left = blockBytes - (at % blockBytes);
      if (left < headerBytes) {
        pieces.push(Buffer.alloc(left));
        at += left;
        continue;
      }
      const data = append.subarray(from, from + left - headerBytes);
      const isLast = from + data.length === append.length;
      const type = from === 0 ? (isLast ? 1 : 2) : isLast ? 4 : 3;
      const record = Buffer.concat([Buffer.alloc(headerBytes), data]);
      record.writeUInt16LE(data.length, 4);
      record[6] = type;
      const sum = crc32c(record, 6);
      record.writeUInt32LE((((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0);
      pieces.push(record);
      at += record.length;
      from += data.length;
    } while (from < append.length);
  }
  return Buffer.concat(pieces);
}

/** A copy of a state whose log is replaced by these. The first has its name, the others later ones. */
async function withLogs(
  root: string,
  logs: (appends: readonly Buffer[]) => readonly Buffer[],
): Promise<string> {
  const directory = join(root, "changed");
  await rm(directory, { recursive: true, force: true });
  await cp(join(root, "sound"), directory, { recursive: true });
  const files = join(directory, "state-1");
  const name = (await readdir(files)).find((each) => each.endsWith(".log"))!;
  const { appends } = readLog(await readFile(join(files, name)));
  assert.equal(appends.length, entries);
  for (const [i, log] of logs(appends).entries()) {
    await writeFile(join(files, i === 0 ? name : `00090${String(i)}.log`), log);
  }
  return directory;
}

describe("LevelDB's files before they are opened", () => {
  it("has the sum of the specification", () => {
    assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.equal(crc32c(Buffer.from("??123456789?"), 2, 11), 0xe3069283);
  });

  it("have one sum wherever they lie in memory, of any length", () => {
    const random = seededRandom(3);
    const bytes = Uint8Array.from({ length: 100 }, () => random.below(256));
    /** As the polynomial says it, bit by bit. */
    const byBit = (part: Uint8Array) => {
      let crc = -1;
      for (const byte of part) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
      }
      return ~crc >>> 0;
    };
    for (let start = 0; start < 9; start++) {
      for (let end = start; end <= bytes.length; end++) {
        const wanted = byBit(bytes.subarray(start, end));
        assert.equal(crc32c(bytes, start, end), wanted);
        const lying = new Uint8Array(bytes.length + 3).subarray(start % 4, end);
        lying.set(bytes.subarray(start + (start % 4), end));
        assert.equal(crc32c(lying), byBit(lying));
      }
    }
  });

  it("are refused for a flipped bit anywhere in a table or in the manifest", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "table");
      const refuses = async (directory: string, place: number) => {
        assert.equal(await verdict(directory), "refused", `byte ${String(place)}`);
      };
      await withChanged(root, /ldb$/, every(199), flip, refuses);
      await withChanged(root, /^MANIFEST/, every(7), flip, refuses);
    }));

  it("are refused when a table is cut short, or the manifest or its name is lost", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "table");
      const cut = (bytes: Buffer, place: number) => bytes.subarray(0, place);
      const refuses = async (directory: string) => {
        assert.equal(await verdict(directory), "refused");
      };
      await withChanged(root, /ldb$/, every(997), cut, refuses);
      await withChanged(
        root,
        /^CURRENT/,
        () => [0],
        (bytes) => bytes.fill("x"),
        refuses,
      );
      const lost = async (directory: string) => {
        await rm(join(directory, "state-1", "CURRENT"));
        assert.match((await findDamage(join(directory, "state-1")))!, /"CURRENT" is not/);
      };
      await withChanged(
        root,
        /ldb$/,
        () => [0],
        (bytes) => bytes,
        lost,
      );
    }));

  it("are refused for a flipped bit in the log before its last batch; in that one, the state is that of the batch before", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "log");
      const found = new Set<number | "refused">();
      await withChanged(root, /log$/, every(101), flip, async (directory) => {
        found.add(await verdict(directory));
      });
      assert.deepEqual(found, new Set(["refused", entries - 1]));
    }));

  it("are opened with a log that a crash cut anywhere, at the index of the last whole batch", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "log");
      const cut = (bytes: Buffer, place: number) => bytes.subarray(0, place);
      const zero = (bytes: Buffer, place: number) => bytes.fill(0, place);
      for (const torn of [cut, zero]) {
        let index = 0;
        await withChanged(root, /log$/, every(499), torn, async (directory) => {
          const now = await verdict(directory);
          assert(now !== "refused" && now >= index);
          index = now;
        });
        assert.equal(index, entries - 1);
      }
    }));

  it("are opened with a log and the one that went on from it, and with empty ones behind a torn one", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "log");
      const none = Buffer.alloc(0);
      for (const [index, logs] of [
        [3, (all) => [logOf(all.slice(0, 2)), logOf(all.slice(2))]],
        [3, (all) => [logOf(all.slice(0, 1)), logOf(all.slice(1)), none, none]],
        [2, (all) => [logOf(all.slice(0, 2)), logOf(all.slice(2)).subarray(0, -9)]],
        [1, (all) => [logOf(all.slice(0, 2)).subarray(0, -9), none, none]],
        [0, () => [none, none]],
      ] as [number, (appends: readonly Buffer[]) => Buffer[]][]) {
        assert.equal(await verdict(await withLogs(root, logs)), index);
      }
    }));

  it("are refused for any damage in a log that another one goes on from, also when its end or all of it is lost", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "log");
      const older = async (change: (log: Buffer) => Buffer): Promise<string> =>
        withLogs(root, (all) => [change(logOf(all.slice(0, 2))), logOf(all.slice(2))]);
      let size = 0;
      const between = new Set([0]);
      await withLogs(root, (all) => {
        size = logOf(all.slice(0, 2)).length;
        between.add(logOf(all.slice(0, 1)).length);
        return [];
      });
      for (let place = 0; place < size; place += 499) between.add(place);
      for (const place of between) {
        const text = `byte ${String(place)}`;
        const flipped = await older((log) => flip(log, place));
        const found = await findDamage(join(flipped, "state-1"));
        assert.match(found!, /^"(?!00090).* is damaged at byte/, `flipped ${text}`);
        assert.equal(await verdict(flipped), "refused", `flipped ${text}`);
        const cut = await older((log) => log.subarray(0, place));
        assert.equal(await verdict(cut), "refused", `cut at ${text}`);
      }
      const lost = await older((log) => log);
      const files = join(lost, "state-1");
      const names = (await readdir(files)).filter((name) => name.endsWith(".log"));
      await rm(join(files, names.sort()[0]!));
      assert.match((await findDamage(files))!, /^"\d+\.log" is missing$/);
      assert.equal(await verdict(lost), "refused");
    }));

  it("are refused when all is in the log and its name, or that of the manifest, is lost", () =>
    withTempDir(async (root) => {
      await write(join(root, "sound"), "log");
      for (const name of ["CURRENT", "log"]) {
        const directory = await withLogs(root, () => []);
        const files = join(directory, "state-1");
        await rm(join(files, (await readdir(files)).find((each) => each.endsWith(name))!));
        assert.equal(await verdict(directory), "refused", name);
      }
    }));

  it("are opened whatever a crash left of a table that does not count yet", () =>
    withTempDir(async (root) => {
      await write(join(root, "a"), "table");
      const names = await readdir(join(root, "a", "state-1"));
      const table = await readFile(
        join(root, "a", "state-1", names.find((name) => name.endsWith("ldb"))!),
      );
      await writeFile(join(root, "a", "state-1", "000099.ldb"), table.subarray(0, 5000));
      assert.equal(await verdict(join(root, "a")), entries);
    }));

  it("show every flipped bit of a table with compressed indexes", () =>
    withTempDir(async (root) => {
      const store = await open(root);
      const random = seededRandom(7);
      for (let i = 0; i < 800; i++) {
        const value = Buffer.from(Array.from({ length: 900 }, () => random.below(256)));
        store.put(`inode/${"of one prefix ".repeat(4)}${String(i)}`, value);
      }
      store.applied(1, 1);
      await store.close();
      await (await open(root)).close();
      const names = await readdir(join(root, "state-1"));
      const table = await readFile(
        join(root, "state-1", names.find((name) => name.endsWith("ldb"))!),
      );
      assert.equal(damageOf(table), undefined);
      const isDamaged = (place: number) => damageOf(flip(Buffer.from(table), place)) !== undefined;
      for (let place = 0; place < table.length; place += 9973) assert(isDamaged(place));
      for (let place = table.length - 3000; place < table.length; place += 13) {
        assert(isDamaged(place), `byte ${String(place)} of ${String(table.length)}`);
      }
    }));
});
