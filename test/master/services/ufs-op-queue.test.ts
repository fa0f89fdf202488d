import assert from "node:assert/strict";
import { silentLogger } from "../../../src/lib/logger.ts";
import type { UfsOpId } from "../../../src/lib/ids.ts";
import { Layouts } from "../../../src/master/services/layouts.ts";
import { UfsOpQueue } from "../../../src/master/services/ufs-op-queue.ts";
import type { Task, TaskResult } from "../../../src/rpc/tasks.ts";
import { eventually } from "../../lib/eventually.ts";
import { LeaderFixture, obey } from "./leader-fixture.ts";
import { turn } from "./manual-clock.ts";

type UfsTask = Extract<Task, { kind: "ufsOp" }>;

const restMs = 100;

describe("UfsOpQueue", () => {
  let fixture: LeaderFixture;
  let ending: ReadonlySet<UfsOpId> | undefined;

  beforeEach(() => {
    fixture = new LeaderFixture();
    ending = new Set();
  });

  afterEach(() => fixture.end());

  function makeQueue() {
    const { machine, dispatcher, propose, clock, reign, locations, registry } = fixture;
    const layouts = new Layouts({
      reader: machine.state,
      locations,
      pendingRenames: () => [],
      silentMs: (worker) => registry.silentMs(worker),
    });
    const queue = new UfsOpQueue({
      reader: machine.state,
      dispatcher,
      propose,
      layoutOf: async ({ action }) =>
        action.kind === "persist" ? layouts.layoutOf(action.inode) : undefined,
      endingElsewhere: () => ending,
      clusterTimeMs: () => machine.clusterTimeMs,
      clock,
      logger: silentLogger,
      reign,
    });
    machine.onApplied = ({ events }) => queue.applied(events);
  }

  /** A queue that is at work. */
  function startQueue() {
    makeQueue();
    fixture.clock.advance(restMs);
  }

  const drained = () =>
    eventually("the queue to be empty", () => fixture.machine.pending().length === 0);
  const shown = ({ action }: UfsTask) =>
    action.kind === "rename"
      ? `rename ${action.from} ${action.to}`
      : `${action.kind} ${action.path}`;

  /** A worker that keeps what it got, in order. */
  function recorder(answer: (task: UfsTask) => TaskResult | Promise<TaskResult> = obey) {
    const seen: string[] = [];
    const worker = fixture.worker("recorder", (task) => {
      assert(task.kind === "ufsOp");
      seen.push(shown(task));
      return answer(task);
    });
    return { seen, worker };
  }

  it("executes what an earlier leader left and what is queued meanwhile", async () => {
    const { machine } = fixture;
    const { seen, worker } = recorder();
    const session = machine.openSession();
    machine.write("/before", 10, { keepers: [worker], session });
    startQueue();
    machine.write("/after", 10, { keepers: [worker], session });
    await drained();
    assert.deepEqual(seen.sort(), ["persist /after", "persist /before"].map(withoutSlash));
    assert.equal(machine.at("/before").persistence, "persisted");
    assert.equal(machine.at("/after").persistence, "persisted");
  });

  it("leaves the first moments of a reign to the clients that waited for it", async () => {
    const { machine, clock } = fixture;
    const { seen, worker } = recorder();
    const session = machine.openSession();
    machine.write("/before", 10, { keepers: [worker], session });
    makeQueue();
    machine.write("/after", 10, { keepers: [worker], session });
    await turn();
    clock.advance(restMs - 1);
    await turn();
    assert.deepEqual(seen, []);
    clock.advance(1);
    await drained();
  });

  it("keeps the order of operations on equal, higher and lower paths, and runs others at once", async () => {
    const { machine } = fixture;
    const release: (() => void)[] = [];
    const { seen, worker } = recorder(
      (task) => new Promise((resolve) => release.push(() => resolve(obey(task)))),
    );
    const session = machine.openSession();
    startQueue();
    machine.mkdir("/d");
    machine.write("/d/a", 10, { keepers: [worker], session });
    machine.write("/d/b", 10, { keepers: [worker], session });
    machine.write("/other", 10, { keepers: [worker], session });
    await eventually("the first two", () => seen.length === 2);
    await turn();
    assert.deepEqual(seen, ["mkdir d", "persist other"]);
    for (const each of release.splice(0)) each();
    await eventually("the files", () => seen.length === 4);
    assert.deepEqual(seen.slice(2).sort(), ["persist d/a", "persist d/b"]);
    for (const each of release.splice(0)) each();
    await drained();
  });

  it("tries again after a pause that grows", async () => {
    const { machine, clock } = fixture;
    let failures = 3;
    const { seen, worker } = recorder((task) =>
      failures-- > 0
        ? { kind: "failed", taskId: task.taskId, code: "Unavailable", message: "away" }
        : obey(task),
    );
    startQueue();
    machine.write("/f", 10, { keepers: [worker], session: machine.openSession() });
    for (const pauseMs of [1000, 2000, 4000]) {
      const before = seen.length;
      await eventually("the attempt", async () => {
        await turn();
        return seen.length > before || before > 0;
      });
      await turn();
      const attempts = seen.length;
      clock.advance(pauseMs - 1);
      await turn();
      assert.equal(seen.length, attempts, "it was tried before its pause was over");
      clock.advance(1);
      await eventually("the next attempt", () => seen.length === attempts + 1);
    }
    await drained();
  });

  it("gives up what the store refuses for what it is, shows it, and tries again when asked", async () => {
    const { machine, clock } = fixture;
    let refuses = true;
    const { seen, worker } = recorder((task) =>
      refuses
        ? {
            kind: "failed",
            taskId: task.taskId,
            code: "NameTooLong",
            message: "a key may have 1,024 bytes",
          }
        : obey(task),
    );
    startQueue();
    machine.write("/f", 10, { keepers: [worker], session: machine.openSession() });
    const failed = () => machine.pending()[0]?.failed;
    await eventually("it to be given up", async () => {
      clock.advance(60_000);
      await turn();
      return failed() !== undefined;
    });
    assert(failed()?.error.includes("1,024 bytes") === true);
    assert.equal(failed()?.attempts, 5);
    assert.equal(machine.at("/f").persistence, "none");
    clock.advance(600_000);
    await turn();
    assert.equal(seen.length, 5, "what was given up was tried again by itself");
    refuses = false;
    machine.done({ kind: "retryEffect", op: machine.pending()[0]!.id });
    await drained();
    assert.equal(machine.at("/f").persistence, "persisted");
  });

  it("drops a persist whose file is gone or was written again, without asking a worker", async () => {
    const { machine } = fixture;
    const session = machine.openSession();
    const keepers = [machine.worker("silent")];
    const { inode } = machine.write("/f", 10, { keepers, session });
    machine.done({ kind: "unlink", parent: machine.at("/").id, name: "f", held: false }, session);
    assert(machine.pending().some(({ action }) => action.kind === "persist"));
    startQueue();
    await eventually("the persist to be gone", () =>
      machine.pending().every(({ action }) => action.kind !== "persist"),
    );
    assert(fixture.proposed.some((command) => command.kind === "ufsDone"));
    assert.equal(machine.inode(inode).persistedVersion, 0);
  });

  it("leaves alone what still goes on for an earlier leader, and what waits behind it, until that has ended", async () => {
    const { machine, clock } = fixture;
    const { seen, worker } = recorder();
    const session = machine.openSession();
    machine.write("/f", 10, { keepers: [worker], session });
    machine.done({ kind: "unlink", parent: machine.at("/").id, name: "f", held: false }, session);
    machine.write("/f", 10, { keepers: [worker], session });
    machine.write("/other", 10, { keepers: [worker], session });
    const deletion = machine.pending().find(({ action }) => action.kind === "delete")!;
    ending = undefined;
    startQueue();
    await turn();
    assert.deepEqual(seen, [], "it is not known yet what goes on");
    ending = new Set([deletion.id]);
    clock.advance(50);
    await eventually("what is free", async () => {
      clock.advance(50);
      await turn();
      return seen.length > 0;
    });
    assert.deepEqual(seen, ["persist other"]);
    ending = new Set();
    await eventually("the rest", async () => {
      clock.advance(50);
      await turn();
      return machine.pending().length === 0;
    });
    assert.deepEqual(seen, ["persist other", "delete f", "persist f"]);
  });

  it("goes on with other paths behind more operations that wait than it looks ahead", async () => {
    const { machine } = fixture;
    machine.isChecked = false;
    const { seen, worker } = recorder((task) =>
      task.action.kind === "persist" && task.action.path.startsWith("f")
        ? { kind: "failed", taskId: task.taskId, code: "PermissionDenied", message: "closed" }
        : obey(task),
    );
    const session = machine.openSession();
    for (let i = 0; i < 600; i++) {
      machine.write(`/f${String(i)}`, 1, { keepers: [worker], session });
    }
    machine.write("/behind", 1, { keepers: [worker], session });
    startQueue();
    await eventually("the one behind them", () => seen.includes("persist behind"));
    assert.equal(machine.at("/behind").persistence, "persisted");
  });

  it("cancels the persist of a version that was overwritten meanwhile", async () => {
    const { machine, dispatcher } = fixture;
    const release: (() => void)[] = [];
    const { seen, worker } = recorder(
      (task) => new Promise((resolve) => release.push(() => resolve(obey(task)))),
    );
    const session = machine.openSession();
    startQueue();
    const { inode } = machine.write("/f", 10, { keepers: [worker], session });
    await eventually("the persist", () => seen.length === 1);
    assert.deepEqual(dispatcher.cancelledOf(worker), []);
    machine.done({ kind: "truncate", inode, size: 5 });
    assert.equal(dispatcher.cancelledOf(worker).length, 1);
    release.shift()!();
    await eventually("the next version", () => seen.length === 2);
    release.shift()!();
    await drained();
    assert.equal(machine.at("/f").persistence, "persisted");
  });

  it("gets through many more operations than it looks ahead", async () => {
    const { machine } = fixture;
    machine.isChecked = false;
    const { seen, worker } = recorder();
    const session = machine.openSession();
    for (let i = 0; i < 400; i++) {
      machine.write(`/f${String(i)}`, 1, { keepers: [worker], session });
    }
    startQueue();
    for (let i = 400; i < 600; i++) {
      machine.write(`/f${String(i)}`, 1, { keepers: [worker], session });
    }
    await drained();
    assert.equal(new Set(seen).size, 600);
    assert.equal(seen.length, 600);
  });
});

function withoutSlash(text: string): string {
  return text.replace(" /", " ");
}
