import assert from "node:assert/strict";
import { type InodeId, rootInodeId, rootMountId, type UfsOpId } from "../../../src/lib/ids.ts";
import type { UfsOp } from "../../../src/master/state/model.ts";
import { directoriesToLoad } from "../../../src/master/state/preload.ts";
import {
  isMoot,
  mountInfoOf,
  mountOf,
  mountsOf,
  pathInStore,
  pathOf,
  resolvePath,
  shownSource,
  touchesPath,
  ufsPathOf,
} from "../../../src/master/state/queries.ts";
import { containersOf, extentsOf, garbageBefore } from "../../../src/master/services/listings.ts";
import { withSource } from "../../../src/master/state/extents.ts";
import {
  blockSizeBytes,
  commitCommand,
  createCommand,
  entryOf,
  extentsOver,
  Machine,
  pageOf,
} from "./machine-fixture.ts";

/** An operation in short. */
function shown({ action }: UfsOp): string {
  if (action.kind === "rename") return `rename ${action.from} ${action.to}`;
  const more = action.kind === "persist" ? ` v${String(action.version)}` : "";
  return `${action.kind} ${action.path}${more}`;
}

function effects(machine: Machine): string[] {
  return machine.pending().map(shown);
}

function unlinkCommand(parent: InodeId, name: string) {
  return { kind: "unlink" as const, parent, name, held: false };
}

function renameIn(parent: InodeId, sourceName: string, targetName: string) {
  return {
    kind: "rename" as const,
    sourceParent: parent,
    sourceName,
    targetParent: parent,
    targetName,
    noReplace: false,
  };
}

function mountAt(machine: Machine, name: string, of: { readOnly?: boolean } = {}): InodeId {
  return machine.done({
    kind: "mount",
    parent: rootInodeId,
    name,
    uri: `s3://bucket/${name}`,
    readOnly: of.readOnly ?? false,
    options: { region: "eu", accessKey: "key", secretKey: "secret" },
  }).status!.inode;
}

