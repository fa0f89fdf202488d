import assert from "node:assert/strict";
import { rootInodeId, type TreeOpId } from "../../../src/lib/ids.ts";
import { edgeRange, nameOfEdge } from "../../../src/master/state/keys.ts";
import { dataPoliciesOf, treeOpOf } from "../../../src/master/state/queries.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { Caller, Migration } from "../../../src/rpc/namespace.ts";
import { type Machine, requestOf } from "./machine-fixture.ts";
import { day, migrationOf, union } from "./union-fixture.ts";

function set(machine: Machine, of: Partial<Migration> = {}, everyMs?: number): void {
  const inode = machine.at("/u").id;
  machine.done({ kind: "setDataPolicy", name: "cool", inode, migration: migrationOf(of), everyMs });
}

function run(machine: Machine, isTrial = false): TreeOpId {
  return machine.done({ kind: "runDataPolicy", name: "cool", isTrial }).id as TreeOpId;
}

/** Steps to the end, as a leader makes them that finds every name fit. */
function walk(machine: Machine, treeOp: TreeOpId): void {
  for (;;) {
    const [first] = machine.openTreeDirectories();
    if (first === undefined) return;
    const { directory, after } = first;
    const names = machine.state.entries(edgeRange(directory).from).map(([key]) => nameOfEdge(key));
    machine.done({
      kind: "stepTreeOp",
      ...{ treeOp, directory, after, names, upTo: names.at(-1), scanned: names.length },
      ...{ last: true, error: undefined },
    });
  }
}

const going = (machine: Machine) =>
  machine.pending().flatMap(({ action }) => (action.kind === "migrate" ? [action.path] : []));

const policy = (machine: Machine) => dataPoliciesOf(machine.state)[0]!;

