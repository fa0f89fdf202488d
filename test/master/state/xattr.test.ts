/** Extended attributes and access control lists: setxattr(2), removexattr(2), acl(5), by case. */
import assert from "node:assert/strict";
import type { ErrorCode } from "../../../src/lib/errors.ts";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import { aclOf, defaultAclOf, xattrOf } from "../../../src/master/state/queries.ts";
import { xattrRefusal } from "../../../src/master/state/xattr-rights.ts";
import {
  accessAclName,
  type Acl,
  aclOfMode,
  defaultAclName,
  encodeAcl,
} from "../../../src/rpc/acl.ts";
import type { Command, CommandResult } from "../../../src/rpc/commands.ts";
import type { Caller } from "../../../src/rpc/namespace.ts";
import { maxXattrBytes, maxXattrs } from "../../../src/rpc/xattr.ts";
import { createCommand, Machine, requestOf } from "./machine-fixture.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

const owner: Caller = { uid: 1000, gid: 1000, groups: [] };
const member: Caller = { uid: 2000, gid: 1000, groups: [] };
const stranger: Caller = { uid: 3000, gid: 3000, groups: [] };

function set(
  inode: InodeId,
  name: string,
  value: Uint8Array | string = "value",
  how: Of<"setXattr">["how"] = "set",
): Of<"setXattr"> {
  return { kind: "setXattr", inode, name, value: Buffer.from(value), how };
}

function remove(inode: InodeId, name: string): Of<"removeXattr"> {
  return { kind: "removeXattr", inode, name };
}

function codeOf(machine: Machine, command: Command, caller?: Caller): ErrorCode | "done" {
  const result: CommandResult = machine.apply(requestOf([command], caller && { caller }))
    .results[0]![0]!;
  return result.ok ? "done" : (result.code as ErrorCode);
}

function valueOf(machine: Machine, inode: InodeId, name: string): string | undefined {
  const value = xattrOf(machine.state, inode, name);
  return value === undefined ? undefined : Buffer.from(value).toString();
}

/** A list that grants user 3000 to read and write. */
function listFor(machine: Machine, inode: InodeId, mask = 7): Acl {
  const [userObj, groupObj, other] = aclOfMode(machine.inode(inode).mode);
  return [
    userObj!,
    { tag: "user", id: 3000, permissions: 6 },
    groupObj!,
    { tag: "mask", permissions: mask },
    other!,
  ];
}

