/** What a node holds in memory stays within bounds, whatever others are slow in; and it goes on once they are not. */
import assert from "node:assert/strict";
import {
  CoreCluster,
  entry,
  makeCore,
  makeLeader,
  persistAll,
  receive,
} from "./lib/core-cluster.ts";
import type { Index } from "../../src/raft/types.ts";

const voters = ["n1", "n2", "n3"];

/** Sends appends of a leader to a follower that applies nothing, until one is not acknowledged; returns its log's end. */
function fill(
  options: { maxUnappliedEntries?: number; maxUnappliedBytes?: number },
  payload: Buffer,
) {
  const core = makeCore({ voters, id: "n2", ...options });
  const append = (prevIndex: number, commit: number) => {
    const entries = [{ ...entry(prevIndex + 1, 1), payload }];
    const prevTerm = prevIndex === 0 ? 0 : 1;
    receive(core, { kind: "append", from: "n1", term: 1, prevIndex, prevTerm, commit, entries });
    for (;;) {
      const output = core.take();
      if (output.sendAfterPersist.length > 0) {
        persistAll(core, output);
        core.take();
        return true;
      }
      if (output.persist === undefined) return false;
      persistAll(core, output);
    }
  };
  while (core.lastIndex < 1000 && append(core.lastIndex, core.lastIndex + 1));
  return { core, append };
}

describe("raft: bounds", () => {
  it("a follower whose state machine is behind takes no more entries until it has applied some", () => {
    for (const { options, size } of [
      { options: { maxUnappliedEntries: 100 }, size: 10 },
      { options: { maxUnappliedBytes: 100_000 }, size: 1000 },
    ]) {
      const { core, append } = fill(options, Buffer.alloc(size));
      assert.ok(core.lastIndex >= 100 && core.lastIndex <= 102, String(core.lastIndex));
      assert.equal(core.leader, "n1");
      core.step({ kind: "applied", index: 10 as Index });
      assert.ok(append(core.lastIndex, core.lastIndex + 1));
      core.step({ kind: "applied", index: core.commitIndex });
      const before = core.lastIndex;
      while (core.lastIndex < 1000 && append(core.lastIndex, core.lastIndex + 1));
      assert.ok(core.lastIndex >= before + 99, "not all that was applied has made room");
    }
  });

  it("a follower takes entries however much is not committed: it may need the next one to be", () => {
    const { core, append } = fill({ maxUnappliedEntries: 100 }, Buffer.alloc(10));
    core.step({ kind: "applied", index: core.commitIndex });
    const committed = core.commitIndex;
    for (let count = 0; count < 300; count++) assert.ok(append(core.lastIndex, committed));
  });

  it("a leader goes on with a follower that has had no room", () => {
    const cluster = new CoreCluster(3, { maxUnappliedEntries: 50 });
    cluster.elect("n1");
    const slow = cluster.core("n3");
    const step = slow.step.bind(slow);
    slow.step = (input) => {
      if (input.kind !== "applied") step(input);
    };
    for (let count = 0; count < 200; count++) {
      cluster.core("n1").propose(Buffer.from(String(count)));
      cluster.settle();
    }
    cluster.tick(20);
    assert.equal(cluster.core("n1").role, "leader");
    assert.ok(slow.lastIndex < 60, String(slow.lastIndex));
    slow.step = step;
    slow.step({ kind: "applied", index: slow.commitIndex });
    cluster.tick(20);
    assert.equal(slow.commitIndex, cluster.core("n1").lastIndex);
    assert.equal(slow.appliedIndex, slow.commitIndex);
  });

  it("reads do not pile up at a leader that cannot commit the first entry of its term", () => {
    const core = makeCore({ voters, id: "n1" });
    makeLeader(core, voters);
    let id = 0;
    let refused = 0;
    for (let tick = 0; tick < 5000; tick++) {
      core.step({ kind: "tick" });
      core.step({ kind: "read", id: ++id });
      // A follower sends each request again until it gives it up.
      for (const request of [id, Math.max(1, id - 1)]) {
        receive(core, { kind: "readRequest", from: "n2", term: core.term, request });
      }
      const output = core.take();
      persistAll(core, output);
      refused += output.reads.length;
      for (const each of output.send) {
        if (each.kind !== "heartbeat") continue;
        const { to: from, readToken } = each;
        receive(core, { kind: "heartbeatReply", from, term: core.term, readToken });
      }
    }
    assert.equal(core.role, "leader");
    assert.ok(id - refused <= 100, `${id - refused} reads wait`);
    // Now it can, and answers what waits: each request once.
    const { term, lastIndex } = core;
    const places = { index: lastIndex, hintIndex: lastIndex, hintTerm: term };
    receive(core, { kind: "appendReply", from: "n2", term, ok: true, ...places });
    const beat = core.take().send.find((each) => each.kind === "heartbeat");
    const readToken = beat?.kind === "heartbeat" ? beat.readToken : 0;
    receive(core, { kind: "heartbeatReply", from: "n2", term, readToken });
    const requests = core
      .take()
      .send.flatMap((each) => (each.kind === "readReply" ? [each.request] : []));
    assert.ok(requests.length > 0 && requests.length <= 20, `${requests.length} requests wait`);
    assert.equal(new Set(requests).size, requests.length);
  });
});
