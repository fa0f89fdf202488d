/** What each command demands of its caller, and what it leaves behind. */
import assert from "node:assert/strict";
import type { ErrorCode } from "../../../src/lib/errors.ts";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { Caller } from "../../../src/rpc/namespace.ts";
import {
  commitCommand,
  createCommand,
  type Done,
  entryOf,
  extentsOver,
  Machine,
  nameOf,
  pageOf,
  parentOf,
  requestOf,
} from "./machine-fixture.ts";

const ann: Caller = { uid: 1, gid: 10, groups: [50] };
const bob: Caller = { uid: 2, gid: 20, groups: [50] };
const eve: Caller = { uid: 3, gid: 30, groups: [] };

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** A machine whose commands come from users. */
class Users {
  readonly machine = Machine.make();

  constructor() {
    this.machine.done({ ...attributes(rootInodeId), mode: 0o777 });
  }

  done(caller: Caller, command: Command, session?: Parameters<Machine["run"]>[1]): Done {
    const result = this.machine.runAs(caller, command, session);
    assert.ok(result.ok, `${command.kind} was refused: ${JSON.stringify(result)}`);
    return result;
  }

  refused(
    caller: Caller,
    code: ErrorCode,
    command: Command,
    session?: Parameters<Machine["run"]>[1],
  ) {
    const before = this.machine.state.entries("inode/");
    const result = this.machine.runAs(caller, command, session);
    assert.ok(!result.ok, `${command.kind} was done`);
    assert.equal(result.code, code, result.detail);
    assert.deepEqual(this.machine.state.entries("inode/"), before, "it left a trace");
  }

  /** A file or directory of somebody's, made by the superuser. */
  make(path: string, of: Caller, mode: number, fields: Partial<Of<"create">> = {}): InodeId {
    return this.machine.create(path, { mode, uid: of.uid, gid: of.gid, ...fields }).inode;
  }

  dir(path: string, of: Caller, mode: number): InodeId {
    return this.make(path, of, mode, { fileKind: "directory" });
  }

  mode(path: string): number {
    return this.machine.at(path).mode;
  }
}

function attributes(inode: InodeId): Of<"setAttributes"> {
  const none = undefined;
  return {
    kind: "setAttributes",
    inode,
    mode: none,
    uid: none,
    gid: none,
    atime: none,
    mtime: none,
  };
}

function at(users: Users, path: string) {
  return { parent: users.machine.at(parentOf(path)).id, name: nameOf(path) };
}

function unlinkOf(users: Users, path: string): Of<"unlink"> {
  return { kind: "unlink", ...at(users, path), held: false };
}

function renameOf(users: Users, from: string, to: string): Of<"rename"> {
  const [source, target] = [at(users, from), at(users, to)];
  return {
    kind: "rename",
    sourceParent: source.parent,
    sourceName: source.name,
    targetParent: target.parent,
    targetName: target.name,
    noReplace: false,
  };
}

function newOf(users: Users, path: string, by: Caller, of: Partial<Of<"create">> = {}) {
  const { parent, name } = at(users, path);
  return createCommand(parent, name, { uid: by.uid, gid: by.gid, ...of });
}

