import assert from "node:assert/strict";
import { WeirError } from "../../src/lib/errors.ts";
import type { MountId, UfsOpId } from "../../src/lib/ids.ts";
import type { Task, TaskResult } from "../../src/rpc/tasks.ts";
import type { Attempt } from "../../src/worker/task-executor.ts";
import { WorkerTasks } from "../../src/worker/worker-tasks.ts";
import { ManualClock, turn } from "../master/services/manual-clock.ts";

const leaseMs = 5000;

describe("the tasks of a worker", () => {
  let clock: ManualClock;
  let tasks: WorkerTasks;
  let attempts: { attempt: Attempt; end: (result: TaskResult) => void }[];

  beforeEach(() => {
    clock = new ManualClock();
    attempts = [];
    tasks = new WorkerTasks({
      execute: (_task, attempt) =>
        new Promise((end) => {
          attempts.push({ attempt, end });
        }),
      onResult: () => undefined,
      clock,
    });
  });
  afterEach(() => tasks.stop(new WeirError("Cancelled", "The test is over")));

  const deletion = (taskId: number, op = 7): Task => ({
    kind: "ufsOp",
    taskId,
    op: op as UfsOpId,
    mount: { id: 1 as MountId, uri: "file:///x", readOnly: false, options: {} },
    action: { kind: "delete", path: "a", of: "file" },
  });
  const take = (term: number, handed: Task[], of: { sentMs?: number; cancelled?: number[] } = {}) =>
    tasks.take(
      { term, tasks: handed, cancelled: of.cancelled, effectLeaseMs: leaseMs },
      of.sentMs ?? clock.monotonicMs(),
    );
  const done = (taskId: number): TaskResult => ({
    kind: "ufsDone",
    taskId,
    op: 7 as UfsOpId,
    fingerprint: undefined,
  });

  it("permit side effects only for as long as a leader's answers extend it, counted from the request", async () => {
    take(1, [deletion(1)], { sentMs: clock.monotonicMs() - 1000 });
    await turn();
    const { permit, signal } = attemptAt(0);
    clock.advance(leaseMs - 1001);
    permit();
    take(1, [], { sentMs: clock.monotonicMs() - 2000 });
    clock.advance(leaseMs - 2001);
    permit();
    assert(!signal.aborted);
    clock.advance(1);
    assert.throws(permit);
    assert(signal.aborted, "what cannot go on is ended");
  });

  it("end those of a term that is over, and tell the next leader until they have ended", async () => {
    take(1, [deletion(1)]);
    await turn();
    assert.deepEqual(tasks.ending, []);
    take(2, []);
    assert(attemptAt(0).signal.aborted);
    assert.throws(attemptAt(0).permit);
    assert.deepEqual(tasks.ending, [7]);
    assert.equal(take(1, [deletion(2, 8)]), false, "the former leader is not heard any more");
    attempts[0]!.end(done(1));
    await turn();
    assert.deepEqual(tasks.ending, []);
    assert.deepEqual(tasks.results(9), [], "nobody waits for that result");
  });

  it("do a side effect once at a time: the next attempt begins when the one before has ended, in the store as well", async () => {
    take(1, [deletion(1)]);
    await turn();
    let landed: () => void = () => undefined;
    attemptAt(0).outlives(new Promise<void>((resolve) => (landed = resolve)));
    attempts[0]!.end({ kind: "failed", taskId: 1, code: "DeadlineExceeded", message: "late" });
    await turn();
    assert.equal((tasks.results(9)[0] as { goesOn?: boolean }).goesOn, true);
    assert.deepEqual(tasks.ending, [7], "a leader must know that it hangs");
    take(1, [deletion(2)]);
    await turn();
    assert.equal(attempts.length, 1);
    landed();
    await turn();
    assert.equal(attempts.length, 2);
  });

  it("answer again what is handed over again, and do not do it again", async () => {
    take(1, [deletion(1)]);
    await turn();
    attempts[0]!.end(done(1));
    await turn();
    tasks.delivered(tasks.results(9));
    take(1, [deletion(1)]);
    await turn();
    assert.equal(attempts.length, 1);
    assert.deepEqual(tasks.results(9), [done(1)]);
  });

  it("are ended when the leader cancels them", async () => {
    take(1, [deletion(1), deletion(2, 8)]);
    await turn();
    take(1, [], { cancelled: [1] });
    assert(attemptAt(0).signal.aborted);
    assert(!attemptAt(1).signal.aborted);
  });

  function attemptAt(place: number): Attempt {
    return attempts[place]!.attempt;
  }
});
