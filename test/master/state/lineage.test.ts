import assert from "node:assert/strict";
import {
  type InodeId,
  type LineageId,
  rootInodeId,
  type SessionId,
  type WorkerId,
  type WriteId,
} from "../../../src/lib/ids.ts";
import { extentsOf, isLost, lineagesPage } from "../../../src/master/services/listings.ts";
import {
  containerOf,
  containerUse,
  edgeOf,
  inodeOf,
  isUnmade,
  lineageInfoOf,
  lineageOf,
} from "../../../src/master/state/queries.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { Job } from "../../../src/rpc/namespace.ts";
import { commitCommand, createCommand, extentsOver, Machine } from "./machine-fixture.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

const job: Job = { argv: ["sort"], environment: {}, timeoutMs: 1000, captureStdout: true };

/** A machine with a persisted input "/in". */
function prepared() {
  const machine = Machine.make();
  const workers: [WorkerId, WorkerId] = [machine.worker("w1"), machine.worker("w2")];
  const session = machine.openSession();
  const { inode } = machine.write("/in", 50, { keepers: workers, session });
  machine.settle();
  return { machine, workers, session, input: inode };
}

function recordCommand(
  machine: Machine,
  inputs: readonly string[],
  outputs: readonly string[],
): Of<"recordLineage"> {
  return {
    kind: "recordLineage",
    inputs: inputs.map((path) => {
      const { id, version } = machine.at(path);
      return { path, inode: id, version };
    }),
    outputs: outputs.map((name) => ({ path: `/${name}`, parent: rootInodeId, name })),
    job,
    uid: 1,
    gid: 2,
  };
}

function record(machine: Machine, inputs: readonly string[], outputs: readonly string[]) {
  return machine.done(recordCommand(machine, inputs, outputs)).id as LineageId;
}

function start(machine: Machine, lineage: LineageId, worker: WorkerId): WriteId {
  return machine.done({ kind: "startAttempt", lineage, worker }).writeId!;
}

function attemptCommit(
  machine: Machine,
  of: { lineage: LineageId; epoch: WriteId; worker: WorkerId; hash?: string; size?: number },
): Of<"commitAttempt"> {
  const { lineage, epoch, worker } = of;
  const size = of.size ?? 120;
  const outputs = lineageOf(machine.state, lineage)!.outputs.map(({ inode }) => ({
    inode,
    size,
    hash: of.hash ?? "hash",
    extents: extentsOver(epoch, 0, size),
  }));
  return { kind: "commitAttempt", lineage, epoch, worker, outputs, durationMs: 5 };
}

function failure(
  of: { lineage: LineageId; epoch: WriteId } & Partial<Of<"failAttempt">>,
): Of<"failAttempt"> {
  return {
    kind: "failAttempt",
    exitCode: 1,
    error: "exit 1",
    durationMs: 3,
    blameless: false,
    final: undefined,
    ...of,
  };
}

describe("recording a lineage", () => {
  it("makes its outputs as empty files that it owns", () => {
    const { machine } = prepared();
    const id = record(machine, ["/in"], ["x", "y"]);
    for (const path of ["/x", "/y"]) {
      const { lineageId, size, kind, uid, gid, persistence } = machine.at(path);
      assert.deepEqual(
        [lineageId, size, kind, uid, gid, persistence],
        [id, 0, "file", 1, 2, "none"],
      );
      assert.ok(isUnmade(machine.state, machine.at(path)));
    }
    assert.deepEqual(machine.pending(), []);
    const info = lineageInfoOf(id, lineageOf(machine.state, id)!);
    assert.deepEqual([info.state, info.failures, info.attempts], ["recorded", 0, []]);
  });

  it("L8: makes all of its outputs or none", () => {
    const { machine } = prepared();
    machine.create("/y");
    machine.refused("AlreadyExists", recordCommand(machine, ["/in"], ["x", "y"]));
    machine.refused("AlreadyExists", recordCommand(machine, ["/in"], ["x", "x"]));
    const command = recordCommand(machine, ["/in"], ["x"]);
    const lost = { path: "/gone/z", parent: 999 as InodeId, name: "z" };
    machine.refused("NotFound", { ...command, outputs: [...command.outputs, lost] });
    assert.ok(!machine.exists("/x"));
    assert.deepEqual(machine.state.entries("lineage/"), []);
  });

  it("binds inputs to their version, and refuses those that nothing could bring back", () => {
    const { machine, workers, session } = prepared();
    machine.write("/fragile", 10, { keepers: workers, session, writeType: "MUST_CACHE" });
    const said = machine.refused("InvalidArgument", recordCommand(machine, ["/fragile"], ["x"]));
    assert.match(said, /neither persisted nor derived/);
    const command = recordCommand(machine, ["/in"], ["x"]);
    machine.done({ kind: "truncate", inode: machine.at("/in").id, size: 1 });
    machine.refused("VersionConflict", command);
    machine.refused("InvalidArgument", {
      ...recordCommand(machine, [], ["x"]),
      inputs: [],
      outputs: [],
    });
    machine.mkdir("/d");
    machine.refused("InvalidArgument", recordCommand(machine, ["/d"], ["x"]));
  });

  it("takes the outputs of others as inputs, made or not", () => {
    const { machine } = prepared();
    record(machine, ["/in"], ["x"]);
    record(machine, ["/x"], ["y"]);
    assert.ok(machine.exists("/y"));
  });
});

