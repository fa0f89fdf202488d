import assert from "node:assert/strict";
import {
  type InodeId,
  rootInodeId,
  type SessionId,
  type WorkerId,
  type WriteId,
} from "../../../src/lib/ids.ts";
import {
  shownSource,
  isKept,
  isContainerLost,
  containerOf,
  containerUse,
} from "../../../src/master/state/queries.ts";
import {
  containersOf,
  extentsOf,
  garbageBefore,
  isLost,
  keptPage,
  lostFilesOf,
} from "../../../src/master/services/listings.ts";
import {
  commitCommand,
  createCommand,
  entryOf,
  extentsOver,
  Machine,
  pageOf,
  requestOf,
  blockSizeBytes,
} from "./machine-fixture.ts";
import { withSource } from "../../../src/master/state/extents.ts";

interface Written {
  readonly machine: Machine;
  readonly session: SessionId;
  readonly worker: WorkerId;
  readonly inode: InodeId;
  readonly writeId: WriteId;
}

/** A file under a lease, empty at version 1. */
function opened(): Written {
  const machine = Machine.make();
  const worker = machine.worker("w1");
  const session = machine.openSession();
  const made = machine.done(createCommand(rootInodeId, "a", { lease: true }), session);
  return { machine, session, worker, inode: made.status!.inode, writeId: made.writeId! };
}

const openOrMake = { lease: true, exclusive: false };
const everything = { from: 0, to: 10_000 };

/** The content as "offset+length@write.block.offset", for comparisons. */
async function shownExtents(machine: Machine, inode: InodeId): Promise<string[]> {
  const stored = await extentsOf(machine.state, inode, everything);
  const range = { ...everything, blockSizeBytes };
  const extents = withSource(stored, shownSource(machine.inode(inode)), range);
  return extents.map(
    (each) =>
      `${String(each.fileOffset)}+${String(each.length)}@${String(each.writeId)}.${String(each.blockIndex)}.${String(each.offset)}`,
  );
}

