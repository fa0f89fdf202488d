/** Which times each command changes, as POSIX has it, and the rule of relatime. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import type { Inode } from "../../../src/master/state/model.ts";
import { accessAclName, aclOfMode, encodeAcl } from "../../../src/rpc/acl.ts";
import { type Command, maxAtimes } from "../../../src/rpc/commands.ts";
import type { Caller, Timestamp } from "../../../src/rpc/namespace.ts";
import { isLater, lagsBehind, minus } from "../../../src/rpc/relatime.ts";
import {
  commitCommand,
  createCommand,
  entryOf,
  extentsOver,
  Machine,
  pageOf,
  requestOf,
} from "./machine-fixture.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

function attributes(inode: InodeId, of: Partial<Of<"setAttributes">>): Of<"setAttributes"> {
  const none = { mode: undefined, uid: undefined, gid: undefined };
  return { kind: "setAttributes", inode, ...none, atime: undefined, mtime: undefined, ...of };
}

function renameOf(from: InodeId, to: InodeId, of: Partial<Of<"rename">> = {}): Of<"rename"> {
  const names = { sourceName: "file", targetName: "other" };
  const places = { sourceParent: from, targetParent: to };
  return { kind: "rename", ...places, ...names, noReplace: false, ...of };
}

/** The times that changed, by path: a, m, c. */
type Touched = Readonly<Record<string, string>>;

/** Each with what it does to /, /d, /d/file, /d/other, /d/empty and /e, all of which it finds. */
const table: [string, (at: (path: string) => Inode, machine: Machine) => Command, Touched][] = [
  ["create", (at) => createCommand(at("/d").id, "new"), { "/d": "mc" }],
  [
    "create of a directory",
    (at) => createCommand(at("/d").id, "new", { fileKind: "directory" }),
    { "/d": "mc" },
  ],
  ["create of what exists", (at) => createCommand(at("/d").id, "file", { exclusive: false }), {}],
  [
    "link",
    (at) => ({ kind: "link", inode: at("/d/file").id, parent: at("/e").id, name: "l" }),
    { "/d/file": "c", "/e": "mc" },
  ],
  [
    "unlink",
    (at) => ({ kind: "unlink", parent: at("/d").id, name: "file", held: true }),
    { "/d/file": "c", "/d": "mc" },
  ],
  ["rmdir", (at) => ({ kind: "rmdir", parent: at("/d").id, name: "empty" }), { "/d": "mc" }],
  ["deleteTree", () => ({ kind: "deleteTree", parent: rootInodeId, name: "d" }), { "/": "mc" }],
  [
    "rename in a directory",
    (at) => renameOf(at("/d").id, at("/d").id, { targetName: "new" }),
    { "/d": "mc", "/d/file": "c" },
  ],
  [
    "rename over a file",
    (at) => renameOf(at("/d").id, at("/d").id),
    { "/d": "mc", "/d/file": "c", "/d/other": "c" },
  ],
  [
    "rename to another directory",
    (at) => renameOf(at("/d").id, at("/e").id),
    { "/d": "mc", "/e": "mc", "/d/file": "c" },
  ],
  ["rename to itself", (at) => renameOf(at("/d").id, at("/d").id, { targetName: "file" }), {}],
  [
    "an exchange",
    (at) => renameOf(at("/d").id, at("/d").id, { exchange: true }),
    { "/d": "mc", "/d/file": "c", "/d/other": "c" },
  ],
  ["chmod", (at) => attributes(at("/d/file").id, { mode: 0o600 }), { "/d/file": "c" }],
  ["chown", (at) => attributes(at("/d/file").id, { uid: 5, gid: 6 }), { "/d/file": "c" }],
  [
    "utimensat of the atime",
    (at) => attributes(at("/d/file").id, { atime: { sec: 1, nsec: 2 } }),
    { "/d/file": "ac" },
  ],
  [
    "utimensat of the mtime",
    (at) => attributes(at("/d/file").id, { mtime: { sec: 1, nsec: 2 } }),
    { "/d/file": "mc" },
  ],
  ["touch", (at) => attributes(at("/d/file").id, { touch: true }), { "/d/file": "amc" }],
  [
    "truncate",
    (at) => ({ kind: "truncate", inode: at("/d/file").id, size: 7 }),
    { "/d/file": "mc" },
  ],
  [
    "truncate to the same size",
    (at) => ({ kind: "truncate", inode: at("/d/file").id, size: 0 }),
    { "/d/file": "mc" },
  ],
  [
    "setXattr",
    (at) => ({
      kind: "setXattr",
      inode: at("/d/file").id,
      name: "user.a",
      value: new Uint8Array(1),
      how: "set",
    }),
    { "/d/file": "c" },
  ],
  [
    "removeXattr",
    (at) => ({ kind: "removeXattr", inode: at("/d/other").id, name: "user.b" }),
    { "/d/other": "c" },
  ],
  [
    "an access list",
    (at) => ({
      kind: "setXattr",
      inode: at("/d/file").id,
      name: accessAclName,
      value: encodeAcl(aclOfMode(0o600)),
      how: "set",
    }),
    { "/d/file": "c" },
  ],
  [
    "touchAtimes",
    (at) => ({ kind: "touchAtimes", reads: [{ inode: at("/d/file").id, agoMs: 0 }] }),
    { "/d/file": "a" },
  ],
  ["persist", (at) => ({ kind: "persist", inode: at("/d/file").id }), {}],
  ["release", (at) => ({ kind: "release", inode: at("/d/file").id }), {}],
  [
    "mount",
    (at) => ({
      kind: "mount",
      parent: at("/e").id,
      name: "m",
      uri: "file:///n",
      readOnly: false,
      options: {},
    }),
    { "/e": "mc" },
  ],
  ["loadPage", (at) => pageOf(at("/m").id, [entryOf("x")]), {}],
];

