import assert from "node:assert/strict";
import type { Index } from "../../src/raft/types.ts";
import { leadingCore, persistAll, receive } from "./lib/core-cluster.ts";

describe("raft core, compacting its log", () => {
  it("R16: asks for a snapshot when what was sent ahead is lost and compacted away", () => {
    const voters = ["n1", "n2", "n3"];
    const core = leadingCore({ voters, maxInflight: 1 });
    const acknowledge = (from: string, index: number) => {
      const { term } = core;
      const hint = { hintIndex: index, hintTerm: term };
      receive(core, { kind: "appendReply", from, term, ok: true, index, ...hint });
    };
    acknowledge("n2", 1);
    acknowledge("n3", 1);
    // The window of n3 is full of an append that is lost; n2 goes on with the leader, which forgets all that.
    for (let index = 2; index <= 9; index++) {
      core.propose(Buffer.from("command"));
      persistAll(core, core.take());
      acknowledge("n2", index);
      core.take();
    }
    core.step({ kind: "applied", index: 9 as Index });
    core.step({ kind: "compact", index: 9 as Index });
    receive(core, { kind: "heartbeatReply", from: "n3", term: core.term, readToken: 0 });
    assert.deepEqual(core.take().snapshots, ["n3"]);
  });
});
