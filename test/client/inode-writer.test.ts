import assert from "node:assert/strict";
import fc from "fast-check";
import { InodeWriter } from "../../src/client/inode-writer.ts";
import type { WriteTargets } from "../../src/client/write-targets.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { WeirError } from "../../src/lib/errors.ts";
import type { InodeId, Position, SessionId, WorkerId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { type ClientCommand, type CommandResult, unwrap } from "../../src/rpc/commands.ts";
import type { Extent, FileStatus } from "../../src/rpc/namespace.ts";
import { eventually } from "../lib/eventually.ts";
import { MemoryBlocks } from "../lib/memory-blocks.ts";

const inode = 5 as InodeId;
const blockSizeBytes = 1000;

/** One file of a master in the heap: leases, versions, extents. */
class FakeFile {
  readonly blocks = new MemoryBlocks(blockSizeBytes);
  readonly commands: string[] = [];
  readonly failures: WeirError[] = [];
  status = { inode, size: 0, version: 1, mtime: { sec: 1, nsec: 0 }, kind: "file" } as FileStatus;
  extents: Extent[] = [];
  lease: WriteId | undefined;
  session = 1 as SessionId;
  conflicts = 0;
  commits = 0;
  keepers = [1, 2];
  readonly spent = new Set<WriteId>();
  /** What the next commit meets: no answer, while its entry is applied late or never. */
  doubt: "late" | "never" | undefined;
  /** A commit whose entry is in the log, to be applied before what comes later. */
  late: ClientCommand | undefined;
  /** No leader answers. */
  silent = false;
  hearsRecalls = true;
  /** Commits that meet a part of the file that is being taken away. */
  busy = 0;
  #index = 10;

  get targets(): WriteTargets {
    return {
      session: {
        current: this.session,
        ensure: async () => this.session,
        execute: async (command, doing, options) => {
          const { results, ...at } = await this.#mutate([command], options?.session);
          return { ...unwrap(results[0]!, doing), ...at };
        },
        mutate: (commands, options) => this.#mutate(commands, options?.session),
      },
      blocks: this.blocks,
      clock: systemClock,
      logger: silentLogger,
      operationTimeoutMs: 2000,
      defaultWriteType: "MUST_CACHE",
      defaultKeepers: 2,
      chain: async () => [1 as WorkerId, 2 as WorkerId],
      examine: async () => undefined,
      blockSizeBytes: async () => blockSizeBytes,
      getStatus: async () => this.status,
      onCommitted: () => undefined,
      spent: this.spent,
      hearsRecalls: () => this.hearsRecalls,
      inBackground: () => undefined,
      onFailure: (_, error) => this.failures.push(error),
    };
  }

  /** What a reader of the committed version sees. */
  content(): Buffer {
    const bytes = Buffer.alloc(this.status.size);
    for (const { fileOffset, length, writeId, blockIndex, offset } of this.extents) {
      const container = this.blocks.containers.get(`${inode}.${writeId}`)!;
      const start = blockIndex * blockSizeBytes + offset;
      assert(offset + length <= blockSizeBytes && start + length <= container.length);
      container.copy(bytes, fileOffset, start, start + length);
    }
    return bytes;
  }

  async #mutate(commands: readonly ClientCommand[], session: SessionId | undefined) {
    await new Promise((resolve) => setImmediate(resolve));
    if (session !== undefined && session !== this.session)
      throw new WeirError("SessionExpired", "Cannot: expired");
    if (this.silent) throw noAnswer();
    this.applyLate();
    const [first] = commands;
    if (first?.kind === "commit" && this.doubt !== undefined) {
      if (this.doubt === "late") this.late = first;
      this.doubt = undefined;
      throw noAnswer();
    }
    const index = ++this.#index;
    return {
      index,
      askedMs: systemClock.monotonicMs(),
      position: (index * 1024) as Position,
      results: commands.map((command, place) => this.#apply(command, index * 1024 + place)),
    };
  }

  applyLate(): void {
    const { late } = this;
    this.late = undefined;
    if (late !== undefined) this.#apply(late, 0);
  }

  #apply(command: ClientCommand, position: number): CommandResult {
    this.commands.push(command.kind);
    if (command.kind === "lease") {
      if (this.conflicts-- > 0) return { ok: false, code: "LeaseConflict", detail: "held" };
      this.lease ??= position as WriteId;
      return { ok: true, writeId: this.lease, status: this.status };
    }
    if (command.kind === "releaseLease") {
      assert.equal(command.writeId, this.lease);
      this.lease = undefined;
      return { ok: true };
    }
    if (command.kind === "truncate") {
      const { size } = command;
      this.extents = this.extents
        .filter((each) => each.fileOffset < size)
        .map((each) => ({ ...each, length: Math.min(each.length, size - each.fileOffset) }));
      return this.#next({ size });
    }
    if (command.kind !== "commit") throw new Error(`unexpected ${command.kind}`);
    if (this.busy-- > 0) return { ok: false, code: "Busy", detail: "being taken away" };
    if (command.writeId !== this.lease) return { ok: false, code: "LeaseLost", detail: "fenced" };
    if (command.baseVersion !== this.status.version) {
      return { ok: false, code: "VersionConflict", detail: "moved" };
    }
    this.commits++;
    // Later extents win when they are laid over the earlier ones in order.
    this.extents = [...this.extents, ...command.extents];
    if (command.extents.length > 0) assert.deepEqual(command.keepers, this.keepers);
    if (command.release) this.lease = undefined;
    return this.#next({ size: command.size, mtime: command.mtime ?? { sec: 99, nsec: 0 } });
  }

  #next(changes: Partial<FileStatus>): CommandResult {
    this.status = { ...this.status, ...changes, version: this.status.version + 1 };
    return { ok: true, status: this.status };
  }
}

