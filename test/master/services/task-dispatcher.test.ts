import assert from "node:assert/strict";
import { hasCode, WeirError } from "../../../src/lib/errors.ts";
import type { InodeId, MountId, UfsOpId, WorkerId, WriteId } from "../../../src/lib/ids.ts";
import { Locations } from "../../../src/master/services/locations.ts";
import { type Placement, TaskDispatcher } from "../../../src/master/services/task-dispatcher.ts";
import { WorkerRegistry } from "../../../src/master/services/worker-registry.ts";
import type { Task } from "../../../src/rpc/tasks.ts";
import { ManualClock, turn } from "./manual-clock.ts";

const one = 1 as WorkerId;
const two = 2 as WorkerId;

describe("TaskDispatcher", () => {
  let clock: ManualClock;
  let registry: WorkerRegistry;
  let dispatcher: TaskDispatcher;
  let reign: AbortController;
  let live: Set<WorkerId>;

  beforeEach(() => {
    clock = new ManualClock();
    registry = new WorkerRegistry({ clock, locations: new Locations() });
    reign = new AbortController();
    live = new Set([one, two]);
    dispatcher = new TaskDispatcher({
      clock,
      registry,
      isLive: (worker) => live.has(worker),
      reign: { term: 3, signal: reign.signal, sinceMs: 0 },
    });
  });

  function run(placement: Partial<Placement> = {}, signal = new AbortController().signal) {
    const containers = [{ inode: 1 as InodeId, writeId: 1 as WriteId }];
    return dispatcher.run(
      { kind: "dropContainers", containers, kept: false },
      { urgent: false, ...placement },
      signal,
    );
  }

  function affect(placement: Partial<Placement> = {}) {
    const mount = { id: 1 as MountId, uri: "file:///x", readOnly: false, options: {} };
    const action = { kind: "delete" as const, path: "a" };
    return dispatcher.run(
      { kind: "ufsOp", op: 5 as UfsOpId, mount, action },
      { urgent: false, ...placement },
      new AbortController().signal,
    );
  }

  function poll(
    worker: WorkerId,
    of: { slots?: number; connection?: number; incarnation?: string } = {},
  ): Promise<readonly Task[]> {
    return registry.poll(
      {
        worker,
        incarnation: of.incarnation ?? "first",
        sequence: 0,
        full: false,
        changed: [],
        removed: [],
        usedBytes: [],
        freeSlots: of.slots ?? 4,
        waitMs: 1000,
        complete: undefined,
        jobs: undefined,
      },
      of.connection ?? 1,
      new AbortController().signal,
    );
  }

  function list(mount: number): Promise<unknown> {
    const target = { id: mount as MountId, uri: "file:///x", readOnly: false, options: {} };
    const task = { kind: "listDirectory" as const, mount: target, path: "", limit: 1 };
    const { signal } = new AbortController();
    return dispatcher.run({ ...task, after: undefined }, { urgent: true }, signal);
  }

  function effect(mount: number): Promise<unknown> {
    const target = { id: mount as MountId, uri: "file:///x", readOnly: false, options: {} };
    const action = { kind: "delete" as const, path: "x" };
    const { signal } = new AbortController();
    return dispatcher.run(
      { kind: "ufsOp", op: 1 as UfsOpId, mount: target, action },
      { urgent: false },
      signal,
    );
  }

  const mountsIn = (tasks: readonly Task[]) =>
    tasks.map((task) =>
      task.kind === "listDirectory" || task.kind === "ufsOp" ? (task.mount.id as number) : 0,
    );

  it("gives one mount a part of a worker, however much waits for it, and the rest to others", async () => {
    live = new Set([one]);
    for (let i = 0; i < 30; i++) {
      list(7).catch(() => undefined);
      effect(7).catch(() => undefined);
    }
    list(8).catch(() => undefined);
    effect(8).catch(() => undefined);
    const counted = (await poll(one, { slots: 32 })).reduce<Record<string, number>>((all, task) => {
      const key = `${task.kind} ${String(mountsIn([task])[0])}`;
      return { ...all, [key]: (all[key] ?? 0) + 1 };
    }, {});
    assert.deepEqual(counted, {
      "listDirectory 7": 4,
      "listDirectory 8": 1,
      "ufsOp 7": 16,
      "ufsOp 8": 1,
    });
  });

  it("asks workers that a store answers, and one task at a time where it answers none", async () => {
    const report = (worker: WorkerId, unhealthy: number[]) =>
      registry.report({
        ...{ worker, incarnation: "first", sequence: 0, full: true, changed: [], removed: [] },
        ...{ usedBytes: [], freeSlots: 4, waitMs: 0, complete: true, jobs: false },
        unhealthy: unhealthy.map((mount) => ({
          mount: mount as MountId,
          forMs: 1,
          reason: "it is away",
        })),
      });
    report(one, [7, 8]);
    report(two, [8]);
    for (let i = 0; i < 3; i++) {
      effect(7).catch(() => undefined);
      effect(8).catch(() => undefined);
    }
    const polls = [poll(one, { slots: 20 }), poll(two, { slots: 10 })];
    const [atOne, atTwo] = await Promise.all(polls);
    assert.deepEqual(mountsIn(atOne!), [8]);
    assert.deepEqual(mountsIn(atTwo!).sort(), [7, 7, 7, 8]);
  });

  it("hands a task out on an open poll and gives its result back", async () => {
    const polled = poll(one);
    const result = run();
    const [task] = await polled;
    dispatcher.results(one, [{ kind: "dropped", taskId: task!.taskId }]);
    assert.equal((await result).kind, "dropped");
  });

  it("keeps tasks until a worker asks, as many as it has slots for", async () => {
    for (let i = 0; i < 6; i++) run().catch(() => undefined);
    await turn();
    assert.equal((await poll(one)).length, 4);
    assert.equal((await poll(two)).length, 2);
  });

  it("gives urgent tasks first, and to workers without a slot", async () => {
    run().catch(() => undefined);
    const urgent = run({ urgent: true });
    const [task] = await poll(one, { slots: 0 });
    dispatcher.results(one, [{ kind: "dropped", taskId: task!.taskId }]);
    await urgent;
  });

  it("waits a moment for the worker that has the data, then takes another", async () => {
    const other = poll(two);
    run({ prefer: [one] }).catch(() => undefined);
    await turn();
    assert.equal(registry.openPolls().length, 1);
    assert.equal((await poll(one)).length, 1);
    run({ prefer: [one] }).catch(() => undefined);
    await turn();
    clock.advance(1000);
    await turn();
    assert.equal((await other).length, 0, "the poll ended with its own time");
    assert.equal((await poll(two)).length, 1);
  });

  it("does not wait for a preferred worker that is lost", async () => {
    live.delete(one);
    const polled = poll(two);
    run({ prefer: [one] }).catch(() => undefined);
    assert.equal((await polled).length, 1);
  });

  it("leaves a task for one worker to that worker", async () => {
    const other = poll(two);
    run({ only: one }).catch(() => undefined);
    await turn();
    assert.equal((await poll(one)).length, 1);
    registry.releasePolls();
    assert.deepEqual(await other, []);
  });

  it("hands a task over again when its reply may have been lost with the connection", async () => {
    const result = run();
    const [first] = await poll(one, { connection: 1 });
    const [again] = await poll(one, { connection: 2 });
    assert.equal(again?.taskId, first!.taskId);
    dispatcher.results(one, [{ kind: "dropped", taskId: first!.taskId }]);
    await result;
  });

  it("does not repeat a task that a heartbeat on the same connection confirmed", async () => {
    run().catch(() => undefined);
    await poll(one, { connection: 1 });
    const second = poll(one, { connection: 1 });
    registry.releasePolls();
    assert.deepEqual(await second, []);
    const third = poll(one, { connection: 2 });
    await turn();
    registry.releasePolls();
    assert.deepEqual(await third, []);
  });

  it("fails the tasks of a worker that was lost or restarted", async () => {
    const lost = run({ only: one });
    const waiting = run({ only: two });
    await poll(one);
    dispatcher.workerLost(one);
    await assert.rejects(lost, (error) => hasCode(error, "Unavailable"));
    await poll(two);
    void poll(two, { incarnation: "second" });
    await assert.rejects(waiting, (error) => hasCode(error, "Unavailable"));
  });

  it("fails what is queued for a worker that was lost", async () => {
    const waiting = run({ only: one });
    dispatcher.workerLost(one);
    await assert.rejects(waiting, (error) => hasCode(error, "Unavailable"));
  });

  it("ends all tasks with the reign, and those that come later", async () => {
    const queued = run();
    reign.abort(new WeirError("NotLeader", "over"));
    await assert.rejects(queued, (error) => hasCode(error, "NotLeader"));
    await assert.rejects(run(), (error) => hasCode(error, "NotLeader"));
  });

  it("forgets a task whose caller gave up", async () => {
    const caller = new AbortController();
    const given = run({}, caller.signal);
    caller.abort();
    await assert.rejects(given, (error) => hasCode(error, "Cancelled"));
    const polled = poll(one);
    await turn();
    registry.releasePolls();
    assert.deepEqual(await polled, []);
  });

  it("hands a side effect to no second worker while the first one may do it", async () => {
    const affecting = affect();
    const [task] = await poll(one);
    // Its connection broke: whether it has the task is not known.
    const again = poll(one, { connection: 2, slots: 0 });
    void again;
    const other = poll(two);
    let handedToOther = false;
    void other.then((tasks) => (handedToOther = tasks.length > 0));
    await turn();
    assert(!handedToOther, "another worker was asked meanwhile");
    const [handedAgain] = await poll(one, { connection: 2 });
    assert.deepEqual(handedAgain, task);
    dispatcher.workerLost(one);
    await assert.rejects(affecting, (thrown) => hasCode(thrown, "Unavailable"));
  });

  it("has a side effect ended that is not wanted any more, and waits for the worker's word", async () => {
    const cancel = new AbortController();
    const affecting = affect({ cancel: cancel.signal });
    const [task] = await poll(one);
    const open = poll(one);
    cancel.abort();
    assert.deepEqual(await open, [], "the worker must hear of it at once");
    assert.deepEqual(dispatcher.cancelledOf(one), [task!.taskId]);
    const failed = {
      kind: "failed" as const,
      taskId: task!.taskId,
      code: "Cancelled",
      message: "",
    };
    dispatcher.results(one, [failed]);
    assert.deepEqual(await affecting, failed);
    assert.deepEqual(dispatcher.cancelledOf(one), []);
  });
});
