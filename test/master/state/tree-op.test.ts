import assert from "node:assert/strict";
import fc from "fast-check";
import { rootInodeId, type InodeId, type TreeOpId } from "../../../src/lib/ids.ts";
import { edgeRange, nameOfEdge } from "../../../src/master/state/keys.ts";
import { treeOpInfoOf, treeOpOf } from "../../../src/master/state/queries.ts";
import { maxRunningTreeOps, rememberedTreeOps } from "../../../src/master/state/tree-ops.ts";
import { type Command, maxTreeStep } from "../../../src/rpc/commands.ts";
import { parseModeChange } from "../../../src/rpc/mode-change.ts";
import type { TreeChange } from "../../../src/rpc/namespace.ts";
import { Machine } from "./machine-fixture.ts";

type Step = Extract<Command, { kind: "stepTreeOp" }>;

const changeOf = (of: Partial<TreeChange>): TreeChange => ({
  mode: undefined,
  uid: undefined,
  gid: undefined,
  ...of,
});

function start(machine: Machine, inode: InodeId, change: Partial<TreeChange>): TreeOpId {
  return machine.done({ kind: "startTreeOp", inode, change: changeOf(change) }).id as TreeOpId;
}

/** The directories that are open, and how far each is. */
function openOf(machine: Machine): { directory: InodeId; after: string | undefined }[] {
  return machine.openTreeDirectories();
}

/** One step as a leader makes it, of at most `limit` names. */
function stepOf(machine: Machine, treeOp: TreeOpId, limit = maxTreeStep): Step {
  const [first] = openOf(machine);
  assert.ok(first, "no directory is open");
  const { directory, after } = first;
  const names = machine.state
    .entries(edgeRange(directory).from)
    .map(([key]) => nameOfEdge(key))
    .filter((name) => after === undefined || name > after);
  return {
    kind: "stepTreeOp",
    ...{ treeOp, directory, after, error: undefined },
    names: names.slice(0, limit),
    upTo: names.slice(0, limit).at(-1),
    scanned: Math.min(names.length, limit),
    last: names.length <= limit,
  };
}

function finish(machine: Machine, treeOp: TreeOpId, limit = maxTreeStep): void {
  while (openOf(machine).length > 0) machine.done(stepOf(machine, treeOp, limit));
}

function tree(): Machine {
  const machine = Machine.make();
  for (const path of ["/t", "/t/a", "/t/a/b", "/t/c", "/other"]) machine.mkdir(path);
  for (const path of ["/t/1", "/t/a/2", "/t/a/b/3", "/t/c/4", "/other/5"]) machine.create(path);
  return machine;
}

