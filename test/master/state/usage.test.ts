/** Totals of directories, and quotas. That totals are right everywhere after every entry, the invariants check. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import { decode } from "../../../src/lib/schema.ts";
import { inode, trashInodeId } from "../../../src/master/state/model.ts";
import { inodeUsageOf, resolvePath, treeOf } from "../../../src/master/state/queries.ts";
import { type Command, newestLevel } from "../../../src/rpc/commands.ts";
import { usageCarryBytes, wholeUsage } from "../../../src/rpc/namespace.ts";
import { noPolicy } from "../../../src/rpc/path-policy.ts";
import {
  bootstrapCommand,
  createCommand,
  entryOf,
  Machine,
  nameOf,
  pageOf,
  parentOf,
  requestOf,
} from "./machine-fixture.ts";

function usageOf(machine: Machine, path: string) {
  return wholeUsage(inodeUsageOf(machine.state, machine.at(path).id)!.usage);
}

function quotaCommand(inode: InodeId, quota: { bytes?: number; inodes?: number }): Command {
  const { bytes, inodes } = quota;
  return { kind: "setPathPolicy", inode, policy: { ...noPolicy, quota: { bytes, inodes } } };
}

function limit(machine: Machine, path: string, quota: { bytes?: number; inodes?: number }): void {
  machine.done(quotaCommand(machine.at(path).id, quota));
}

function renameCommand(machine: Machine, from: string, to: string): Command {
  return {
    kind: "rename",
    sourceParent: machine.at(parentOf(from)).id,
    sourceName: nameOf(from),
    targetParent: machine.at(parentOf(to)).id,
    targetName: nameOf(to),
    noReplace: false,
  };
}

describe("the usage of directories", () => {
  it("counts bytes, files and directories at any depth", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    machine.write("/a/b/x", 250, { keepers, session });
    machine.write("/a/y", 30, { keepers, session });
    const both = { files: 2, directories: 1, unloadedDirectories: 0 };
    assert.deepEqual(usageOf(machine, "/a"), { bytes: 280, unpersistedBytes: 280, ...both });
    machine.settle();
    assert.deepEqual(usageOf(machine, "/a"), { bytes: 280, unpersistedBytes: 0, ...both });
    machine.done({ kind: "truncate", inode: machine.at("/a/y").id, size: 5 });
    assert.equal(usageOf(machine, "/").bytes, 255);
    assert.equal(usageOf(machine, "/a/b").bytes, 250);
  });

  it("counts more bytes than a number holds, and is exact again when they are gone", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    const largest = Number.MAX_SAFE_INTEGER;
    const files = ["/a/b/x", "/a/b/y", "/a/z"].map((path) => machine.create(path).inode);
    for (const inode of files) machine.done({ kind: "truncate", inode, size: largest });
    const { bytes, bytesAbove } = machine.at("/a").usage!;
    assert.deepEqual([bytes, bytesAbove], [usageCarryBytes - 3, 5]);
    machine.done(renameCommand(machine, "/a/b", "/b"));
    assert.equal(usageOf(machine, "/a").bytes, largest);
    for (const inode of files) machine.done({ kind: "truncate", inode, size: 7 });
    assert.deepEqual([usageOf(machine, "/").bytes, usageOf(machine, "/b").bytes], [21, 14]);
  });

  it("counts a file with several names once, where its first name is", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    machine.mkdir("/a");
    machine.mkdir("/b");
    const { inode } = machine.write("/a/x", 40, { keepers, session });
    machine.done({ kind: "link", inode, parent: machine.at("/b").id, name: "y" });
    assert.equal(usageOf(machine, "/").bytes, 40);
    assert.equal(usageOf(machine, "/b").files, 0);
    machine.done({ kind: "unlink", parent: machine.at("/a").id, name: "x", held: false });
    assert.equal(usageOf(machine, "/a").files, 0);
    assert.equal(usageOf(machine, "/b").bytes, 40);
  });

  it("charges to nobody what is open and has no name", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const made = machine.create("/x", { lease: true }, session);
    machine.done({ kind: "unlink", parent: rootInodeId, name: "x", held: true }, session);
    machine.done({ kind: "truncate", inode: made.inode, size: 1000 }, session);
    assert.equal(usageOf(machine, "/").bytes, 0);
  });

  it("moves the whole total of a tree that is deleted to the trash at once, and forgets it as it is reaped", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    machine.write("/a/b/x", 70, { keepers, session });
    const gone = machine.at("/a").id;
    const below = machine.at("/a/b").id;
    machine.done({ kind: "deleteTree", parent: rootInodeId, name: "a" });
    const inTrash = () => inodeUsageOf(machine.state, trashInodeId)!.usage;
    assert.equal(usageOf(machine, "/").bytes, 0);
    assert.equal(inTrash().bytes, 70);
    assert.equal(inTrash().directories, 2);
    machine.done({ kind: "reapTrash", directory: below, names: ["x"] });
    machine.done({ kind: "reapTrash", directory: gone, names: ["b"] });
    assert.deepEqual([inTrash().bytes, inTrash().files, inTrash().directories], [0, 0, 1]);
  });

  it("says that it is not complete while names in a store are not known", () => {
    const machine = Machine.make();
    const mounted = { uri: "file:///m", readOnly: false, options: {} };
    machine.done({ kind: "mount", parent: rootInodeId, name: "m", ...mounted });
    const complete = () => inodeUsageOf(machine.state, rootInodeId)!.complete;
    machine.done({
      kind: "countUsage",
      from: treeOf(machine.state)!.countedBelow,
      to: 10 as InodeId,
    });
    assert.equal(complete(), false);
    const entries = [entryOf("d", { kind: "directory", size: 0 }), entryOf("x", { size: 9 })];
    machine.done(pageOf(machine.at("/m").id, entries));
    assert.equal(complete(), false);
    machine.done(pageOf(machine.at("/m/d").id, []));
    assert.equal(complete(), true);
    assert.equal(usageOf(machine, "/").bytes, 9);
    assert.equal(usageOf(machine, "/").unpersistedBytes, 0);
  });
});

const place = fc.constantFrom("", "/a", "/b", "/a/a", "/a/b", "/b/a", "/a/b/c");
const name = fc.constantFrom("a", "b", "c");
const step = fc.oneof(
  fc.record({ kind: fc.constantFrom("create", "mkdir"), at: place, name }),
  fc.record({ kind: fc.constantFrom("unlink", "rmdir", "deleteTree"), at: place, name }),
  fc.record({ kind: fc.constantFrom("rename", "link"), at: place, name, to: place, toName: name }),
  fc.record({ kind: fc.constant("truncate"), at: place, name, size: fc.constantFrom(0, 7, 90) }),
  fc.record({ kind: fc.constant("quota"), at: place, bytes: fc.constantFrom(0, 50, 100) }),
  fc.record({ kind: fc.constant("quota"), at: place, inodes: fc.constantFrom(0, 1, 3) }),
  fc.record({ kind: fc.constant("unlimited"), at: place }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Where paths lead is looked up before the batch: within it the inodes may be elsewhere, or gone. */