describe("extended attributes", () => {
  it("are set, replaced and removed, and change the ctime alone", () => {
    const machine = Machine.make();
    const { inode, ctime, ...before } = machine.create("/f");
    for (const command of [set(inode, "user.a", "1"), set(inode, "user.a", "22")]) {
      const status = machine.done(command).status!;
      assert.equal(status.ctime.sec, machine.wallSeconds);
      assert.deepEqual(
        { ...status, inode: 0, ctime },
        { ...before, inode: 0, ctime, hasXattrs: true },
      );
    }
    assert.equal(valueOf(machine, inode, "user.a"), "22");
    machine.done(remove(inode, "user.a"));
    assert.equal(valueOf(machine, inode, "user.a"), undefined);
    assert.equal(machine.inode(inode).xattrCount, undefined);
  });

  it("may be empty, have names of any bytes, and values of any", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    machine.done(set(inode, "user.\xff/ \n", Uint8Array.of(0, 255)));
    machine.done(set(inode, "user.empty", ""));
    assert.deepEqual([...xattrOf(machine.state, inode, "user.\xff/ \n")!], [0, 255]);
    assert.equal(valueOf(machine, inode, "user.empty"), "");
  });

  it("are created and replaced only as asked", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    machine.refused("NoData", set(inode, "user.a", "1", "replace"));
    machine.done(set(inode, "user.a", "1", "create"));
    machine.refused("AlreadyExists", set(inode, "user.a", "2", "create"));
    machine.done(set(inode, "user.a", "3", "replace"));
    assert.equal(valueOf(machine, inode, "user.a"), "3");
    machine.refused("NoData", remove(inode, "user.b"));
  });

  it("are refused by the rules of their namespace", () => {
    const machine = Machine.make();
    const file = machine.create("/f", { mode: 0o660 }).inode;
    const sticky = machine.mkdir("/sticky", { mode: 0o1777 }).inode;
    const link = machine.create("/l", { fileKind: "symlink", target: "f", mode: 0o777 }).inode;
    const fifo = machine.create("/p", { fileKind: "fifo", mode: 0o666 }).inode;
    const cases: [Of<"setXattr">, Caller | undefined, ErrorCode | "done"][] = [
      [set(file, "user.a"), owner, "done"],
      [set(file, "user.a"), member, "done"],
      [set(file, "user.a"), stranger, "PermissionDenied"],
      [set(file, "user.a"), undefined, "done"],
      [set(sticky, "user.a"), owner, "done"],
      [set(sticky, "user.a"), stranger, "NotPermitted"],
      [set(link, "user.a"), undefined, "NotPermitted"],
      [set(fifo, "user.a"), undefined, "NotPermitted"],
      [set(link, "trusted.a"), undefined, "done"],
      [set(file, "trusted.a"), owner, "NotPermitted"],
      [set(file, "security.a"), owner, "NotPermitted"],
      [set(file, "security.a"), undefined, "done"],
      [set(file, "system.a"), undefined, "NotSupported"],
      [set(file, "other.a"), undefined, "NotSupported"],
      [set(file, ""), undefined, "NotSupported"],
      [set(file, "user."), undefined, "InvalidArgument"],
      [set(file, "user.a\0b"), undefined, "InvalidArgument"],
      [set(file, `user.${"a".repeat(250)}`), undefined, "done"],
      [set(file, `user.${"a".repeat(251)}`), undefined, "NameTooLong"],
      [set(file, "user.big", Buffer.alloc(65_536)), undefined, "done"],
      [set(file, "user.big", Buffer.alloc(65_537)), undefined, "TooLarge"],
      [set(999 as InodeId, "user.a"), undefined, "NotFound"],
    ];
    for (const [command, caller, wanted] of cases) {
      const who = caller?.uid ?? "the superuser";
      assert.equal(codeOf(machine, command, caller), wanted, `${command.name} by ${who}`);
      if (wanted !== "done") continue;
      assert.equal(
        codeOf(machine, remove(command.inode, command.name), stranger) === "done",
        false,
      );
    }
  });

  it("are read by the same rules, and what must not be known of is not there", () => {
    const machine = Machine.make();
    const file = machine.create("/f", { mode: 0o640 }).inode;
    const link = machine.create("/l", { fileKind: "symlink", target: "f" }).inode;
    const read = (inode: InodeId, name: string, caller?: Caller) =>
      xattrRefusal(machine.state, caller, machine.inode(inode), { name, isWrite: false })?.code;
    assert.equal(read(file, "user.a", member), undefined);
    assert.equal(read(file, "user.a", stranger), "PermissionDenied");
    assert.equal(read(link, "user.a"), "NoData");
    assert.equal(read(file, "trusted.a", owner), "NoData");
    assert.equal(read(file, "trusted.a"), undefined);
    assert.equal(read(file, "security.a", stranger), undefined);
    assert.equal(read(file, accessAclName, stranger), undefined);
    assert.equal(read(link, accessAclName), "NotSupported");
  });

  it("of one inode are bounded in number and bytes", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    for (let i = 0; i < maxXattrs; i++) machine.done(set(inode, `user.${i}`, ""));
    machine.refused("NoSpace", set(inode, "user.more", ""));
    machine.done(set(inode, "user.0", "there is room in those that are there"));
    machine.done(remove(inode, "user.0"));
    machine.done(set(inode, "user.more", ""));
    const other = machine.create("/g").inode;
    const value = Buffer.alloc(65_536 - "user.0".length);
    for (let i = 0; i < maxXattrBytes / 65_536; i++) machine.done(set(other, `user.${i}`, value));
    assert.equal(machine.inode(other).xattrBytes, maxXattrBytes);
    machine.refused("NoSpace", set(other, "user.b", ""));
    machine.done(set(other, "user.0", value.subarray(1)));
  });

  it("are refused on a mount that is read-only", () => {
    const machine = Machine.make();
    const options = { uri: "file:///x", readOnly: true, options: {} };
    machine.done({ kind: "mount", parent: rootInodeId, name: "m", ...options });
    machine.refused("ReadOnly", set(machine.at("/m").id, "user.a"));
    machine.refused("ReadOnly", remove(machine.at("/m").id, "user.a"));
  });

  it("wait until all masters know them", () => {
    const machine = new Machine();
    machine.done({
      kind: "bootstrap",
      clusterId: "c",
      clusterName: "c",
      blockSizeBytes: 100,
      rootUri: "file:///r",
      rootOptions: {},
      uid: 0,
      gid: 0,
    });
    machine.refused("Unavailable", set(rootInodeId, "user.a"));
    machine.refused("Unavailable", remove(rootInodeId, "user.a"));
  });

  it("die with their inode, in every way that an inode dies", () => {
    const machine = Machine.make();
    const file = () => machine.create("/f").inode;
    const directory = () => machine.mkdir("/f").inode;
    const parent = rootInodeId;
    const place = { parent, name: "f" };
    const over = {
      kind: "rename",
      sourceParent: parent,
      sourceName: "other",
      targetParent: parent,
      targetName: "f",
      noReplace: false,
    } as const;
    const ways: [() => InodeId, readonly Command[]][] = [
      [file, [{ kind: "unlink", ...place, held: false }]],
      [file, [{ kind: "deleteTree", ...place }]],
      [file, [createCommand(parent, "other"), over]],
      [directory, [{ kind: "rmdir", ...place }]],
      [directory, [{ kind: "deleteTree", ...place }]],
      [directory, [createCommand(parent, "other", { fileKind: "directory" }), over]],
    ];
    for (const [make, commands] of ways) {
      const inode = make();
      machine.done(set(inode, "user.a"));
      machine.done(set(inode, "trusted.b"));
      for (const command of commands) machine.done(command);
      reap(machine);
      assert.equal(machine.inode(inode), undefined, commands.at(-1)!.kind);
      assert.deepEqual(machine.state.entries("xattr/"), []);
      if (machine.exists("/f")) machine.done({ kind: "deleteTree", ...place });
      reap(machine);
    }
  });

  it("die with a file that gets one in the entry that reaps it", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    machine.done({ kind: "unlink", parent: rootInodeId, name: "f", held: false });
    const keys = machine.state.entries("garbage/").map(([key]) => key);
    machine.apply(requestOf([set(inode, "user.a"), { kind: "reapGarbage", keys }]));
    assert.equal(machine.inode(inode), undefined);
    assert.deepEqual(machine.state.entries("xattr/"), []);
  });

  it("keep a removed directory from being a place for names", () => {
    const machine = Machine.make();
    const { inode } = machine.mkdir("/d");
    machine.done(set(inode, "user.a"));
    machine.done({ kind: "rmdir", parent: rootInodeId, name: "d" });
    machine.refused("NotFound", createCommand(inode, "x"));
    assert.equal(machine.inode(inode).nlink, 0);
  });

  it("are told of in the change feed", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    for (const command of [set(inode, "user.a"), remove(inode, "user.a")]) {
      assert.deepEqual(machine.apply(requestOf([command])).changes.inodes, [inode]);
    }
  });
});