describe("create, by a user", () => {
  it("needs write and search of the directory", () => {
    const users = new Users();
    users.dir("/w", ann, 0o722);
    users.dir("/x", ann, 0o711);
    users.dir("/wx", ann, 0o733);
    users.refused(bob, "PermissionDenied", newOf(users, "/w/f", bob));
    users.refused(bob, "PermissionDenied", newOf(users, "/x/f", bob));
    users.done(bob, newOf(users, "/wx/f", bob));
  });

  it("tells who may search that a name exists before it says that he may not write", () => {
    const users = new Users();
    users.dir("/x", ann, 0o711);
    users.make("/x/f", ann, 0o644);
    users.refused(bob, "AlreadyExists", newOf(users, "/x/f", bob));
    users.dir("/no", ann, 0o722);
    users.make("/no/f", ann, 0o644);
    users.refused(bob, "PermissionDenied", newOf(users, "/no/f", bob));
    users.refused(bob, "PermissionDenied", newOf(users, "/no/f", bob, { exclusive: false }));
  });

  it("makes an inode for its caller, in a group of his, and for nobody else", () => {
    const users = new Users();
    users.refused(bob, "NotPermitted", newOf(users, "/f", bob, { uid: ann.uid }));
    users.refused(bob, "NotPermitted", newOf(users, "/f", bob, { gid: ann.gid }));
    const { status } = users.done(bob, newOf(users, "/f", bob, { gid: 50 }));
    assert.deepEqual([status!.uid, status!.gid], [bob.uid, 50]);
  });

  it("gets the group of a set-group-id directory, and no right to run with it", () => {
    const users = new Users();
    users.dir("/d", ann, 0o2777);
    const run = users.done(bob, newOf(users, "/d/run", bob, { mode: 0o2755 })).status!;
    assert.deepEqual([run.gid, run.mode], [ann.gid, 0o755]);
    const lock = users.done(bob, newOf(users, "/d/lock", bob, { mode: 0o2745 })).status!;
    assert.equal(lock.mode, 0o2745);
    const own = users.done(ann, newOf(users, "/d/own", ann, { mode: 0o2755 })).status!;
    assert.equal(own.mode, 0o2755);
    const below = users.done(bob, newOf(users, "/d/dir", bob, { fileKind: "directory" })).status!;
    assert.deepEqual([below.gid, below.mode & 0o2000], [ann.gid, 0o2000]);
  });

  it("makes no device node for anybody but the superuser", () => {
    const users = new Users();
    const node = { fileKind: "charDevice", rdev: 2 ** 32 + 3 } as const;
    users.refused(ann, "NotPermitted", newOf(users, "/null", ann, node));
    users.done(ann, newOf(users, "/pipe", ann, { fileKind: "fifo" }));
    users.machine.done(newOf(users, "/null", ann, node));
  });

  it("opens an existing file to write only with the right to write it", () => {
    const users = new Users();
    const session = users.machine.openSession();
    users.make("/f", ann, 0o644);
    const open = newOf(users, "/f", bob, { exclusive: false });
    users.refused(bob, "PermissionDenied", { ...open, lease: true }, session);
    assert.ok(users.done(bob, open).status !== undefined);
    users.make("/own", bob, 0o444);
    const own = newOf(users, "/own", bob, { exclusive: false, lease: true });
    users.refused(bob, "PermissionDenied", own, session);
  });
});

