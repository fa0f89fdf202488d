/** Policies on paths: who may set what, what is inherited, and what becomes of new files. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import { effectiveOf } from "../../../src/master/state/path-policies.ts";
import { treeOf } from "../../../src/master/state/queries.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import { noPolicy, type PathPolicy, type PolicyKey } from "../../../src/rpc/path-policy.ts";
import {
  bootstrapCommand,
  leader,
  Machine,
  nameOf,
  parentOf,
  requestOf,
} from "./machine-fixture.ts";

function setCommand(machine: Machine, path: string, policy: Partial<PathPolicy>): Command {
  return { kind: "setPathPolicy", inode: machine.at(path).id, policy: { ...noPolicy, ...policy } };
}

function set(machine: Machine, path: string, policy: Partial<PathPolicy>): void {
  machine.done(setCommand(machine, path, policy));
}

function clear(machine: Machine, path: string, ...keys: PolicyKey[]): void {
  machine.done({ kind: "clearPathPolicy", inode: machine.at(path).id, keys });
}

function effective(machine: Machine, path: string): Partial<PathPolicy> {
  const { policy } = effectiveOf(machine.state, machine.at(path).id);
  return Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== undefined));
}

describe("policies on paths", () => {
  it("are inherited, and the nearest value of each key wins", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    machine.create("/a/b/x");
    set(machine, "/", { writeType: "THROUGH", keepers: 3 });
    set(machine, "/a/b", { writeType: "MUST_CACHE" });
    set(machine, "/a/b/x", { ttl: { seconds: 9, action: "free" } });
    assert.deepEqual(effective(machine, "/a/b/x"), {
      writeType: "MUST_CACHE",
      keepers: 3,
      ttl: { seconds: 9, action: "free" },
    });
    const { sources } = effectiveOf(machine.state, machine.at("/a/b/x").id);
    assert.deepEqual(
      sources.map(({ key, path }) => [key, path]),
      [
        ["ttl", "/a/b/x"],
        ["writeType", "/a/b"],
        ["keepers", "/"],
      ],
    );
    assert.deepEqual(effective(machine, "/a"), { writeType: "THROUGH", keepers: 3 });
  });

  it("keep their other keys when one is set or cleared, and are gone with the last", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    set(machine, "/a", { keepers: 2, quota: { bytes: 5, inodes: undefined } });
    set(machine, "/a", { keepers: 3 });
    clear(machine, "/a", "quota");
    assert.deepEqual(effective(machine, "/a"), { keepers: 3 });
    assert.equal(treeOf(machine.state)!.quotas, 0);
    clear(machine, "/a");
    assert.equal(machine.state.entries("policy/").length, 0);
    assert.equal(machine.at("/a").policies, undefined);
  });

  it("go with a directory that moves, and die with their inode", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/b");
    const { inode } = machine.create("/a/x");
    set(machine, "/a/x", { pin: {} });
    set(machine, "/b", { writeType: "THROUGH" });
    machine.done({ kind: "unlink", parent: machine.at("/a").id, name: "x", held: false });
    machine.done({
      kind: "reapGarbage",
      keys: machine.state.entries("garbage/").map(([key]) => key),
    });
    assert.equal(machine.inode(inode), undefined);
    machine.done({ kind: "rmdir", parent: rootInodeId, name: "b" });
    assert.equal(machine.state.entries("policy/").length, 0);
    assert.equal(treeOf(machine.state)!.defaults, 0);
  });

  it("say how a new file is written, where its maker does not", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.mkdir("/a/b");
    set(machine, "/a", { writeType: "MUST_CACHE" });
    assert.equal(machine.create("/a/b/x").writeType, "MUST_CACHE");
    assert.equal(machine.create("/a/y", { writeType: "THROUGH" }).writeType, "THROUGH");
    assert.equal(machine.create("/z").writeType, "ASYNC_THROUGH");
  });

  it("say whom new files belong to, who do not run as him because their maker said so", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    set(machine, "/a", { owner: { uid: 7, gid: 8, mode: 0o020, umask: 0o007 } });
    const made = machine.create("/a/x", { mode: 0o6747 });
    assert.deepEqual([made.uid, made.gid, made.mode], [7, 8, 0o760]);
    const directory = machine.mkdir("/a/d", { mode: 0o755 });
    assert.deepEqual([directory.uid, directory.mode], [7, 0o770]);
    const link = machine.create("/a/l", { fileKind: "symlink", target: "x", mode: 0o777 });
    assert.equal(link.mode, 0o777);
  });

  it("refuse values that nothing could fulfil", () => {
    const machine = Machine.make();
    machine.mkdir("/a");
    machine.create("/a/x");
    const bad: [string, Partial<PathPolicy>][] = [
      ["/a", {}],
      ["/a/x", { quota: { bytes: 1, inodes: undefined } }],
      ["/a/x", { owner: { uid: 1, gid: undefined, mode: undefined, umask: undefined } }],
      ["/a", { replication: { min: 3, max: 2 } }],
      ["/a", { replication: { min: 9, max: undefined } }],
      ["/a", { replication: { min: 0, max: 0 } }],
      ["/a", { keepers: 0 }],
      ["/a", { keepers: 9 }],
      ["/a", { ttl: { seconds: 0, action: "free" } }],
      ["/a", { syncIntervalMs: -2 }],
      ["/a", { owner: { uid: undefined, gid: undefined, mode: 0o10000, umask: undefined } }],
      ["/a", { quota: { bytes: undefined, inodes: undefined } }],
    ];
    for (const [path, policy] of bad) {
      machine.refused("InvalidArgument", setCommand(machine, path, policy));
    }
  });

  it("are set by owners, and by the superuser where they limit or take from others", () => {
    const machine = Machine.make();
    machine.mkdir("/a", { uid: 5 });
    const by = (uid: number, command: Command) => {
      const caller = { uid, gid: uid, groups: [] };
      const result = machine.apply(requestOf([command], { session: leader, caller }))
        .results[0]![0]!;
      return result.ok ? "done" : result.code;
    };
    const keepers = setCommand(machine, "/a", { keepers: 2 });
    assert.equal(by(6, keepers), "NotPermitted");
    assert.equal(by(5, keepers), "done");
    const forSuperuser: Partial<PathPolicy>[] = [
      { quota: { bytes: 1, inodes: undefined } },
      { pin: {} },
      { owner: { uid: 5, gid: undefined, mode: undefined, umask: undefined } },
      { ttl: { seconds: 5, action: "delete" } },
    ];
    for (const policy of forSuperuser) {
      assert.equal(by(5, setCommand(machine, "/a", policy)), "NotPermitted");
    }
    set(machine, "/a", { quota: { bytes: 1, inodes: undefined } });
    const all: Command = { kind: "clearPathPolicy", inode: machine.at("/a").id, keys: [] };
    assert.equal(by(5, all), "NotPermitted");
    assert.equal(by(5, { ...all, keys: ["keepers"] }), "done");
  });

  it("are refused while masters of an earlier release are among them", () => {
    const machine = new Machine();
    machine.done(bootstrapCommand);
    machine.refused("Unavailable", setCommand(machine, "/", { keepers: 2 }));
  });
});

describe("effective policies", () => {
  it("are what a plain walk up a plain tree finds, whatever is set, cleared, moved and asked again", function () {
    this.timeout(60_000);
    const place = fc.constantFrom("/a", "/b", "/a/c", "/b/d");
    const key = fc.constantFrom("keepers", "ttl");
    const step = fc.oneof(
      fc.record({
        kind: fc.constant("set"),
        at: place,
        key,
        value: fc.integer({ min: 1, max: 8 }),
      }),
      fc.record({ kind: fc.constant("clear"), at: place, keys: fc.array(key, { maxLength: 2 }) }),
      fc.record({ kind: fc.constant("move"), at: place, to: fc.constantFrom("/", "/a", "/b") }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const machine = Machine.make();
        const session = machine.openSession();
        interface Node {
          parent: Node | undefined;
          values: Map<string, number>;
          inode: InodeId;
          name: string;
        }
        const root: Node = { parent: undefined, values: new Map(), inode: rootInodeId, name: "" };
        const nodes = new Map<string, Node>([["/", root]]);
        for (const path of ["/a", "/b", "/a/c", "/b/d"]) {
          const { inode } = machine.mkdir(path);
          const parent = nodes.get(parentOf(path))!;
          nodes.set(path, { parent, values: new Map(), inode, name: nameOf(path) });
        }
        for (const [sequence, of] of steps.entries()) {
          const node = nodes.get(of.at)!;
          const { inode } = node;
          let command: Command;
          if ("value" in of) {
            const ttl = { seconds: of.value, action: "free" } as const;
            const said = of.key === "ttl" ? { ttl } : { keepers: of.value };
            const policy = { ...noPolicy, ...said };
            command = { kind: "setPathPolicy", inode, policy };
          } else if ("keys" in of) {
            command = { kind: "clearPathPolicy", inode, keys: of.keys };
          } else {
            const names = { sourceName: node.name, targetName: node.name, noReplace: true };
            const target = nodes.get(of.to)!;
            const parents = { sourceParent: node.parent!.inode, targetParent: target.inode };
            command = { kind: "rename", ...parents, ...names };
          }
          const request = requestOf([command], { session, sequence, acknowledgedBelow: sequence });
          const [result] = machine.apply(request).results[0]!;
          assert.deepEqual(machine.apply(request).replayed, [true]);
          if (!result!.ok) {
            assert.equal(command.kind, "rename");
            continue;
          }
          if ("value" in of) node.values.set(of.key, of.value);
          else if ("to" in of) node.parent = nodes.get(of.to)!;
          else if (of.keys.length === 0) node.values.clear();
          else for (const each of of.keys) node.values.delete(each);
          for (const each of nodes.values()) {
            const { policy } = effectiveOf(machine.state, each.inode);
            for (const name of ["keepers", "ttl"] as const) {
              let at: Node | undefined = each;
              while (at !== undefined && !at.values.has(name)) at = at.parent;
              const found = name === "ttl" ? policy.ttl?.seconds : policy.keepers;
              assert.equal(found, at?.values.get(name));
            }
          }
        }
        const other = new Machine();
        for (const entry of machine.entries) other.applyEntry(entry);
        assert.equal(other.state.hash(), machine.state.hash());
      }),
      { numRuns: 80 },
    );
  });
});