describe("what is written", () => {
  it("is queued for the store when its lease ends, by its write type", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    for (const writeType of ["ASYNC_THROUGH", "CACHE_THROUGH", "THROUGH"] as const) {
      machine.write(`/${writeType}`, 10, { keepers, session, writeType });
    }
    machine.write("/MUST_CACHE", 10, { keepers, session, writeType: "MUST_CACHE" });
    assert.deepEqual(effects(machine), [
      "persist ASYNC_THROUGH v2",
      "persist CACHE_THROUGH v2",
      "persist THROUGH v2",
    ]);
    assert.equal(machine.at("/THROUGH").persistence, "pending");
    assert.equal(machine.at("/MUST_CACHE").persistence, "none");
  });

  it("goes on in the store under its own write id, when it was written at once", async () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const { inode, writeId } = machine.write("/a", 250, { keepers, session });
    machine.settle("etag");
    const file = machine.inode(inode);
    assert.deepEqual(file.source, {
      ...{ writeId, fingerprint: "etag", size: 250, shown: undefined },
    });
    assert.deepEqual([file.persistence, file.persistedVersion, file.version], ["persisted", 2, 2]);
    assert.deepEqual(await containersOf(machine.state, inode), [], "nobody must keep it any more");
    assert.deepEqual(await garbageBefore(machine.state, 9999, 9), [], "cached copies are valid");
  });

  it("gets a new write id in the store when it was written in pieces, and the pieces become garbage", async () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const { inode, writeId } = machine.write("/a", 250, { keepers, session });
    machine.done({ kind: "truncate", inode, size: 300 });
    machine.settle("etag");
    const file = machine.inode(inode);
    assert.ok(file.source !== undefined && file.source.writeId !== writeId);
    assert.equal(file.source.size, 300);
    assert.equal((await garbageBefore(machine.state, 9999, 9)).length, 1);
    const cut = machine.write("/b", 250, { keepers, session });
    machine.done({ kind: "truncate", inode: cut.inode, size: 230 });
    machine.settle("etag");
    const { source } = machine.inode(cut.inode);
    assert.ok(source!.writeId !== cut.writeId, "its last block is longer where it is cached");
  });

  it("never goes on under a write id that is still written", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const made = machine.done(createCommand(rootInodeId, "a", { lease: true }), session);
    const [inode, writeId] = [made.status!.inode, made.writeId!];
    const extents = extentsOver(writeId, 0, 50);
    machine.done(commitCommand({ inode, writeId, size: 50, extents, keepers }), session);
    machine.done({ kind: "persist", inode });
    machine.settle();
    assert.notEqual(machine.inode(inode).source!.writeId, writeId);
    const more = { ...commitCommand({ inode, writeId }), baseVersion: 2, size: 80, keepers };
    machine.done({ ...more, extents: extentsOver(writeId, 50, 80), release: true }, session);
    assert.deepEqual(effects(machine), ["persist a v3"]);
  });

  it("A7: of a version that moved on stays where it is, and what it still shares with the store is found there", async () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("x", { size: 300 })]));
    const inode = machine.at("/m/x").id;
    const original = machine.at("/m/x").source!.writeId;
    const overwrite = (at: number, baseVersion: number) => {
      const writeId = machine.done({ kind: "lease", inode }, session).writeId!;
      const extents = [{ fileOffset: at, length: 10, writeId, blockIndex: 0, offset: 0 }];
      const command = commitCommand({ inode, writeId, baseVersion, size: 300, extents, keepers });
      machine.done({ ...command, release: true }, session);
      return writeId;
    };
    const second = overwrite(0, 1);
    const [persist] = machine.pending();
    const third = overwrite(200, 2);
    assert.deepEqual(effects(machine), ["persist x v2", "persist x v3"]);
    assert.ok(isMoot(machine.state, persist!), "not worth starting any more");
    machine.ufsDone(persist!.id, { fingerprint: "second" });
    const file = machine.inode(inode);
    assert.equal(file.persistedVersion, 2);
    assert.equal(file.persistence, "pending");
    assert.equal(file.source!.fingerprint, "second");
    const stored = await extentsOf(machine.state, inode, { from: 0, to: 300 });
    const range = { from: 0, to: 300, blockSizeBytes };
    const extents = withSource(stored, shownSource(file), range);
    const names = extents.map((each) => each.writeId);
    const source = file.source!.writeId;
    assert.notEqual(source, original, "blocks of the new object are other blocks");
    assert.deepEqual(names, [second, source, source, third, source]);
    machine.settle("third");
    assert.deepEqual(
      [machine.inode(inode).form, machine.inode(inode).persistedVersion],
      ["source", 3],
    );
  });

  it("A7: and deleted before it was persisted is never brought back", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const { inode } = machine.write("/a", 10, { keepers, session });
    const [persist] = machine.pending();
    machine.done(unlinkCommand(rootInodeId, "a"));
    assert.deepEqual(effects(machine), ["persist a v2", "delete a"]);
    assert.ok(isMoot(machine.state, persist!));
    machine.ufsDone(persist!.id, { fingerprint: "late" });
    assert.equal(machine.inode(inode).persistence, "pending");
    machine.settle();
    assert.ok(!machine.exists("/a"));
  });

  it("is queued again after the store gave up, when it is written again", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const { inode } = machine.write("/a", 10, { keepers, session });
    machine.ufsDone(machine.pending()[0]!.id, { error: "no space" });
    assert.equal(machine.inode(inode).persistence, "none");
    assert.equal(mountOf(machine.state, rootMountId)!.pendingOps, 0);
    machine.done({ kind: "persist", inode });
    machine.done({ kind: "persist", inode });
    assert.deepEqual(effects(machine), ["persist a v2"]);
  });

  it("makes the directories above it that the store does not have", () => {
    const machine = Machine.make();
    machine.mkdir("/d", { writeType: "MUST_CACHE" });
    machine.mkdir("/d/e", { writeType: "MUST_CACHE" });
    assert.deepEqual(effects(machine), []);
    machine.create("/d/e/a");
    machine.create("/d/e/b");
    assert.deepEqual(effects(machine), [
      "mkdir d",
      "mkdir d/e",
      "persist d/e/a v1",
      "persist d/e/b v1",
    ]);
  });
});

