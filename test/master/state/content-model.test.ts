/** A file's bytes against a plain array, whatever is written, cut, persisted and overwritten meanwhile. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId, SessionId, UfsOpId, WorkerId, WriteId } from "../../../src/lib/ids.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { extentsOf } from "../../../src/master/services/listings.ts";
import { clearStepLimit, decodeExtent } from "../../../src/master/state/extent-rows.ts";
import { clearingOfKey, extentRange } from "../../../src/master/state/keys.ts";
import {
  containerOf,
  containerUse,
  isMoot,
  levelOfState,
} from "../../../src/master/state/queries.ts";
import { type Command, newestLevel } from "../../../src/rpc/commands.ts";
import type { Extent } from "../../../src/rpc/namespace.ts";
import { blockSizeBytes, commitCommand, entryOf, Machine, pageOf } from "./machine-fixture.ts";

/** A byte is known by where it was written; 0 is what holes read as. */
type Byte = string | 0;

const range = fc.record({ at: fc.nat(400), length: fc.integer({ min: 1, max: 150 }) });
const step = fc.oneof(
  fc.record({
    kind: fc.constant("write"),
    ranges: fc.array(range, { maxLength: 3 }),
    release: fc.boolean(),
    /** In the same entry, before it. */
    cutTo: fc.option(fc.nat(500), { nil: undefined }),
  }),
  /** Many extents that nothing joins: more than one command takes away. */
  fc.record({ kind: fc.constant("scatter"), at: fc.nat(300), count: fc.constantFrom(501, 700) }),
  fc.record({ kind: fc.constant("cutTail"), at: fc.nat(300), keeps: fc.nat(300) }),
  /** More extents than one command replaces, and a write over all of them. */
  fc.record({ kind: fc.constant("cover"), over: fc.nat(300) }),
  fc.record({
    kind: fc.constant("compact"),
    from: fc.nat(1200),
    length: fc.integer({ min: 1, max: 1500 }),
  }),
  fc.record({ kind: fc.constant("compacted"), how: fc.constantFrom("done", "twice", "given up") }),
  fc.record({ kind: fc.constant("compactedAll") }),
  fc.record({ kind: fc.constant("truncate"), size: fc.oneof(fc.nat(500), fc.nat(1500)) }),
  fc.record({ kind: fc.constant("truncateTwice"), sizes: fc.tuple(fc.nat(500), fc.nat(500)) }),
  fc.record({ kind: fc.constant("start") }),
  fc.record({ kind: fc.constant("finish"), fails: fc.boolean() }),
  fc.record({ kind: fc.constant("persist") }),
  fc.record({ kind: fc.constant("reap") }),
  fc.record({ kind: fc.constant("clear") }),
  fc.record({ kind: fc.constant("raise") }),
  fc.record({ kind: fc.constant("retain") }),
  fc.record({ kind: fc.constant("letGo"), version: fc.boolean() }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** One file, one writer that appends to its container, and the store's object. */
class World {
  readonly machine: Machine;
  readonly session: SessionId;
  readonly worker: WorkerId;
  readonly inode: InodeId;
  bytes: Byte[];
  /** Fingerprint → the object's bytes; the store has the latest. */
  readonly objects = new Map<string, readonly Byte[]>();
  /** Bytes of containers by write id. */
  readonly containers = new Map<WriteId, Byte[]>();
  /** A session that reads: the version that it holds, and where the bytes of it lie in containers. */
  readonly reader: SessionId;
  held: { version: number; extents: readonly Extent[] } | undefined;
  /** What a worker has read to put it together, and the write id of that. */
  compacting: { writeId: WriteId; bytes: readonly Byte[] } | undefined;
  /** A persist that a worker executes: it read the content when it started. */
  underWay: { op: UfsOpId; bytes: readonly Byte[] } | undefined;

  constructor(size: number, level: number) {
    this.machine = Machine.make(level);
    this.session = this.machine.openSession();
    this.reader = this.machine.openSession();
    this.worker = this.machine.worker("w");
    const mounted = this.machine.done({
      kind: "mount",
      parent: rootInodeId,
      name: "m",
      uri: "file:///m",
      readOnly: false,
      options: {},
    });
    this.bytes = Array.from({ length: size }, (_, i) => `object ${String(i)}`);
    this.objects.set("first", this.bytes);
    const entries = [entryOf("x", { size, fingerprint: "first" })];
    this.machine.done(pageOf(mounted.status!.inode, entries));
    this.inode = this.machine.at("/m/x").id;
  }

  do(of: Step): void {
    const { machine, inode } = this;
    if ("ranges" in of) this.write(of.ranges, of.release, of.cutTo);
    else if ("count" in of) this.scatter(of.at, of.count);
    else if ("keeps" in of) {
      this.scatter(of.at, 700);
      this.truncate(of.at + of.keeps);
    } else if ("over" in of) this.cover(of.over);
    else if ("length" in of) this.compact(of.from, of.length);
    else if ("how" in of) this.compacted(of.how);
    else if (of.kind === "compactedAll") this.compactedAll();
    else if ("size" in of) this.truncate(of.size);
    else if ("sizes" in of) this.truncate(...of.sizes);
    else if (of.kind === "start") this.start();
    else if ("fails" in of) this.finish(of.fails);
    else if (of.kind === "persist") machine.done({ kind: "persist", inode });
    else if (of.kind === "clear") this.clear();
    else if (of.kind === "raise") machine.done({ kind: "raiseLevel", level: newestLevel });
    else if (of.kind === "retain") this.retain();
    else if (of.kind === "letGo") this.letGo("version" in of && of.version);
    else this.reap();
  }

  reap(): void {
    const { machine } = this;
    machine.clusterTimeMs += 1000;
    const keys = machine.state.entries("garbage/").map(([key]) => key);
    machine.done({ kind: "reapGarbage", keys });
  }

  retain(): void {
    const { machine, inode } = this;
    const { version, source } = machine.inode(inode);
    if (this.held !== undefined || levelOfState(machine.state) < 2) return;
    machine.done({ kind: "retain", inode, version }, this.reader);
    // Bytes that the store has are its own matter, and what was read of a container before it was persisted is there now.
    const extents = this.#stored().filter(({ writeId }) => writeId !== source?.writeId);
    this.held = { version, extents };
  }

  letGo(isVersion: boolean): void {
    const { machine, inode, held } = this;
    if (held === undefined) return;
    const { version } = held;
    if (isVersion) machine.done({ kind: "release", inode, version }, this.reader);
    machine.done({ kind: "release", inode }, this.reader);
    this.held = undefined;
  }

  /** What is held can be read: its containers are kept, or the store has what is in them. */
  checkHeld(): void {
    const { machine, inode, held } = this;
    if (held === undefined) return;
    const adopted = machine.inode(inode).source?.writeId;
    const extents = held.extents.filter(({ writeId }) => writeId !== adopted);
    this.held = { ...held, extents };
    for (const { writeId } of extents) {
      const kept = containerOf(machine.state, inode, writeId);
      assert.ok(kept, `version ${String(held.version)} is read, and ${String(writeId)} is gone`);
    }
  }

  /** The rows of the extents that count. */
  #stored(): Extent[] {
    const file = this.machine.inode(this.inode);
    const prefix = extentRange(file).from.slice(0, -8);
    const end = file.cleared?.tailFrom ?? file.size;
    return this.machine.state
      .entries(prefix)
      .map(decodeExtent)
      .filter(({ fileOffset }) => fileOffset < end);
  }

  /** One step of what is taken away in steps; answers whether there is more. */
  clear(): boolean {
    const [first, ...others] = this.machine.state.entries("clearing/");
    if (first === undefined) return false;
    const { id } = this.machine.done({ kind: "clearExtents", ...clearingOfKey(first[0]) });
    return id === 1 || others.length > 0;
  }

  scatter(at: number, count: number): void {
    const ranges = Array.from({ length: count }, (_, i) => ({ at: at + 2 * i, length: 1 }));
    this.write(ranges, false);
  }

  write(ranges: readonly { at: number; length: number }[], release: boolean, cutTo?: number): void {
    const { machine, inode } = this;
    const reach = Math.max(0, ...ranges.map(({ at, length }) => at + length));
    const isLong = cutTo !== undefined && machine.inode(inode).extentCount > clearStepLimit;
    if (isLong || reach > (machine.inode(inode).cleared?.tailFrom ?? reach)) {
      if (!isLong) this.#refusedAtTail();
      while (this.clear());
      if (isLong) return;
    }
    const leased = machine.done({ kind: "lease", inode }, this.session);
    const writeId = leased.writeId!;
    const container = this.containers.get(writeId) ?? [];
    this.containers.set(writeId, container);
    const extents: Extent[] = [];
    const cut: Command[] = cutTo === undefined ? [] : [{ kind: "truncate", inode, size: cutTo }];
    const isCut = cutTo !== undefined && cutTo !== this.bytes.length;
    if (cutTo !== undefined) this.#resize(cutTo);
    let size = this.bytes.length;
    let end = 0;
    for (const { at, length } of [...ranges].sort((a, b) => a.at - b.at)) {
      for (let fileOffset = Math.max(at, end); fileOffset < at + length; ) {
        const place = container.length;
        const offset = place % blockSizeBytes;
        const part = Math.min(at + length - fileOffset, blockSizeBytes - offset);
        const blockIndex = (place - offset) / blockSizeBytes;
        extents.push({ fileOffset, length: part, writeId, blockIndex, offset });
        while (this.bytes.length < fileOffset) this.bytes.push(0);
        for (let i = 0; i < part; i++) {
          const byte = `write ${String(writeId)} ${String(place + i)}`;
          container.push(byte);
          this.bytes[fileOffset + i] = byte;
        }
        fileOffset += part;
        end = fileOffset;
      }
      size = Math.max(size, end);
    }
    const { version } = leased.status!;
    const commit = commitCommand({
      inode,
      writeId,
      baseVersion: isCut ? version + 1 : version,
      size,
      extents,
      keepers: [this.worker],
      release,
    });
    machine.allDone([...cut, commit], this.session);
  }

  /** In parts, each of which is a version: what it changes, it changes from the start on. */
  cover(over: number): void {
    const { machine, inode } = this;
    if (levelOfState(machine.state) < 2) return;
    this.scatter(0, 700);
    this.scatter(1400, 700);
    const before = [...this.bytes];
    const leased = machine.done({ kind: "lease", inode }, this.session);
    const writeId = leased.writeId!;
    const container = this.containers.get(writeId) ?? [];
    this.containers.set(writeId, container);
    const extents: Extent[] = [];
    const to = 2800 - over;
    for (let fileOffset = over; fileOffset < to; ) {
      const place = container.length;
      const offset = place % blockSizeBytes;
      const length = Math.min(to - fileOffset, blockSizeBytes - offset);
      const blockIndex = (place - offset) / blockSizeBytes;
      extents.push({ fileOffset, length, writeId, blockIndex, offset });
      for (let i = 0; i < length; i++) {
        this.bytes[fileOffset + i] = `write ${String(writeId)} ${String(place + i)}`;
        container.push(this.bytes[fileOffset + i]!);
      }
      fileOffset += length;
    }
    const { version, size } = leased.status!;
    const keepers = [this.worker];
    const of = { inode, writeId, baseVersion: version, size: Math.max(size, to), extents, keepers };
    for (let parts = 1; ; parts++) {
      const result = machine.run(commitCommand(of), this.session);
      if (result.ok) break;
      assert.equal(result.code, "Busy");
      assert.ok(parts < 10, "it does not come to an end");
      assert.equal(machine.inode(inode).version, version + parts);
      const found = this.#readBy(this.#stored());
      const end = found.findIndex((byte, i) => byte !== this.bytes[i]);
      assert.deepEqual(found.slice(end), before.slice(end), "it is done from the start on");
    }
  }

  /** A worker is asked to put a range together, and reads it. */
  compact(from: number, length: number): void {
    const { machine, inode } = this;
    const of = machine.inode(inode);
    if (of.compaction?.isWanted !== true) return;
    const to = Math.min(from + length, of.size, of.cleared?.tailFrom ?? of.size);
    const command = { kind: "startCompaction", inode, from, to } as const;
    if (of.compaction.running !== undefined) {
      machine.refused("Busy", command);
      return;
    }
    if (of.form !== "extents" || from >= to) {
      machine.refused("InvalidArgument", command);
      return;
    }
    const writeId = machine.done(command).writeId!;
    const bytes = this.bytes.slice(from, to);
    assert.equal(containerUse(machine.state, { inode, writeId }), "writing");
    this.compacting = { writeId, bytes };
  }

  compacted(how: "done" | "twice" | "given up"): void {
    const { machine, inode, compacting, worker } = this;
    if (compacting === undefined) return;
    this.compacting = undefined;
    const { writeId, bytes } = compacting;
    const before = machine.inode(inode);
    const ended = { kind: "endCompaction", inode, writeId } as const;
    if (how === "given up") machine.done(ended);
    const command = { kind: "compactContent", inode, writeId, keepers: [worker] } as const;
    const result = machine.run(command);
    const { extentCount, compaction, ...after } = machine.inode(inode);
    if (result.ok) {
      this.containers.set(writeId, [...bytes]);
      assert.ok(extentCount < before.extentCount);
      assert.equal(after.version, before.version);
    } else {
      const isOver = before.compaction?.running?.writeId !== writeId || how === "given up";
      assert.equal(result.code, isOver ? "Stale" : "InvalidArgument", result.detail);
      machine.done(ended);
      assert.equal(containerUse(machine.state, { inode, writeId }), "unknown");
    }
    if (how === "twice" || !result.ok) machine.refused("Stale", command);
    assert.equal(machine.inode(inode).compaction?.running, undefined);
    assert.ok(compaction);
  }

  compactedAll(): void {
    const { machine, inode } = this;
    const { compaction } = machine.inode(inode);
    const command = { kind: "endCompaction", inode, writeId: undefined } as const;
    if (levelOfState(machine.state) < 2) return;
    if (compaction?.running !== undefined) machine.refused("Busy", command);
    else machine.done(command);
  }

  /** Where something waits to be taken away nothing is added: a client tries again. */
  #refusedAtTail(): void {
    const { machine, inode, session } = this;
    const { writeId, status } = machine.done({ kind: "lease", inode }, session);
    const fileOffset = machine.inode(inode).cleared!.tailFrom!;
    const extent = { fileOffset, length: 1, writeId: writeId!, blockIndex: 0, offset: 0 };
    const size = Math.max(status!.size, fileOffset + 1);
    const keepers = [this.worker];
    const command = commitCommand({ inode, writeId: writeId!, size, keepers, extents: [extent] });
    machine.refused("Busy", { ...command, baseVersion: status!.version }, session);
  }

  /** To each of the sizes, in one entry. */
  truncate(...sizes: readonly number[]): void {
    const { inode, machine } = this;
    machine.allDone(
      sizes.map((size) => ({ kind: "truncate", inode, size })),
      this.session,
    );
    for (const size of sizes) this.#resize(size);
  }

  #resize(size: number): void {
    while (this.bytes.length < size) this.bytes.push(0);
    this.bytes.length = size;
  }

  /** A worker takes the first persist that is worth it and reads the file; moot ones end at once. */
  start(): void {
    if (this.underWay !== undefined) return;
    for (const op of this.machine.pending()) {
      if (!isMoot(this.machine.state, op)) {
        this.underWay = { op: op.id, bytes: [...this.bytes] };
        return;
      }
      this.machine.ufsDone(op.id);
    }
  }

  finish(fails: boolean): void {
    if (this.underWay === undefined) return;
    const { op, bytes } = this.underWay;
    this.underWay = undefined;
    if (fails) {
      this.machine.ufsDone(op, { error: "the store is full" });
      return;
    }
    const fingerprint = `of ${String(op)}`;
    // The store has one object: the one before is gone.
    this.objects.clear();
    this.objects.set(fingerprint, bytes);
    this.machine.ufsDone(op, { fingerprint });
  }

  /** The file as a reader finds it, through extents, containers and the store. */
  async read(): Promise<Byte[]> {
    const { size } = this.machine.inode(this.inode);
    return this.#readBy(await extentsOf(this.machine.state, this.inode, { from: 0, to: size }));
  }

  #readBy(extents: readonly Extent[]): Byte[] {
    const file = this.machine.inode(this.inode);
    if (file.form === "source") return [...this.objects.get(file.source!.fingerprint)!];
    const bytes: Byte[] = Array.from({ length: file.size }, () => 0 as const);
    for (let i = 0; i < (file.source?.shown ?? 0); i++) {
      bytes[i] = this.objects.get(file.source!.fingerprint)![i]!;
    }
    for (const { fileOffset, length, writeId, blockIndex, offset } of extents) {
      const { source } = file;
      const from =
        source?.writeId === writeId
          ? this.objects.get(source.fingerprint)!
          : this.containers.get(writeId)!;
      for (let i = 0; i < length; i++) {
        bytes[fileOffset + i] = from[blockIndex * blockSizeBytes + offset + i]!;
      }
    }
    return bytes;
  }
}

