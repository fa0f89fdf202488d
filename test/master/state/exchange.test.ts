/** rename(2) with RENAME_EXCHANGE, by case, and what a store makes of it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { isExchangePath } from "../../../src/lib/store-names.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { decode } from "../../../src/lib/schema.ts";
import { inode } from "../../../src/master/state/model.ts";
import { directoriesToLoad } from "../../../src/master/state/preload.ts";
import { pathInStore, pathOf } from "../../../src/master/state/queries.ts";
import type { Caller } from "../../../src/rpc/namespace.ts";
import { entryOf, Machine, nameOf, pageOf, parentOf, requestOf } from "./machine-fixture.ts";

function exchangeOf(machine: Machine, from: string, to: string) {
  return {
    kind: "rename" as const,
    sourceParent: machine.at(parentOf(from)).id,
    sourceName: nameOf(from),
    targetParent: machine.at(parentOf(to)).id,
    targetName: nameOf(to),
    noReplace: false,
    exchange: true,
  };
}

describe("an exchange of names", () => {
  it("moves both with all below, across directories and kinds, and counts both", () => {
    const machine = Machine.make();
    for (const path of ["/a", "/b", "/a/d", "/a/d/e"]) machine.mkdir(path);
    const directory = machine.at("/a/d");
    const inside = machine.create("/a/d/e/f").inode;
    const file = machine.create("/b/x").inode;
    const result = machine.done(exchangeOf(machine, "/a/d", "/b/x"));
    assert.equal(result.status!.inode, directory.id);
    assert.deepEqual([machine.at("/a/d").id, machine.at("/b/x").id], [file, directory.id]);
    assert.equal(pathOf(machine.state, inside), "/b/x/e/f");
    assert.deepEqual([machine.at("/a").nlink, machine.at("/b").nlink], [2, 3]);
  });

  it("changes the ctime of both, and both times of their directories", () => {
    const machine = Machine.make();
    for (const path of ["/a", "/b"]) machine.mkdir(path);
    machine.create("/a/x");
    machine.create("/b/y");
    const before = machine.at("/a/x");
    machine.done(exchangeOf(machine, "/a/x", "/b/y"));
    const sec = machine.wallSeconds;
    for (const path of ["/a/x", "/b/y"]) {
      const { ctime, mtime } = machine.at(path);
      assert.equal(ctime.sec, sec);
      assert.ok(mtime.sec < sec);
    }
    assert.deepEqual(machine.at("/b/y").mtime, before.mtime);
    for (const path of ["/a", "/b"]) {
      const { ctime, mtime } = machine.at(path);
      assert.deepEqual([ctime.sec, mtime.sec], [sec, sec]);
    }
  });

  it("tells of both names and both inodes", () => {
    const machine = Machine.make();
    const [a, b] = [machine.create("/a").inode, machine.create("/b").inode];
    const { changes } = machine.apply(requestOf([exchangeOf(machine, "/a", "/b")]));
    assert.deepEqual(changes.names.map(([, name]) => name).sort(), ["a", "b"]);
    for (const inode of [a, b, rootInodeId]) assert.ok(changes.inodes.includes(inode));
  });

  it("leaves the further names of a file where they are", () => {
    const machine = Machine.make();
    const [a, b] = [machine.create("/a").inode, machine.create("/b").inode];
    machine.done({ kind: "link", inode: a, parent: rootInodeId, name: "more" });
    machine.done(exchangeOf(machine, "/a", "/b"));
    assert.deepEqual(
      ["/a", "/b", "/more"].map((path) => machine.at(path).id),
      [b, a, a],
    );
    machine.done(exchangeOf(machine, "/b", "/more"));
    assert.equal(machine.inode(a).nlink, 2);
  });

  it("is refused by case", () => {
    const machine = Machine.make();
    for (const path of ["/d", "/d/e", "/d/e/f", "/other"]) machine.mkdir(path);
    machine.create("/file");
    machine.done({ kind: "mount", parent: rootInodeId, name: "m", ...stores });
    machine.done(pageOf(machine.at("/m").id, []));
    machine.create("/m/x");
    for (const [code, from, to] of [
      ["NotFound", "/nothing", "/file"],
      ["NotFound", "/file", "/nothing"],
      ["InvalidArgument", "/d", "/d/e"],
      ["InvalidArgument", "/d/e/f", "/d"],
      ["InvalidArgument", "/d/e/f", "/d/e"],
      ["Busy", "/m", "/file"],
      ["Busy", "/file", "/m"],
      ["CrossMount", "/file", "/m/x"],
    ] as const) {
      machine.refused(code, exchangeOf(machine, from, to));
    }
    const both = { ...exchangeOf(machine, "/d", "/file"), noReplace: true };
    machine.refused("InvalidArgument", both);
    for (const name of [".", ".."]) {
      machine.refused("InvalidArgument", { ...both, noReplace: false, sourceName: name });
      machine.refused("InvalidArgument", { ...both, noReplace: false, targetName: name });
    }
    machine.done(exchangeOf(machine, "/d", "/d"));
  });

  it("needs the right to move either of the two", () => {
    const machine = Machine.make();
    machine.mkdir("/mine", { mode: 0o755 });
    machine.mkdir("/shared", { mode: 0o1777, uid: 0 });
    machine.mkdir("/mine/d", { mode: 0o755 });
    machine.create("/mine/f");
    machine.create("/shared/mine");
    machine.create("/shared/theirs", { uid: 7 });
    machine.mkdir("/shared/closed", { mode: 0o555 });
    const caller: Caller = { uid: 1000, gid: 1000, groups: [] };
    const codeOf = (from: string, to: string) => {
      const command = exchangeOf(machine, from, to);
      const result = machine.apply(requestOf([command], { caller })).results[0]![0]!;
      return result.ok ? undefined : result.code;
    };
    assert.equal(codeOf("/mine/f", "/shared/theirs"), "NotPermitted");
    assert.equal(codeOf("/shared/theirs", "/mine/f"), "NotPermitted");
    assert.equal(codeOf("/mine/f", "/shared/closed"), "PermissionDenied");
    assert.equal(codeOf("/mine/d", "/shared/mine"), undefined);
  });

  it("asks a store for directories whose names decide it, and not for what is in the two", () => {
    const machine = Machine.make();
    machine.done({ kind: "mount", parent: rootInodeId, name: "m", ...stores });
    const root = machine.at("/m").id;
    const command = exchangeOf(machine, "/m/a", "/m/b");
    assert.deepEqual(directoriesToLoad(machine.state, command), [root]);
    machine.refused("Stale", command);
    const directory = { kind: "directory" } as const;
    machine.done(pageOf(root, [entryOf("a", directory), entryOf("b", directory)]));
    assert.deepEqual(directoriesToLoad(machine.state, command), []);
    machine.done(command);
  });
});

const stores = { uri: "file:///m", readOnly: false, options: {} };

/** A store that does what is queued: which inode's object lies at a path; what is below a directory goes along. */
class PlainStore {
  readonly objects = new Map<string, string>();