describe("the write lease", () => {
  it("is one per file, and the same for one session", () => {
    const { machine, session, inode, writeId } = opened();
    const other = machine.openSession();
    assert.equal(machine.done({ kind: "lease", inode }, session).writeId, writeId);
    machine.refused("LeaseConflict", { kind: "lease", inode }, other);
    machine.refused("LeaseConflict", { kind: "truncate", inode, size: 5 }, other);
    machine.done({ kind: "releaseLease", inode, writeId }, session);
    const next = machine.done({ kind: "lease", inode }, other);
    assert.notEqual(next.writeId, writeId);
    machine.refused("LeaseLost", { kind: "releaseLease", inode, writeId }, session);
  });

  it("is recalled when another session asks for it, once, and by a part of a request too", () => {
    const { machine, session, inode, writeId } = opened();
    const [second, third] = [machine.openSession(), machine.openSession()];
    const asked = machine.clusterTimeMs;
    const truncate = { kind: "truncate", inode, size: 5 } as const;
    const request = requestOf([{ kind: "lease", inode }, truncate], {
      session: second,
      atomic: true,
    });
    const applied = machine.apply(request);
    assert.deepEqual(
      applied.results[0]!.map((result) => !result.ok && result.code),
      ["LeaseConflict", "Cancelled"],
    );
    assert.deepEqual(applied.changes.recalled, [inode]);
    machine.clusterTimeMs += 1000;
    machine.refused("LeaseConflict", truncate, third);
    machine.refused("LeaseConflict", createCommand(rootInodeId, "a", openOrMake), third);
    assert.equal(machine.inode(inode).lease?.recalledAtMs, asked, "the time counts from the first");
    assert.equal(machine.done({ kind: "lease", inode }, session).writeId, writeId);
    machine.done(commitCommand({ inode, writeId, release: true }), session);
    machine.done({ kind: "lease", inode }, third);
    assert.equal(machine.inode(inode).lease?.recalledAtMs, undefined);
  });

  it("that is recalled and not let go is taken away, and its holder can publish nothing more", () => {
    const { machine, session, worker, inode, writeId } = opened();
    const other = machine.openSession();
    machine.done({ kind: "fenceLease", inode, writeId });
    assert.equal(machine.inode(inode).lease?.writeId, writeId, "nobody waits for it");
    machine.refused("LeaseConflict", { kind: "lease", inode }, other);
    machine.done({ kind: "fenceLease", inode, writeId: (writeId + 1) as WriteId });
    assert.equal(machine.inode(inode).lease?.writeId, writeId, "that was another one");
    machine.done({ kind: "fenceLease", inode, writeId });
    const extents = extentsOver(writeId, 0, 10);
    const late = commitCommand({ inode, writeId, size: 10, extents, keepers: [worker] });
    machine.refused("LeaseLost", late, session);
    machine.done({ kind: "lease", inode }, other);
    machine.refused("NotPermitted", { kind: "fenceLease", inode, writeId }, session);
  });

  it("is not recalled below level 2, where not all masters know of it", () => {
    const machine = Machine.make(1);
    const [session, other] = [machine.openSession(), machine.openSession()];
    const made = machine.done(createCommand(rootInodeId, "a", { lease: true }), session);
    const { inode } = made.status!;
    machine.refused("LeaseConflict", { kind: "lease", inode }, other);
    assert.equal(machine.inode(inode).lease?.recalledAtMs, undefined);
  });

  it("ends with its session", () => {
    const { machine, session, inode, writeId } = opened();
    const other = machine.openSession();
    machine.done({ kind: "closeSession", session });
    machine.refused("SessionExpired", commitCommand({ inode, writeId, size: 0 }), session);
    machine.done({ kind: "lease", inode }, other);
  });

  it("is for files and sessions", () => {
    const { machine, session } = opened();
    const directory = machine.mkdir("/d").inode;
    const pipe = machine.create("/p", { fileKind: "fifo" }).inode;
    machine.refused("IsDirectory", { kind: "lease", inode: directory }, session);
    machine.refused("InvalidArgument", { kind: "lease", inode: pipe }, session);
    machine.refused("InvalidArgument", createCommand(rootInodeId, "b", { lease: true }));
  });

  it("is refused on a read-only mount", () => {
    const { machine, session } = opened();
    const mounted = machine.done({
      kind: "mount",
      parent: rootInodeId,
      name: "ro",
      uri: "file:///ro",
      readOnly: true,
      options: {},
    });
    machine.done(pageOf(mounted.status!.inode, [entryOf("x")]));
    machine.refused("ReadOnly", { kind: "lease", inode: machine.at("/ro/x").id }, session);
    machine.refused("ReadOnly", { kind: "truncate", inode: machine.at("/ro/x").id, size: 0 });
    machine.refused("ReadOnly", createCommand(mounted.status!.inode, "y"));
    machine.refused("ReadOnly", { kind: "deleteTree", parent: mounted.status!.inode, name: "x" });
  });
});

