/**
 * State that earlier versions wrote: `fixtures/state-1` is the store of a version that kept an only name in `parent/…` and
 * each answer of a session in a `result/…` row; `state-1.json` says what it holds.
 */
import assert from "node:assert/strict";
import { cp, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../../src/lib/clock.ts";
import { rootInodeId, type SessionId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { applyEntry, rangesOf } from "../../../src/master/state/machine.ts";
import {
  edgeOf,
  inodeOf,
  linksOf,
  pathOf,
  resolvePath,
  sessionOf,
  statusOf,
} from "../../../src/master/state/queries.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import type { Command, Request } from "../../../src/rpc/commands.ts";
import type { FileStatus } from "../../../src/rpc/namespace.ts";
import { withTempDir } from "../../lib/temp-dir.ts";
import { InspectableState } from "./inspectable-state.ts";
import { checkInvariants } from "./invariants.ts";
import { createCommand, requestOf } from "./machine-fixture.ts";

const fixtures = fileURLToPath(new URL("../fixtures", import.meta.url));

interface Expected {
  readonly index: number;
  readonly hash: string;
  readonly rows: number;
  readonly session: SessionId;
  readonly sequence: number;
  readonly files: readonly { readonly path: string | null; readonly status: FileStatus }[];
}

/** The state of the fixture as this version reads it from disk, in the heap. */
async function stateOf(expected: Expected): Promise<InspectableState> {
  return withTempDir(async (directory) => {
    await cp(`${fixtures}/state-1`, directory, { recursive: true });
    const store = await openStateStore({ directory, clock: systemClock, logger: silentLogger });
    try {
      assert.equal(store.appliedIndex, expected.index);
      assert.equal(store.hash(), expected.hash);
      const snapshot = await store.snapshot();
      const state = new InspectableState();
      await state.install(snapshot.index, snapshot.term, snapshot.chunks());
      await snapshot.close();
      assert.equal(state.hash(), expected.hash);
      for (const { path, status } of expected.files) {
        const found = inodeOf(store, status.inode)!;
        assert.deepEqual(JSON.parse(JSON.stringify(statusOf(found))), status);
        assert.equal(pathOf(store, found.id) ?? null, path);
      }
      return state;
    } finally {
      await store.close();
    }
  });
}

/** Applies requests one by one, and checks the invariants after each. */
function continued(state: InspectableState) {
  return (commands: readonly Command[], of: Partial<Request> = {}) => {
    const index = state.appliedIndex + 1;
    const wallTime = { sec: 1_800_000_000 + index, nsec: 0 };
    const entry = { clusterTimeMs: 5000, wallTime, requests: [requestOf(commands, of)] };
    const ranges = rangesOf(entry, state);
    void state.load(ranges);
    const applied = applyEntry(state, index, entry);
    state.release(ranges);
    state.applied(index, 1);
    checkInvariants(state);
    for (const result of applied.results[0]!) assert.ok(result.ok, JSON.stringify(result));
    return applied;
  };
}

describe("the state that an earlier version wrote", () => {
  let expected: Expected;

  before(async () => {
    expected = JSON.parse(await readFile(`${fixtures}/state-1.json`, "utf8")) as Expected;
  });

  it("is read as it was, and goes on", async () => {
    const state = await stateOf(expected);
    const rows = state.entries("parent/").length;
    checkInvariants(state);
    const apply = continued(state);
    const at = (path: string) => {
      const found = resolvePath(state, path);
      assert.ok(found.found, path);
      return found.inode.id;
    };
    const [d, e, sub] = [at("/d"), at("/e"), at("/d/sub")];
    const moved = at("/e/moved");
    assert.equal(linksOf(state, at("/d/f1")).length, 3);
    apply([
      {
        ...{ kind: "rename", sourceParent: e, sourceName: "moved", targetParent: d },
        ...{ targetName: "back", noReplace: true },
      },
    ]);
    assert.equal(pathOf(state, moved), "/d/back");
    apply([{ kind: "link", inode: moved, parent: sub, name: "second" }]);
    apply([{ kind: "unlink", parent: d, name: "back", held: false }]);
    assert.equal(pathOf(state, moved), "/d/sub/second");
    apply([{ kind: "unlink", parent: d, name: "f1", held: false }]);
    apply([{ kind: "unlink", parent: e, name: "hard", held: false }]);
    apply([createCommand(d, "new")]);
    apply([{ kind: "deleteTree", parent: rootInodeId, name: "d" }]);
    assert.ok(state.entries("parent/").length < rows, "names move to their inodes as they change");
  });

  it("answers a request that was executed then from its result, and executes others", async () => {
    const state = await stateOf(expected);
    const apply = continued(state);
    const { session, sequence } = expected;
    const found = resolvePath(state, "/e");
    assert.ok(found.found);
    const e = found.inode.id;
    const first = { session, sequence, acknowledgedBelow: 10 };
    const again = apply([createCommand(e, "answered")], first);
    assert.deepEqual(again.replayed, [true]);
    for (const next of [sequence + 1, sequence - 1]) {
      const request = { session, sequence: next, acknowledgedBelow: 10 };
      const name = `n${String(next)}`;
      assert.deepEqual(apply([createCommand(e, name)], request).replayed, [false]);
      assert.deepEqual(apply([createCommand(e, name)], request).replayed, [true]);
      assert.ok(edgeOf(state, e, name));
    }
    const last = { session, sequence: sequence + 20, acknowledgedBelow: sequence + 20 };
    apply([createCommand(e, "last")], last);
    assert.equal(state.entries("result/").length, 0);
    apply([{ kind: "closeSession", session }]);
    assert.equal(sessionOf(state, session), undefined);
    assert.equal(state.entries("answers/").length, 0);
  });
});