describe("attempts", () => {
  it("L4: are one at a time, each with an epoch of its own", () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    const epoch = start(machine, lineage, workers[0]);
    machine.refused("Busy", { kind: "startAttempt", lineage, worker: workers[1] });
    const inode = machine.at("/x").id;
    assert.equal(containerUse(machine.state, { inode, writeId: epoch }), "writing");
    const info = lineageInfoOf(lineage, lineageOf(machine.state, lineage)!);
    assert.equal(info.state, "running");
    assert.deepEqual(
      info.attempts.map((each) => [each.epoch, each.worker]),
      [[epoch, workers[0]]],
    );
    machine.done(failure({ lineage, epoch }));
    assert.notEqual(start(machine, lineage, workers[1]), epoch);
  });

  it("publish all outputs at once, kept by their worker", async () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x", "y"]);
    const epoch = start(machine, lineage, workers[0]);
    const commit = attemptCommit(machine, { lineage, epoch, worker: workers[0] });
    machine.refused("InvalidArgument", { ...commit, outputs: commit.outputs.slice(1) });
    machine.done(commit);
    for (const path of ["/x", "/y"]) {
      const file = machine.at(path);
      assert.deepEqual([file.size, file.version, file.lineageId], [120, 2, lineage]);
      assert.deepEqual(containerOf(machine.state, file.id, epoch)!.keepers, [workers[0]]);
      assert.deepEqual(
        await extentsOf(machine.state, file.id, { from: 0, to: 120 }),
        extentsOver(epoch, 0, 120),
      );
    }
    const info = lineageOf(machine.state, lineage)!;
    assert.equal(info.state, "done");
    assert.deepEqual(
      info.outputs.map((each) => [each.size, each.hash]),
      [
        [120, "hash"],
        [120, "hash"],
      ],
    );
  });

  it("that rebuild equal bytes keep the version, and heal the file", async () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    const first = start(machine, lineage, workers[0]);
    machine.done(attemptCommit(machine, { lineage, epoch: first, worker: workers[0] }));
    const before = machine.at("/x");
    machine.done({ kind: "workerLost", worker: workers[0] });
    assert.ok(await isLost(machine.state, before.id));
    const second = start(machine, lineage, workers[1]);
    machine.done(attemptCommit(machine, { lineage, epoch: second, worker: workers[1] }));
    assert.ok(!(await isLost(machine.state, before.id)));
    const after = machine.at("/x");
    assert.deepEqual([after.version, after.mtime], [before.version, before.mtime]);
  });

  it("L11: that come late change nothing", () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    const first = start(machine, lineage, workers[0]);
    machine.done(failure({ lineage, epoch: first, blameless: true }));
    const second = start(machine, lineage, workers[1]);
    machine.refused("Stale", attemptCommit(machine, { lineage, epoch: first, worker: workers[0] }));
    machine.done(attemptCommit(machine, { lineage, epoch: second, worker: workers[1] }));
    machine.refused("Stale", attemptCommit(machine, { lineage, epoch: first, worker: workers[0] }));
    machine.refused("Stale", failure({ lineage, epoch: first }));
    assert.ok(containerOf(machine.state, machine.at("/x").id, second));
  });

  it("that make other bytes than the first are ended and publish nothing", () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    const first = start(machine, lineage, workers[0]);
    machine.done(attemptCommit(machine, { lineage, epoch: first, worker: workers[0] }));
    const before = machine.at("/x");
    const epoch = start(machine, lineage, workers[1]);
    const other = { lineage, epoch, worker: workers[1], hash: "other" };
    machine.refused("Corrupt", attemptCommit(machine, other));
    assert.deepEqual(machine.at("/x"), before);
    const info = lineageOf(machine.state, lineage)!;
    assert.deepEqual([info.state, info.running, info.failures], ["done", undefined, 1]);
    assert.equal(info.attempts.at(-1)!.epoch, epoch);
  });

  it("L1: that fail are counted and remembered, until the leader gives up or resets", () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    for (let i = 0; i < 10; i++) {
      const epoch = start(machine, lineage, workers[0]);
      machine.done(failure({ lineage, epoch, blameless: i === 0, final: i === 9 }));
    }
    const failed = lineageOf(machine.state, lineage)!;
    assert.deepEqual([failed.state, failed.failures, failed.attempts.length], ["failed", 9, 8]);
    assert.equal(failed.attempts[0]!.exitCode, 1);
    machine.refused("JobFailed", { kind: "startAttempt", lineage, worker: workers[0] });
    machine.done({ kind: "resetLineage", lineage });
    assert.equal(lineageOf(machine.state, lineage)!.failures, 0);
    start(machine, lineage, workers[0]);
  });

  it("L10: pass over outputs that were deleted or overwritten meanwhile", () => {
    const { machine, workers, session } = prepared();
    const lineage = record(machine, ["/in"], ["x", "y", "z"]);
    const epoch = start(machine, lineage, workers[0]);
    const commit = attemptCommit(machine, { lineage, epoch, worker: workers[0] });
    machine.done({ kind: "unlink", parent: rootInodeId, name: "x", held: false });
    const keys = machine.state.entries("garbage/").map(([key]) => key);
    machine.done({ kind: "reapGarbage", keys });
    overwrite(machine, "/y", session, workers);
    machine.done(commit);
    assert.equal(machine.at("/y").size, 7);
    assert.equal(machine.at("/z").size, 120);
    assert.equal(containerOf(machine.state, machine.at("/y").id, epoch), undefined);
  });
});