describe("names, by a user", () => {
  it("are taken out of a directory by who may write and search it", () => {
    for (const [mode, allowed] of [
      [0o777, true],
      [0o733, true],
      [0o755, false],
      [0o766, false],
    ] as const) {
      const users = new Users();
      users.dir("/d", ann, mode);
      users.make("/d/f", ann, 0);
      users.dir("/d/sub", ann, 0);
      const commands: Command[] = [
        renameOf(users, "/d/f", "/d/g"),
        { kind: "rmdir", ...at(users, "/d/sub") },
        { kind: "unlink", ...at(users, "/d/g"), held: false },
      ];
      for (const command of commands) {
        if (allowed) users.done(bob, command);
        else if (command.kind !== "unlink") users.refused(bob, "PermissionDenied", command);
      }
    }
  });

  it("do not show by the refusal whether they exist where nobody may search", () => {
    const users = new Users();
    users.dir("/d", ann, 0o722);
    users.make("/d/f", ann, 0o644);
    users.refused(bob, "PermissionDenied", unlinkOf(users, "/d/f"));
    users.refused(bob, "PermissionDenied", unlinkOf(users, "/d/missing"));
    users.dir("/s", ann, 0o711);
    users.refused(bob, "NotFound", unlinkOf(users, "/s/missing"));
  });

  it("of others stay in a sticky directory", () => {
    const users = new Users();
    users.dir("/tmp", ann, 0o1777);
    users.make("/tmp/bob", bob, 0o666);
    users.dir("/tmp/dir", bob, 0o777);
    users.make("/tmp/eve", eve, 0o666);
    users.refused(eve, "NotPermitted", unlinkOf(users, "/tmp/bob"));
    users.refused(eve, "NotPermitted", { kind: "rmdir", ...at(users, "/tmp/dir") });
    users.refused(eve, "NotPermitted", { kind: "deleteTree", ...at(users, "/tmp/dir") });
    users.refused(eve, "NotPermitted", renameOf(users, "/tmp/bob", "/mine"));
    users.refused(eve, "NotPermitted", renameOf(users, "/tmp/eve", "/tmp/bob"));
    users.done(eve, unlinkOf(users, "/tmp/eve"));
    users.done(bob, { kind: "rmdir", ...at(users, "/tmp/dir") });
    users.done(ann, unlinkOf(users, "/tmp/bob"));
  });

  it("move between directories that may both be written", () => {
    const users = new Users();
    users.dir("/from", ann, 0o777);
    users.dir("/to", ann, 0o755);
    users.make("/from/f", ann, 0o644);
    users.refused(bob, "PermissionDenied", renameOf(users, "/from/f", "/to/f"));
    users.done(ann, renameOf(users, "/from/f", "/to/f"));
    users.refused(bob, "PermissionDenied", renameOf(users, "/to/f", "/from/f"));
  });

  it("of directories change their parent only by who may write in them", () => {
    const users = new Users();
    users.dir("/a", ann, 0o777);
    users.dir("/b", ann, 0o777);
    users.dir("/a/d", ann, 0o755);
    users.refused(bob, "PermissionDenied", renameOf(users, "/a/d", "/b/d"));
    users.done(bob, renameOf(users, "/a/d", "/a/e"));
    users.done(ann, renameOf(users, "/a/e", "/b/d"));
  });

  it("are given by links to what is one's own, or may be read and written and runs with no rights", () => {
    const users = new Users();
    const linkTo = (path: string): Command => ({
      kind: "link",
      inode: users.machine.at(path).id,
      parent: rootInodeId,
      name: `link of ${nameOf(path)}`,
    });
    users.make("/own", bob, 0);
    users.make("/open", ann, 0o666);
    users.make("/shown", ann, 0o644);
    users.make("/setuid", ann, 0o4666);
    users.make("/setgid", ann, 0o2676);
    users.make("/fifo", ann, 0o666, { fileKind: "fifo" });
    users.done(bob, linkTo("/own"));
    users.done(bob, linkTo("/open"));
    for (const path of ["/shown", "/setuid", "/setgid", "/fifo"]) {
      users.refused(bob, "NotPermitted", linkTo(path));
    }
    users.dir("/closed", ann, 0o755);
    const closed = users.machine.at("/closed").id;
    const own = users.machine.at("/own").id;
    users.refused(bob, "PermissionDenied", {
      kind: "link",
      inode: own,
      parent: closed,
      name: "x",
    });
  });

  it("with names below them go as a whole by the superuser alone", () => {
    const users = new Users();
    users.dir("/d", ann, 0o755);
    users.make("/d/f", ann, 0o644);
    users.dir("/d/sub", ann, 0o755);
    users.refused(ann, "NotEmpty", { kind: "deleteTree", ...at(users, "/d") });
    users.done(ann, { kind: "deleteTree", ...at(users, "/d/f") });
    users.done(ann, { kind: "deleteTree", ...at(users, "/d/sub") });
    users.done(ann, { kind: "deleteTree", ...at(users, "/d") });
    users.dir("/e", ann, 0o755);
    users.make("/e/f", ann, 0o644);
    users.machine.done({ kind: "deleteTree", ...at(users, "/e") });
  });

  it("of a directory that is not loaded count as names below it", () => {
    const users = new Users();
    const { machine } = users;
    const store = machine.done({
      kind: "mount",
      parent: rootInodeId,
      name: "m",
      uri: "file:///m",
      readOnly: false,
      options: {},
    });
    const cold = entryOf("cold", { kind: "directory", uid: ann.uid, gid: ann.gid, mode: 0o777 });
    machine.done(pageOf(store.status!.inode, [cold]));
    machine.done({ ...attributes(store.status!.inode), mode: 0o777 });
    users.refused(ann, "NotEmpty", { kind: "deleteTree", ...at(users, "/m/cold") });
    machine.done(pageOf(machine.at("/m/cold").id, []));
    users.done(ann, { kind: "deleteTree", ...at(users, "/m/cold") });
  });
});

