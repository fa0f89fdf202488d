import assert from "node:assert/strict";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { lookup, pathOf, resolvePath } from "../../../src/master/state/queries.ts";
import { createCommand, Machine, nameOf, parentOf, requestOf } from "./machine-fixture.ts";

function renameCommand(machine: Machine, from: string, to: string, noReplace = false) {
  return {
    kind: "rename" as const,
    sourceParent: machine.at(parentOf(from)).id,
    sourceName: nameOf(from),
    targetParent: machine.at(parentOf(to)).id,
    targetName: nameOf(to),
    noReplace,
  };
}

describe("create", () => {
  it("makes a file with the attributes asked for and the entry's wall time", () => {
    const machine = Machine.make();
    const status = machine.create("/a", { mode: 0o106755, uid: 1, gid: 2 });
    assert.equal(status.mode, 0o6755);
    assert.deepEqual([status.uid, status.gid, status.size, status.nlink], [1, 2, 0, 1]);
    assert.equal(status.mtime.sec, machine.wallSeconds);
    assert.equal(machine.at("/").mtime.sec, machine.wallSeconds);
  });

  it("takes names of any bytes, and refuses what is no name", () => {
    const machine = Machine.make();
    machine.create("/\xff\x01 \n");
    assert.ok(machine.exists("/\xff\x01 \n"));
    for (const name of ["", ".", "..", "a/b", "a\0b"]) {
      machine.refused("InvalidArgument", createCommand(rootInodeId, name));
    }
    machine.create(`/${"n".repeat(255)}`);
    machine.refused("NameTooLong", createCommand(rootInodeId, "n".repeat(256)));
  });

  it("refuses a name that exists, unless an existing file will do", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a");
    machine.mkdir("/d");
    machine.refused("AlreadyExists", createCommand(rootInodeId, "a"));
    const again = machine.done(createCommand(rootInodeId, "a", { exclusive: false }));
    assert.equal(again.status!.inode, inode);
    machine.refused("IsDirectory", createCommand(rootInodeId, "d", { exclusive: false }));
  });

  it("refuses a parent that is a file, missing, or in the trash", () => {
    const machine = Machine.make();
    const file = machine.create("/a").inode;
    const gone = machine.mkdir("/d").inode;
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "d" });
    machine.refused("NotDirectory", createCommand(file, "x"));
    machine.refused("NotFound", createCommand(99 as never, "x"));
    machine.refused("NotFound", createCommand(gone, "x"));
  });

  it("hands the group on below a set-group-id directory", () => {
    const machine = Machine.make();
    machine.mkdir("/d", { mode: 0o2775, gid: 5 });
    assert.equal(machine.create("/d/file", { gid: 9 }).gid, 5);
    const below = machine.mkdir("/d/dir", { gid: 9 });
    assert.deepEqual([below.gid, below.mode & 0o2000], [5, 0o2000]);
  });

  it("counts the subdirectories of a directory in its links and all names in its size", () => {
    const machine = Machine.make();
    const { inode } = machine.mkdir("/d");
    machine.mkdir("/d/1");
    machine.create("/d/2");
    const status = lookup(machine.state, rootInodeId, "d");
    assert.ok(status.found);
    assert.deepEqual([machine.inode(inode).nlink, machine.inode(inode).childCount], [3, 2]);
  });

  it("makes a symbolic link with its target, which is never followed", () => {
    const machine = Machine.make();
    const link = machine.create("/s", { fileKind: "symlink", target: "/nowhere" });
    assert.deepEqual([link.kind, link.target, link.size], ["symlink", "/nowhere", 8]);
    const below = resolvePath(machine.state, "/s/x");
    assert.ok(!below.found);
    assert.equal(below.code, "NotDirectory");
    machine.refused("InvalidArgument", createCommand(rootInodeId, "t", { fileKind: "symlink" }));
  });
});

