import assert from "node:assert/strict";
import type { WorkerId } from "../../../src/lib/ids.ts";
import { pickWorker } from "../../../src/master/services/leader-services.ts";
import { LeaderFixture } from "./leader-fixture.ts";

describe("the worker for a job", () => {
  let fixture: LeaderFixture;
  beforeEach(() => {
    fixture = new LeaderFixture();
  });
  afterEach(() => fixture.end());

  const heard = (worker: WorkerId, jobs: boolean | undefined) =>
    fixture.registry.report({
      worker,
      incarnation: "x",
      sequence: 0,
      full: true,
      changed: [],
      removed: [],
      usedBytes: [],
      freeSlots: 4,
      waitMs: 0,
      complete: true,
      jobs,
    });
  const pick = (...preferred: WorkerId[]) =>
    pickWorker(fixture.machine.state, fixture.registry, preferred);

  it("is one that runs jobs, be another preferred or not", () => {
    const [first, second] = [fixture.machine.worker("1"), fixture.machine.worker("2")];
    heard(first, false);
    assert.equal(pick(first), undefined);
    heard(second, undefined);
    assert.equal(pick(first), second);
    heard(first, true);
    assert.deepEqual([pick(first), pick(second)], [first, second]);
  });

  it("is none that is lost or silent", () => {
    const [first, second] = [fixture.machine.worker("1"), fixture.machine.worker("2")];
    heard(first, true);
    heard(second, true);
    fixture.machine.done({ kind: "workerLost", worker: first });
    assert.equal(pick(first), second);
    fixture.clock.advance(3000);
    assert.equal(pick(first), undefined);
  });
});