  rename(from: string, to: string): void {
    const moved = [...this.objects].filter(
      ([path]) => path === from || path.startsWith(`${from}/`),
    );
    if (moved.length === 0) {
      const isDone = [...this.objects.keys()].some((at) => at === to || at.startsWith(`${to}/`));
      assert.ok(isDone, `neither "${from}" nor "${to}" is there`);
      return;
    }
    for (const [path] of moved) this.objects.delete(path);
    for (const [path, object] of moved) this.objects.set(to + path.slice(from.length), object);
  }
}

describe("an exchange in a store", () => {
  const names = ["a", "b", "d/x", "d/y", "e/x"];
  const pair = fc.record({
    from: fc.constantFrom(...names, "d", "e"),
    to: fc.constantFrom(...names, "d", "e"),
  });

  /** Objects under all names, as a listing has found them. */
  function populated(): { machine: Machine; store: PlainStore; root: string } {
    const machine = Machine.make();
    machine.done({ kind: "mount", parent: rootInodeId, name: "m", ...stores });
    const page = (path: string, below: string[]) => {
      const entries = below.map((name) =>
        entryOf(name, name === "d" || name === "e" ? { kind: "directory" } : {}),
      );
      machine.done(pageOf(machine.at(path).id, entries));
    };
    page("/m", ["a", "b", "d", "e"]);
    page("/m/d", ["x", "y"]);
    page("/m/e", ["x"]);
    const store = new PlainStore();
    for (const name of names) store.objects.set(name, String(machine.at(`/m/${name}`).id));
    return { machine, store, root: "/m" };
  }

  it("ends with each object under the name that its inode has, whatever is repeated and wherever it stops", () => {
    fc.assert(
      fc.property(
        fc.array(pair, { minLength: 1, maxLength: 4 }),
        fc.array(fc.record({ repeats: fc.nat(2), settles: fc.boolean() }), { maxLength: 12 }),
        (pairs, schedule) => {
          const { machine, store } = populated();
          for (const { from, to } of pairs) {
            if (!machine.exists(`/m/${from}`) || !machine.exists(`/m/${to}`)) continue;
            machine.run(exchangeOf(machine, `/m/${from}`, `/m/${to}`));
          }
          const objects = [...store.objects.values()].sort();
          for (let i = 0; machine.pending().length > 0; i++) {
            const [op, ...later] = machine.pending();
            const { repeats, settles } = schedule[i] ?? { repeats: 0, settles: true };
            assert.equal(op!.action.kind, "rename");
            for (let times = 0; times <= repeats; times++) {
              if (op!.action.kind === "rename") store.rename(op!.action.from, op!.action.to);
            }
            assert.deepEqual([...store.objects.values()].sort(), objects, "an object was lost");
            // What the namespace shows is found in the store at every moment.
            for (const [at, object] of shownIn(machine)) {
              assert.equal(store.objects.get(pathInStore(at, later)), object, at);
            }
            if (settles || i >= schedule.length) machine.ufsDone(op!.id, { fingerprint: "moved" });
          }
          assert.deepEqual([...store.objects].sort(), shownIn(machine).sort());
          assert.deepEqual(machine.state.entries("arrival/"), []);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("uses a name that listings hide, beside the first of the two", () => {
    const { machine } = populated();
    machine.done(exchangeOf(machine, "/m/d/x", "/m/b"));
    const paths = machine.pending().map(({ action }) => {
      assert.ok(action.kind === "rename");
      return [action.from, action.to];
    });
    const between = paths[0]![1]!;
    assert.ok(isExchangePath(between) && between.startsWith("d/"), between);
    assert.deepEqual(paths, [
      ["d/x", between],
      ["b", "d/x"],
      [between, "b"],
    ]);
    assert.ok(!isExchangePath("d/x") && !isExchangePath(`${between}/below`));
  });

  it("is left alone by listings of any of its steps", () => {
    const { machine } = populated();
    const [a, b] = [machine.at("/m/a"), machine.at("/m/b")];
    machine.done(exchangeOf(machine, "/m/a", "/m/b"));
    const [isA, isB] = [{ fingerprint: "print of a" }, { fingerprint: "print of b" }];
    for (const listed of [
      [entryOf("a"), entryOf("b")],
      [entryOf("b")],
      [entryOf("a", isB)],
      [entryOf("a", isB), entryOf("b", isA)],
    ]) {
      machine.done(pageOf(machine.at("/m").id, listed));
      assert.deepEqual([machine.at("/m/a").id, machine.at("/m/a").version], [b.id, b.version]);
      assert.deepEqual([machine.at("/m/b").id, machine.at("/m/b").version], [a.id, a.version]);
      const [op] = machine.pending();
      const action = op?.action;
      if (action?.kind === "rename") machine.ufsDone(op!.id, action.inode === a.id ? isA : isB);
    }
  });

  it("moves one object alone where the other name has none there", () => {
    const { machine } = populated();
    machine.create("/m/new", { writeType: "MUST_CACHE" });
    machine.done(exchangeOf(machine, "/m/new", "/m/a"));
    const shown = machine.pending().map(({ action }) => action);
    assert.deepEqual(
      shown.map((action) => action.kind === "rename" && [action.from, action.to]),
      [["a", "new"]],
    );
    machine.done(exchangeOf(machine, "/m/a", "/m/new"));
    const last = machine.pending().at(-1)!.action;
    assert.deepEqual(last.kind === "rename" && [last.from, last.to], ["new", "a"]);
  });
});

/** Files below /m: where they are, and whose object they are. */
function shownIn(machine: Machine): [string, string][] {
  const all = machine.state.entries("inode/").map(([key, value]) => decode(inode, value, key).id);
  return all.flatMap((id): [string, string][] => {
    const of = machine.inode(id);
    const path = pathOf(machine.state, of.id);
    return of.kind === "file" && path?.startsWith("/m/") ? [[path.slice(3), String(id)]] : [];
  });
}
