/** What a listing changes in the state, and what it must not. */
import assert from "node:assert/strict";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import { noPolicy } from "../../../src/rpc/path-policy.ts";
import { syncIntervalOf } from "../../../src/master/state/sync-interval.ts";
import { createCommand, entryOf, Machine, pageOf } from "./machine-fixture.ts";

/** A page of one that was loaded before: what the store has no more, and when the listing began. */
function refreshOf(
  machine: Machine,
  directory: InodeId,
  missing: readonly string[],
  of: Partial<Parameters<typeof pageOf>[2]> & { entries?: ReturnType<typeof entryOf>[] } = {},
): Extract<Command, { kind: "loadPage" }> {
  const { entries = [], ...rest } = of;
  return pageOf(directory, entries, {
    missing: missing.map((name) => ({
      name,
      inode: machine.child(directory, name) ?? (9999 as InodeId),
    })),
    startedAtMs: 7,
    ...rest,
  });
}

function mountAt(machine: Machine, uri = "file:///store"): InodeId {
  return machine.done({
    kind: "mount",
    parent: rootInodeId,
    name: "m",
    uri,
    readOnly: false,
    options: {},
  }).status!.inode;
}

const renameIn = (parent: InodeId, sourceName: string, targetName: string): Command => ({
  kind: "rename",
  sourceParent: parent,
  sourceName,
  targetParent: parent,
  targetName,
  noReplace: false,
});

