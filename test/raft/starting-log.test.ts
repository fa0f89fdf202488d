import assert from "node:assert/strict";
import { startingLog } from "../../src/raft/starting-log.ts";
import type { Index, Term } from "../../src/raft/types.ts";
import { entry } from "./lib/core-cluster.ts";

const journal = {
  entries: [entry(6, 2), entry(7, 2), entry(8, 3)],
  baseIndex: 5 as Index,
  baseTerm: 1 as Term,
};

describe("log that a node starts with", () => {
  it("is the journal's where that holds what the state machine has applied last", () => {
    for (const applied of [
      { index: 5, term: 1 },
      { index: 7, term: 2 },
      { index: 8, term: 3 },
    ]) {
      assert.deepEqual(startingLog(journal, applied), journal);
    }
  });

  it("is empty behind the state where a snapshot brought that beyond the journal's end", () => {
    const log = startingLog(journal, { index: 9, term: 3 });
    assert.deepEqual(log, { entries: [], baseIndex: 9, baseTerm: 3 });
  });

  it("is empty behind the state where the journal holds another entry there", () => {
    const log = startingLog(journal, { index: 7, term: 3 });
    assert.deepEqual(log, { entries: [], baseIndex: 7, baseTerm: 3 });
  });
});