describe("an operation on a tree", () => {
  it("changes its root at once and all below in steps, and nothing beside", () => {
    const machine = tree();
    const id = start(machine, machine.at("/t").id, { mode: parseModeChange("u=rwX,go=") });
    assert.equal(machine.at("/t").mode, 0o700);
    assert.equal(machine.at("/t/1").mode, 0o644);
    finish(machine, id, 1);
    for (const path of ["/t/a", "/t/a/b", "/t/c"]) assert.equal(machine.at(path).mode, 0o700, path);
    for (const path of ["/t/1", "/t/a/2", "/t/a/b/3", "/t/c/4"]) {
      assert.equal(machine.at(path).mode, 0o600, path);
    }
    assert.equal(machine.at("/other/5").mode, 0o644);
    const { state, done, failed } = treeOpOf(machine.state, id)!;
    assert.deepEqual({ state, done, failed }, { state: "done", done: 8, failed: 0 });
  });

  it("of a file is over at once", () => {
    const machine = tree();
    const id = start(machine, machine.at("/t/1").id, { uid: 7, gid: 8 });
    assert.equal(treeOpOf(machine.state, id)?.state, "done");
    assert.deepEqual([machine.at("/t/1").uid, machine.at("/t/1").gid], [7, 8]);
  });

  it("leaves the mode of symbolic links alone, and gives them their owner", () => {
    const machine = tree();
    const link = machine.create("/t/link", { fileKind: "symlink", target: "1", mode: 0o777 });
    const id = start(machine, machine.at("/t").id, { mode: parseModeChange("700"), uid: 9 });
    finish(machine, id);
    const { mode, uid } = machine.inode(link.inode);
    assert.deepEqual({ mode, uid }, { mode: 0o777, uid: 9 });
  });

  it("does not touch symbolic links, which may be another user's, for a mode alone", () => {
    const machine = Machine.make();
    const ann = { uid: 1, gid: 10, groups: [] };
    machine.mkdir("/t", { uid: 1, gid: 10 });
    const link = machine.create("/t/link", { fileKind: "symlink", target: "1", uid: 2, gid: 20 });
    const change = changeOf({ mode: parseModeChange("700") });
    const inode = machine.at("/t").id;
    const started = machine.runAs(ann, { kind: "startTreeOp", inode, change });
    assert.ok(started.ok);
    finish(machine, started.id as TreeOpId);
    assert.deepEqual(machine.inode(link.inode).ctime, link.ctime);
  });

  it("takes a step once, and none of a leader that does not know where it stands", () => {
    const machine = tree();
    const id = start(machine, machine.at("/t").id, { uid: 9 });
    const step = stepOf(machine, id, 1);
    machine.done(step);
    const { done } = treeOpOf(machine.state, id)!;
    machine.refused("Stale", step);
    assert.equal(treeOpOf(machine.state, id)?.done, done);
    machine.refused("InvalidArgument", {
      ...step,
      names: Array.from({ length: maxTreeStep + 1 }, String),
    });
  });

  it("counts what could not be done, says the first few, and goes on", () => {
    const machine = tree();
    const id = start(machine, machine.at("/t").id, { uid: 9 });
    const [{ directory, after } = assert.fail()] = openOf(machine);
    machine.done({
      kind: "stepTreeOp",
      ...{ treeOp: id, directory, after, names: [], upTo: undefined, scanned: 0, last: true },
      error: "the store is away",
    });
    const info = treeOpInfoOf(machine.state, id, treeOpOf(machine.state, id)!);
    assert.equal(info.state, "done");
    assert.equal(info.failed, 1);
    assert.deepEqual(info.failures, [
      { path: "/t", code: "Unavailable", detail: "the store is away" },
    ]);
  });

  it("ends with the tree that was removed meanwhile", () => {
    const machine = tree();
    const id = start(machine, machine.at("/t").id, { uid: 9 });
    machine.done(stepOf(machine, id));
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "t" });
    const info = treeOpInfoOf(machine.state, id, treeOpOf(machine.state, id)!);
    assert.equal(info.path, undefined);
    finish(machine, id);
    assert.equal(treeOpOf(machine.state, id)?.state, "done");
  });

  it("that was cancelled changes nothing more, and leaves nothing behind", () => {
    const machine = tree();
    const id = start(machine, machine.at("/t").id, { uid: 9 });
    machine.done(stepOf(machine, id, 1));
    machine.done({ kind: "cancelTreeOp", treeOp: id });
    const changed = () => machine.state.entries("inode/").toString();
    const before = changed();
    finish(machine, id);
    assert.equal(changed(), before);
    assert.equal(treeOpOf(machine.state, id)?.state, "cancelled");
    machine.done({ kind: "cancelTreeOp", treeOp: id });
    machine.refused("NotFound", { kind: "cancelTreeOp", treeOp: 99 as TreeOpId });
  });

  it("is remembered for a while; too many at once are refused", () => {
    const machine = tree();
    const file = machine.at("/t/1").id;
    for (let i = 0; i < rememberedTreeOps + 20; i++) start(machine, file, { uid: i });
    assert.equal(machine.state.entries("treeop/").length, rememberedTreeOps);
    for (let i = 0; i < maxRunningTreeOps; i++) start(machine, machine.at("/t").id, { uid: i });
    const change = changeOf({ uid: 1 });
    machine.refused("Busy", { kind: "startTreeOp", inode: machine.at("/t").id, change });
  });

  it("refuses what changes nothing, what is no mode, and what is not there", () => {
    const machine = tree();
    const inode = machine.at("/t").id;
    const refused = (change: Partial<TreeChange>, of = inode) =>
      machine.run({ kind: "startTreeOp", inode: of, change: changeOf(change) });
    const codes = [
      refused({}),
      refused({ mode: { absolute: 0o10000, clauses: [] } }),
      refused({ uid: 1 }, 99 as InodeId),
    ].map((result) => !result.ok && result.code);
    assert.deepEqual(codes, ["InvalidArgument", "InvalidArgument", "NotFound"]);
  });

  it("meets every inode of a tree that nobody changes, however its steps are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(30), fc.boolean()), { minLength: 1, maxLength: 40 }),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 }),
        (places, limits) => {
          const machine = Machine.make();
          const directories = ["/t"];
          machine.mkdir("/t");
          const all = ["/t"];
          places.forEach(([at, isDirectory], i) => {
            const path = `${directories[at % directories.length]!}/${i}`;
            all.push(path);
            if (!isDirectory) return void machine.create(path);
            machine.mkdir(path);
            directories.push(path);
          });
          const id = start(machine, machine.at("/t").id, { gid: 77 });
          for (let i = 0; openOf(machine).length > 0; i++) {
            machine.done(stepOf(machine, id, limits[i % limits.length]));
          }
          for (const path of all) assert.equal(machine.at(path).gid, 77, path);
          const { done, state } = treeOpOf(machine.state, id)!;
          assert.deepEqual({ done, state }, { done: all.length, state: "done" });
        },
      ),
      { numRuns: 60 },
    );
  });

  it("looks into directories that its caller may read and search, or that are his", () => {
    const machine = Machine.make();
    const ann = { uid: 1, gid: 10, groups: [] };
    const own = { uid: 1, gid: 10 };
    machine.mkdir("/t", { mode: 0o755, ...own });
    machine.mkdir("/t/closed", { mode: 0o100, ...own });
    machine.create("/t/closed/f", own);
    for (const [name, mode] of [
      ["open", 0o755],
      ["listed", 0o744],
      ["searched", 0o711],
    ] as const) {
      machine.mkdir(`/t/${name}`, { mode, uid: 2, gid: 20 });
      machine.create(`/t/${name}/f`, own);
    }
    const change = changeOf({ mode: parseModeChange("600") });
    const started = machine.runAs(ann, {
      kind: "startTreeOp",
      inode: machine.at("/t").id,
      change,
    });
    assert.ok(started.ok);
    finish(machine, started.id as TreeOpId);
    const modeOf = (path: string) => machine.at(path).mode;
    assert.deepEqual([modeOf("/t/closed/f"), modeOf("/t/open/f")], [0o600, 0o600]);
    assert.deepEqual([modeOf("/t/listed/f"), modeOf("/t/searched/f")], [0o644, 0o644]);
    const { done, failed } = treeOpOf(machine.state, started.id as TreeOpId)!;
    assert.deepEqual([done, failed], [4, 3]);
  });
});
