import assert from "node:assert/strict";
import { encodeConfiguration } from "../../src/raft/configuration-codec.ts";
import type { RaftCore } from "../../src/raft/core.ts";
import type { Entry, EntryKind, Index, Message, NodeId, Term } from "../../src/raft/types.ts";
import { Invariants } from "./invariants.ts";
import { applied, emptyState, encodeRequest } from "./simulated-machine.ts";
import { Violation } from "./violation.ts";
import { Promised } from "./watched-journal.ts";

const nobody = { term: 0 as Term, vote: undefined };

function entry(index: number, term: number, text = "command", kind: EntryKind = "command"): Entry {
  return { index: index as Index, term: term as Term, kind, payload: Buffer.from(text) };
}

/** As much of a node as the invariants look at, with entries from index 1 on. */
function node(
  id: NodeId,
  fields: { role?: string; term?: number; commitIndex?: number; terms?: number[] } = {},
): RaftCore {
  const { role = "follower", term = 1, commitIndex = 0, terms = [] } = fields;
  const configuration = { voters: ["n1", "n2", "n3"], outgoing: [], learners: [] };
  return {
    id,
    role,
    term,
    commitIndex,
    baseIndex: 0,
    lastIndex: terms.length,
    configuration,
    configurationIndex: 0,
    termAt: (index: number) => (index === 0 ? 0 : terms[index - 1]),
  } as unknown as RaftCore;
}

/** The same node, later. */
function changed(core: RaftCore, fields: object): RaftCore {
  return Object.assign(core, fields);
}

