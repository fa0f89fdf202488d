/** Values at the ends of what a command may carry: refused where they cannot be kept, and never a row that nobody can read. */
import assert from "node:assert/strict";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { encode, list } from "../../../src/lib/schema.ts";
import type { AppliedEntry } from "../../../src/master/state/machine.ts";
import { sessionOf } from "../../../src/master/state/queries.ts";
import { sequenceEnd } from "../../../src/master/state/session-table.ts";
import { type Command, commandResult, type Request } from "../../../src/rpc/commands.ts";
import {
  blockSizeBytes,
  commitCommand,
  createCommand,
  entryOf,
  Machine,
  pageOf,
  requestOf,
} from "./machine-fixture.ts";

const largest = Number.MAX_SAFE_INTEGER;

const chmod = (inode: number, mode = 0o600): Command =>
  ({
    ...{ kind: "setAttributes", inode, mode },
    ...{ uid: undefined, gid: undefined, atime: undefined, mtime: undefined },
  }) as Command;

/** Results as clients receive them. */
const received = (applied: AppliedEntry) =>
  applied.results.map((results) => encode(list(commandResult), results).toString("base64"));

describe("limits of commands", () => {
  it("refuses a sequence from which no further one could be counted; the session stays readable", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    for (const sequence of [largest, sequenceEnd]) {
      const request = requestOf([createCommand(rootInodeId, "f")], {
        ...{ session, sequence, acknowledgedBelow: largest },
      });
      const [result] = machine.apply(request).results[0]!;
      assert.equal(!result!.ok && result!.code, "InvalidArgument");
    }
    assert.ok(!machine.exists("/f"));
    const last = { session, sequence: sequenceEnd - 1, acknowledgedBelow: largest };
    assert.ok(machine.apply(requestOf([createCommand(rootInodeId, "f")], last)).results[0]![0]!.ok);
    machine.done({ kind: "touchSessions", sessions: [session] });
    assert.equal(sessionOf(machine.state, session)?.executedBelow, sequenceEnd);
  });

  it("keeps a session open whose timeout reaches beyond all numbers", () => {
    const machine = Machine.make();
    const session = machine.openSession(largest);
    machine.clusterTimeMs += 5000;
    machine.done({ kind: "touchSessions", sessions: [session] });
    machine.create("/f", {}, session);
    assert.equal(sessionOf(machine.state, session)?.expiresAtMs, largest);
  });

  it("refuses a commit whose block no container can hold", () => {
    const machine = Machine.make();
    const keepers = [machine.worker("w")];
    const session = machine.openSession();
    const made = machine.done(createCommand(rootInodeId, "f", { lease: true }), session);
    const { inode } = made.status!;
    const writeId = made.writeId!;
    const commit = (blockIndex: number): Command => {
      const extents = [{ fileOffset: 0, length: 10, writeId, blockIndex, offset: 0 }];
      return commitCommand({ inode, writeId, size: 10, extents, keepers });
    };
    machine.refused("InvalidArgument", commit(largest), session);
    machine.refused("InvalidArgument", commit(Math.ceil(largest / blockSizeBytes)), session);
    machine.done(commit(Math.floor(largest / blockSizeBytes) - 1), session);
    machine.done({ kind: "truncate", inode, size: 0 }, session);
  });

  it("knows a worker again by a uuid outside latin1, and no other one by it", () => {
    const machine = Machine.make();
    const ids = ["\u0101", "\x01", "\u{1f600}"].map((uuid) => machine.worker(uuid));
    assert.equal(new Set(ids).size, 3);
    assert.equal(machine.worker("\u0101"), ids[0]);
    machine.refused("InvalidArgument", {
      ...{ kind: "registerWorker", uuid: "u".repeat(256), host: "h", address: "a", tiers: [] },
    });
  });

  it("refuses a target that is none", () => {
    const machine = Machine.make();
    for (const target of ["", "a\0b"]) {
      const link = createCommand(rootInodeId, "l", { fileKind: "symlink", target });
      machine.refused("InvalidArgument", link);
    }
  });

  it("refuses the target of a symbolic link that Linux would not take, and passes it over in a store", () => {
    const machine = Machine.make();
    const symlink = (bytes: number) =>
      createCommand(rootInodeId, "l", { fileKind: "symlink", target: "t".repeat(bytes) });
    machine.refused("NameTooLong", symlink(4096));
    machine.done(symlink(4095));
    const entry = entryOf("far", { kind: "symlink", target: "t".repeat(4096) });
    machine.done(pageOf(rootInodeId, [entry]));
    assert.ok(!machine.exists("/far"));
  });

  it("refuses an address of a store that is longer than any", () => {
    const machine = Machine.make();
    const uri = `file:///${"d".repeat(5000)}`;
    machine.refused("InvalidArgument", {
      ...{ kind: "mount", parent: rootInodeId, name: "m", uri, readOnly: false, options: {} },
    });
  });

  it("keeps no row of answers beyond a bound, however many commands a session sends", () => {
    const machine = Machine.make();
    machine.isChecked = false;
    const session = machine.openSession();
    const target = "t".repeat(4095);
    const { inode } = machine.create("/l", { fileKind: "symlink", target }, session);
    const requests: Request[] = [];
    for (let i = 0; i < 16; i++) {
      const commands = Array.from({ length: 500 }, (_, k) => chmod(inode, k));
      requests.push(requestOf(commands, { session, sequence: 32 + i }));
    }
    const applied = requests.map((request) => machine.apply(request));
    const rows = [...machine.state.entries("answers/"), ...machine.state.entries("result/")];
    const largestRow = Math.max(...rows.map(([, value]) => value.length));
    assert.ok(largestRow < 5 * 2 ** 20, `a row has ${String(largestRow)} bytes`);
    for (const [i, request] of requests.entries()) {
      const again = machine.apply(request);
      assert.deepEqual(again.replayed, [true]);
      assert.deepEqual(received(again), received(applied[i]!));
      assert.deepEqual(again.positions, applied[i]!.positions);
    }
  });

  it("forgets a long answer with the row that names it, and with its session", () => {
    const machine = Machine.make();
    const session = machine.openSession();
    const { inode } = machine.create("/f", {}, session);
    const long = Array.from({ length: 100 }, () => chmod(inode));
    const rows = () => machine.state.entries("result/").length;
    machine.apply(requestOf(long, { session, sequence: 20 }));
    machine.apply(requestOf([], { session, sequence: 21 }));
    assert.equal(rows(), 1);
    machine.apply(requestOf(long, { session, sequence: 40, acknowledgedBelow: 40 }));
    assert.equal(rows(), 1);
    machine.done({ kind: "closeSession", session });
    assert.equal(rows(), 0);
    assert.equal(machine.state.entries("answers/").length, 0);
  });

  it("cuts what a refusal quotes", () => {
    const machine = Machine.make();
    const name = "n".repeat(100_000);
    const detail = machine.refused("NotFound", { kind: "rmdir", parent: rootInodeId, name });
    assert.ok(detail.length <= 1001);
  });

  it("changes a part of an object of any number of blocks by what is written alone", () => {
    const machine = Machine.make();
    const blocks = 2 ** 30;
    machine.done(pageOf(rootInodeId, [entryOf("huge", { size: blocks * blockSizeBytes })]));
    const { id: inode, version } = machine.at("/huge");
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    const { writeId } = machine.done({ kind: "lease", inode }, session);
    const extent = { fileOffset: 1000, length: 10, writeId: writeId!, blockIndex: 0, offset: 0 };
    const commit = commitCommand({ inode, writeId: writeId!, keepers, extents: [extent] });
    const size = blocks * blockSizeBytes;
    machine.done({ ...commit, baseVersion: version, size }, session);
    assert.deepEqual(
      [machine.at("/huge").extentCount, machine.at("/huge").source?.shown],
      [1, size],
    );
    machine.done({ kind: "truncate", inode, size: size - 1 }, session);
    machine.done({ kind: "truncate", inode, size: largest }, session);
    assert.equal(machine.at("/huge").source?.shown, size - 1);
    machine.done({ kind: "truncate", inode, size: 250 }, session);
    assert.deepEqual(
      [machine.at("/huge").extentCount, machine.at("/huge").source?.shown],
      [0, 250],
    );
    machine.done({ kind: "truncate", inode, size: 0 }, session);
    assert.equal(machine.at("/huge").source, undefined);
  });

  it("refuses to change a part of an object of too many blocks below level 2, and lets it be cut to few", () => {
    const machine = Machine.make(1);
    const size = 2 ** 30 * blockSizeBytes;
    machine.done(pageOf(rootInodeId, [entryOf("huge", { size })]));
    const { id: inode, version } = machine.at("/huge");
    const session = machine.openSession();
    const keepers = [machine.worker("w")];
    const cut = { kind: "truncate", inode, size: (2 ** 18 + 1) * blockSizeBytes } as const;
    machine.refused("NotSupported", cut, session);
    const { writeId } = machine.done({ kind: "lease", inode }, session);
    const extent = { fileOffset: 0, length: 10, writeId: writeId!, blockIndex: 0, offset: 0 };
    const commit = commitCommand({ inode, writeId: writeId!, keepers, extents: [extent] });
    machine.refused("NotSupported", { ...commit, baseVersion: version, size }, session);
    machine.done({ kind: "truncate", inode, size: 250 }, session);
    assert.equal(machine.at("/huge").extentCount, 3);
    machine.done({ kind: "truncate", inode, size: 0 }, session);
    assert.equal(machine.at("/huge").extentCount, 0);
  });
});