describe("data policies", () => {
  it("move what is old enough, and remember what their runs came to", () => {
    const machine = union();
    set(machine, { olderThanMs: 30 * day });
    const id = run(machine);
    walk(machine, id);
    assert.deepEqual(going(machine), ["old", "older", "sub/deep"]);
    assert.equal(treeOpOf(machine.state, id)!.state, "running");
    for (const { id: op, action } of machine.pending()) {
      assert.ok(action.kind === "migrate");
      machine.ufsDone(op, { fingerprint: `cold:${action.path}` });
    }
    assert.equal(machine.at("/u/old").source!.fingerprint, "cold:old");
    const { running, runs } = policy(machine);
    assert.equal(running, undefined);
    const [{ state, scanned, matched, matchedBytes, done, failed } = assert.fail()] = runs;
    assert.deepEqual(
      { state, scanned, matched, matchedBytes, done, failed },
      { state: "done", scanned: 6, matched: 3, matchedBytes: 1200, done: 3, failed: 0 },
    );
    // What has gone is not looked for there again.
    walk(machine, run(machine));
    assert.deepEqual(going(machine), []);
  });

  it("only say in a trial what they would do", () => {
    const machine = union();
    set(machine, { atLeastBytes: 500 });
    const id = run(machine, true);
    walk(machine, id);
    assert.deepEqual(going(machine), []);
    const [{ isTrial, matched, samples, done } = assert.fail()] = policy(machine).runs;
    assert.deepEqual(
      { isTrial, matched, samples, done },
      { isTrial: true, matched: 1, samples: ["/u/old"], done: 0 },
    );
  });

  it("leave alone what is being written, waits to be persisted, or was changed meanwhile", () => {
    const machine = union();
    const session = machine.openSession();
    machine.done({ kind: "lease", inode: machine.at("/u/new").id }, session);
    machine.create("/u/unwritten");
    set(machine);
    const id = run(machine);
    walk(machine, id);
    assert.deepEqual(going(machine), ["old", "older", "sub/deep"]);
    const ops = machine.pending().filter(({ action }) => action.kind === "migrate");
    machine.done({ kind: "truncate", inode: machine.at("/u/old").id, size: 5 });
    // The object of the version before is where it is all the same: what is left of it is read there.
    machine.ufsDone(ops[0]!.id, { fingerprint: "cold:old" });
    assert.equal(machine.at("/u/old").source?.fingerprint, "cold:old");
    machine.done({ kind: "truncate", inode: machine.at("/u/older").id, size: 5 });
    machine.ufsDone(ops[1]!.id, {});
    machine.ufsDone(ops[2]!.id, { error: "the layer is away" });
    const [last = assert.fail()] = policy(machine).runs;
    assert.deepEqual([last.done, last.failed], [1, 1]);
    assert.deepEqual(last.failures, [
      { path: "/u/sub/deep", code: "Unavailable", detail: "the layer is away" },
    ]);
  });

  it("copy what was modified since the last whole run", () => {
    const machine = union();
    set(machine, { keep: true, olderThanMs: 30 * day });
    const finish = () => {
      for (const { id, action } of machine.pending()) {
        if (action.kind === "migrate") machine.ufsDone(id, { fingerprint: `hot:${action.path}` });
      }
    };
    walk(machine, run(machine));
    assert.equal(going(machine).length, 3);
    finish();
    walk(machine, run(machine));
    assert.deepEqual(going(machine), []);
    machine.wallSeconds += 40 * 86_400;
    walk(machine, run(machine));
    assert.deepEqual(going(machine), ["new"]);
  });

  it("copy what a run had to leave, and what only looks old, with the next one", () => {
    const machine = union();
    const session = machine.openSession();
    set(machine, { keep: true });
    machine.done({ kind: "lease", inode: machine.at("/u/new").id }, session);
    walk(machine, run(machine));
    assert.deepEqual(going(machine), ["old", "older", "sub/deep"]);
    const finish = () => {
      for (const { id, action } of machine.pending()) {
        machine.ufsDone(id, action.kind === "migrate" ? { fingerprint: `hot:${action.path}` } : {});
      }
    };
    finish();
    const { id, lease } = machine.at("/u/new");
    machine.done({ kind: "releaseLease", inode: id, writeId: lease!.writeId }, session);
    machine.wallSeconds += 100;
    const inode = machine.at("/u/old").id;
    const none = { mode: undefined, uid: undefined, gid: undefined, atime: undefined };
    machine.done({ kind: "setAttributes", inode, ...none, mtime: { sec: 1, nsec: 0 } });
    finish();
    walk(machine, run(machine));
    assert.deepEqual(going(machine), ["new", "old"]);
    finish();
    walk(machine, run(machine));
    assert.deepEqual(going(machine), []);
  });

  it("run once at a time, and again when their time has come", () => {
    const machine = union();
    set(machine, {}, day);
    const { sec } = policy(machine).nextRunAt!;
    assert.equal(sec, machine.wallSeconds + 86_400);
    const id = run(machine, true);
    assert.equal(policy(machine).nextRunAt!.sec, sec);
    machine.refused("Busy", { kind: "runDataPolicy", name: "cool", isTrial: false });
    walk(machine, id);
    machine.wallSeconds += 100;
    run(machine);
    assert.equal(policy(machine).nextRunAt!.sec, machine.wallSeconds + 86_400);
  });

  it("that are deleted or cancelled end their run, whatever is under way", () => {
    const machine = union();
    set(machine);
    const id = run(machine);
    walk(machine, id);
    const [op] = machine.pending();
    machine.done({ kind: "deleteDataPolicy", name: "cool" });
    assert.equal(treeOpOf(machine.state, id)!.state, "cancelled");
    assert.deepEqual(dataPoliciesOf(machine.state), []);
    machine.ufsDone(op!.id, { fingerprint: "cold:x" });
    for (const each of machine.pending()) machine.ufsDone(each.id, {});
    assert.equal(treeOpOf(machine.state, id)!.pendingFiles, 0);
    machine.refused("NotFound", { kind: "runDataPolicy", name: "cool", isTrial: true });
  });

  it("refuse names, layers and places that make no sense, and say what would", () => {
    const machine = union();
    const inode = machine.at("/u").id;
    const refusals: readonly [Partial<Extract<Command, { kind: "setDataPolicy" }>>, RegExp][] = [
      [{ name: "a b" }, /"a b" is no name, wanted 1 to 64/],
      [{ name: "" }, /is no name/],
      [{ everyMs: 59_999 }, /wanted at least 60000/],
      [{ inode: rootInodeId }, /wanted a mount with layers/],
      [
        { migration: migrationOf({ from: "warm" }) },
        /"warm" is no layer of it, wanted one of hot, c/,
      ],
      [{ migration: migrationOf({ to: "hot" }) }, /"hot" is both layers/],
      [{ migration: migrationOf({ to: "frozen" }) }, /"frozen" is read-only/],
      [{ migration: migrationOf({ from: "frozen" }) }, /"frozen" is read-only/],
    ];
    for (const [of, message] of refusals) {
      const migration = migrationOf();
      const detail = machine.refused("InvalidArgument", {
        ...{ kind: "setDataPolicy", name: "cool", inode, migration, everyMs: undefined, ...of },
      });
      assert.match(detail, message);
    }
    set(machine, { from: "frozen", keep: true, to: "hot" });
  });

  it("are the superuser's", () => {
    const machine = union();
    set(machine);
    const caller: Caller = { uid: 1000, gid: 1000, groups: [] };
    const commands: Command[] = [
      { kind: "runDataPolicy", name: "cool", isTrial: true },
      { kind: "deleteDataPolicy", name: "cool" },
    ];
    const session = machine.openSession();
    const { results } = machine.apply(requestOf(commands, { session, sequence: 0, caller }));
    const codes = results[0]!.map((result) => !result.ok && result.code);
    assert.deepEqual(codes, ["NotPermitted", "NotPermitted"]);
  });

  it("remember their last twenty runs", () => {
    const machine = union();
    set(machine, { atLeastBytes: 10_000 });
    let last = 0 as TreeOpId;
    for (let i = 0; i < 25; i++) walk(machine, (last = run(machine)));
    const { runs } = policy(machine);
    assert.equal(runs.length, 20);
    assert.equal(runs.at(-1)!.treeOp, last);
  });
});