describe("side effects", () => {
  it("follow names: directories, links, attributes, renames, removals", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    machine.create("/d/s", { fileKind: "symlink", target: "t" });
    const { inode } = machine.create("/d/a");
    machine.done({
      kind: "setAttributes",
      inode,
      mode: 0o600,
      uid: undefined,
      gid: undefined,
      atime: undefined,
      mtime: undefined,
    });
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    machine.done(renameIn(rootInodeId, "d", "e"));
    machine.done(unlinkCommand(machine.at("/e").id, "s"));
    assert.deepEqual(effects(machine), [
      "mkdir d",
      "symlink d/s",
      "persist d/a v1",
      "setAttributes d/a",
      "persist b v1",
      "rename d e",
      "delete e/s",
    ]);
    machine.settle();
    assert.equal(machine.at("/e").persistence, "persisted");
    assert.deepEqual(effects(machine), []);
  });

  it("leave what the store never had alone", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a", { writeType: "MUST_CACHE" });
    machine.create("/p", { fileKind: "fifo" });
    machine.mkdir("/d", { writeType: "MUST_CACHE" });
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    machine.done(renameIn(rootInodeId, "a", "c"));
    machine.done(unlinkCommand(rootInodeId, "c"));
    machine.done({ kind: "rmdir", parent: rootInodeId, name: "d" });
    assert.deepEqual(effects(machine), []);
  });

  it("delete what a rename replaced, if the store has nothing to move there", () => {
    const machine = Machine.make();
    machine.create("/old");
    machine.settle();
    machine.create("/new", { writeType: "MUST_CACHE" });
    machine.done(renameIn(rootInodeId, "new", "old"));
    assert.deepEqual(effects(machine), ["delete old"]);
    machine.settle();
    machine.create("/b");
    machine.create("/c");
    machine.settle();
    machine.done(renameIn(rootInodeId, "b", "c"));
    assert.deepEqual(effects(machine), ["rename b c"]);
  });

  it("move the object to the next name when the first of several goes", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a");
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    machine.settle();
    machine.done(unlinkCommand(rootInodeId, "b"));
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "c" });
    machine.settle();
    machine.done(unlinkCommand(rootInodeId, "a"));
    assert.deepEqual(effects(machine), ["rename a c"]);
    assert.equal(ufsPathOf(machine.state, machine.inode(inode)), "c");
  });

  it("tell where the store has what was moved here and not there yet", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    machine.create("/d/a");
    machine.done(renameIn(rootInodeId, "d", "e"));
    machine.done(renameIn(rootInodeId, "e", "f"));
    assert.equal(pathInStore("f/a", machine.pending()), "d/a");
    assert.equal(pathInStore("ff", machine.pending()), "ff");
    const moves = machine.pending().filter((op) => op.moves);
    assert.deepEqual(
      ["e", "e/x", "ff"].map((path) => moves.some((op) => touchesPath(op, path))),
      [true, true, false],
    );
  });

  it("ask for what a file is recognised by when the tree of its first name was deleted", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    const { inode } = machine.create("/d/a");
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    machine.settle("one");
    const directory = machine.at("/d").id;
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "d" });
    machine.done({ kind: "reapTrash", directory, names: ["a"] });
    assert.deepEqual(effects(machine), ["delete d", "setAttributes b"]);
    machine.settle("other");
    assert.equal(machine.at("/b").source!.fingerprint, "other");
  });

  it("A7: write what is left of a file's names when the tree of its first one was deleted, and know it afterwards", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    machine.mkdir("/d");
    const session = machine.openSession();
    const { inode } = machine.write("/d/a", 50, { keepers, session });
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    machine.settle();
    const directory = machine.at("/d").id;
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "d" });
    machine.done({ kind: "truncate", inode, size: 40 });
    const [, further] = machine.pending();
    assert.deepEqual(effects(machine), ["delete d", "persist b v3"]);
    assert.equal(isMoot(machine.state, further!), false, "the store would have the version before");
    machine.settle();
    machine.done({ kind: "reapTrash", directory, names: ["a"] });
    assert.deepEqual(effects(machine), ["persist b v3"]);
    machine.settle("known");
    const file = machine.at("/b");
    assert.deepEqual([file.persistence, file.source!.fingerprint], ["persisted", "known"]);
  });

  it("move an object to no name in a tree that was deleted: it goes with its last other name", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    const { inode } = machine.create("/a");
    machine.done({ kind: "link", inode, parent: machine.at("/d").id, name: "b" });
    machine.settle();
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "d" });
    machine.done(unlinkCommand(rootInodeId, "a"));
    assert.deepEqual(effects(machine), ["delete d", "delete a"]);
  });

  it("take over what tells an object apart after a rename or new times", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("x", { fingerprint: "250-5-9-1-7" })]));
    machine.done(renameIn(root, "x", "y"));
    machine.settle("250-5-9-1-8");
    assert.equal(machine.at("/m/y").source!.fingerprint, "250-5-9-1-8");
    assert.equal(machine.at("/m/y").version, 1);
    machine.done(renameIn(root, "y", "z"));
    machine.settle("250-6-9-1-9");
    assert.equal(machine.at("/m/z").source!.fingerprint, "250-5-9-1-8", "somebody else wrote it");
  });

  it("A14: never take the object of somebody else for the known one when attributes change", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("x", { fingerprint: "250-5-9-1-7" })]));
    const inode = machine.at("/m/x").id;
    const change = (of: { mode?: number; mtime?: { sec: number; nsec: number } }, now: string) => {
      const none = { mode: undefined, uid: undefined, gid: undefined, atime: undefined };
      machine.done({ kind: "setAttributes", inode, ...none, mtime: undefined, ...of });
      machine.settle(now);
      return machine.at("/m/x").source!.fingerprint;
    };
    assert.equal(change({ mode: 0o600 }, "250-5-9-1-8"), "250-5-9-1-8");
    assert.equal(change({ mtime: { sec: 6, nsec: 0 } }, "250-6-9-1-9"), "250-6-9-1-9");
    assert.equal(change({ mode: 0o644 }, "250-7-9-1-10"), "250-6-9-1-9", "written in place");
    assert.equal(
      change({ mtime: { sec: 8, nsec: 0 } }, "250-8-10-2-11"),
      "250-6-9-1-9",
      "replaced",
    );
    machine.done(pageOf(root, [entryOf("x", { fingerprint: "250-8-10-2-11" })]));
    assert.equal(machine.at("/m/x").version, 2, "the next listing finds it");
  });

  it("that do not exist are refused", () => {
    const machine = Machine.make();
    machine.refused("NotFound", {
      kind: "ufsDone",
      op: 9 as UfsOpId,
      fingerprint: undefined,
      error: undefined,
    });
  });
});

