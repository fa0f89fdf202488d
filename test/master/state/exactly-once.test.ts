import assert from "node:assert/strict";
import { rootInodeId, type SessionId } from "../../../src/lib/ids.ts";
import { storedAnswers } from "../../../src/master/state/model.ts";
import { sessionOf } from "../../../src/master/state/queries.ts";
import { sequenceWindow } from "../../../src/master/state/session-table.ts";
import { hasCode } from "../../../src/lib/errors.ts";
import { decode, encode, list } from "../../../src/lib/schema.ts";
import type { AppliedEntry } from "../../../src/master/state/machine.ts";
import { type Command, commandResult, unwrap } from "../../../src/rpc/commands.ts";
import { bootstrapCommand, createCommand, Machine, requestOf } from "./machine-fixture.ts";

/** Results as clients receive them. */
const received = (applied: AppliedEntry) =>
  applied.results.map((results) => encode(list(commandResult), results).toString("hex"));

const create = (name: string): Command => createCommand(rootInodeId, name);

describe("exactly once", () => {
  it("R12: a lock was taken and the reply lost: the retry gets the same answer, not a conflict", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const { inode } = machine.create("/a");
    const request = requestOf([{ kind: "lease", inode }], { session, sequence: 1 });
    const first = machine.apply(request);
    const second = machine.apply(request);
    assert.deepEqual(received(second), received(first));
    assert.deepEqual(second.positions, first.positions);
    assert.deepEqual([first.replayed, second.replayed], [[false], [true]]);
    assert.ok(first.results[0]![0]!.ok);
  });

  it("R12: sessions end at the same place of the log on every replica, whatever its own clock says", () => {
    const machine = Machine.make();
    const session = machine.openSession(5000);
    machine.clusterTimeMs = 1_000_000;
    machine.apply(requestOf([create("late")], { session, sequence: 1 }));
    machine.done({ kind: "closeSession", session });
    machine.apply(requestOf([create("too late")], { session, sequence: 2 }));
    const replica = new Machine();
    for (const entry of machine.entries) {
      replica.wallSeconds += 1000;
      replica.applyEntry(entry);
    }
    assert.equal(replica.state.hash(), machine.state.hash());
    assert.ok(machine.exists("/late"));
    assert.ok(!machine.exists("/too late"));
  });

  it("answers a retry in the entry of the first try", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const request = requestOf([create("a")], { session, sequence: 1 });
    const applied = machine.apply(request, request);
    const [first, second] = received(applied);
    assert.equal(first, second);
    assert.deepEqual(applied.replayed, [false, true]);
  });

  it("keeps a refusal as the answer, even when the cause is gone", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const request = requestOf([{ kind: "rmdir", parent: rootInodeId, name: "a" }], {
      session,
      sequence: 1,
    });
    const first = machine.apply(request).results;
    machine.mkdir("/a");
    assert.deepEqual(machine.apply(request).results, first);
    assert.ok(machine.exists("/a"));
  });

  it("keeps a refusal with a code of another version as it was written, also when its row is written again", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const refusal = { kind: "refuseMount", code: "OfALaterVersion", detail: "why" } as const;
    const request = requestOf([refusal], { session, sequence: 1 });
    const first = machine.apply(request).results[0]![0]!;
    assert.deepEqual(first, { ok: false, code: "OfALaterVersion", detail: "why" });
    machine.apply(requestOf([create("a")], { session, sequence: 2 }));
    const [row] = machine.state.entries("answers/");
    const [stored] = decode(storedAnswers, row![1], "row");
    assert.deepEqual(stored!.results, [first]);
    assert.throws(
      () => unwrap(first, "Cannot mount"),
      (error) => hasCode(error, "Internal"),
    );
  });

  it("R13: executes nothing of an unknown session", () => {
    const machine = Machine.make();
    const request = requestOf([create("a"), create("b")], { session: 77 as SessionId });
    const { results } = machine.apply(request);
    assert.deepEqual(
      results[0]!.map((result) => !result.ok && result.code),
      ["SessionExpired", "SessionExpired"],
    );
    assert.ok(!machine.exists("/a"));
  });

  it("never executes what was acknowledged, and forgets its results", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    for (let sequence = 0; sequence < 50; sequence++) {
      machine.apply(requestOf([create(`f${String(sequence)}`)], { session, sequence }));
    }
    const rows = machine.state.entries("answers/").length;
    const acknowledge = (sequence: number, acknowledgedBelow: number) =>
      machine.apply(
        requestOf([create(`f${String(sequence)}`)], { session, sequence, acknowledgedBelow }),
      );
    acknowledge(50, 47);
    assert.equal(rows, 4);
    assert.equal(machine.state.entries("answers/").length, 2);
    acknowledge(51, 51);
    assert.equal(machine.state.entries("answers/").length, 1);
    acknowledge(51 + sequenceWindow - 1, 52);
    acknowledge(51 + 2 * sequenceWindow, 51 + 2 * sequenceWindow);
    assert.equal(machine.state.entries("answers/").length, 1, "a row far up is left");
    machine.done({ kind: "unlink", parent: rootInodeId, name: "f1", held: false });
    const again = machine.apply(requestOf([create("f1")], { session, sequence: 1 }));
    assert.ok(!again.results[0]![0]!.ok);
    assert.equal(again.results[0]![0]!.code, "SequenceForgotten");
    assert.ok(!machine.exists("/f1"));
  });

  it("executes sequences out of order, each once", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    for (const sequence of [2, 0, 1, 2, 0, 1]) {
      machine.apply(requestOf([create(`f${String(sequence)}`)], { session, sequence }));
    }
    assert.equal(machine.inode(rootInodeId).childCount, 3);
  });

  it("refuses a sequence beyond the window, and takes it after acknowledgements", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const far = { session, sequence: sequenceWindow };
    const { results } = machine.apply(requestOf([create("far")], far));
    assert.ok(!results[0]![0]!.ok);
    assert.equal(results[0]![0]!.code, "Busy");
    machine.apply(requestOf([create("far")], { ...far, acknowledgedBelow: 1 }));
    assert.ok(machine.exists("/far"));
  });

  it("prunes a hostile acknowledgement in bounded time and keeps the own answer", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const request = requestOf([create("a")], {
      session,
      sequence: 2 ** 50,
      acknowledgedBelow: 2 ** 52,
    });
    machine.apply(request);
    assert.deepEqual(machine.apply(request).replayed, [true]);
  });

  it("undoes an atomic request at its first refusal, and says which command it was", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const hash = () =>
      machine.state.entries("edge/").length + machine.state.entries("inode/").length;
    const before = hash();
    const applied = machine.apply(
      requestOf([create("a"), create("b"), create("a"), create("c")], {
        session,
        sequence: 1,
        atomic: true,
      }),
    );
    const codes = applied.results[0]!.map((result) => !result.ok && result.code);
    assert.deepEqual(codes, ["Cancelled", "Cancelled", "AlreadyExists", "Cancelled"]);
    assert.equal(hash(), before);
    const { inodes, names } = applied.changes;
    assert.deepEqual({ inodes, names }, { inodes: [], names: [] });
    assert.deepEqual(applied.events, []);
  });

  it("goes on after a refusal in a request that is not atomic", () => {
    const machine = Machine.make();
    const { results } = machine.apply(requestOf([create("a"), create("a"), create("c")]));
    assert.deepEqual(
      results[0]!.map((result) => result.ok),
      [true, false, true],
    );
    assert.ok(machine.exists("/c"));
  });

  it("gives no two commands of an entry one position", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const lease = (name: string) => createCommand(rootInodeId, name, { lease: true });
    const { results } = machine.apply(
      requestOf([lease("a"), lease("b")], { session, sequence: 1 }),
      requestOf([lease("c")], { session, sequence: 2 }),
    );
    const ids = results.flat().map((result) => result.ok && result.writeId);
    assert.equal(new Set(ids).size, 3);
  });

  it("refuses requests beyond the places of an entry without executing them", () => {
    const machine = Machine.make();
    machine.isChecked = false;
    const many = Array.from({ length: 1024 }, (_, i) => create(`f${String(i)}`));
    const { results } = machine.apply(requestOf(many), requestOf([create("one more")]));
    assert.ok(results[0]!.every((result) => result.ok));
    assert.ok(!results[1]![0]!.ok);
    assert.equal(results[1]![0]!.code, "Busy");
    assert.ok(!machine.exists("/one more"));
  });

  it("lets no client propose what only the leader may", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    machine.refused("NotPermitted", { kind: "workerLost", worker: 1 as never }, session);
    machine.refused("NotPermitted", bootstrapCommand, session);
  });
});