describe("the times of inodes", () => {
  for (const [name, commandOf, wanted] of table) {
    it(`are changed by ${name} as POSIX says`, () => {
      const machine = Machine.make();
      const session = machine.openSession();
      machine.done({
        kind: "mount",
        parent: rootInodeId,
        name: "m",
        uri: "file:///m",
        readOnly: false,
        options: {},
      });
      for (const path of ["/d", "/e", "/d/empty"]) machine.mkdir(path);
      machine.create("/d/file");
      machine.create("/d/other");
      const value = new Uint8Array(1);
      const other = machine.at("/d/other").id;
      machine.done({ kind: "setXattr", inode: other, name: "user.b", value, how: "set" });
      const paths = ["/", "/m", "/d", "/e", "/d/empty", "/d/file", "/d/other"];
      const before = new Map(paths.map((path) => [path, machine.at(path)]));
      machine.wallSeconds += 1000;
      const command = commandOf((path) => before.get(path)!, machine);
      machine.done(command, command.kind === "unlink" ? session : undefined);
      const touched: Record<string, string> = {};
      for (const [path, old] of before) {
        const now = machine.inode(old.id);
        if (now === undefined) continue;
        const changed = (["atime", "mtime", "ctime"] as const).filter((time) => {
          if (now[time].sec === old[time].sec) return false;
          const isGiven = now[time].sec === 1 && now[time].nsec === 2;
          assert.ok(isGiven || now[time].sec === machine.wallSeconds, `${path} ${time}`);
          return true;
        });
        if (changed.length > 0) touched[path] = changed.map((time) => time[0]).join("");
      }
      assert.deepEqual(touched, wanted);
    });
  }

  it("of a new inode are all those of its making", () => {
    const machine = Machine.make();
    const { atime, mtime, ctime } = machine.create("/f");
    assert.deepEqual([atime.sec, mtime, ctime], [machine.wallSeconds, atime, atime]);
  });

  it("of content follow a commit that changes it, and no other", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const worker = machine.worker("w");
    const { inode } = machine.create("/f");
    const { writeId } = machine.done({ kind: "lease", inode }, session);
    const before = machine.inode(inode);
    const commit = { inode, writeId: writeId!, keepers: [worker] };
    machine.done(commitCommand(commit), session);
    assert.deepEqual(machine.inode(inode).mtime, before.mtime);
    const extents = extentsOver(writeId!, 0, 10);
    machine.done(commitCommand({ ...commit, size: 10, extents }), session);
    const { mtime, ctime, atime } = machine.inode(inode);
    assert.deepEqual([mtime.sec, ctime.sec], [machine.wallSeconds, machine.wallSeconds]);
    assert.deepEqual(atime, before.atime);
  });

  it("keep their nanoseconds, and take none that are no part of a second", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    const times = { atime: { sec: -5, nsec: 999_999_999 }, mtime: { sec: 2 ** 40, nsec: 1 } };
    const { atime, mtime } = machine.done(attributes(inode, times)).status!;
    assert.deepEqual({ atime, mtime }, times);
    machine.refused("InvalidArgument", attributes(inode, { atime: { sec: 0, nsec: 1e9 } }));
    machine.refused("InvalidArgument", attributes(inode, { mtime: { sec: 0, nsec: 1e9 } }));
  });

  it("are set by owners, and both to the present by who may write", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f", { mode: 0o622 });
    const stranger: Caller = { uid: 7, gid: 7, groups: [] };
    const codeOf = (of: Partial<Of<"setAttributes">>) => {
      const request = requestOf([attributes(inode, of)], { caller: stranger });
      const result = machine.apply(request).results[0]![0]!;
      return result.ok ? undefined : result.code;
    };
    assert.equal(codeOf({ touch: true }), undefined);
    assert.equal(codeOf({ mtime: { sec: 1, nsec: 0 } }), "NotPermitted");
    assert.equal(codeOf({ touch: true, mode: 0o777 }), "NotPermitted");
    machine.done(attributes(inode, { mode: 0o644 }));
    assert.equal(codeOf({ touch: true }), "PermissionDenied");
  });
});