describe("loading", () => {
  it("shows a store's names, in pages, and never changes what was known before", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(
      pageOf(root, [entryOf("a"), entryOf("d", { kind: "directory", size: 0 })], { last: false }),
    );
    assert.ok(!machine.inode(root).loaded);
    machine.done(pageOf(root, [entryOf("l", { kind: "symlink", target: "../a" })]));
    assert.ok(machine.inode(root).loaded);
    const file = machine.at("/m/a");
    assert.deepEqual(
      [file.kind, file.size, file.mode, file.uid, file.gid, file.persistence, file.form],
      ["file", 250, 0o644, 7, 8, "persisted", "source"],
    );
    assert.ok(!machine.at("/m/d").loaded);
    assert.equal(machine.at("/m/l").target, "../a");
    machine.done(pageOf(root, [entryOf("a"), entryOf("a/b"), entryOf("..")]));
    assert.equal(machine.at("/m/a").id, file.id);
    assert.equal(machine.inode(root).childCount, 3);
  });

  it("A14: takes over an object that was replaced by one of the same length", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("a")]));
    const before = machine.at("/m/a");
    machine.done(pageOf(root, [entryOf("a", { fingerprint: "other" })]));
    const after = machine.at("/m/a");
    assert.equal(after.version, before.version + 1);
    assert.notEqual(after.source!.writeId, before.source!.writeId);
    assert.equal(after.persistence, "persisted");
  });

  it("leaves a file with pending changes alone", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("a")]));
    const { id } = machine.at("/m/a");
    machine.done({ kind: "truncate", inode: id, size: 10 });
    machine.done(pageOf(root, [entryOf("a", { fingerprint: "other" })]));
    assert.equal(machine.inode(id).size, 10);
    machine.settle();
    const session = machine.openSession();
    machine.done({ kind: "lease", inode: id }, session);
    machine.done(pageOf(root, [entryOf("a", { fingerprint: "other" })]));
    assert.equal(machine.inode(id).size, 10, "somebody is about to write it");
  });

  it("A7: brings nothing back that is being deleted, nor by a listing from before the delete", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("a")], { last: false }));
    machine.done(unlinkCommand(root, "a"));
    const listedAtIndex = machine.index;
    machine.done(pageOf(root, [entryOf("a")], { listedAtIndex, last: false }));
    assert.ok(!machine.exists("/m/a"), "the delete is queued");
    machine.settle();
    machine.refused("Stale", pageOf(root, [entryOf("a")], { listedAtIndex }));
    machine.done(pageOf(root, [], { listedAtIndex: machine.index }));
    assert.ok(!machine.exists("/m/a"));
  });

  it("brings back a name that was made again and deleted again only after both", () => {
    const machine = Machine.make();
    machine.create("/a");
    machine.settle();
    machine.done(unlinkCommand(rootInodeId, "a"));
    machine.create("/a");
    machine.done(unlinkCommand(rootInodeId, "a"));
    const [first, , second] = machine.pending() as [UfsOp, UfsOp, UfsOp];
    machine.ufsDone(first.id);
    const page = () => pageOf(rootInodeId, [entryOf("a")], { listedAtIndex: machine.index });
    machine.done(page());
    assert.ok(!machine.exists("/a"));
    machine.ufsDone(second.id);
    machine.done(page());
    assert.ok(machine.exists("/a"), "somebody else made it in the store");
  });

  it("refuses a listing from before a directory of the mount moved", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("d", { kind: "directory" })]));
    const { id } = machine.at("/m/d");
    const listedAtIndex = machine.index;
    machine.done(renameIn(root, "d", "e"));
    machine.refused("Stale", pageOf(id, [entryOf("x")], { listedAtIndex }));
    machine.done(pageOf(id, [entryOf("x")], { listedAtIndex: machine.index }));
  });

  it("decides nothing by names that are not known yet", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    const create = createCommand(root, "a");
    assert.deepEqual(directoriesToLoad(machine.state, create), [root]);
    machine.refused("Stale", create);
    machine.refused("Stale", unlinkCommand(root, "a"));
    machine.refused("Stale", renameIn(root, "a", "b"));
    const missing = resolvePath(machine.state, "/m/a");
    assert.ok(!missing.found);
    assert.deepEqual(missing.unloaded, { directory: root, name: "a" });
    machine.done(pageOf(root, [entryOf("d", { kind: "directory" })]));
    assert.deepEqual(directoriesToLoad(machine.state, create), []);
    machine.done(create);
    const rmdir = { kind: "rmdir" as const, parent: root, name: "d" };
    assert.deepEqual(directoriesToLoad(machine.state, rmdir), [machine.at("/m/d").id]);
    machine.refused("Stale", rmdir);
  });

  it("knows what was made here from birth", () => {
    const machine = Machine.make();
    assert.ok(machine.mkdir("/d").loaded);
    assert.ok(machine.mkdir("/d/e").loaded);
  });
});