function commandOf(machine: Machine, of: Step): Command | undefined {
  const find = (path: string) => {
    const found = resolvePath(machine.state, path);
    return found.found ? found.inode : undefined;
  };
  const directory = find(of.at === "" ? "/" : of.at);
  if (directory?.kind !== "directory") return undefined;
  const parent = directory.id;
  if ("bytes" in of || "inodes" in of) return quotaCommand(parent, of);
  if (!("name" in of)) return { kind: "clearPathPolicy", inode: parent, keys: ["quota"] };
  if ("size" in of) {
    const inode = find(`${of.at}/${of.name}`)?.id;
    return inode === undefined ? undefined : { kind: "truncate", inode, size: of.size };
  }
  if ("to" in of) {
    const target = find(of.to === "" ? "/" : of.to)?.id;
    if (target === undefined) return undefined;
    if (of.kind === "link") {
      const inode = find(`${of.at}/${of.name}`)?.id;
      return inode === undefined
        ? undefined
        : { kind: "link", inode, parent: target, name: of.toName };
    }
    const names = { sourceName: of.name, targetName: of.toName, noReplace: false };
    return { kind: "rename", sourceParent: parent, targetParent: target, ...names };
  }
  switch (of.kind) {
    case "create":
      return createCommand(parent, of.name);
    case "mkdir":
      return createCommand(parent, of.name, { fileKind: "directory" });
    case "unlink":
      return { kind: "unlink", parent, name: of.name, held: false };
    case "rmdir":
    case "deleteTree":
      return { kind: of.kind, parent, name: of.name };
    default:
      return undefined;
  }
}

function totalsOf(machine: Machine): unknown[] {
  return machine.state.entries("inode/").map(([key, value]) => {
    const { id, usage } = decode(inode, value, key);
    return [id, usage];
  });
}