describe("commit", () => {
  it("publishes the bytes as the next version, with who keeps them", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    const extents = extentsOver(writeId, 0, 250);
    const { status } = machine.done(
      commitCommand({ inode, writeId, size: 250, extents, keepers: [worker] }),
      session,
    );
    assert.deepEqual([status!.version, status!.size], [2, 250]);
    assert.deepEqual(await extentsOf(machine.state, inode, everything), extents);
    assert.deepEqual(await extentsOf(machine.state, inode, { from: 100, to: 200 }), [extents[1]]);
    assert.deepEqual(containerOf(machine.state, inode, writeId), {
      references: 3,
      size: 250,
      keepers: [worker],
      since: 1,
      until: undefined,
    });
    assert.ok(isKept(machine.state, { worker, inode, writeId }));
    assert.deepEqual(await keptPage(machine.state, worker, { after: undefined, limit: 9 }), [
      { inode, writeId },
    ]);
  });

  it("is fenced by lease and version", () => {
    const { machine, session, worker, inode, writeId } = opened();
    const other = machine.openSession();
    const commit = commitCommand({
      inode,
      writeId,
      size: 10,
      extents: extentsOver(writeId, 0, 10),
      keepers: [worker],
    });
    machine.refused("LeaseLost", commit, other);
    machine.refused("VersionConflict", { ...commit, baseVersion: 2 }, session);
    machine.done(commit, session);
    machine.refused("VersionConflict", commit, session);
    machine.done({ ...commit, baseVersion: 2, release: true }, session);
    machine.refused("LeaseLost", { ...commit, baseVersion: 3 }, session);
  });

  it("refuses extents that no honest writer sends", () => {
    const { machine, session, worker, inode, writeId } = opened();
    const [good] = extentsOver(writeId, 0, 10);
    const bad = [
      [{ ...good!, length: 0 }],
      [{ ...good!, writeId: (writeId + 1) as WriteId }],
      [{ ...good!, offset: 95 }],
      [good!, { ...good!, fileOffset: 5 }],
      [{ ...good!, fileOffset: 20 }, good!],
      [{ ...good!, fileOffset: 95 }],
    ];
    for (const extents of bad) {
      const command = commitCommand({ inode, writeId, size: 100, extents, keepers: [worker] });
      machine.refused("InvalidArgument", command, session);
    }
    const kept = commitCommand({ inode, writeId, size: 100, extents: [good!] });
    machine.refused("InvalidArgument", kept, session);
    machine.refused("InvalidArgument", { ...kept, keepers: [9 as WorkerId] }, session);
  });

  it("splits what it overwrites, and leaves holes where nothing was written", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    const keepers = [worker];
    const first = extentsOver(writeId, 0, 300);
    machine.done(
      commitCommand({ inode, writeId, size: 300, extents: first, keepers, release: true }),
      session,
    );
    const second = machine.done({ kind: "lease", inode }, session).writeId!;
    const extents = [
      { fileOffset: 50, length: 100, writeId: second, blockIndex: 0, offset: 0 },
      { fileOffset: 400, length: 10, writeId: second, blockIndex: 1, offset: 0 },
    ];
    machine.done(
      commitCommand({ inode, writeId: second, baseVersion: 2, size: 500, extents, keepers }),
      session,
    );
    const [w, v] = [String(writeId), String(second)];
    assert.deepEqual(await shownExtents(machine, inode), [
      `0+50@${w}.0.0`,
      `50+100@${v}.0.0`,
      `150+50@${w}.1.50`,
      `200+100@${w}.2.0`,
      `400+10@${v}.1.0`,
    ]);
    assert.equal(containerOf(machine.state, inode, writeId)!.references, 3);
  });

  it("makes a container garbage when nothing names it any more, and it is gone after its grace", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    const keepers = [worker];
    const extents = extentsOver(writeId, 0, 100);
    machine.done(
      commitCommand({ inode, writeId, size: 100, extents, keepers, release: true }),
      session,
    );
    const second = machine.done({ kind: "lease", inode }, session).writeId!;
    machine.clusterTimeMs = 2000;
    machine.done(
      commitCommand({
        inode,
        writeId: second,
        baseVersion: 2,
        size: 100,
        extents: extentsOver(second, 0, 100),
        keepers,
      }),
      session,
    );
    assert.deepEqual(await garbageBefore(machine.state, 1999, 10), []);
    const keys = await garbageBefore(machine.state, 2000, 10);
    assert.equal(keys.length, 1);
    assert.ok(isKept(machine.state, { worker, inode, writeId }), "readers of the old version");
    machine.done({ kind: "reapGarbage", keys: [...keys, "garbage/nonsense", "inode/x"] });
    assert.ok(!isKept(machine.state, { worker, inode, writeId }));
    assert.equal(containerUse(machine.state, { inode, writeId }), "unknown");
    assert.equal(containerUse(machine.state, { inode, writeId: second }), "kept");
  });

  it("does not reap a container that is written again under the same lease", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    const keepers = [worker];
    const commit = commitCommand({
      inode,
      writeId,
      size: 10,
      extents: extentsOver(writeId, 0, 10),
      keepers,
    });
    machine.done(commit, session);
    machine.done({ kind: "truncate", inode, size: 0 }, session);
    assert.deepEqual(await garbageBefore(machine.state, 9999, 9), [], "it may still be written");
    machine.done({ ...commit, baseVersion: 3 }, session);
    machine.done({ kind: "truncate", inode, size: 0 }, session);
    machine.done({ kind: "releaseLease", inode, writeId }, session);
    const keys = await garbageBefore(machine.state, 9999, 9);
    assert.equal(keys.length, 1);
    machine.done({ kind: "reapGarbage", keys });
    assert.deepEqual(await containersOf(machine.state, inode), []);
  });

  it("turns a store's object into extents when a part is overwritten, and still says where the rest is", async () => {
    const { machine, session, worker } = opened();
    const directory = unloadedDirectory(machine);
    machine.done(pageOf(directory, [entryOf("x", { size: 250 })]));
    const file = machine.at("/m/x");
    const source = file.source!;
    const writeId = machine.done({ kind: "lease", inode: file.id }, session).writeId!;
    const extents = [{ fileOffset: 120, length: 30, writeId, blockIndex: 0, offset: 0 }];
    machine.done(
      commitCommand({ inode: file.id, writeId, size: 250, extents, keepers: [worker] }),
      session,
    );
    const [s, w] = [String(source.writeId), String(writeId)];
    assert.deepEqual(await shownExtents(machine, file.id), [
      `0+100@${s}.0.0`,
      `100+20@${s}.1.0`,
      `120+30@${w}.0.0`,
      `150+50@${s}.1.50`,
      `200+50@${s}.2.0`,
    ]);
    assert.deepEqual(machine.inode(file.id).source, { ...source, shown: 250 });
    assert.equal(machine.inode(file.id).extentCount, 1, "what shows of the object has no rows");
    assert.equal(
      containerUse(machine.state, { inode: file.id, writeId: source.writeId }),
      "source",
    );
  });

  it("sees what another commit of the same entry left", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    const first = commitCommand({
      inode,
      writeId,
      size: 100,
      extents: extentsOver(writeId, 0, 100),
      keepers: [worker],
    });
    const extents = [{ fileOffset: 50, length: 10, writeId, blockIndex: 1, offset: 0 }];
    const { results } = machine.apply(
      requestOf([first], { session, sequence: 100 }),
      requestOf([{ ...first, baseVersion: 2, extents }], { session, sequence: 101 }),
    );
    assert.ok(results.flat().every((result) => result.ok));
    const w = String(writeId);
    assert.deepEqual(await shownExtents(machine, inode), [
      `0+50@${w}.0.0`,
      `50+10@${w}.1.0`,
      `60+40@${w}.0.60`,
    ]);
  });

  it("changes attributes alone without a new version", () => {
    const { machine, session, inode, writeId } = opened();
    const mtime = { sec: 3, nsec: 4 };
    const { status } = machine.done(commitCommand({ inode, writeId, mtime }), session);
    assert.deepEqual([status!.version, status!.mtime], [1, mtime]);
  });
});

