/** Tables that were read once are not read again at the next start, and damage in them is found while the store is open. */
import assert from "node:assert/strict";
import { readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../../src/lib/clock.ts";
import { hasCode, type WeirError } from "../../../src/lib/errors.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import { VerifiedTables } from "../../../src/master/store/verified-tables.ts";
import { eventually } from "../../lib/eventually.ts";
import { withTempDir } from "../../lib/temp-dir.ts";
import { ManualClock } from "../services/manual-clock.ts";

const common = { logger: silentLogger, scrubs: true };

/** Writes rows, all of which are in tables then; the path of one of these. */
async function makeTable(directory: string): Promise<string> {
  for (const entry of [1, 2]) {
    const store = await openStateStore({ ...common, clock: systemClock, directory });
    for (let i = 0; i < 300; i++) store.put(`inode/${String(i)}`, Buffer.from(`${entry} row ${i}`));
    store.applied(entry, 1);
    await store.close();
  }
  const files = join(directory, "state-1");
  const table = (await readdir(files)).find((name) => name.endsWith(".ldb"))!;
  return join(files, table);
}

/** Flips a bit; with `isHidden` nothing but the bytes tells of it. */
async function flip(path: string, isHidden: boolean): Promise<void> {
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  bytes[20]! ^= 1;
  await writeFile(path, bytes);
  if (isHidden) await utimes(path, atime, mtime);
}

/** What the directory remembers, with the file's own times in place of the ones that it had. */
async function remember(path: string, boot: string): Promise<void> {
  const directory = join(path, "..");
  const tables = await VerifiedTables.load(directory, boot);
  for (const name of (await readdir(directory)).filter((each) => each.endsWith(".ldb"))) {
    tables.add(name, await stat(join(directory, name), { bigint: true }));
  }
  await tables.save();
}

const thisBoot = async () => (await readFile("/proc/sys/kernel/random/boot_id", "latin1")).trim();

const isDamage = (thrown: unknown) =>
  hasCode(thrown, "Corrupt") && /ldb" is damaged at byte 0\. Two ways back/.test(thrown.message);

describe("tables that were verified", () => {
  it("are not read before the store is opened, and damage in them ends the store soon after", () =>
    withTempDir(async (directory) => {
      const table = await makeTable(directory);
      await flip(table, true);
      await remember(table, await thisBoot());
      const failures: WeirError[] = [];
      const clock = new ManualClock();
      const onFailure = (error: WeirError) => failures.push(error);
      const store = await openStateStore({ ...common, clock, directory, onFailure });
      try {
        await eventually("the damage to be found", () => {
          clock.advance(1000);
          return failures.length > 0;
        });
        assert.ok(isDamage(failures[0]));
        await assert.rejects(store.snapshot(), isDamage);
      } finally {
        await store.close();
      }
    }));

  it("are read again when they are others of the same name", () =>
    withTempDir(async (directory) => {
      const table = await makeTable(directory);
      await remember(table, await thisBoot());
      await flip(table, false);
      await assert.rejects(openStateStore({ ...common, clock: systemClock, directory }), isDamage);
    }));

  it("are read again after a boot of the machine: what was verified may never have reached the disk", () =>
    withTempDir(async (directory) => {
      const table = await makeTable(directory);
      await flip(table, true);
      await remember(table, "another boot");
      await assert.rejects(openStateStore({ ...common, clock: systemClock, directory }), isDamage);
    }));

  it("are those of a list that is whole", () =>
    withTempDir(async (directory) => {
      const table = await makeTable(directory);
      const boot = await thisBoot();
      await flip(table, true);
      await remember(table, boot);
      const list = join(table, "..", "VERIFIED");
      const whole = await readFile(list, "latin1");
      const name = table.slice(table.lastIndexOf("/") + 1);
      const stats = await stat(table, { bigint: true });
      const load = () => VerifiedTables.load(join(table, ".."), boot);
      assert.ok((await load()).has(name, stats));
      for (let place = 0; place < whole.length; place++) {
        const changed =
          whole.slice(0, place) + (whole[place] === "1" ? "2" : "1") + whole.slice(place + 1);
        await writeFile(list, changed, "latin1");
        assert.equal((await load()).has(name, stats), false, `changed at ${place}`);
        await writeFile(list, whole.slice(0, place), "latin1");
        assert.equal((await load()).has(name, stats), false, `cut at ${place}`);
      }
      await assert.rejects(openStateStore({ ...common, clock: systemClock, directory }), isDamage);
    }));

  it("are remembered while the store is open, new ones too, for the next start", () =>
    withTempDir(async (directory) => {
      const table = await makeTable(directory);
      const clock = new ManualClock();
      const store = await openStateStore({ ...common, clock, directory, flushBytes: 1 });
      try {
        const files = join(table, "..");
        const tables = async () => (await readdir(files)).filter((name) => name.endsWith(".ldb"));
        const before = (await tables()).length;
        // The second batch finds LevelDB's buffer full, and has it written.
        for (const entry of [3, 4]) {
          for (let i = 0; i < 80_000; i++) store.put(`edge/${String(i)}`, Buffer.alloc(250, i));
          store.applied(entry, 1);
          await store.flush();
        }
        await eventually("a table to be written", async () => (await tables()).length > before);
        await eventually("all tables to be remembered", async () => {
          clock.advance(11_000);
          const known = await VerifiedTables.load(files, await thisBoot());
          for (const name of await tables()) {
            const stats = await stat(join(files, name), { bigint: true }).catch(() => undefined);
            if (stats !== undefined && !known.has(name, stats)) return false;
          }
          return true;
        });
      } finally {
        await store.close();
      }
    }));
});
