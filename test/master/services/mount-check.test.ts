import assert from "node:assert/strict";
import { type ErrorCode, WeirError } from "../../../src/lib/errors.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { checkMount } from "../../../src/master/services/mount-check.ts";
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

describe("checking a store before it is mounted", () => {
  let fixture: LeaderFixture;
  let asked: Task[];

  beforeEach(() => {
    fixture = new LeaderFixture();
    asked = [];
  });
  afterEach(() => fixture.end());

  const check = (of: typeof mount = mount) => {
    const { machine, dispatcher } = fixture;
    return checkMount({ reader: machine.state, dispatcher }, of, never);
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
});