function unloadedDirectory(machine: Machine): InodeId {
  return machine.done({
    kind: "mount",
    parent: rootInodeId,
    name: "m",
    uri: "file:///m",
    readOnly: false,
    options: {},
  }).status!.inode;
}

describe("truncate", () => {
  it("cuts extents, and grows by a hole that reads as zeros", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    const extents = extentsOver(writeId, 0, 250);
    machine.done(
      commitCommand({ inode, writeId, size: 250, extents, keepers: [worker], release: true }),
      session,
    );
    assert.equal(machine.done({ kind: "truncate", inode, size: 130 }).status!.version, 3);
    const grown = machine.done({ kind: "truncate", inode, size: 1000 }).status!;
    assert.deepEqual([grown.version, grown.size], [4, 1000]);
    const w = String(writeId);
    assert.deepEqual(await shownExtents(machine, inode), [`0+100@${w}.0.0`, `100+30@${w}.1.0`]);
  });

  it("A25: of a whole file to nothing leaves an empty file", async () => {
    const machine = Machine.make();
    const directory = unloadedDirectory(machine);
    machine.done(pageOf(directory, [entryOf("x", { size: 250 })]));
    const { id } = machine.at("/m/x");
    const { status } = machine.done({ kind: "truncate", inode: id, size: 0 });
    assert.deepEqual([status!.size, status!.version, status!.nlink], [0, 2, 1]);
    assert.deepEqual(await shownExtents(machine, id), []);
    assert.equal(machine.inode(id).source, undefined);
  });

  it("leaves the own lease as it is, and tells the new version", () => {
    const { machine, session, inode, writeId } = opened();
    const { status } = machine.done({ kind: "truncate", inode, size: 7 }, session);
    assert.equal(status!.version, 2);
    machine.done(commitCommand({ inode, writeId, baseVersion: 2, size: 7 }), session);
  });

  it("to the present size keeps the version", () => {
    const { machine, inode, session } = opened();
    assert.equal(machine.done({ kind: "truncate", inode, size: 0 }, session).status!.version, 1);
  });
});

