/** Times to live in the state: what goes, what stays, and what a clock that is set wrong may do. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import { clockToleranceMs } from "../../../src/master/state/time-to-live.ts";
import { type Command, maxExpired } from "../../../src/rpc/commands.ts";
import { noPolicy, type PathPolicy } from "../../../src/rpc/path-policy.ts";
import { createCommand, Machine, requestOf } from "./machine-fixture.ts";

const day = 24 * 3600;

function set(machine: Machine, path: string, ttl: PathPolicy["ttl"]): void {
  const inode = machine.at(path).id;
  machine.done({ kind: "setPathPolicy", inode, policy: { ...noPolicy, ttl } });
}

/** Both times move on alike. */
function pass(machine: Machine, seconds: number): void {
  machine.wallSeconds += seconds;
  machine.clusterTimeMs += seconds * 1000;
}

function expire(machine: Machine, directory: string, ...names: string[]): Command {
  return { kind: "expire", directory: machine.at(directory).id, names };
}

function begin(): Machine {
  const machine = Machine.make();
  machine.mkdir("/a");
  machine.done({ kind: "setTtlClock", accept: false });
  return machine;
}

describe("a time to live", () => {
  it("ends what was not changed for so long, and nothing a second earlier", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 100, action: "delete" });
    machine.create("/a/x");
    pass(machine, 97);
    assert.equal(machine.done(expire(machine, "/a", "x")).id, 0);
    pass(machine, 1);
    assert.equal(machine.done(expire(machine, "/a", "x")).id, 1);
    assert.equal(machine.exists("/a/x"), false);
  });

  it("A18: removes nothing unless it was asked to delete", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 1, action: "free" });
    machine.create("/a/x");
    pass(machine, 1000);
    assert.equal(machine.done(expire(machine, "/a", "x")).id, 0);
    assert.equal(machine.pending().filter(({ action }) => action.kind === "delete").length, 0);
  });

  it("is the nearest one, that of a file before that of its directory", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 1, action: "delete" });
    machine.mkdir("/a/b");
    set(machine, "/a/b", { seconds: day, action: "delete" });
    machine.create("/a/b/x");
    machine.create("/a/y");
    set(machine, "/a/y", { seconds: day, action: "free" });
    pass(machine, 1000);
    assert.equal(machine.done(expire(machine, "/a/b", "x")).id, 0);
    assert.equal(machine.done(expire(machine, "/a", "y", "none")).id, 0);
  });

  it("counts from the last change of the content", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 100, action: "delete" });
    const { inode } = machine.create("/a/x");
    pass(machine, 90);
    machine.done({ kind: "truncate", inode, size: 7 });
    pass(machine, 50);
    assert.equal(machine.done(expire(machine, "/a", "x")).id, 0);
  });

  it("leaves what is being written, and directories that are not empty, or of which something is said", () => {
    const machine = begin();
    const session = machine.openSession();
    machine.create("/a/x", { lease: true }, session);
    for (const name of ["full", "said", "empty", "unloaded"]) machine.mkdir(`/a/${name}`);
    machine.create("/a/full/y");
    machine.unload(machine.at("/a/unloaded").id);
    const keepers = { ...noPolicy, keepers: 2 };
    machine.done({ kind: "setPathPolicy", inode: machine.at("/a/said").id, policy: keepers });
    set(machine, "/a", { seconds: 1, action: "delete" });
    pass(machine, 1000);
    const names = ["x", "full", "said", "empty", "unloaded"];
    assert.equal(machine.done(expire(machine, "/a", ...names)).id, 1);
    assert.equal(machine.exists("/a/empty"), false);
  });

  it("takes a file from its store as an unlink does", () => {
    const machine = begin();
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    set(machine, "/a", { seconds: 1, action: "delete" });
    machine.write("/a/x", 10, { keepers, session });
    machine.settle();
    pass(machine, 1000);
    machine.done(expire(machine, "/a", "x"));
    const [op] = machine.pending();
    assert.equal(op!.action.kind, "delete");
    assert.deepEqual(op!.tomb, { directory: machine.at("/a").id, name: "x" });
  });

  it("deletes nothing while wall time has moved further than the cluster's own, until that is accepted", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 100, action: "delete" });
    machine.create("/a/x");
    machine.wallSeconds += clockToleranceMs / 1000 + 10;
    machine.refused("Unavailable", expire(machine, "/a", "x"));
    machine.refused("Unavailable", { kind: "setTtlClock", accept: false });
    const caller = { uid: 5, gid: 5, groups: [] };
    const accept: Command = { kind: "setTtlClock", accept: true };
    const byUser = machine.apply(requestOf([accept], { caller })).results[0]![0]!;
    assert.equal(!byUser.ok && byUser.code, "NotPermitted");
    machine.done(accept);
    assert.equal(machine.done(expire(machine, "/a", "x")).id, 1);
  });

  it("deletes nothing either when the cluster's time has moved further", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 1, action: "delete" });
    machine.create("/a/x");
    machine.clusterTimeMs += clockToleranceMs + 60_000;
    machine.refused("Unavailable", expire(machine, "/a", "x"));
  });

  it("goes on where small differences are taken in one by one", () => {
    const machine = begin();
    set(machine, "/a", { seconds: 1, action: "delete" });
    machine.create("/a/x");
    for (let i = 0; i < 5; i++) {
      machine.wallSeconds += clockToleranceMs / 2000;
      machine.done({ kind: "setTtlClock", accept: false });
    }
    assert.equal(machine.done(expire(machine, "/a", "x")).id, 1);
  });

  it("has nothing deleted before somebody looked at the clock, in the trash, or too much at once", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    set(machine, "/a", { seconds: 1, action: "delete" });
    machine.refused("Unavailable", expire(machine, "/a", "x"));
    machine.done({ kind: "setTtlClock", accept: false });
    const names = Array.from({ length: maxExpired + 1 }, (_, i) => String(i));
    machine.refused("InvalidArgument", expire(machine, "/a", ...names));
    machine.create("/a/x");
    const late = expire(machine, "/a", "x");
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "a" });
    machine.refused("NotFound", late);
    machine.done(createCommand(rootInodeId, "b"));
    machine.refused("NotDirectory", { ...late, directory: machine.at("/b").id } as Command);
  });

  it("ends exactly what a plain look at all files says, whatever is set, moved and changed meanwhile", function () {
    this.timeout(60_000);
    const directory = fc.constantFrom("/a", "/b", "/a/c");
    const file = fc.constantFrom("x", "y");
    const step = fc.oneof(
      fc.record({ kind: fc.constant("make"), at: directory, file }),
      fc.record({ kind: fc.constant("touch"), at: directory, file }),
      fc.record({ kind: fc.constant("pass"), seconds: fc.integer({ min: 1, max: 60 }) }),
      fc.record({
        kind: fc.constant("set"),
        at: directory,
        seconds: fc.integer({ min: 5, max: 90 }),
        action: fc.constantFrom("free", "delete"),
      }),
      fc.record({ kind: fc.constant("clear"), at: directory }),
      fc.record({ kind: fc.constant("move"), at: directory, file, to: directory }),
      fc.record({ kind: fc.constant("look") }),
    );
    interface Known {
      at: string;
      file: string;
      changed: number;
    }
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const machine = begin();
        machine.mkdir("/b");
        machine.mkdir("/a/c");
        const ttls = new Map<string, NonNullable<PathPolicy["ttl"]>>();
        let files: Known[] = [];
        const find = (at: string, name: string) =>
          files.find((each) => each.at === at && each.file === name);
        const idOf = (path: string): InodeId => machine.at(path).id;
        for (const of of steps) {
          if ("seconds" in of && !("action" in of)) pass(machine, of.seconds);
          else if ("action" in of) {
            const ttl = { seconds: of.seconds, action: of.action };
            set(machine, of.at, ttl);
            ttls.set(of.at, ttl);
          } else if (of.kind === "clear" && "at" in of) {
            machine.done({ kind: "clearPathPolicy", inode: idOf(of.at), keys: ["ttl"] });
            ttls.delete(of.at);
          } else if ("to" in of) {
            const known = find(of.at, of.file);
            if (known === undefined || find(of.to, of.file) !== undefined) continue;
            machine.done({
              ...{ kind: "rename", sourceParent: idOf(of.at), sourceName: of.file },
              ...{ targetParent: idOf(of.to), targetName: of.file, noReplace: true },
            });
            known.at = of.to;
          } else if ("file" in of) {
            const known = find(of.at, of.file);
            if (of.kind === "make" && known === undefined) {
              machine.create(`${of.at}/${of.file}`);
              files.push({ at: of.at, file: of.file, changed: machine.wallSeconds });
            } else if (of.kind === "touch" && known !== undefined) {
              const inode = idOf(`${of.at}/${of.file}`);
              machine.done({ kind: "truncate", inode, size: machine.inode(inode).size + 1 });
              known.changed = machine.wallSeconds;
            }
          } else {
            for (const at of ["/a", "/b", "/a/c"]) {
              machine.done(expire(machine, at, "x", "y"));
              const ttl = ttls.get(at) ?? (at === "/a/c" ? ttls.get("/a") : undefined);
              if (ttl?.action !== "delete") continue;
              files = files.filter(
                (each) => each.at !== at || each.changed + ttl.seconds > machine.wallSeconds,
              );
            }
          }
          for (const at of ["/a", "/b", "/a/c"]) {
            for (const name of ["x", "y"]) {
              assert.equal(machine.exists(`${at}/${name}`), find(at, name) !== undefined);
            }
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});