describe("link and unlink", () => {
  it("give and take names, and keep the file until the last is gone", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a");
    const linked = machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    assert.equal(linked.status!.nlink, 2);
    machine.done({ kind: "unlink", parent: rootInodeId, name: "a", held: false });
    assert.equal(pathOf(machine.state, inode), "/b");
    const last = machine.done({ kind: "unlink", parent: rootInodeId, name: "b", held: false });
    assert.equal(last.status!.nlink, 0);
    assert.equal(machine.inode(inode).nlink, 0, "it can be read until its grace is over");
    machine.refused("NotFound", { kind: "link", inode, parent: rootInodeId, name: "c" });
  });

  it("refuse directories, missing and existing names", () => {
    const machine = Machine.make();
    const directory = machine.mkdir("/d").inode;
    const file = machine.create("/a").inode;
    machine.refused("NotPermitted", {
      kind: "link",
      inode: directory,
      parent: rootInodeId,
      name: "e",
    });
    machine.refused("AlreadyExists", { kind: "link", inode: file, parent: rootInodeId, name: "d" });
    machine.refused("IsDirectory", { kind: "unlink", parent: rootInodeId, name: "d", held: false });
    machine.refused("NotFound", { kind: "unlink", parent: rootInodeId, name: "x", held: false });
    machine.refused("NotDirectory", { kind: "rmdir", parent: rootInodeId, name: "a" });
  });

  it("note every name and inode that changed", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a");
    const { changes } = machine.apply(
      requestOf([{ kind: "unlink", parent: rootInodeId, name: "a", held: false }]),
    );
    assert.deepEqual(changes.names, [[rootInodeId, "a"]]);
    assert.deepEqual([...changes.inodes].sort(), [rootInodeId, inode]);
  });
});

describe("rmdir", () => {
  it("takes an empty directory and refuses one with names", () => {
    const machine = Machine.make();
    const { inode } = machine.mkdir("/d");
    machine.create("/d/a");
    const rmdir = { kind: "rmdir" as const, parent: rootInodeId, name: "d" };
    machine.refused("NotEmpty", rmdir);
    machine.done({ kind: "unlink", parent: inode, name: "a", held: false });
    machine.done(rmdir);
    assert.ok(!machine.exists("/d"));
    assert.equal(machine.at("/").nlink, 2);
  });
});

describe("rename", () => {
  it("moves files and directories with all that is below", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    machine.mkdir("/e");
    const { inode } = machine.create("/d/a");
    machine.done(renameCommand(machine, "/d", "/e/f"));
    assert.equal(pathOf(machine.state, inode), "/e/f/a");
    assert.equal(machine.at("/").nlink, 3);
    assert.equal(machine.at("/e").nlink, 3);
  });

  it("replaces a file, whose data waits for the end of its grace", () => {
    const machine = Machine.make();
    const source = machine.create("/a").inode;
    const target = machine.create("/b").inode;
    machine.done(renameCommand(machine, "/a", "/b"));
    assert.equal(machine.at("/b").id, source);
    assert.equal(machine.inode(target).nlink, 0);
    assert.ok(!machine.exists("/a"));
  });

  it("does nothing between two names of one file", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a");
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "b" });
    machine.done(renameCommand(machine, "/a", "/b"));
    assert.ok(machine.exists("/a") && machine.exists("/b"));
    machine.refused("AlreadyExists", renameCommand(machine, "/a", "/b", true));
  });

  it("replaces an empty directory by a directory alone", () => {
    const machine = Machine.make();
    machine.create("/file");
    const source = machine.mkdir("/d").inode;
    machine.mkdir("/empty");
    machine.mkdir("/full");
    machine.create("/full/x");
    machine.refused("IsDirectory", renameCommand(machine, "/file", "/empty"));
    machine.refused("NotDirectory", renameCommand(machine, "/d", "/file"));
    machine.refused("NotEmpty", renameCommand(machine, "/d", "/full"));
    machine.done(renameCommand(machine, "/d", "/empty"));
    assert.equal(machine.at("/empty").id, source);
  });

  it("refuses to move a directory into itself", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    machine.mkdir("/d/e");
    machine.refused("InvalidArgument", renameCommand(machine, "/d", "/d/x"));
    machine.refused("InvalidArgument", renameCommand(machine, "/d", "/d/e/x"));
    machine.done(renameCommand(machine, "/d", "/d"));
  });

  it("refuses a missing source, a bad name, and an existing target on request", () => {
    const machine = Machine.make();
    machine.create("/a");
    machine.create("/b");
    machine.refused("NotFound", renameCommand(machine, "/x", "/y"));
    machine.refused("InvalidArgument", { ...renameCommand(machine, "/a", "/y"), targetName: ".." });
    machine.refused("AlreadyExists", renameCommand(machine, "/a", "/b", true));
    machine.done(renameCommand(machine, "/a", "/c", true));
  });
});

