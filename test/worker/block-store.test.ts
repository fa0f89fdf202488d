import type { InodeId } from "../../src/lib/ids.ts";
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { open, readdir, readFile, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "../../src/lib/errors.ts";
import {
  blockSizeBytes,
  collect,
  containerOf,
  openStore,
  temporaryDirectory,
  twoTiers,
  write,
} from "./tools.ts";

const MiB = 1024 * 1024;

describe("block store", () => {
  let root: { path: string; remove(): Promise<void> };
  const opened: { close(): Promise<void> }[] = [];
  const openWith = async (quotas: [number, number]) => {
    const made = await openStore(twoTiers(root.path, quotas));
    opened.push(made.store);
    return made;
  };
  beforeEach(async () => {
    root = await temporaryDirectory();
  });
  afterEach(async () => {
    for (const each of opened.splice(0)) await each.close();
    await root.remove();
  });

  it("reads back what was written, across blocks and from any offset", async () => {
    const { store, writers } = await openWith([16 * MiB, 16 * MiB]);
    const id = containerOf(1);
    const bytes = randomBytes(2 * blockSizeBytes + 123_457);
    await write(writers, id, bytes);
    const { length } = bytes;
    assert.deepEqual(store.report(id), { ...id, blocks: [0, 1, 2], kept: true, length });
    for (const [blockIndex, offset, length] of [
      [0, 0, blockSizeBytes],
      [1, 65_535, 70_000],
      [2, 123_000, 457],
    ] as const) {
      const at = blockIndex * blockSizeBytes + offset;
      const got = await collect(store.read(id, blockIndex, { offset, length }));
      assert.ok(got.equals(bytes.subarray(at, at + length)));
    }
    await assert.rejects(collect(store.read(id, 2, { offset: 0, length: 123_458 })), (error) =>
      hasCode(error, "NotFound"),
    );
  });

  it("shows readers exactly what was flushed", async () => {
    const { store, writers } = await openWith([16 * MiB, 16 * MiB]);
    const id = containerOf(1);
    const bytes = randomBytes(200_000);
    const sink = await writers.open(id, { resumeAt: 0 });
    await sink.append(bytes.subarray(0, 90_000));
    assert.equal(store.find(id, 0, 1), undefined);
    await sink.flush({ sync: true });
    await sink.append(bytes.subarray(90_000, 150_000));
    const range = { offset: 0, length: 90_000 };
    assert.ok((await collect(store.read(id, 0, range))).equals(bytes.subarray(0, 90_000)));
    assert.equal(store.find(id, 0, 90_001), undefined);
    await sink.abort();
    assert.equal((await stat(store.peek(id)!.path)).size, 90_000);
    await assert.rejects(sink.append(bytes), (error) => hasCode(error, "LeaseLost"));
    const again = await writers.open(id, { resumeAt: 90_000 });
    await again.append(bytes.subarray(90_000));
    await again.close({ keep: true });
    const whole = { offset: 0, length: 200_000 };
    assert.ok((await collect(store.read(id, 0, whole))).equals(bytes));
  });

  it("takes back what a writer disowns, and refuses to resume elsewhere than at the end", async () => {
    const { store, writers } = await openWith([16 * MiB, 16 * MiB]);
    const id = containerOf(1);
    const sink = await writers.open(id, { resumeAt: 0 });
    await sink.append(randomBytes(1000));
    await sink.flush({ sync: false });
    await sink.close({ keep: false });
    assert.equal(store.peek(id), undefined);
    assert.equal(store.usage[0]!.usedBytes, 0);
    await assert.rejects(writers.open(id, { resumeAt: 10 }), (error) => hasCode(error, "NotFound"));
    await write(writers, id, randomBytes(1000));
    await assert.rejects(writers.open(id, { resumeAt: 10 }), (error) =>
      hasCode(error, "InvalidArgument"),
    );
  });

  it("lets the latest writer win", async () => {
    const { store, writers } = await openWith([16 * MiB, 16 * MiB]);
    const id = containerOf(1);
    const first = await writers.open(id, { resumeAt: 0 });
    await first.append(randomBytes(1000));
    const bytes = randomBytes(500);
    const second = await writers.open(id, { resumeAt: 0 });
    await assert.rejects(first.append(bytes), (error) => hasCode(error, "LeaseLost"));
    await second.append(bytes);
    await second.close({ keep: true });
    assert.ok((await collect(store.read(id, 0, { offset: 0, length: 500 }))).equals(bytes));
  });

  it("A7: never evicts what it keeps: full tiers say NoSpace, released data makes room", async () => {
    const { store, writers } = await openWith([3 * MiB, 2 * MiB]);
    for (let inode = 1; inode <= 5; inode++) {
      await write(writers, containerOf(inode), randomBytes(MiB));
    }
    assert.deepEqual(
      store.usage.map(({ usedBytes }) => usedBytes),
      [3 * MiB, 2 * MiB],
    );
    await assert.rejects(write(writers, containerOf(6), randomBytes(MiB)), (error) =>
      hasCode(error, "NoSpace"),
    );
    for (let inode = 1; inode <= 5; inode++) assert.ok(store.report(containerOf(inode)));
    await store.release(containerOf(2));
    await write(writers, containerOf(6), randomBytes(MiB));
    assert.equal(store.report(containerOf(2)), undefined);
    for (const inode of [1, 3, 4, 5, 6]) assert.ok(store.report(containerOf(inode)));
    assert.equal(store.evictions, 1);
  });

  it("keeps pinned copies from loads, and gives their room to what nobody else has", async () => {
    const { store, writers } = await openWith([3 * MiB, 1]);
    for (let inode = 1; inode <= 3; inode++) {
      await write(writers, containerOf(inode), randomBytes(MiB));
      await store.release(containerOf(inode));
    }
    assert.deepEqual(store.inodesInOrder(), [1, 2, 3]);
    for (const inode of [1, 2, 3] as InodeId[]) store.setPinned(inode, inode !== 2);
    const load = { loaded: true, kept: false, bytes: MiB };
    const loaded = await store.create(containerOf(4), load);
    assert.equal(store.report(containerOf(2)), undefined);
    store.drop(loaded);
    await store.create(containerOf(5), load);
    await assert.rejects(store.create(containerOf(6), { ...load, bytes: 2 * MiB }), (error) =>
      hasCode(error, "NoSpace"),
    );
    await store.create(containerOf(7), { loaded: false, kept: true, bytes: 2 * MiB });
    assert.equal(store.report(containerOf(1)), undefined);
    assert.ok(store.report(containerOf(3)));
    store.retainPins(new Set());
    await store.create(containerOf(8), load);
    assert.equal(store.report(containerOf(3)), undefined);
  });

  it("A17: takes room as data arrives and never beyond a quota", async () => {
    const { store, writers } = await openWith([4 * MiB, 16 * MiB]);
    const sinks = await Promise.all(
      [1, 2, 3, 4].map((inode) => writers.open(containerOf(inode), { resumeAt: 0 })),
    );
    const chunk = randomBytes(256 * 1024);
    for (let round = 0; round < 8; round++) {
      for (const sink of sinks) await sink.append(chunk);
      for (const { usedBytes, quotaBytes } of store.usage) assert.ok(usedBytes <= quotaBytes);
    }
    for (const sink of sinks) await sink.close({ keep: true });
    for (const inode of [1, 2, 3, 4]) {
      const got = await collect(store.read(containerOf(inode), 1, { offset: MiB - 5, length: 5 }));
      assert.ok(got.equals(chunk.subarray(-5)));
    }
    assert.equal(
      store.usage.reduce((sum, { usedBytes }) => sum + usedBytes, 0),
      4 * 8 * chunk.length,
    );
  });

  it("evicts the least recently used, but nothing that is leased", async () => {
    const { store, writers } = await openWith([3 * MiB, 1]);
    for (const inode of [1, 2, 3]) {
      await write(writers, containerOf(inode), randomBytes(MiB));
      await store.release(containerOf(inode));
    }
    store.peek(containerOf(1))!.leases += 1;
    store.find(containerOf(2), 0, 1);
    await write(writers, containerOf(4), randomBytes(MiB));
    assert.deepEqual(
      [1, 2, 3, 4].filter((inode) => store.report(containerOf(inode)) !== undefined),
      [1, 2, 4],
    );
  });

  it("reads on from a file that was evicted meanwhile", async () => {
    const { store, writers } = await openWith([4 * MiB, 1]);
    const bytes = randomBytes(MiB);
    await write(writers, containerOf(1), bytes);
    const reading = store.read(containerOf(1), 0, { offset: 0, length: MiB });
    const iterator = reading[Symbol.asyncIterator]();
    const parts = [(await iterator.next()).value as Uint8Array];
    store.drop(store.peek(containerOf(1))!);
    await store.settle();
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      parts.push(next.value);
    }
    assert.ok(Buffer.concat(parts).equals(bytes));
  });

  it("moves a container that outgrows its tier, and keeps the former file while it is leased", async () => {
    const { store, writers } = await openWith([2 * MiB, 16 * MiB]);
    const bytes = randomBytes(5 * MiB);
    const sink = await writers.open(containerOf(1), { resumeAt: 0 });
    await sink.append(bytes.subarray(0, MiB));
    await sink.flush({ sync: false });
    const container = store.peek(containerOf(1))!;
    const former = container.path;
    container.leases += 1;
    for (let at = MiB; at < bytes.length; at += MiB)
      await sink.append(bytes.subarray(at, at + MiB));
    await sink.close({ keep: true });
    assert.notEqual(container.path, former);
    assert.ok((await readFile(former)).subarray(0, MiB).equals(bytes.subarray(0, MiB)));
    container.leases -= 1;
    store.settleLeases(container);
    await store.settle();
    await assert.rejects(stat(former));
    assert.equal(store.usage[0]!.usedBytes, 0);
    for (let index = 0; index < 5; index++) {
      const got = await collect(store.read(containerOf(1), index, { offset: 0, length: MiB }));
      assert.ok(got.equals(bytes.subarray(index * MiB, (index + 1) * MiB)));
    }
  });

  it("puts a copy with a flipped byte aside and reports it as gone", async () => {
    const { store, writers } = await openWith([16 * MiB, 1]);
    await write(writers, containerOf(1), randomBytes(300_000));
    const { path, directory } = store.peek(containerOf(1))!;
    const file = await open(path, "r+");
    await file.write(Buffer.from([1 ^ (await readFile(path))[200_000]!]), 0, 1, 200_000);
    await file.close();
    const before = store.changes.sequence;
    // What lies before the bad 64 KiB may be read, nothing of them.
    const got: number[] = [];
    await assert.rejects(
      (async () => {
        for await (const piece of store.read(containerOf(1), 0, {
          offset: 199_000,
          length: 2000,
        })) {
          got.push(piece.length);
        }
      })(),
      (error) => hasCode(error, "Corrupt"),
    );
    assert.deepEqual(got, []);
    await store.settle();
    assert.equal(store.report(containerOf(1)), undefined);
    assert.deepEqual(
      store.changes.since(before, 10)!.map(({ removed }) => removed),
      [true],
    );
    assert.equal((await readdir(join(directory.path, "quarantine"))).length, 1);
    assert.equal(store.usage[0]!.usedBytes, 0);
  });

  it("serves again after a restart what was flushed, kept as before, and cleans the rest", async () => {
    const first = await openWith([16 * MiB, 16 * MiB]);
    const [kept, cached] = [randomBytes(150_000), randomBytes(2000)];
    await write(first.writers, containerOf(1), kept);
    await write(first.writers, containerOf(2), cached);
    await first.store.release(containerOf(2));
    const unfinished = await first.writers.open(containerOf(3), { resumeAt: 0 });
    await unfinished.append(randomBytes(5000));
    const partly = await first.writers.open(containerOf(4), { resumeAt: 0 });
    await partly.append(kept.subarray(0, 1000));
    await partly.flush({ sync: false });
    await partly.append(kept.subarray(1000, 3000));
    const { containersPath } = first.store.tiers[0]!.directories[0]!;
    await writeFile(join(containersPath, "9.9.meta.tmp"), "leftover");
    // As after a kill: nothing is closed or aborted; only the lock goes, with the process.
    await first.store.close();
    opened.length = 0;

    const second = await openWith([16 * MiB, 16 * MiB]);
    assert.equal(second.store.count, 3);
    assert.equal(second.store.peek(containerOf(1))!.kept, true);
    assert.equal(second.store.peek(containerOf(2))!.kept, false);
    assert.equal(second.store.peek(containerOf(3)), undefined);
    const read = (inode: number, length: number) =>
      collect(second.store.read(containerOf(inode), 0, { offset: 0, length }));
    assert.ok((await read(1, 150_000)).equals(kept));
    assert.ok((await read(2, 2000)).equals(cached));
    assert.ok((await read(4, 1000)).equals(kept.subarray(0, 1000)));
    assert.deepEqual((await readdir(containersPath)).sort(), [
      "1.100",
      "1.100.meta",
      "2.100",
      "2.100.meta",
      "4.100",
      "4.100.meta",
    ]);
    assert.equal((await stat(join(containersPath, "4.100"))).size, 1000);
    assert.equal(second.store.usage[0]!.usedBytes, 153_000);
    const resumed = await second.writers.open(containerOf(4), { resumeAt: 1000 });
    await resumed.append(kept.subarray(1000, 3000));
    await resumed.close({ keep: true });
    assert.ok((await read(4, 3000)).equals(kept.subarray(0, 3000)));
    // The "killed" process is this one: let go of what it had open.
    await Promise.all([unfinished.abort(), partly.abort()]);
  });

  it("puts aside at the start what is shorter than it should be or has no readable sidecar", async () => {
    const first = await openWith([16 * MiB, 16 * MiB]);
    for (const inode of [1, 2, 3])
      await write(first.writers, containerOf(inode), randomBytes(9000));
    const { path } = first.store.peek(containerOf(1))!;
    const other = first.store.peek(containerOf(2))!.path;
    await first.store.close();
    opened.length = 0;
    const file = await open(path, "r+");
    await file.truncate(100);
    await file.close();
    await writeFile(`${other}.meta`, "nonsense");
    const { store } = await openWith([16 * MiB, 16 * MiB]);
    assert.equal(store.count, 1);
    assert.ok(store.report(containerOf(3)));
  });

  it("limits a MEM tier to half of what its file system has free", async () => {
    const huge = Number.MAX_SAFE_INTEGER;
    const tier = { medium: "MEM" as const, directories: [root.path], quotaBytes: huge };
    const { store } = await openStore([tier]);
    opened.push(store);
    const { bavail, bsize } = await statfs(root.path);
    const quota = store.usage[0]!.quotaBytes;
    assert.ok(quota <= (bavail * bsize) / 2 + 64 * MiB && quota > 0, String(quota));
  });

  it("closes its directories to others: 0700, the nonce 0600, new at each start", async () => {
    const { store } = await openWith([MiB, MiB]);
    const directory = store.tiers[0]!.directories[0]!;
    const modeOf = async (path: string) => (await stat(path)).mode & 0o777;
    assert.equal(await modeOf(directory.path), 0o700);
    assert.equal(await modeOf(join(directory.path, "nonce")), 0o600);
    assert.equal(await readFile(join(directory.path, "nonce"), "utf8"), directory.nonce);
    await assert.rejects(openStore(twoTiers(root.path, [MiB, MiB])), (error) =>
      hasCode(error, "Busy"),
    );
    await store.close();
    opened.length = 0;
    const again = await openWith([MiB, MiB]);
    assert.notEqual(again.store.tiers[0]!.directories[0]!.nonce, directory.nonce);
  });
});