describe("mounts", () => {
  it("nest, show no credentials, and fence renames and links", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, []));
    const info = mountInfoOf(machine.state, mountsOf(machine.state)[1]!);
    assert.deepEqual([info.path, info.options], ["/m", { region: "eu" }]);
    const { inode } = machine.create("/a");
    machine.refused("CrossMount", { ...renameIn(rootInodeId, "a", "b"), targetParent: root });
    machine.refused("CrossMount", { kind: "link", inode, parent: root, name: "b" });
    machine.refused("Busy", renameIn(rootInodeId, "m", "n"));
    machine.refused("Busy", { kind: "rmdir", parent: rootInodeId, name: "m" });
    machine.refused("Busy", { kind: "deleteTree", parent: rootInodeId, name: "m" });
    const inner = machine.done({
      kind: "mount",
      parent: root,
      name: "inner",
      uri: "file:///inner",
      readOnly: true,
      options: {},
    });
    assert.equal(pathOf(machine.state, inner.status!.inode), "/m/inner");
    machine.refused("Busy", { kind: "unmount", parent: rootInodeId, name: "m" });
    assert.deepEqual(effects(machine), ["persist a v1"], "mount points are in no store");
  });

  it("refuse an address of no store, with what would be right", () => {
    const machine = Machine.make();
    const refused = (uri: string, why: RegExp) =>
      assert.match(machine.refused("InvalidArgument", { ...mountCommand, uri }), why);
    refused("ftp://x", /scheme "ftp", wanted file:\/\/\/DIRECTORY or s3:\/\/BUCKET\/PREFIX/);
    refused("/data", /no address of a store, wanted file/);
    refused("file://data/x", /relative or names a host, wanted file:\/\/\/DIRECTORY/);
    refused("file://", /names no directory/);
    refused("s3:///x", /names no bucket/);
    refused("s3://key:secret@bucket/x", /^(?!.*secret@).*credentials/);
    assert.equal(machine.exists("/m"), false);
  });

  it("hide an empty directory and give it back", () => {
    const machine = Machine.make();
    const covered = machine.mkdir("/d").inode;
    machine.create("/full");
    machine.refused("NotDirectory", { ...mountCommand, name: "full" });
    machine.done({ ...mountCommand, name: "d" });
    assert.notEqual(machine.at("/d").id, covered);
    machine.refused("Busy", { ...mountCommand, name: "d" });
    machine.done({ kind: "unmount", parent: rootInodeId, name: "d" });
    assert.equal(machine.at("/d").id, covered);
    assert.equal(mountsOf(machine.state).length, 1);
  });

  it("go only after their changes are in the store, and leave the store as it is", () => {
    const machine = Machine.make();
    const root = mountAt(machine, "m");
    machine.done(pageOf(root, [entryOf("x")]));
    machine.create("/m/a");
    const unmount = { kind: "unmount" as const, parent: rootInodeId, name: "m" };
    machine.refused("Busy", unmount);
    machine.settle();
    const session = machine.openSession();
    const file = machine.at("/m/x").id;
    const { writeId } = machine.done({ kind: "lease", inode: file }, session);
    machine.done(unmount);
    assert.ok(!machine.exists("/m"));
    assert.deepEqual(effects(machine), []);
    machine.mkdir("/d", { writeType: "MUST_CACHE" });
    machine.refused("InvalidArgument", { ...unmount, name: "d" });
    machine.done({ kind: "releaseLease", inode: file, writeId: writeId! }, session);
    assert.deepEqual(effects(machine), []);
  });
});