describe("setAttributes", () => {
  it("changes nothing, and no time, when nothing is to be changed", () => {
    const machine = Machine.make();
    const { inode, ctime } = machine.create("/f");
    const nothing = { mode: undefined, uid: undefined, gid: undefined };
    const none = { ...nothing, atime: undefined, mtime: undefined };
    const { status } = machine.done({ kind: "setAttributes", inode, ...none });
    assert.deepEqual(status!.ctime, ctime);
  });

  it("refuses users and groups that no system has, of new inodes too", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    const none = { mode: undefined, gid: undefined, atime: undefined, mtime: undefined };
    for (const uid of [2 ** 32 - 1, 2 ** 40]) {
      machine.refused("InvalidArgument", { kind: "setAttributes", inode, uid, ...none });
      machine.refused("InvalidArgument", createCommand(rootInodeId, "g", { gid: uid }));
    }
    machine.done({ kind: "setAttributes", inode, uid: 2 ** 32 - 2, ...none });
  });

  it("sets what is given and leaves the rest", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/a", { mode: 0o600, uid: 1, gid: 2 });
    const none = { uid: undefined, gid: undefined, mode: undefined, atime: undefined };
    const mtime = { sec: -5, nsec: 7 };
    const { status } = machine.done({ kind: "setAttributes", inode, ...none, uid: 3, mtime });
    assert.deepEqual([status!.mode, status!.uid, status!.gid, status!.mtime], [0o600, 3, 2, mtime]);
    assert.equal(status!.ctime.sec, machine.wallSeconds);
  });
});

describe("deleteTree", () => {
  it("takes a tree out of sight at once, and it is reaped step by step", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    machine.mkdir("/d/e");
    const deep = machine.create("/d/e/deep").inode;
    const top = machine.at("/d").id;
    const below = machine.at("/d/e").id;
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "d" });
    assert.ok(!machine.exists("/d"));
    assert.equal(pathOf(machine.state, deep), undefined);
    const trash = 2 as typeof top;
    machine.done({ kind: "reapTrash", directory: trash, names: [String(top)] });
    assert.ok(machine.inode(top), "a directory with names stays");
    machine.done({ kind: "reapTrash", directory: top, names: ["e", "no such name"] });
    machine.done({ kind: "reapTrash", directory: below, names: ["deep"] });
    machine.done({ kind: "reapTrash", directory: trash, names: [String(top), String(below)] });
    assert.equal(machine.inode(trash).childCount, 0);
    assert.equal(machine.inode(top), undefined);
    const keys = machine.state.entries("garbage/").map(([key]) => key);
    machine.done({ kind: "reapGarbage", keys });
    assert.equal(machine.inode(deep), undefined);
  });

  it("reaps nothing that is not in the trash", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    machine.create("/d/a");
    machine.refused("InvalidArgument", {
      kind: "reapTrash",
      directory: machine.at("/d").id,
      names: ["a"],
    });
  });

  it("of a file is its unlink", () => {
    const machine = Machine.make();
    machine.create("/a");
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "a" });
    assert.ok(!machine.exists("/a"));
  });
});

describe("paths", () => {
  it("are walked with dots and empty parts, and say where the walk ended", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    const { inode } = machine.create("/d/a");
    for (const path of ["/d/a", "//d/./a/", "/d/../d/a", "/../d/a"]) {
      const found = resolvePath(machine.state, path);
      assert.ok(found.found, path);
      assert.equal(found.inode.id, inode);
    }
    const missing = resolvePath(machine.state, "/d/x/y");
    assert.ok(!missing.found);
    assert.equal(missing.code, "NotFound");
    assert.equal(missing.unloaded, undefined);
  });
});