describe("unlinked files", () => {
  it("stay while a session holds them, and become garbage when it lets go", async () => {
    const { machine, session, inode, writeId } = opened();
    machine.done({ kind: "releaseLease", inode, writeId }, session);
    machine.done({ kind: "unlink", parent: rootInodeId, name: "a", held: true }, session);
    assert.deepEqual(await garbageBefore(machine.state, 9999, 9), []);
    machine.done({ kind: "release", inode }, session);
    machine.done({ kind: "release", inode }, session);
    assert.equal((await garbageBefore(machine.state, 9999, 9)).length, 1);
  });

  it("are let go by the end of the session", async () => {
    const { machine, session } = opened();
    machine.done({ kind: "unlink", parent: rootInodeId, name: "a", held: true }, session);
    machine.done({ kind: "closeSession", session });
    assert.equal((await garbageBefore(machine.state, 9999, 9)).length, 1);
  });

  it("may still be written under the lease, and are not reaped meanwhile", async () => {
    const { machine, session, worker, inode, writeId } = opened();
    machine.done({ kind: "unlink", parent: rootInodeId, name: "a", held: false });
    assert.deepEqual(await garbageBefore(machine.state, 9999, 9), []);
    const extents = extentsOver(writeId, 0, 10);
    machine.done(
      commitCommand({ inode, writeId, size: 10, extents, keepers: [worker], release: true }),
      session,
    );
    const keys = await garbageBefore(machine.state, 9999, 9);
    const other = machine.done({ kind: "lease", inode }, session).writeId!;
    machine.done({ kind: "reapGarbage", keys });
    assert.ok(machine.inode(inode), "it was opened for writing again");
    machine.done({ kind: "releaseLease", inode, writeId: other }, session);
    machine.done({ kind: "reapGarbage", keys: await garbageBefore(machine.state, 9999, 9) });
    assert.equal(machine.inode(inode), undefined);
    for (const prefix of ["extent/", "container/", "kept/", "garbage/", "lease/"]) {
      assert.deepEqual(machine.state.entries(prefix), [], prefix);
    }
  });
});

describe("versions that are read", () => {
  /** A version of one byte after the other, each under a lease of its own. */
  function writer() {
    const { machine, session, worker, inode, writeId } = opened();
    machine.done({ kind: "releaseLease", inode, writeId }, session);
    return {
      ...{ machine, session, inode },
      write: (): WriteId => {
        const leased = machine.done({ kind: "lease", inode }, session);
        const id = leased.writeId!;
        const command = commitCommand({ inode, writeId: id, size: 1, keepers: [worker] });
        const extents = extentsOver(id, 0, 1);
        const baseVersion = leased.status!.version;
        machine.done({ ...command, extents, baseVersion, release: true }, session);
        return id;
      },
      reap: () => {
        machine.clusterTimeMs += 1000;
        const keys = machine.state.entries("garbage/").map(([key]) => key);
        machine.done({ kind: "reapGarbage", keys });
      },
      containers: async () =>
        (await containersOf(machine.state, inode)).map(({ writeId: id }) => id),
    };
  }

  it("keep what they are made of until they are let go, and nothing of the versions that came between", async () => {
    const { machine, inode, write, reap, containers } = writer();
    const reader = machine.openSession();
    write();
    const read = write();
    const { version } = machine.inode(inode);
    for (let i = 0; i < 5; i++) write();
    machine.done({ kind: "retain", inode, version }, reader);
    machine.done({ kind: "retain", inode, version }, reader);
    for (let i = 0; i < 20; i++) write();
    const last = write();
    reap();
    // The version after the one that is read is kept beside it: who commits does not know who reads.
    const kept = await containers();
    assert.ok(kept.includes(read) && kept.includes(last) && kept.length <= 3, String(kept));
    reap();
    assert.deepEqual(await containers(), kept);
    machine.done({ kind: "release", inode, version }, reader);
    reap();
    assert.deepEqual(await containers(), [last]);
    assert.equal(machine.inode(inode).holds, 1, "the file stays held");
    machine.done({ kind: "release", inode }, reader);
    assert.equal(machine.inode(inode).holds, 0);
  });

  it("are let go by the end of the session, with the file that has no name any more", async () => {
    const { machine, inode, write, reap, containers } = writer();
    const reader = machine.openSession();
    const read = write();
    machine.done({ kind: "retain", inode, version: 2 }, reader);
    const last = write();
    machine.done({ kind: "unlink", parent: rootInodeId, name: "a", held: false });
    reap();
    assert.deepEqual(await containers(), [read, last]);
    machine.done({ kind: "closeSession", session: reader });
    reap();
    assert.equal(machine.inode(inode), undefined);
    assert.deepEqual(machine.state.entries("container/"), []);
    assert.deepEqual(machine.state.entries("reading/"), []);
  });

  it("are versions that there are or were, of files, for sessions", () => {
    const { machine, inode, session } = writer();
    machine.refused("InvalidArgument", { kind: "retain", inode, version: 2 }, session);
    machine.refused("InvalidArgument", { kind: "retain", inode, version: 0 }, session);
    machine.refused("InvalidArgument", { kind: "retain", inode, version: 1 });
    machine.refused("IsDirectory", { kind: "retain", inode: rootInodeId, version: 1 }, session);
    machine.refused("NotFound", { kind: "retain", inode: 99 as InodeId, version: 1 }, session);
  });
});