describe("commands of one entry", () => {
  it("add up, and meet quotas, as they would in entries of their own", function () {
    this.timeout(120_000);
    const batches = fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), { maxLength: 12 });
    fc.assert(
      fc.property(batches, (all) => {
        const [together, apart] = [Machine.make(), Machine.make()];
        for (const batch of all) {
          const commands = batch.flatMap((each) => commandOf(together, each) ?? []);
          if (commands.length === 0) continue;
          const wanted = commands.map((command) => apart.run(command));
          const [found] = together.apply(requestOf(commands)).results;
          const codes = (results: typeof wanted) =>
            results.map((result) => (result.ok ? "ok" : `${result.code}: ${result.detail}`));
          assert.deepEqual(codes([...found!]), codes(wanted));
          assert.deepEqual(totalsOf(together), totalsOf(apart));
        }
      }),
      { numRuns: 150 },
    );
  });

  it("leave no charge behind when they are taken back together", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    const before = machine.state.entries("inode/");
    const parent = machine.at("/a").id;
    const commands = [createCommand(parent, "x"), createCommand(parent, "x")];
    const { results } = machine.apply(requestOf(commands, { atomic: true }));
    assert.deepEqual(
      results[0]!.map((result) => !result.ok && result.code),
      ["Cancelled", "AlreadyExists"],
    );
    assert.deepEqual(machine.state.entries("inode/"), before);
  });
});

describe("the count of what was made before", () => {
  it("is right whatever changes while it is under way", function () {
    this.timeout(120_000);
    const steps = fc.array(step, { minLength: 5, maxLength: 25 });
    fc.assert(
      fc.property(steps, steps, fc.integer({ min: 1, max: 4 }), (before, during, ids) => {
        const machine = new Machine();
        machine.done(bootstrapCommand);
        machine.done(pageOf(rootInodeId, [], { listedAtIndex: 1 }));
        const doStep = (each: Step) => {
          const command = commandOf(machine, each);
          if (command !== undefined) machine.run(command);
        };
        before.forEach(doStep);
        assert.equal(machine.inode(rootInodeId).usage, undefined);
        machine.done({ kind: "raiseLevel", level: newestLevel });
        for (const each of during) {
          doStep(each);
          const from = treeOf(machine.state)!.countedBelow;
          machine.done({ kind: "countUsage", from, to: (from + ids) as InodeId });
        }
        const from = treeOf(machine.state)!.countedBelow;
        assert.equal(machine.done({ kind: "countUsage", from, to: 10_000 as InodeId }).id, 0);
        const { countedBelow, countedFrom } = treeOf(machine.state)!;
        assert.equal(countedBelow, countedFrom);
      }),
      { numRuns: 80 },
    );
  });

  it("counts nothing twice when a step of an earlier leader comes late", () => {
    const machine = new Machine();
    machine.done(bootstrapCommand);
    machine.done(pageOf(rootInodeId, [], { listedAtIndex: 1 }));
    machine.mkdir("/a");
    machine.done({ kind: "raiseLevel", level: newestLevel });
    const late: Command = { kind: "countUsage", from: 1 as InodeId, to: 4 as InodeId };
    machine.done(late);
    machine.refused("Stale", late);
    assert.equal(usageOf(machine, "/").directories, 1);
  });
});

