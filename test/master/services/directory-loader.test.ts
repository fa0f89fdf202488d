import assert from "node:assert/strict";
import { hasCode } from "../../../src/lib/errors.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { DirectoryLoader } from "../../../src/master/services/directory-loader.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import type { Task, TaskResult } from "../../../src/rpc/tasks.ts";
import { eventually } from "../../lib/eventually.ts";
import { entryOf } from "../state/machine-fixture.ts";
import { LeaderFixture, ObservedMachine } from "./leader-fixture.ts";

type ListTask = Extract<Task, { kind: "listDirectory" }>;

describe("DirectoryLoader", () => {
  let fixture: LeaderFixture;
  let loader: DirectoryLoader;
  let isMoving: boolean;
  const never = new AbortController().signal;

  beforeEach(() => {
    fixture = new LeaderFixture(ObservedMachine.start({ rootLoaded: false }));
    isMoving = false;
    const { machine, dispatcher, propose, reign } = fixture;
    loader = new DirectoryLoader({
      reader: machine.state,
      appliedIndex: () => machine.index,
      dispatcher,
      propose,
      isMoving: () => isMoving,
      reign,
      clock: fixture.clock,
      clusterTimeMs: () => Math.floor(fixture.clock.monotonicMs()),
      logger: silentLogger,
      syncWaitMs: 1000,
      ahead: { directories: 20, names: 1000 },
    });
  });

  afterEach(() => fixture.end());

  function lister(list: (task: ListTask) => TaskResult) {
    const asked: (string | undefined)[] = [];
    fixture.worker("lister", (task) => {
      assert(task.kind === "listDirectory");
      asked.push(task.after);
      return list(task);
    });
    return asked;
  }

  it("loads page by page, once for all who wait", async () => {
    const names = ["a", "b", "c", "d"];
    const asked = lister(({ taskId, after }) => {
      const from = after === undefined ? 0 : names.indexOf(after) + 1;
      const entries = names.slice(from, from + 3).map((name) => entryOf(name));
      return { kind: "listed", taskId, entries, last: from + 3 >= names.length };
    });
    await Promise.all([1, 2, 3].map(() => loader.load(rootInodeId, never)));
    assert.deepEqual(asked, [undefined, "c"]);
    assert(fixture.machine.at("/").loaded);
    assert(names.every((name) => fixture.machine.exists(`/${name}`)));
  });

  it("loads what lies below ahead of the asker, within its budget", async () => {
    let directories = 0;
    fixture.worker("lister", (task) => {
      assert(task.kind === "listDirectory");
      directories++;
      // Every directory holds three more: there is always something left to walk.
      const entries = ["a", "b", "c"].map((name) => entryOf(name, { kind: "directory" }));
      return { kind: "listed", taskId: task.taskId, entries, last: true };
    });
    await loader.load(rootInodeId, never);
    await eventually("a walk below", () => fixture.machine.exists("/a/b/a"));
    await eventually("the end of the budget", () => directories === 21);
    await loader.load(fixture.machine.at("/a").id, never);
    assert.equal(directories, 21, "what was loaded ahead was listed again");
  });

  it("lists a page again that the state refuses as stale", async () => {
    const { machine } = fixture;
    let disturbed = false;
    const asked = lister(({ taskId }) => {
      if (!disturbed) {
        disturbed = true;
        // A removal in the same directory reaches the store while the listing is on its way.
        machine.done({
          kind: "loadPage",
          directory: rootInodeId,
          entries: [entryOf("gone")],
          listedAtIndex: machine.index,
          last: false,
        });
        machine.done({ kind: "unlink", parent: rootInodeId, name: "gone", held: false });
        machine.settle();
        return { kind: "listed", taskId, entries: [entryOf("gone")], last: true };
      }
      return { kind: "listed", taskId, entries: [entryOf("here")], last: true };
    });
    await loader.load(rootInodeId, never);
    assert.equal(asked.length, 2);
    assert(machine.exists("/here"));
    assert(!machine.exists("/gone"));
  });

  it("passes on what the store answered, to all who wait, and tries anew for the next", async () => {
    let fail = true;
    lister(({ taskId }) =>
      fail
        ? { kind: "failed", taskId, code: "PermissionDenied", message: "the bucket is closed" }
        : { kind: "listed", taskId, entries: [], last: true },
    );
    const loads = [1, 2].map(() => loader.load(rootInodeId, never));
    for (const load of loads) {
      await assert.rejects(load, (error) => {
        assert(hasCode(error, "PermissionDenied"));
        assert.match(error.message, /the bucket is closed/);
        return true;
      });
    }
    fail = false;
    await loader.load(rootInodeId, never);
    assert(fixture.machine.at("/").loaded);
  });

  it("waits for moves that the store has not seen", async () => {
    isMoving = true;
    const asked = lister(({ taskId }) => ({ kind: "listed", taskId, entries: [], last: true }));
    const load = loader.load(rootInodeId, never);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(asked.length, 0);
    isMoving = false;
    await load;
    assert.equal(asked.length, 1);
  });

  it("lets each caller give up by itself", async () => {
    let answer: (result: TaskResult) => void = () => undefined;
    fixture.worker(
      "slow",
      ({ taskId }) =>
        new Promise((resolve) => {
          answer = () => resolve({ kind: "listed", taskId, entries: [], last: true });
        }),
    );
    const caller = new AbortController();
    const impatient = loader.load(rootInodeId, caller.signal);
    const patient = loader.load(rootInodeId, never);
    caller.abort();
    await assert.rejects(impatient, (error) => hasCode(error, "Cancelled"));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    answer({} as TaskResult);
    await patient;
  });

  /** A store with `count` names in its root, and what is asked of it. */
  function large(count: number): { pages: number; alone: string[] } {
    const asked = { pages: 0, alone: [] as string[] };
    const nameAt = (place: number) => `n${String(place).padStart(7, "0")}`;
    const placeAfter = (name: string | undefined) =>
      name === undefined ? 0 : Number(name.slice(1)) + 1;
    fixture.machine.isChecked = false;
    lister(({ taskId, after, limit, only }) => {
      if (only !== undefined) {
        asked.alone.push(only);
        const place = Number(only.slice(1));
        const entries = place < count && nameAt(place) === only ? [entryOf(only)] : [];
        return { kind: "listed", taskId, entries, last: false, only: true };
      }
      asked.pages++;
      const from = placeAfter(after);
      const to = Math.min(from + limit, count);
      const entries = Array.from({ length: to - from }, (_, i) => entryOf(nameAt(from + i)));
      return { kind: "listed", taskId, entries, last: to === count };
    });
    return asked;
  }

  it("A13: finds one name among two millions without the others", async () => {
    const asked = large(2_000_000);
    const { machine } = fixture;
    await loader.know(rootInodeId, "n1234567", never);
    assert(machine.exists("/n1234567"));
    await loader.know(rootInodeId, "n1999999", never);
    await loader.know(rootInodeId, "missing", never);
    assert(!machine.exists("/missing") && !machine.at("/").loaded);
    assert.deepEqual(asked, { pages: 1, alone: ["n1234567", "n1999999", "missing"] });
    assert(machine.at("/").childCount <= 1002);
  });

  it("A13: gives the first names of two millions as soon as they are there", async () => {
    const asked = large(2_000_000);
    assert.equal(await loader.reach(rootInodeId, undefined, never), "n0000999");
    assert(asked.pages <= 2, "who reads the first page waits for no other");
    const upTo = await loader.reach(rootInodeId, "n0000999", never);
    assert(upTo !== undefined && upTo >= "n0001999");
    assert(asked.pages <= 4);
  });

  it("asks the store once for all who find a directory too old, and again when it is", async () => {
    const asked = lister(({ taskId }) => ({ kind: "listed", taskId, entries: [], last: true }));
    await loader.load(rootInodeId, never);
    const look = () => loader.freshen(rootInodeId, { maxAgeMs: 50 }, never);
    await look();
    assert.equal(asked.length, 1, "it is young enough");
    fixture.clock.advance(51);
    await Promise.all([look(), look(), look()]);
    assert.equal(asked.length, 2);
  });

  it("answers with what was known when the store takes too long, or fails", async () => {
    let isSlow = false;
    let answer: (() => void) | undefined;
    fixture.worker("lister", async ({ taskId }) => {
      if (isSlow) await new Promise<void>((resolve) => (answer = resolve));
      return isSlow
        ? { kind: "failed", taskId, code: "Unavailable", message: "the store is away" }
        : { kind: "listed", taskId, entries: [entryOf("a")], last: true };
    });
    await loader.load(rootInodeId, never);
    isSlow = true;
    fixture.clock.advance(10);
    let isAnswered = false;
    const look = loader.freshen(rootInodeId, { maxAgeMs: 0 }, never).then(() => {
      isAnswered = true;
    });
    await eventually("the store to be asked", () => answer !== undefined);
    assert(!isAnswered);
    fixture.clock.advance(1000);
    await look;
    assert(fixture.machine.exists("/a"));
    answer?.();
  });

  it("takes nothing away when the root of a store is missing", async () => {
    let isAway = false;
    lister(({ taskId, path }) => {
      if (isAway) return { kind: "failed", taskId, code: "NotFound", message: "nothing there" };
      const entries = path === "" ? [entryOf("d", { kind: "directory" })] : [entryOf("a")];
      return { kind: "listed", taskId, entries, last: true };
    });
    await loader.load(rootInodeId, never);
    await loader.load(fixture.machine.at("/d").id, never);
    isAway = true;
    const now = { since: fixture.clock.monotonicMs() + 1, waitMs: 1000 };
    fixture.clock.advance(2);
    for (const path of ["/", "/d"]) {
      const sync = loader.sync(fixture.machine.at(path).id, now, never);
      await assert.rejects(sync, (error) => hasCode(error, "Unavailable"));
    }
    assert(fixture.machine.exists("/d/a"));
  });

  it("says how to start a worker when there is none", async () => {
    await assert.rejects(loader.load(rootInodeId, never), /start one with: weir worker/);
  });
});