/** Takes away what is in the trash and in the garbage. */
function reap(machine: Machine): void {
  const directory = 2 as InodeId;
  const names = machine.state
    .entries("edge/\0\0\0\0\0\0\0\x02/")
    .map(([key]) => key.slice("edge/".length + 9));
  machine.done({ kind: "reapTrash", directory, names });
  machine.done({
    kind: "reapGarbage",
    keys: machine.state.entries("garbage/").map(([key]) => key),
  });
}

describe("special files", () => {
  it("keep their device numbers, which nothing else has", () => {
    const machine = Machine.make();
    const rdev = 259 * 2 ** 32 + 70_000;
    const home = machine.mkdir("/home", { mode: 0o755 }).inode;
    for (const fileKind of ["charDevice", "blockDevice"] as const) {
      assert.equal(machine.create(`/${fileKind}`, { fileKind, rdev }).rdev, rdev);
      assert.equal(machine.at(`/${fileKind}`).rdev, rdev);
      const make = createCommand(home, "x", { fileKind, rdev });
      assert.equal(codeOf(machine, make, owner), "NotPermitted");
    }
    for (const fileKind of ["file", "directory", "fifo", "socket"] as const) {
      machine.refused("InvalidArgument", createCommand(rootInodeId, "x", { fileKind, rdev }));
      assert.equal(machine.create(`/${fileKind}`, { fileKind }).rdev, undefined);
    }
  });

  it("are in no store, move and go without one, and are found by name like all others", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    for (const fileKind of ["fifo", "socket", "charDevice", "blockDevice"] as const) {
      machine.create(`/d/${fileKind}`, { fileKind });
      machine.refused("NotSupported", { kind: "persist", inode: machine.at(`/d/${fileKind}`).id });
    }
    machine.settle();
    const { id } = machine.at("/d");
    const from = { sourceParent: id, sourceName: "fifo", targetParent: id };
    machine.done({ kind: "rename", ...from, targetName: "pipe", noReplace: false });
    machine.done({ kind: "link", inode: machine.at("/d/pipe").id, parent: id, name: "same" });
    machine.done({ kind: "unlink", parent: id, name: "pipe", held: false });
    machine.done({ kind: "unlink", parent: id, name: "socket", held: false });
    assert.equal(machine.at("/d/same").kind, "fifo");
    assert.deepEqual(machine.pending(), []);
  });
});