function noAnswer(): WeirError {
  return new WeirError("DeadlineExceeded", "Cannot: no answer", { outcome: "unknown" });
}

/** Lets go on what has only the fakes to wait for. */
async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function read(writer: InodeWriter, file: FakeFile): Promise<Buffer> {
  const target = Buffer.alloc(writer.size);
  const base = file.content();
  for (const { offset, length } of writer.overlay(target, 0)) {
    target.set(base.subarray(offset, offset + length), offset);
  }
  return target;
}

describe("the writer of a file", () => {
  let file: FakeFile;
  let writer: InodeWriter;

  beforeEach(() => {
    file = new FakeFile();
    writer = new InodeWriter(file.targets, file.status);
  });

  afterEach(() => {
    writer.abandon();
  });

  it("publishes nothing before a flush, and everything by one commit at it", async () => {
    await writer.write(0, Buffer.from("hello "));
    await writer.write(6, Buffer.from("world"));
    assert.equal(file.content().toString(), "");
    assert.equal((await read(writer, file)).toString(), "hello world");
    await writer.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "hello world");
    assert.deepEqual(file.commands, ["lease", "commit"]);
    assert.equal(file.lease, undefined);
  });

  it("costs a new file one commit: its lease came with the name", async () => {
    file.lease = 77 as WriteId;
    const created = new InodeWriter(file.targets, file.status, {
      lease: { session: file.session, writeId: 77 as WriteId },
    });
    await created.write(0, Buffer.from("x"));
    await created.flush({ release: true, sync: false });
    assert.deepEqual(file.commands, ["commit"]);
    created.abandon();
  });

  it("keeps the modification time that was set after the last write, and drops it at the next", async () => {
    await writer.write(0, Buffer.from("x"));
    writer.setModified({ sec: 42, nsec: 0 });
    await writer.flush({ release: true, sync: false });
    assert.equal(file.status.mtime.sec, 42);
    await writer.write(0, Buffer.from("y"));
    await writer.flush({ release: true, sync: false });
    assert.equal(file.status.mtime.sec, 99);
  });

  it("waits for a lease that another session holds", async () => {
    file.conflicts = 3;
    await writer.write(0, Buffer.from("x"));
    await writer.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "x");
  });

  it("publishes and lets the lease go when another session waits, and takes it anew for what follows", async () => {
    await writer.write(0, Buffer.from("mine"));
    writer.recall();
    await writer.flush({ release: false, sync: false });
    assert.equal(file.content().toString(), "mine");
    assert.equal(file.lease, undefined);
    file.conflicts = 1;
    await writer.write(4, Buffer.from(" again"));
    await writer.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "mine again");
    writer.recall();
    assert.deepEqual(file.failures, []);
  });

  it("tells everybody for good that what it wrote is lost when its lease was taken from it", async () => {
    await writer.write(0, Buffer.from("mine"));
    file.lease = undefined;
    await assert.rejects(writer.flush({ release: true, sync: false }), { code: "LeaseLost" });
    await assert.rejects(writer.write(4, Buffer.from("x")), { code: "LeaseLost" });
    assert.equal(file.failures.length, 1);
    assert.equal(file.content().toString(), "");
  });

  it("keeps no lease while it would not hear that another session waits", async () => {
    file.hearsRecalls = false;
    await writer.write(0, Buffer.from("mine"));
    await eventually("the lease to be let go", async () => file.lease === undefined || undefined);
    assert.equal(file.content().toString(), "mine");
  });

  it("tries a commit again while what was cut off before is being taken away", async () => {
    await writer.write(0, Buffer.from("x"));
    file.busy = 2;
    await writer.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "x");
  });

  it("gives up at its deadline, and can be used again then", async () => {
    file.conflicts = Number.POSITIVE_INFINITY;
    writer = new InodeWriter({ ...file.targets, operationTimeoutMs: 30 }, file.status);
    await assert.rejects(writer.write(0, Buffer.from("x")), { code: "LeaseConflict" });
    file.conflicts = 0;
    await writer.write(0, Buffer.from("x"));
    await writer.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "x");
  });

  it("loses nothing when a chain fails at any step: the file is whole under another write id", async () => {
    for (let step = 1; step <= 5; step++) {
      file = new FakeFile();
      writer = new InodeWriter(file.targets, file.status);
      const data = Buffer.alloc(3_000_000, `${step}abcdefg`);
      file.blocks.failAfter = step;
      await writer.write(0, data.subarray(0, 2_500_000));
      await writer.write(2_500_000, data.subarray(2_500_000));
      await writer.flush({ release: true, sync: true });
      assert(file.content().equals(data), `failed at step ${step}`);
      assert.equal(file.blocks.failAfter, 0, "it did fail");
      assert.deepEqual(file.failures, []);
    }
  });

  it("keeps what is committed when a later chain fails in the same container", async () => {
    await writer.write(0, Buffer.from("first"));
    await writer.flush({ release: false, sync: true });
    file.blocks.failAfter = 2;
    await writer.write(5, Buffer.from(" second"));
    await writer.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "first second");
  });

  it("leaves the file as it was when no chain takes the bytes, and tells every handle", async () => {
    await writer.write(0, Buffer.from("old"));
    await writer.flush({ release: true, sync: false });
    file.blocks.down.add(1 as WorkerId);
    writer = new InodeWriter({ ...file.targets, operationTimeoutMs: 100 }, file.status);
    await writer.write(0, Buffer.from("new and longer"));
    await assert.rejects(writer.flush({ release: true, sync: false }), { code: "Unavailable" });
    await assert.rejects(writer.write(0, Buffer.from("x")), { code: "Unavailable" });
    assert.equal(file.failures.length, 1);
    assert.equal(file.content().toString(), "old");
  });

  for (const release of [true, false]) {
    it(`keeps the bytes of a commit in doubt, which may be applied later (release: ${release})`, async () => {
      await writer.write(0, Buffer.from("acknowledged"));
      await writer.flush({ release: true, sync: false });
      await writer.write(0, Buffer.from("overwritten!"));
      file.doubt = "late";
      await assert.rejects(writer.flush({ release, sync: false }), { code: "DeadlineExceeded" });
      assert.equal(file.failures.length, 1);
      await turns();
      file.applyLate();
      assert.equal(file.content().toString(), "overwritten!");
      assert.equal(file.lease, undefined);
    });
  }

  it("takes back the bytes of a commit that is certain not to be applied", async () => {
    await writer.write(0, Buffer.from("x"));
    const moved = { ...file.status, version: file.status.version + 1 };
    file.status = moved;
    await writer.write(1, Buffer.from("y"));
    file.lease = undefined;
    await assert.rejects(writer.flush({ release: true, sync: false }), { code: "LeaseLost" });
    assert.equal(file.blocks.containers.size, 0);
  });

  it("never writes again under the write id of a commit in doubt, whose lease may still be held", async () => {
    await writer.write(0, Buffer.from("old"));
    file.doubt = "never";
    await assert.rejects(writer.flush({ release: true, sync: false }), {
      code: "DeadlineExceeded",
    });
    const inDoubt = file.lease!;
    // The release of the lease gets no answer either.
    file.silent = true;
    await turns();
    file.silent = false;
    assert.equal(file.lease, inDoubt);
    const next = new InodeWriter(file.targets, file.status);
    await next.write(0, Buffer.from("new"));
    assert.notEqual(file.lease, inDoubt);
    await next.flush({ release: true, sync: false });
    assert.equal(file.content().toString(), "new");
    next.abandon();
  });

  it("syncs what is committed on the holders that are left when the first worker of the chain died", async () => {
    await writer.write(0, Buffer.from("first"));
    await writer.flush({ release: false, sync: false });
    file.blocks.down.add(1 as WorkerId);
    await writer.flush({ release: false, sync: true });
    assert.deepEqual(file.failures, []);
    file.keepers = [2];
    await writer.write(5, Buffer.from(" second"));
    await writer.flush({ release: true, sync: true });
    assert.equal(file.content().toString(), "first second");
  });

  it("refuses a sync when no holder is left, unless the store has the file", async () => {
    await writer.write(0, Buffer.from("first"));
    await writer.flush({ release: false, sync: false });
    file.blocks.down.add(1 as WorkerId);
    file.blocks.down.add(2 as WorkerId);
    file.status = { ...file.status, persistence: "persisted" };
    await writer.flush({ release: false, sync: true });
    file.status = { ...file.status, persistence: "pending" };
    await assert.rejects(writer.flush({ release: false, sync: true }), { code: "Unavailable" });
  });

  it("says NoSpace when one chain after the other is full", async () => {
    file.blocks.down.add(1 as WorkerId);
    file.blocks.failWith = new WeirError("NoSpace", "Cannot write: the tiers are full");
    await writer.write(0, Buffer.from("x"));
    await assert.rejects(writer.flush({ release: true, sync: false }), { code: "NoSpace" });
  });

  it("ends with its session", async () => {
    await writer.write(0, Buffer.from("x"));
    file.session = 2 as SessionId;
    await assert.rejects(writer.flush({ release: true, sync: false }), { code: "SessionExpired" });
    assert.equal(file.content().length, 0);
  });

  it("commits by itself before it holds more than its bound", async () => {
    const chunk = Buffer.alloc(8 * 1024 * 1024, 1);
    for (let i = 0; i < 10; i++) await writer.write(i * chunk.length, chunk);
    assert.equal(file.commits, 1);
    await writer.flush({ release: true, sync: false });
    assert.equal(file.status.size, 10 * chunk.length);
  });

  it("A3, A4: any writes, appends, truncations and flushes read back as from a local file, failures included", async () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant("write" as const),
        offset: fc.nat(5000),
        length: fc.integer({ min: 1, max: 3000 }),
      }),
      fc.record({
        kind: fc.constant("append" as const),
        length: fc.integer({ min: 1, max: 3000 }),
      }),
      fc.record({ kind: fc.constant("truncate" as const), size: fc.nat(6000) }),
      fc.record({ kind: fc.constant("flush" as const), release: fc.boolean() }),
      fc.record({ kind: fc.constant("fail" as const), after: fc.integer({ min: 1, max: 4 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        file = new FakeFile();
        writer = new InodeWriter(file.targets, file.status);
        let model = Buffer.alloc(0);
        let fill = 0;
        const put = (offset: number, data: Buffer) => {
          const longer = Buffer.alloc(Math.max(model.length, offset + data.length));
          model.copy(longer);
          data.copy(longer, offset);
          model = longer;
        };
        for (const each of steps) {
          switch (each.kind) {
            case "write":
            case "append": {
              const data = Buffer.alloc(each.length, ++fill);
              const offset = each.kind === "write" ? each.offset : undefined;
              await writer.write(offset, data);
              put(offset ?? model.length, data);
              break;
            }
            case "truncate": {
              await writer.truncate(each.size);
              const cut = Buffer.alloc(each.size);
              model.copy(cut);
              model = cut;
              break;
            }
            case "flush":
              await writer.flush({ release: each.release, sync: false });
              break;
            case "fail":
              file.blocks.failAfter = each.after;
              break;
          }
          assert.equal(writer.size, model.length);
          assert((await read(writer, file)).equals(model));
        }
        file.blocks.failAfter = 0;
        await writer.flush({ release: true, sync: false });
        assert(file.content().equals(model));
        writer.abandon();
      }),
      { numRuns: 60 },
    );
  }).timeout(30_000);
});