describe("a listing of what is known already", () => {
  let machine: Machine;
  let root: InodeId;

  beforeEach(() => {
    machine = Machine.make();
    root = mountAt(machine);
    machine.done(pageOf(root, [entryOf("a"), entryOf("b"), entryOf("d", { kind: "directory" })]));
  });

  it("takes away what the store has no more, and says since when that is so", () => {
    const before = machine.at("/m/a").id;
    machine.done(refreshOf(machine, root, ["a", "d"]));
    assert.ok(!machine.exists("/m/a") && !machine.exists("/m/d") && machine.exists("/m/b"));
    assert.equal(machine.inode(before).nlink, 0, "who reads it still has it");
    assert.equal(machine.inode(root).syncedAtMs, 7);
    assert.equal(machine.pending().length, 0, "nothing is to be done in the store");
  });

  it("leaves alone what became another inode since it was compared", () => {
    const command = refreshOf(machine, root, ["a"]);
    machine.done(command);
    // Another listing found it again.
    machine.done(refreshOf(machine, root, [], { entries: [entryOf("a")] }));
    machine.done(command);
    assert.ok(machine.exists("/m/a"));
  });

  it("leaves alone what is nowhere else: not persisted, written, with names below, mounts", () => {
    const session = machine.openSession();
    machine.done(createCommand(root, "new", { writeType: "MUST_CACHE" }), session);
    machine.done({ kind: "lease", inode: machine.at("/m/a").id }, session);
    machine.done({ kind: "truncate", inode: machine.at("/m/b").id, size: 1 }, session);
    machine.done(createCommand(root, "made", { fileKind: "directory" }));
    machine.done(pageOf(machine.at("/m/d").id, [entryOf("x")]));
    machine.done({
      kind: "mount",
      parent: root,
      name: "other",
      uri: "file:///other",
      readOnly: false,
      options: {},
    });
    const names = ["new", "a", "b", "made", "d", "other"];
    machine.done(refreshOf(machine, root, names));
    for (const name of names) assert.ok(machine.exists(`/m/${name}`), name);
  });

  it("takes nothing for gone or changed that is on its way in the store", () => {
    const { id, version } = machine.at("/m/a");
    machine.done(renameIn(root, "a", "c"));
    machine.done(refreshOf(machine, root, ["c"]));
    assert.ok(machine.exists("/m/c"), "the store does not have it there yet");
    machine.done(renameIn(root, "c", "b"));
    const old = entryOf("b", { fingerprint: "of the file that b was" });
    machine.done(refreshOf(machine, root, [], { entries: [old, entryOf("a")] }));
    assert.deepEqual([machine.at("/m/b").id, machine.at("/m/b").version], [id, version]);
    assert.ok(!machine.exists("/m/a"));
    machine.settle();
    machine.refused("Stale", refreshOf(machine, root, ["b"], { listedAtIndex: 1 }));
    machine.done(refreshOf(machine, root, ["b"]));
    assert.ok(!machine.exists("/m/b"), "now it is said by who knows");
  });

  it("knows a further name only when the store has its copy", () => {
    const { id, source } = machine.at("/m/a");
    machine.done({ kind: "link", inode: id, parent: root, name: "l" });
    machine.done(refreshOf(machine, root, ["l"]));
    assert.ok(machine.exists("/m/l"));
    machine.settle();
    machine.done(
      refreshOf(machine, root, [], { entries: [entryOf("l", { fingerprint: "copy" })] }),
    );
    assert.deepEqual(machine.inode(id).source, source, "the copy is not the object");
    machine.done(refreshOf(machine, root, ["l"]));
    assert.ok(!machine.exists("/m/l") && machine.exists("/m/a"));
    assert.equal(machine.inode(id).nlink, 1);
  });

  it("replaces what changed its kind or its target, and no directory with names", () => {
    const link = (target: string) => entryOf("b", { kind: "symlink", target });
    machine.done(refreshOf(machine, root, [], { entries: [link("x")] }));
    machine.done(refreshOf(machine, root, [], { entries: [link("y")] }));
    assert.equal(machine.at("/m/b").target, "y");
    machine.done(pageOf(machine.at("/m/d").id, [entryOf("x")]));
    machine.done(refreshOf(machine, root, [], { entries: [entryOf("d")] }));
    assert.equal(machine.at("/m/d").kind, "directory");
    machine.done(refreshOf(machine, machine.at("/m/d").id, ["x"]));
    machine.done(refreshOf(machine, root, [], { entries: [entryOf("d")] }));
    assert.equal(machine.at("/m/d").kind, "file");
  });

  it("takes over a fingerprint that only says more, and keeps the blocks", () => {
    const { version, source } = machine.at("/m/a");
    const fingerprint = `${source!.fingerprint}-more`;
    machine.done(refreshOf(machine, root, [], { entries: [entryOf("a", { fingerprint })] }));
    assert.deepEqual(machine.at("/m/a").source, { ...source, fingerprint });
    assert.equal(machine.at("/m/a").version, version);
  });

  it("keeps a directory that is nothing but its objects, when they were removed from here", () => {
    const bucket = Machine.make();
    const top = mountAt(bucket, "s3://bucket");
    const directories = ["d", "e"].map((name) => entryOf(name, { kind: "directory" }));
    bucket.done(pageOf(top, directories));
    const d = bucket.at("/m/d").id;
    bucket.done(pageOf(d, [entryOf("x")]));
    bucket.done(pageOf(bucket.at("/m/e").id, []));
    bucket.done({ kind: "unlink", parent: d, name: "x", held: false });
    bucket.settle();
    bucket.done(refreshOf(bucket, top, ["d", "e"]));
    assert.ok(bucket.exists("/m/d") && !bucket.exists("/m/e"));
  });
});

describe("the sync interval of a directory", () => {
  it("is that of the nearest directory, mount or cluster", () => {
    const machine = Machine.make();
    const root = mountAt(machine);
    machine.done(pageOf(root, [entryOf("d", { kind: "directory" })]));
    const d = machine.at("/m/d").id;
    const intervalOf = (of: InodeId) => syncIntervalOf(machine.state, of, 50);
    assert.deepEqual(intervalOf(d), { intervalMs: 50, from: undefined });
    const set = (inode: InodeId, syncIntervalMs: number) =>
      machine.done({ kind: "setPathPolicy", inode, policy: { ...noPolicy, syncIntervalMs } });
    set(rootInodeId, 0);
    assert.deepEqual(intervalOf(d), { intervalMs: 0, from: rootInodeId });
    set(root, -1);
    assert.deepEqual(intervalOf(d), { intervalMs: -1, from: root });
    machine.done({ kind: "clearPathPolicy", inode: root, keys: ["syncIntervalMs"] });
    assert.equal(intervalOf(d).from, rootInodeId);
    const other = machine.done({
      kind: "mount",
      parent: root,
      name: "o",
      uri: "file:///o",
      readOnly: false,
      options: { syncIntervalMs: "9" },
    }).status!.inode;
    assert.deepEqual(intervalOf(other), { intervalMs: 9, from: other });
  });
});