describe("lost files", () => {
  it("L9: follow from the state alone: lost with the last keeper, whole again with the first", async () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w1"), machine.worker("w2")];
    const session = machine.openSession();
    const { inode, writeId } = machine.write("/a", 50, { keepers, session });
    const [first, second] = keepers as [WorkerId, WorkerId];
    machine.done({ kind: "workerLost", worker: first });
    assert.equal(await isLost(machine.state, inode), false);
    machine.done({ kind: "workerLost", worker: second });
    assert.equal(await isLost(machine.state, inode), true);
    assert.ok(isContainerLost(machine.state, containerOf(machine.state, inode, writeId)!));
    const lost: InodeId[] = [];
    for await (const each of lostFilesOf(machine.state, second)) lost.push(each);
    assert.deepEqual(lost, [inode]);
    assert.equal(machine.worker("w2"), second, "one uuid, one id");
    assert.equal(await isLost(machine.state, inode), false);
  });
});

describe("keepers that are there without the bytes", () => {
  function prepared() {
    const machine = Machine.make();
    const keepers = [machine.worker("w1"), machine.worker("w2")] as [WorkerId, WorkerId];
    const session = machine.openSession();
    return { machine, keepers, session, ...machine.write("/a", 50, { keepers, session }) };
  }
  const keepersOf = (machine: Machine, inode: InodeId, writeId: WriteId) =>
    containerOf(machine.state, inode, writeId)?.keepers;

  it("lose the duty; without any keeper the file is lost, also after the worker registers again", async () => {
    const { machine, keepers, inode, writeId } = prepared();
    const containers = [{ inode, writeId }];
    machine.done({ kind: "keeperGone", worker: keepers[0], containers });
    assert.deepEqual(keepersOf(machine, inode, writeId), [keepers[1]]);
    assert.equal(isKept(machine.state, { worker: keepers[0], inode, writeId }), false);
    assert.equal(await isLost(machine.state, inode), false);
    machine.done({ kind: "keeperGone", worker: keepers[1], containers });
    assert.deepEqual(keepersOf(machine, inode, writeId), []);
    assert.equal(await isLost(machine.state, inode), true);
    machine.worker("w2");
    assert.equal(await isLost(machine.state, inode), true);
    machine.done({ kind: "truncate", inode, size: 0 });
    assert.equal(await isLost(machine.state, inode), false, "nothing names the bytes any more");
  });

  it("stay keepers of what is being written: the bytes may be there again", () => {
    const { machine, keepers, session, inode } = prepared();
    const writeId = machine.done({ kind: "lease", inode }, session).writeId!;
    const extents = extentsOver(writeId, 0, 50);
    const commit = { inode, writeId, baseVersion: 2, size: 50, extents, keepers };
    machine.done(commitCommand(commit), session);
    const containers = [{ inode, writeId }];
    machine.done({ kind: "keeperGone", worker: keepers[0], containers });
    assert.deepEqual(keepersOf(machine, inode, writeId), keepers);
    machine.done({ kind: "releaseLease", inode, writeId }, session);
    machine.done({ kind: "keeperGone", worker: keepers[0], containers });
    assert.deepEqual(keepersOf(machine, inode, writeId), [keepers[1]]);
  });

  it("pass over what they do not keep, in commands of a bounded size, from the leader alone", () => {
    const { machine, keepers, session, inode, writeId } = prepared();
    const others = [
      { inode, writeId: (writeId + 1) as WriteId },
      { inode: 999 as InodeId, writeId },
    ];
    const gone = { kind: "keeperGone", worker: keepers[0], containers: others } as const;
    machine.done(gone);
    const third = machine.worker("w3");
    machine.done({ ...gone, worker: third, containers: [{ inode, writeId }] });
    assert.deepEqual(keepersOf(machine, inode, writeId), keepers);
    machine.refused("NotFound", { ...gone, worker: 99 as WorkerId });
    const many = Array.from({ length: 501 }, () => ({ inode, writeId }));
    machine.refused("InvalidArgument", { ...gone, containers: many });
    machine.refused("NotPermitted", gone, session);
  });
});