describe("attributes, by a user", () => {
  it("are changed by the owner alone", () => {
    const users = new Users();
    const inode = users.make("/f", ann, 0o666);
    const time = { sec: 5, nsec: 0 };
    for (const change of [{ mode: 0o600 }, { atime: time }, { mtime: time }]) {
      users.refused(bob, "NotPermitted", { ...attributes(inode), ...change });
      users.done(ann, { ...attributes(inode), ...change });
    }
  });

  it("show now as times by whoever may write, any other time by the owner", () => {
    const users = new Users();
    const { machine } = users;
    const inode = users.make("/f", ann, 0o464);
    const touch = { ...attributes(inode), touch: true };
    users.done(ann, touch);
    users.done({ ...eve, groups: [ann.gid] }, touch);
    const { atime, mtime } = machine.at("/f");
    assert.deepEqual([atime.sec, mtime.sec], [machine.wallSeconds, machine.wallSeconds]);
    users.refused(eve, "PermissionDenied", touch);
    users.refused({ ...eve, groups: [ann.gid] }, "NotPermitted", { ...touch, mode: 0o666 });
    // What is given besides means nothing.
    users.done(ann, { ...touch, mtime: { sec: 1, nsec: 0 } });
    assert.equal(machine.at("/f").mtime.sec, machine.wallSeconds);
  });

  it("name another owner by the superuser alone, another group by its owner who belongs to it", () => {
    const users = new Users();
    const inode = users.make("/f", ann, 0o644);
    const chown = (change: { uid?: number; gid?: number }) => ({ ...attributes(inode), ...change });
    users.refused(ann, "NotPermitted", chown({ uid: bob.uid }));
    users.refused(bob, "NotPermitted", chown({ uid: bob.uid }));
    users.refused(bob, "NotPermitted", chown({ uid: ann.uid }));
    users.refused(ann, "NotPermitted", chown({ gid: bob.gid }));
    users.refused(bob, "NotPermitted", chown({ gid: bob.gid }));
    users.done(ann, chown({ uid: ann.uid, gid: 50 }));
    assert.equal(users.machine.at("/f").gid, 50);
    users.done(ann, chown({ gid: 50 }));
    users.machine.done(chown({ uid: bob.uid, gid: 77 }));
    // Its group may stay what it is, though its owner does not belong to it.
    users.done(bob, chown({ gid: 77 }));
  });

  it("lose setgid in a mode that a stranger to the group sets", () => {
    const users = new Users();
    const inode = users.make("/f", ann, 0o755, { gid: 20 });
    users.done(ann, { ...attributes(inode), mode: 0o6755 });
    assert.equal(users.mode("/f"), 0o4755);
    users.done(ann, { ...attributes(inode), mode: 0o6755, gid: 50 });
    assert.equal(users.mode("/f"), 0o6755);
  });

  it("lose setuid and setgid when owner or group change, but for the superuser and directories", () => {
    const users = new Users();
    const file = users.make("/f", ann, 0o6755);
    const directory = users.dir("/d", ann, 0o2755);
    users.machine.done({ ...attributes(file), gid: 10 });
    assert.equal(users.mode("/f"), 0o6755);
    users.done(ann, { ...attributes(file), gid: 50 });
    assert.equal(users.mode("/f"), 0o755);
    users.done(ann, { ...attributes(directory), gid: 50 });
    assert.equal(users.mode("/d"), 0o2755);
  });
});

