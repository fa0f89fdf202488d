import assert from "node:assert/strict";
import { type ErrorCode, WeirError } from "../../../src/lib/errors.ts";
import { type MountId, rootInodeId } from "../../../src/lib/ids.ts";
import { checkStore, storeToCheck } from "../../../src/master/services/mount-check.ts";
import type { ClientCommand } from "../../../src/rpc/commands.ts";
import { type Task, type TaskResult, unmountedId } from "../../../src/rpc/tasks.ts";
import { LeaderFixture, obey } from "./leader-fixture.ts";

const never = new AbortController().signal;
const mount = {
  kind: "mount" as const,
  parent: rootInodeId,
  name: "m",
  uri: "file:///data",
  readOnly: true,
  options: { key: "value" },
};

const mountUpdate = (id: MountId) => ({
  kind: "updateMount" as const,
  mount: id,
  set: {},
  unset: [],
  readOnly: undefined,
  shared: undefined,
  overlap: undefined,
});

describe("checking a store before it is mounted", () => {
  let fixture: LeaderFixture;
  let asked: Task[];

  beforeEach(() => {
    fixture = new LeaderFixture();
    asked = [];
  });
  afterEach(() => fixture.end());

  const check = async (of: ClientCommand = mount) => {
    const { machine, dispatcher } = fixture;
    const wanted = storeToCheck(machine.state, of);
    if (wanted === undefined) return;
    await checkStore({ reader: machine.state, dispatcher }, wanted, never);
  };
  const withWorker = (answer: (task: Task) => TaskResult) => {
    fixture.worker("w", (task) => {
      asked.push(task);
      return answer(task);
    });
  };
  const refused = (promise: Promise<void>, code: ErrorCode, message: RegExp) =>
    assert.rejects(promise, (thrown) => {
      assert(thrown instanceof WeirError);
      assert.equal(thrown.code, code);
      assert.match(thrown.message, message);
      return true;
    });

  it("has a worker list its root once, as of no mount", async () => {
    withWorker(obey);
    await check();
    const { uri, readOnly, options } = mount;
    const target = { id: unmountedId, uri, readOnly, options };
    const [task] = asked;
    assert(asked.length === 1 && task?.kind === "listDirectory");
    assert.deepEqual([task.mount, task.path, task.limit], [target, "", 1]);
  });

  it("fails with what the store says", async () => {
    const message = 'Cannot use file:///data: there is nothing at "/data"';
    withWorker(({ taskId }) => ({ kind: "failed", taskId, code: "NotFound", message }));
    await refused(check(), "NotFound", /^Cannot use file:\/\/\/data: there is nothing at/);
  });

  it("fails without a worker, and says how to start one", async () => {
    await refused(check(), "Unavailable", /no worker is registered .*: weir worker/);
  });

  it("leaves it to the state to refuse a bad address and what is mounted already", async () => {
    withWorker(obey);
    await check({ ...mount, uri: "ftp://x" });
    fixture.machine.done(mount);
    await check();
    assert.deepEqual(asked, []);
  });

  it("looks at the store of a mount anew, with the options that it is to have", async () => {
    withWorker(obey);
    const id = fixture.machine.done(mount).id as MountId;
    const update = { ...mountUpdate(id), set: { other: "2" }, unset: ["key"] };
    await check(update);
    const [task] = asked;
    assert(asked.length === 1 && task?.kind === "listDirectory");
    assert.deepEqual(task.mount, {
      id: unmountedId,
      uri: mount.uri,
      readOnly: true,
      options: { other: "2" },
    });
  });

  it("does not look at a store whose options stay as they are", async () => {
    withWorker(obey);
    const id = fixture.machine.done(mount).id as MountId;
    await check({ ...mountUpdate(id), set: { key: "value" }, readOnly: false });
    await check(mountUpdate(77 as MountId));
    assert.deepEqual(asked, []);
  });
});