describe("access times", () => {
  const touch = (...reads: Of<"touchAtimes">["reads"]): Command => ({ kind: "touchAtimes", reads });

  it("move when they lag behind the other times or by a day, and tell when it was read", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    const atime = () => machine.inode(inode).atime;
    machine.wallSeconds += 100;
    assert.equal(machine.done(touch({ inode, agoMs: 2500 })).id, 1);
    assert.deepEqual(atime(), { sec: machine.wallSeconds - 3, nsec: 500_000_000 });
    assert.equal(machine.done(touch({ inode, agoMs: 0 })).id, 0, "it is later than both");
    machine.done(attributes(inode, { mode: 0o600 }));
    assert.equal(machine.done(touch({ inode, agoMs: 0 })).id, 1);
    machine.wallSeconds += 86_000;
    assert.equal(machine.done(touch({ inode, agoMs: 0 })).id, 0);
    machine.wallSeconds += 400;
    assert.equal(machine.done(touch({ inode, agoMs: 0 })).id, 1);
  });

  it("never go back, and change nothing else", () => {
    const machine = Machine.make();
    const { inode } = machine.create("/f");
    const before = machine.inode(inode);
    assert.equal(machine.done(touch({ inode, agoMs: 10_000 })).id, 0);
    machine.done(touch({ inode, agoMs: 0 }));
    assert.deepEqual({ ...machine.inode(inode), atime: before.atime }, before);
  });

  it("pass over what is gone or must not change, and are told of in bounded numbers", () => {
    const machine = Machine.make();
    machine.done({
      kind: "mount",
      parent: rootInodeId,
      name: "m",
      uri: "file:///m",
      readOnly: true,
      options: {},
    });
    const ours = machine.create("/f").inode;
    const reads = [999 as InodeId, machine.at("/m").id, ours].map((inode) => ({ inode, agoMs: 0 }));
    assert.equal(machine.done(touch(...reads)).id, 1);
    const many = Array.from({ length: maxAtimes + 1 }, () => ({ inode: ours, agoMs: 0 }));
    machine.refused("InvalidArgument", touch(...many));
  });

  it("are those of the rule, whatever was read when", () => {
    const time = fc.record({
      sec: fc.integer({ min: 0, max: 200_000 }),
      nsec: fc.nat(999_999_999),
    });
    fc.assert(
      fc.property(time, time, time, time, (atime, mtime, ctime, now) => {
        const nanos = ({ sec, nsec }: Timestamp) => BigInt(sec) * 1_000_000_000n + BigInt(nsec);
        const wanted =
          nanos(atime) <= nanos(mtime) ||
          nanos(atime) <= nanos(ctime) ||
          nanos(now) - nanos(atime) >= 86_400_000_000_000n;
        assert.equal(lagsBehind({ atime, mtime, ctime }, now), wanted);
        assert.equal(isLater(atime, mtime), nanos(atime) > nanos(mtime));
        const ms = now.nsec % 100_000;
        assert.equal(nanos(minus(now, ms)), nanos(now) - BigInt(ms) * 1_000_000n);
      }),
    );
  });
});