const mountCommand = {
  kind: "mount" as const,
  parent: rootInodeId,
  name: "m",
  uri: "file:///m",
  readOnly: false,
  options: {},
};

describe("what a store refuses", () => {
  it("stays with its tomb, so that nothing deleted comes back, until somebody decides", () => {
    const machine = Machine.make();
    machine.done(pageOf(rootInodeId, [entryOf("x")]));
    machine.done(unlinkCommand(rootInodeId, "x"));
    const { id: op } = machine.pending()[0]!;
    machine.refused("InvalidArgument", { kind: "discardEffect", op });
    machine.done({ kind: "ufsFailed", op, error: "the store is read-only", attempts: 5 });
    assert.deepEqual(effects(machine), ["delete x"]);
    machine.done(pageOf(rootInodeId, [entryOf("x")]));
    assert.ok(!machine.exists("/x"), "it came back");
    machine.done({ kind: "retryEffect", op });
    assert.equal(machine.pending()[0]!.failed, undefined);
    machine.done({ kind: "ufsFailed", op, error: "the store is read-only", attempts: 5 });
    machine.done({ kind: "discardEffect", op });
    assert.deepEqual(effects(machine), []);
    machine.done(pageOf(rootInodeId, [entryOf("x")]));
    assert.ok(machine.exists("/x"), "the store has it, and nobody wants it gone any more");
  });

  it("leaves a file un-persisted with its keepers, and makes way for its next version and its end", async () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const { inode } = machine.write("/a", 10, { keepers, session });
    const fail = () => {
      const { id: op } = machine.pending().at(-1)!;
      machine.done({ kind: "ufsFailed", op, error: "too long", attempts: 5 });
      return op;
    };
    fail();
    assert.equal(machine.inode(inode).persistence, "none");
    assert.equal((await containersOf(machine.state, inode)).length, 1);
    machine.done({ kind: "truncate", inode, size: 5 });
    assert.deepEqual(effects(machine), ["persist a v3"], "the one before is of no use");
    const op = fail();
    machine.done(renameIn(rootInodeId, "a", "b"));
    machine.done({ kind: "retryEffect", op });
    assert.deepEqual(effects(machine), ["rename a b", "persist b v3"], "under its name of now");
    fail();
    machine.done(unlinkCommand(rootInodeId, "b"));
    assert.deepEqual(effects(machine).at(-1), "delete b");
    assert.ok(machine.pending().every(({ failed }) => failed === undefined));
  });

  it("is decided on by the superuser alone, and a move is not forgotten", () => {
    const machine = Machine.make();
    machine.done(pageOf(rootInodeId, [entryOf("x")]));
    machine.done(renameIn(rootInodeId, "x", "y"));
    const { id: op } = machine.pending()[0]!;
    machine.done({ kind: "ufsFailed", op, error: "no", attempts: 5 });
    machine.refused("NotSupported", { kind: "discardEffect", op });
  });
});

