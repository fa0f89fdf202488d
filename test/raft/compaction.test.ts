import assert from "node:assert/strict";
import type { Index } from "../../src/raft/types.ts";
import { makeCore, makeLeader, message, persistAll } from "./lib/core-cluster.ts";

describe("raft core, compacting its log", () => {
  it("R16: asks for a snapshot when what was sent ahead is lost and compacted away", () => {
    const voters = ["n1", "n2", "n3"];
    const core = makeCore({ voters, maxInflight: 1 });
    makeLeader(core, voters);
    persistAll(core, core.take());
    const acknowledge = (from: string, index: number) => {
      core.step({
        kind: "receive",
        message: message({
          kind: "appendReply",
          from,
          to: "n1",
          term: core.term,
          ok: true,
          index,
          hintIndex: index,
          hintTerm: core.term,
        }),
      });
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
    core.step({
      kind: "receive",
      message: message({
        kind: "heartbeatReply",
        from: "n3",
        to: "n1",
        term: core.term,
        readToken: 0,
      }),
    });
    assert.deepEqual(core.take().snapshots, ["n3"]);
  });
});