describe("content, by a user", () => {
  it("is cut by who may write it", () => {
    const users = new Users();
    const inode = users.make("/f", ann, 0o4755);
    users.refused(bob, "PermissionDenied", { kind: "truncate", inode, size: 5 });
    users.machine.done({ kind: "truncate", inode, size: 5 });
    assert.equal(users.mode("/f"), 0o4755);
    users.done(ann, { kind: "truncate", inode, size: 6 });
    assert.equal(users.mode("/f"), 0o755);
    users.machine.done({ ...attributes(inode), mode: 0o444 });
    users.refused(ann, "PermissionDenied", { kind: "truncate", inode, size: 7 });
  });

  it("is written under a lease, which who may not write does not get", () => {
    const users = new Users();
    const session = users.machine.openSession();
    const inode = users.make("/f", ann, 0o644);
    users.refused(bob, "PermissionDenied", { kind: "lease", inode }, session);
    users.done(ann, { kind: "lease", inode }, session);
  });

  it("goes on being written by the owner who opened a file before it became read-only", () => {
    const users = new Users();
    const session = users.machine.openSession();
    const open = newOf(users, "/f", ann, { mode: 0o444, lease: true });
    const { status, writeId } = users.done(ann, open, session);
    const { inode } = status!;
    users.done(ann, { kind: "truncate", inode, size: 9 }, session);
    users.done(ann, { kind: "releaseLease", inode, writeId: writeId! }, session);
    users.done(ann, { kind: "lease", inode }, session);
    users.refused(bob, "PermissionDenied", { kind: "lease", inode }, users.machine.openSession());
  });

  it("runs with nobody's rights after a commit, in the store too, unless the superuser wrote it", () => {
    for (const by of [bob, undefined]) {
      const users = new Users();
      const { machine } = users;
      const keepers = [machine.worker("one")];
      const session = machine.openSession();
      const { inode } = machine.write("/f", 10, { keepers, session, mode: 0o6777, uid: 1 });
      machine.settle();
      const run = (command: Command) => {
        const result =
          by === undefined ? machine.run(command, session) : machine.runAs(by, command, session);
        assert.ok(result.ok, JSON.stringify(result));
        return result;
      };
      const writeId = run({ kind: "lease", inode }).writeId!;
      const baseVersion = machine.inode(inode).version;
      run(commitCommand({ inode, writeId, baseVersion, size: 10 }));
      assert.equal(users.mode("/f"), 0o6777, "nothing was written");
      const extents = extentsOver(writeId, 0, 10);
      run(commitCommand({ inode, writeId, baseVersion, size: 10, extents, keepers }));
      assert.equal(users.mode("/f"), by === undefined ? 0o6777 : 0o777);
      const told = machine.pending().filter(({ action }) => action.kind === "setAttributes");
      assert.equal(told.length, by === undefined ? 0 : 1);
    }
  });

  it("is sent to its store by who may write it", () => {
    const users = new Users();
    const inode = users.make("/f", ann, 0o644);
    users.refused(bob, "PermissionDenied", { kind: "persist", inode });
    users.done(ann, { kind: "persist", inode });
  });
});

describe("administration", () => {
  it("is the superuser's: mounts, and jobs that run with the rights of workers", () => {
    const users = new Users();
    const place = { parent: rootInodeId, name: "m" };
    const mount: Command = {
      kind: "mount",
      ...place,
      uri: "file:///m",
      readOnly: false,
      options: {},
    };
    users.refused(ann, "NotPermitted", mount);
    users.machine.done(mount);
    users.refused(ann, "NotPermitted", { kind: "unmount", ...place });
    const record: Command = {
      kind: "recordLineage",
      inputs: [],
      outputs: [{ path: "/o", parent: rootInodeId, name: "o" }],
      job: { argv: ["true"], environment: {}, timeoutMs: 1000, captureStdout: false },
      uid: ann.uid,
      gid: ann.gid,
    };
    users.refused(ann, "NotPermitted", record);
    const { id } = users.machine.done(record);
    users.refused(ann, "NotPermitted", { kind: "deleteLineage", lineage: id as never });
  });
});

describe("a request of a user", () => {
  it("is checked command by command, as of what was committed before", () => {
    const users = new Users();
    const inode = users.make("/f", ann, 0o666);
    const truncate: Command = { kind: "truncate", inode, size: 3 };
    const close: Command = { ...attributes(inode), mode: 0o600 };
    const { results } = users.machine.apply(
      requestOf([close], { caller: ann }),
      requestOf([truncate], { caller: bob }),
    );
    assert.deepEqual(
      results.map(([result]) => (result!.ok ? "done" : result!.code)),
      ["done", "PermissionDenied"],
    );
  });

  it("that is atomic does nothing when one of its commands is not permitted", () => {
    const users = new Users();
    users.dir("/closed", ann, 0o755);
    const commands = [newOf(users, "/a", bob), newOf(users, "/closed/b", bob)];
    const { results } = users.machine.apply(requestOf(commands, { caller: bob, atomic: true }));
    assert.deepEqual(
      results[0]!.map((result) => (result.ok ? "done" : result.code)),
      ["Cancelled", "PermissionDenied"],
    );
    assert.ok(!users.machine.exists("/a"));
    const each = users.machine.apply(requestOf(commands, { caller: bob }));
    assert.deepEqual(
      each.results[0]!.map((result) => (result.ok ? "done" : result.code)),
      ["done", "PermissionDenied"],
    );
  });
});