describe("access control lists of the namespace", () => {
  it("show their mask in the mode, are changed by chmod, and go again", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f", { mode: 0o640 });
    const status = machine.done(set(inode, accessAclName, encodeAcl(listFor(machine, inode))))
      .status!;
    assert.deepEqual([status.mode, status.hasAcl], [0o670, true]);
    const chmod = { kind: "setAttributes", inode, uid: undefined, gid: undefined } as const;
    machine.done({ ...chmod, mode: 0o4751, atime: undefined, mtime: undefined });
    assert.deepEqual(
      aclOf(machine.state, machine.inode(inode))!.map((each) => each.permissions),
      [7, 6, 4, 5, 1],
    );
    machine.done(remove(inode, accessAclName));
    assert.deepEqual([machine.inode(inode).mode, machine.inode(inode).acl], [0o4751, undefined]);
    machine.done(remove(inode, accessAclName));
  });

  it("that say no more than a mode are the mode", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f", { mode: 0o4640 });
    machine.done(set(inode, accessAclName, encodeAcl(listFor(machine, inode))));
    machine.done(set(inode, accessAclName, encodeAcl(aclOfMode(0o751))));
    const { mode, acl, xattrCount } = machine.inode(inode);
    assert.deepEqual([mode, acl, xattrCount], [0o4751, undefined, undefined]);
  });

  it("are refused by case", () => {
    const machine = Machine.make();
    const file = machine.create("/f", { mode: 0o666 }).inode;
    const directory = machine.mkdir("/d").inode;
    const link = machine.create("/l", { fileKind: "symlink", target: "f" }).inode;
    const list = encodeAcl(listFor(machine, file));
    const empty = Uint8Array.of(2, 0, 0, 0);
    const cases: [Of<"setXattr">, Caller | undefined, ErrorCode | "done"][] = [
      [set(file, accessAclName, list), member, "NotPermitted"],
      [set(file, accessAclName, list), owner, "done"],
      [set(file, accessAclName, list, "create"), owner, "AlreadyExists"],
      [set(file, defaultAclName, list), owner, "PermissionDenied"],
      [set(directory, defaultAclName, list), owner, "done"],
      [set(link, accessAclName, list), undefined, "NotSupported"],
      [set(file, accessAclName, "nonsense"), owner, "InvalidArgument"],
      [set(file, accessAclName, list.subarray(0, -8)), owner, "InvalidArgument"],
      [set(file, accessAclName, ""), owner, "InvalidArgument"],
      [set(file, accessAclName, empty), owner, "done"],
      [set(directory, defaultAclName, empty), owner, "done"],
    ];
    for (const [command, caller, wanted] of cases) {
      assert.equal(codeOf(machine, command, caller), wanted, JSON.stringify(command));
    }
    assert.deepEqual(machine.state.entries("xattr/"), []);
  });

  it("decide who may do what", () => {
    const machine = Machine.make();
    const { inode } = machine.mkdir("/d", { mode: 0o705 });
    const make = createCommand(inode, "f", { uid: 3000, gid: 3000 });
    assert.equal(codeOf(machine, make, stranger), "PermissionDenied");
    const [userObj, user, groupObj, mask, other] = listFor(machine, inode);
    const grant = [userObj!, { ...user!, permissions: 7 }, groupObj!, mask!, other!];
    machine.done(set(inode, accessAclName, encodeAcl(grant)));
    assert.equal(codeOf(machine, make, stranger), "done");
    const unlink = { kind: "unlink", parent: inode, name: "f", held: false } as const;
    const masked = [...grant.slice(0, 3), { ...mask!, permissions: 5 }, other!];
    machine.done(set(inode, accessAclName, encodeAcl(masked)));
    assert.equal(codeOf(machine, unlink, stranger), "PermissionDenied");
    machine.done(remove(inode, accessAclName));
    assert.equal(codeOf(machine, unlink, stranger), "PermissionDenied");
  });

  it("take setgid away from who does not belong to the group", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f", { mode: 0o2750, gid: 5000 });
    codeOf(machine, set(inode, accessAclName, encodeAcl(aclOfMode(0o711))), owner);
    assert.equal(machine.inode(inode).mode, 0o711);
  });

  it("are inherited, and then no umask is taken from the mode", () => {
    const machine = Machine.make();
    const { inode } = machine.mkdir("/d", { mode: 0o755 });
    const list = listFor(machine, inode);
    machine.done(set(inode, defaultAclName, encodeAcl(list)));
    const file = machine.create("/d/f", { mode: 0o664, umask: 0o077 });
    assert.deepEqual([file.mode, file.hasAcl], [0o664, true]);
    const permissions = (acl: Acl | undefined) => acl?.map((each) => each.permissions);
    assert.deepEqual(permissions(aclOf(machine.state, machine.at("/d/f"))), [6, 6, 5, 6, 4]);
    assert.equal(machine.at("/d/f").acl, 1);
    const below = machine.mkdir("/d/e", { mode: 0o700, umask: 0 });
    assert.equal(below.mode, 0o700);
    assert.deepEqual(defaultAclOf(machine.state, machine.at("/d/e")), list);
    const link = machine.create("/d/l", { fileKind: "symlink", target: "f", mode: 0o777 });
    assert.deepEqual([link.mode, link.hasAcl], [0o777, undefined]);
  });

  it("that are inherited and say no more than the mode are not kept", () => {
    const machine = Machine.make();
    const { inode } = machine.mkdir("/d");
    machine.done(set(inode, defaultAclName, encodeAcl(aclOfMode(0o750))));
    const file = machine.create("/d/f", { mode: 0o666, umask: 0o022 });
    assert.deepEqual([file.mode, file.hasAcl], [0o640, undefined]);
    assert.equal(machine.at("/d/f").xattrCount, undefined);
  });

  it("without a default, the umask is taken from the mode", () => {
    const machine = Machine.make();
    machine.mkdir("/d");
    assert.equal(machine.create("/d/f", { mode: 0o4666, umask: 0o027 }).mode, 0o4640);
  });
});