describe("a quota", () => {
  it("takes exactly what it allows, and names itself to what is more", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    const { inode } = machine.create("/a/x");
    limit(machine, "/a", { bytes: 100, inodes: 2 });
    machine.done({ kind: "truncate", inode, size: 100 });
    const detail = machine.refused("QuotaExceeded", { kind: "truncate", inode, size: 101 });
    assert.equal(detail, 'the quota of "/a" is 100 bytes, 100 are used, 1 more were wanted');
    machine.create("/a/y");
    const more = machine.refused("QuotaExceeded", createCommand(machine.at("/a").id, "z"));
    assert.equal(more, 'the quota of "/a" is 2 inodes, 2 are used, 1 more were wanted');
  });

  it("refuses what leads beyond any number", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    const limitBytes = Number.MAX_SAFE_INTEGER;
    limit(machine, "/a", { bytes: limitBytes });
    const [x, y] = ["/a/x", "/a/y"].map((path) => machine.create(path).inode) as [InodeId, InodeId];
    machine.done({ kind: "truncate", inode: x, size: limitBytes });
    machine.refused("QuotaExceeded", { kind: "truncate", inode: y, size: limitBytes });
    machine.refused("QuotaExceeded", { kind: "truncate", inode: y, size: 1 });
    machine.done({ kind: "truncate", inode: x, size: 1 });
    machine.done({ kind: "truncate", inode: y, size: limitBytes - 1 });
  });

  it("holds for growth by a commit", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    machine.mkdir("/a");
    limit(machine, "/a", { bytes: 99 });
    machine.write("/a/x", 99, { keepers, session });
    assert.throws(() => machine.write("/a/y", 1, { keepers, session }), /QuotaExceeded/);
  });

  it("is nested: the one above refuses what the one below would take", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    limit(machine, "/a", { bytes: 50 });
    limit(machine, "/a/b", { bytes: 500 });
    const { inode } = machine.create("/a/b/x");
    const detail = machine.refused("QuotaExceeded", { kind: "truncate", inode, size: 51 });
    assert.match(detail, /^the quota of "\/a" is 50 bytes/);
  });

  it("refuses what is moved in and does not fit, takes what moves within, and gives back what moves out", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/a/d");
    machine.mkdir("/b");
    machine.mkdir("/b/d");
    const inside = machine.create("/a/x").inode;
    const outside = machine.create("/b/d/y").inode;
    machine.done({ kind: "truncate", inode: inside, size: 60 });
    machine.done({ kind: "truncate", inode: outside, size: 60 });
    limit(machine, "/a", { bytes: 100 });
    machine.refused("QuotaExceeded", renameCommand(machine, "/b/d", "/a/e"));
    machine.done(renameCommand(machine, "/a/x", "/a/d/x"));
    machine.done(renameCommand(machine, "/a/d/x", "/b/x"));
    machine.done(renameCommand(machine, "/b/d", "/a/e"));
    assert.equal(usageOf(machine, "/a").bytes, 60);
  });

  it("that is set below what is there lets it shrink and move within, and nothing else in", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/a/d");
    const { inode } = machine.create("/a/x");
    machine.done({ kind: "truncate", inode, size: 60 });
    limit(machine, "/a", { bytes: 10, inodes: 1 });
    machine.done(renameCommand(machine, "/a/x", "/a/d/x"));
    machine.done({ kind: "truncate", inode, size: 50 });
    machine.refused("QuotaExceeded", { kind: "truncate", inode, size: 51 });
    machine.refused("QuotaExceeded", createCommand(machine.at("/a").id, "y"));
  });

  it("counts what earlier commands of the same entry did, those taken back excepted", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    limit(machine, "/a", { inodes: 2 });
    const parent = machine.at("/a").id;
    const create = (of: string) => createCommand(parent, of);
    const { results } = machine.apply(
      requestOf([create("w"), create("w")], { atomic: true }),
      requestOf([create("x"), create("y"), create("z")]),
    );
    assert.deepEqual(
      results[1]!.map((result) => result.ok || result.code),
      [true, true, "QuotaExceeded"],
    );
    const whole = machine.apply(
      requestOf([{ kind: "unlink", parent, name: "x", held: false }, create("u"), create("v")], {
        atomic: true,
      }),
    ).results[0]!;
    assert.deepEqual(
      whole.map((result) => result.ok || result.code),
      ["Cancelled", "Cancelled", "QuotaExceeded"],
    );
    assert.ok(machine.exists("/a/x"));
  });

  it("never refuses to take a name away, though the file counts where its next name is then", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/b");
    const { inode } = machine.create("/a/x");
    machine.done({ kind: "link", inode, parent: machine.at("/b").id, name: "y" });
    limit(machine, "/b", { inodes: 0 });
    machine.done({ kind: "unlink", parent: machine.at("/a").id, name: "x", held: false });
    assert.equal(usageOf(machine, "/b").files, 1);
  });

  it("counts what a store has, and never refuses it", () => {
    const machine = Machine.make();
    const mounted = { uri: "file:///m", readOnly: false, options: {} };
    machine.done({ kind: "mount", parent: rootInodeId, name: "m", ...mounted });
    limit(machine, "/m", { bytes: 100, inodes: 1 });
    const entries = [entryOf("x", { size: 90 }), entryOf("y", { size: 90 })];
    machine.done(pageOf(machine.at("/m").id, entries));
    assert.equal(usageOf(machine, "/m").bytes, 180);
    machine.refused("QuotaExceeded", createCommand(machine.at("/m").id, "z"));
  });

  it("goes with its directory", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    limit(machine, "/a", { inodes: 5 });
    machine.done({ kind: "rmdir", parent: rootInodeId, name: "a" });
    assert.equal(treeOf(machine.state)!.quotas, 0);
    assert.equal(machine.state.entries("policy/").length, 0);
  });
});