describe("the state machine's clock", () => {
  it("never goes back, neither cluster time nor wall time", () => {
    const machine = Machine.make();
    machine.clusterTimeMs = 5000;
    const early = machine.create("/a").mtime;
    machine.clusterTimeMs = 10;
    machine.wallSeconds -= 1000;
    const late = machine.create("/b").mtime;
    assert.deepEqual(late, early);
    const session = machine.openSession(100);
    assert.equal(sessionOf(machine.state, session)!.expiresAtMs, 5100);
  });
});

describe("sessions", () => {
  it("are extended by a touch and by requests, and only if they are open", () => {
    const machine = Machine.make();
    const session = machine.openSession(100);
    const expiry = () => sessionOf(machine.state, session)!.expiresAtMs;
    machine.clusterTimeMs = 1050;
    const touched = machine.done({ kind: "touchSessions", sessions: [session, 9 as SessionId] });
    assert.equal(touched.id, 1);
    assert.equal(expiry(), 1150);
    machine.clusterTimeMs = 1100;
    machine.apply(requestOf([create("a")], { session, sequence: 1 }));
    assert.equal(expiry(), 1200);
  });

  it("end in bounded steps, and serve nothing from the first step on", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    machine.isChecked = false;
    const lease = (name: string) => createCommand(rootInodeId, name, { lease: true });
    const names = Array.from({ length: 700 }, (_, i) => `f${String(i)}`);
    machine.apply(requestOf(names.map(lease), { session, sequence: 0 }));
    machine.apply(
      requestOf(
        names.map((name) => lease(`g${name}`)),
        { session, sequence: 1 },
      ),
    );
    const other = machine.openSession();
    assert.equal(machine.done({ kind: "closeSession", session }).id, 1);
    machine.refused("SessionExpired", create("b"), session);
    const last = machine.state.entries("lease/").at(-1);
    assert.ok(last, "some leases are left");
    machine.done({ kind: "lease", inode: machine.at("/gf699").id }, other);
    assert.equal(machine.done({ kind: "closeSession", session }).id, 0);
    assert.equal(machine.done({ kind: "closeSession", session }).id, 0);
    assert.equal(machine.state.entries("lease/").length, 1);
    assert.equal(machine.state.entries("answers/").length, 1);
    assert.equal(sessionOf(machine.state, session), undefined);
  });
});

describe("bootstrap", () => {
  it("is the first command, once", () => {
    const machine = new Machine();
    machine.refused("Unavailable", create("a"));
    machine.done(bootstrapCommand);
    machine.refused("AlreadyExists", bootstrapCommand);
    const root = machine.at("/");
    assert.deepEqual([root.id, root.mode, root.mountPoint, root.loaded], [1, 0o755, true, false]);
  });
});