describe("invariants of the simulation", () => {
  let holders: Set<NodeId>;
  let invariants: Invariants;
  beforeEach(() => {
    holders = new Set(["n1", "n2", "n3"]);
    invariants = new Invariants((id) => holders.has(id));
  });
  const refused = (claim: RegExp, action: () => void) => {
    assert.throws(action, (error) => error instanceof Violation && claim.test(error.message));
  };

  it("refuse two leaders in one term", () => {
    invariants.checkNode(node("n1", { role: "leader", term: 3 }));
    refused(/n1 and n2 both lead term 3/u, () => {
      invariants.checkNode(node("n2", { role: "leader", term: 3 }));
    });
  });

  it("refuse two votes of one node in a term", () => {
    const vote = (to: NodeId): Message => ({
      kind: "voteReply",
      preVote: false,
      granted: true,
      from: "n3",
      to,
      term: 2 as Term,
    });
    invariants.checkMessage(vote("n1"));
    invariants.checkMessage(vote("n1"));
    refused(/n3 votes for n1 and n2 in term 2/u, () => {
      invariants.checkMessage(vote("n2"));
    });
  });

  it("refuse a term or a commit index that falls", () => {
    const core = node("n1", { term: 5, commitIndex: 0, terms: [5] });
    invariants.checkNode(core);
    invariants.checkNode(changed(core, { commitIndex: 1 }));
    refused(/commit index of n1 falls/u, () => {
      invariants.checkNode(changed(core, { commitIndex: 0 }));
    });
    refused(/term of n1 falls/u, () => {
      invariants.checkNode(changed(core, { commitIndex: 1, term: 4 }));
    });
  });

  it("refuse two entries with one index and term, or behind different predecessors", () => {
    invariants.checkEntries(node("n1", { terms: [1, 2] }), [entry(1, 1), entry(2, 2)]);
    invariants.checkEntries(node("n2", { terms: [1, 2] }), [entry(1, 1), entry(2, 2)]);
    refused(/n3 has another entry 2 of term 2/u, () => {
      invariants.checkEntries(node("n3", { terms: [1, 2] }), [entry(2, 2, "other")]);
    });
    refused(/behind one of term 3/u, () => {
      invariants.checkEntries(node("n3", { terms: [3, 2] }), [entry(2, 2)]);
    });
  });

  it("refuse a leader without a committed entry, and one that drops entries", () => {
    invariants.checkNode(node("n1", { role: "leader", term: 1, commitIndex: 2, terms: [1, 1] }));
    refused(/n2 leads term 2 without the committed entry 2/u, () => {
      invariants.checkNode(node("n2", { role: "leader", term: 2, terms: [1] }));
    });
    const leader = node("n3", { role: "leader", term: 3, terms: [1, 1, 3] });
    invariants.checkNode(leader);
    refused(/leader n3 drops entries behind 2/u, () => {
      invariants.checkNode(changed(leader, { lastIndex: 2 }));
    });
  });

  it("refuse a commit that is not on the disks of a quorum, or leaves them", () => {
    holders = new Set(["n1"]);
    refused(/not on the disks of a quorum/u, () => {
      invariants.checkNode(node("n1", { role: "leader", commitIndex: 1, terms: [1] }));
    });
    const { configuration } = node("n1");
    refused(/a quorum does not hold the committed entry 1/u, () => {
      invariants.checkQuorumLog(configuration);
    });
    holders = new Set(["n1", "n2"]);
    invariants.checkQuorumLog(configuration);
    refused(/a quorum does not hold/u, () => {
      invariants.checkQuorumLog({ ...configuration, voters: ["n2", "n3", "n4"] });
    });
  });

  it("refuse an entry that is committed, or applied, with two terms", () => {
    invariants.checkNode(node("n1", { role: "leader", commitIndex: 1, terms: [1] }));
    refused(/n2 commits 1 of term 2, not 1/u, () => {
      invariants.checkNode(node("n2", { term: 2, commitIndex: 1, terms: [2] }));
    });
    refused(/n2 applies 1 of term 2/u, () => {
      invariants.checkApplied("n2", entry(1, 2), 0);
    });
    holders.delete("n2");
    refused(/which its disk does not hold/u, () => {
      invariants.checkApplied("n2", entry(1, 1), 0);
    });
  });

  it("refuse two states at one index, and a read of the past", () => {
    invariants.checkNode(node("n1", { role: "leader", commitIndex: 1, terms: [1] }));
    invariants.checkApplied("n1", entry(1, 1), 7);
    refused(/n2 holds another state at 1/u, () => {
      invariants.checkApplied("n2", entry(1, 1), 8);
    });
    refused(/n2 holds another state at 1/u, () => {
      invariants.checkState("n2", 1, 8);
    });
    refused(/n1 reads at 4 what was asked for at 5/u, () => {
      invariants.checkRead("n1", 4, 5);
    });
  });

  it("refuse a configuration or a commit index beyond the own log", () => {
    refused(/goes by a configuration of entry 2/u, () => {
      invariants.checkNode(Object.assign(node("n1", { terms: [1] }), { configurationIndex: 2 }));
    });
    refused(/n1 commits 2, its log ends at 1/u, () => {
      invariants.checkNode(node("n1", { commitIndex: 2, terms: [1] }));
    });
  });

  it("refuse a journal that forgets what it has promised, or finds what it was never given", () => {
    const state = (entries: readonly Entry[], term: number) => ({
      nodeId: "n1",
      clusterId: "simulated",
      hardState: { term: term as Term, vote: undefined },
      entries,
      baseIndex: 0 as Index,
      baseTerm: 0 as Term,
    });
    const promised = new Promised();
    const first = (shape: { terms: number[] }) => void shape.terms.push(1);
    promised.begin(first);
    promised.complete(first);
    refused(/starts with .* promised was/u, () => {
      promised.recover("n1", state([], 0));
    });
    refused(/starts with/u, () => {
      promised.recover("n1", state([entry(1, 1)], 4));
    });
    refused(/starts with/u, () => {
      promised.recover("n1", state([entry(1, 1), entry(2, 1)], 0));
    });
    // Of what was under way, it may find all or nothing.
    promised.begin((shape) => void shape.terms.push(2));
    promised.recover("n1", state([entry(1, 1), entry(2, 2)], 0));
    assert.equal(promised.holds(2, 2), true);
    assert.deepEqual(promised.hardState, nobody);
  });
});

describe("state machine of the simulation", () => {
  it("executes a request once, however often it comes, and refuses what was acknowledged", () => {
    const request = { session: 1, sequence: 1, acknowledgedBelow: 0 };
    const payload = encodeRequest(request, 3);
    const first = applied(emptyState, { ...entry(1, 1), payload });
    const again = applied(first.state, { ...entry(2, 1), payload });
    assert.deepEqual([first.served, again.served], ["execute", "replay"]);
    assert.deepEqual([first.position, again.position], [1, 1]);
    assert.notEqual(first.state.hash, again.state.hash);
    const next = encodeRequest({ session: 1, sequence: 40, acknowledgedBelow: 40 }, 0);
    const third = applied(again.state, { ...entry(3, 1), payload: next });
    const late = applied(third.state, { ...entry(4, 1), payload });
    assert.deepEqual([third.served, late.served], ["execute", "refuse"]);
    assert.equal(first.state.rows === again.state.rows, true);
  });

  it("keeps the configuration that it is given", () => {
    const configuration = { voters: ["n1"], outgoing: [], learners: ["n2"] };
    const payload = encodeConfiguration(configuration);
    const { state } = applied(emptyState, { ...entry(1, 1, "", "configuration"), payload });
    assert.deepEqual(state.configuration?.value.learners, ["n2"]);
    assert.equal(state.configuration.index, 1);
  });
});