describe("content", () => {
  it("reads as it was written, whatever is persisted, overwritten and reclaimed between", async function () {
    this.timeout(120_000);
    const level = fc.constantFrom(1, newestLevel);
    const work = fc.array(step, { maxLength: 25 });
    await fc.assert(
      fc.asyncProperty(fc.nat(350), level, work, async (size, firstLevel, steps) => {
        const world = new World(size, firstLevel);
        const byVersion = new Map<number, string>();
        for (const each of steps) {
          world.do(each);
          world.checkHeld();
          const file = world.machine.inode(world.inode);
          assert.equal(file.size, world.bytes.length);
          const found = await world.read();
          assert.deepEqual(found, world.bytes);
          const known = byVersion.get(file.version);
          assert.equal(known ?? found.join(), found.join(), "one version, two contents");
          byVersion.set(file.version, found.join());
        }
      }),
      { numRuns: 150 },
    );
  });

  it("has all of it in the store in the end", () => {
    fc.assert(
      fc.property(fc.nat(350), fc.array(step, { maxLength: 15 }), (size, steps) => {
        const world = new World(size, newestLevel);
        for (const each of steps) world.do(each);
        world.write([], true);
        // What a store refused stays unpersisted until somebody asks again.
        world.machine.done({ kind: "persist", inode: world.inode });
        for (let i = 0; i < 100 && world.machine.pending().length > 0; i++) {
          world.start();
          world.finish(false);
        }
        const file = world.machine.inode(world.inode);
        assert.equal(file.persistence, "persisted");
        assert.deepEqual(world.objects.get(file.source!.fingerprint), world.bytes);
      }),
      { numRuns: 50 },
    );
  });

  it("leaves nothing behind once the file is gone", function () {
    this.timeout(120_000);
    fc.assert(
      fc.property(fc.nat(350), fc.array(step, { maxLength: 15 }), (size, steps) => {
        const world = new World(size, newestLevel);
        const { machine, session } = world;
        for (const each of steps) world.do(each);
        const parent = machine.at("/m").id;
        machine.done({ kind: "unlink", parent, name: "x", held: false }, session);
        machine.done({ kind: "closeSession", session });
        machine.done({ kind: "closeSession", session: world.reader });
        for (let i = 0; i < 30 && machine.state.entries("garbage/").length > 0; i++) {
          while (world.clear());
          world.reap();
        }
        assert.equal(machine.inode(world.inode), undefined);
        for (const prefix of [
          "extent/",
          "extents/",
          "clearing/",
          "compact/",
          "container/",
          "kept/",
          "garbage/",
        ]) {
          assert.deepEqual(machine.state.entries(prefix), [], prefix);
        }
      }),
      { numRuns: 50 },
    );
  });
});
