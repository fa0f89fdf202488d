import assert from "node:assert/strict";
import { type Candidate, chooseChain } from "../../src/client/chain.ts";
import type { WorkerId } from "../../src/lib/ids.ts";

function candidate(id: number, freeBytes: number, rest: Partial<Candidate> = {}): Candidate {
  const worker = {
    id: id as WorkerId,
    uuid: `uuid-${id}`,
    host: "h",
    address: "127.0.0.1:1",
    state: "live" as const,
    tiers: [{ medium: "MEM" as const, quotaBytes: freeBytes + 5, usedBytes: 5 }],
    silentMs: 0,
  };
  return { worker, shared: false, distrusted: false, ...rest };
}

describe("the chain of a new container", () => {
  it("starts with the worker whose storage is shared, then takes those with most room", () => {
    const workers = [candidate(1, 10), candidate(2, 30), candidate(3, 1, { shared: true })];
    assert.deepEqual(chooseChain(workers, 2), [3, 2]);
    assert.deepEqual(chooseChain(workers, 1), [3]);
  });

  it("is shorter where there are fewer workers, and without those that failed lately", () => {
    const workers = [candidate(1, 10), candidate(2, 30, { distrusted: true })];
    assert.deepEqual(chooseChain(workers, 2), [1]);
    assert.deepEqual(chooseChain(workers.slice(1), 2), [2]);
  });

  it("is one worker after two failures, another one at each attempt", () => {
    const workers = [candidate(1, 10), candidate(2, 30)];
    assert.deepEqual(
      [2, 3, 4].map((attempt) => chooseChain(workers, 2, attempt)),
      [[2], [1], [2]],
    );
  });

  it("cannot be made without a live worker, and says what to do", () => {
    assert.throws(() => chooseChain([], 2), { code: "Unavailable", message: /weir worker/ });
  });
});