describe("the object of a file without a name", () => {
  it("is known to be removed, lies aside while it is held, and goes when the file is reaped", () => {
    const machine = Machine.make();
    machine.done(pageOf(rootInodeId, [entryOf("x")]));
    const inode = machine.at("/x").id;
    const session = machine.openSession();
    machine.done({ kind: "unlink", parent: rootInodeId, name: "x", held: true }, session);
    const [removal] = machine.pending();
    assert.ok(removal?.action.kind === "delete" && removal.action.isKnown === true);
    assert.equal(machine.inode(inode).removeOp, removal.id);
    machine.done({
      kind: "ufsDone",
      op: removal.id,
      fingerprint: undefined,
      error: undefined,
      aside: true,
    });
    assert.equal(machine.inode(inode).aside, true);
    machine.done({ kind: "release", inode }, session);
    const garbage = machine.state.entries("garbage/").map(([key]) => key);
    machine.done({ kind: "reapGarbage", keys: garbage });
    assert.deepEqual(effects(machine), [`delete .weir-tmp-unlinked/${String(inode)}`]);
  });

  it("goes with the rename that replaces it, and with nothing if the file was reaped before", () => {
    const machine = Machine.make();
    machine.done(pageOf(rootInodeId, [entryOf("x"), entryOf("y")]));
    const replaced = machine.at("/y").id;
    machine.done(renameIn(rootInodeId, "x", "y"));
    const [rename] = machine.pending();
    assert.ok(rename?.action.kind === "rename" && rename.action.replaces === replaced);
    assert.equal(machine.inode(replaced).removeOp, rename.id);
    const garbage = machine.state.entries("garbage/").map(([key]) => key);
    machine.done({ kind: "reapGarbage", keys: garbage });
    const done = { kind: "ufsDone" as const, op: rename.id, fingerprint: undefined };
    machine.done({ ...done, error: undefined, aside: true });
    assert.deepEqual(effects(machine), [`delete .weir-tmp-unlinked/${String(replaced)}`]);
  });

  it("is not told by a fingerprint that a persist under way may have changed", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const { inode } = machine.write("/a", 10, { keepers, session });
    machine.settle("first");
    machine.done({ kind: "truncate", inode, size: 5 });
    machine.done(unlinkCommand(rootInodeId, "a"));
    const removal = machine.pending().at(-1)!;
    assert.ok(removal.action.kind === "delete" && removal.action.isKnown !== true);
  });
});