function overwrite(
  machine: Machine,
  path: string,
  session: SessionId,
  keepers: readonly WorkerId[],
): void {
  const { id: inode, version: baseVersion } = machine.at(path);
  const writeId = machine.done({ kind: "lease", inode }, session).writeId!;
  const extents = extentsOver(writeId, 0, 7);
  machine.done(
    commitCommand({ inode, writeId, baseVersion, size: 7, extents, keepers, release: true }),
    session,
  );
}

describe("the link between an output and its lineage", () => {
  it("is broken by any other commit", () => {
    const { machine, workers, session } = prepared();
    record(machine, ["/in"], ["x"]);
    overwrite(machine, "/x", session, workers);
    assert.equal(machine.at("/x").lineageId, undefined);
  });

  it("goes with the lineage, and an output that was made stays", () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    const epoch = start(machine, lineage, workers[0]);
    machine.done(attemptCommit(machine, { lineage, epoch, worker: workers[0] }));
    machine.done({ kind: "deleteLineage", lineage });
    const { lineageId, size } = machine.at("/x");
    assert.deepEqual([lineageId, size], [undefined, 120]);
    machine.refused("NotFound", { kind: "deleteLineage", lineage });
  });

  it("takes outputs that were never made along, under all their names, but not what replaced them", () => {
    const { machine, workers, session } = prepared();
    const lineage = record(machine, ["/in"], ["x", "y", "z"]);
    const { id: inode } = machine.at("/x");
    machine.done({ kind: "link", inode, parent: rootInodeId, name: "x2" });
    overwrite(machine, "/y", session, workers);
    machine.done({ kind: "persist", inode: machine.at("/z").id });
    const epoch = start(machine, lineage, workers[0]);
    const late = attemptCommit(machine, { lineage, epoch, worker: workers[0] });
    machine.done({ kind: "deleteLineage", lineage });
    for (const name of ["x", "x2", "z"]) {
      assert.equal(edgeOf(machine.state, rootInodeId, name), undefined, name);
    }
    assert.equal(inodeOf(machine.state, inode)?.nlink ?? 0, 0);
    assert.equal(machine.at("/y").lineageId, undefined);
    machine.refused("NotFound", late);
    machine.settle();
  });

  it("survives a persist, after which the output needs no keeper", () => {
    const { machine, workers } = prepared();
    const lineage = record(machine, ["/in"], ["x"]);
    const epoch = start(machine, lineage, workers[0]);
    machine.done(attemptCommit(machine, { lineage, epoch, worker: workers[0] }));
    machine.done({ kind: "persist", inode: machine.at("/x").id });
    machine.settle();
    const file = machine.at("/x");
    assert.deepEqual(
      [file.lineageId, file.persistence, file.form],
      [lineage, "persisted", "source"],
    );
    const again = start(machine, lineage, workers[1]);
    machine.done(attemptCommit(machine, { lineage, epoch: again, worker: workers[1] }));
    assert.deepEqual(machine.at("/x"), file);
  });
});

describe("the list of lineages", () => {
  it("comes in pages, in the order of recording", async () => {
    const { machine } = prepared();
    const ids = ["a", "b", "c"].map((name) => record(machine, ["/in"], [name]));
    const first = await lineagesPage(machine.state, { after: undefined, limit: 2 });
    assert.deepEqual([first.lineages.map((each) => each.id), first.more], [ids.slice(0, 2), true]);
    const rest = await lineagesPage(machine.state, { after: ids[1]!, limit: 2 });
    assert.deepEqual([rest.lineages.map((each) => each.id), rest.more], [ids.slice(2), false]);
  });
});

describe("an output", () => {
  it("may be created over only when it is not exclusive", () => {
    const { machine } = prepared();
    record(machine, ["/in"], ["x"]);
    machine.refused("AlreadyExists", createCommand(rootInodeId, "x"));
  });
});
