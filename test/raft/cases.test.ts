/** Known bugs of other implementations that the core must not have: see the table in docs/testing.md. */
import assert from "node:assert/strict";
import type { Index, Term } from "../../src/raft/types.ts";
import {
  CoreCluster,
  entry,
  leadingCore,
  makeCore,
  persistAll,
  receive,
} from "./lib/core-cluster.ts";

const voters = ["n1", "n2", "n3"];

describe("raft cases", () => {
  it("R2: writes a vote that is given in a term that was written before", () => {
    const core = makeCore({ voters, hardState: { term: 5 as Term, vote: undefined } });
    const request = { kind: "requestVote", term: 5, preVote: false, transfer: false };
    receive(core, { ...request, from: "n2", lastIndex: 0, lastTerm: 0 });
    const output = core.take();
    assert.deepEqual(output.persist?.hardState, { term: 5, vote: "n2" });
    assert.deepEqual(output.send, []);
    assert.equal(output.sendAfterPersist[0]?.kind, "voteReply");
    persistAll(core, output);
    receive(core, { ...request, from: "n3", lastIndex: 0, lastTerm: 0 });
    const [reply] = core.take().send;
    assert.equal(reply?.kind === "voteReply" && reply.granted, false);
  });

  it("R14: an entry that came back counts only by the write that brought it back", () => {
    const core = makeCore({
      voters,
      hardState: { term: 1 as Term, vote: undefined },
      entries: [entry(1, 1)],
    });
    const append = (term: number, from: string, terms: readonly number[], commit: number) => {
      const entries = terms.map((each, place) => entry(place + 2, each));
      const place = { prevIndex: 1, prevTerm: 1 };
      receive(core, { kind: "append", from, term, ...place, entries, commit });
      return core.take();
    };
    // A, B and A again, while the disk has not finished the first of them.
    const writes = [
      append(2, "n2", [2], 0),
      append(3, "n3", [3], 0),
      append(4, "n2", [2, 4], 3),
    ].map(({ persist }) => persist!);
    assert.deepEqual(
      writes.map(({ entries }) => entries.map(({ term }) => term)),
      [[2], [3], [2, 4]],
    );
    assert.equal(core.commitIndex, 3);
    for (const write of writes.slice(0, 2)) {
      core.step({ kind: "persisted", sequence: write.sequence });
      const { apply, sendAfterPersist } = core.take();
      assert.deepEqual([apply, sendAfterPersist], [[], []], "a crash now would lose the entry");
    }
    core.step({ kind: "persisted", sequence: writes[2]!.sequence });
    assert.deepEqual(
      core.take().apply.map(({ index, term }) => [index, term]),
      [
        [2, 2],
        [3, 4],
      ],
    );
  });

  describe("snapshots", () => {
    /** A leader whose log begins behind 5, with n3 at 1 and n2 up to date. */
    function compacted(): CoreCluster {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.isolate("n3");
      for (let i = 0; i < 5; i++) cluster.core("n1").propose(Buffer.from(`${i}`));
      cluster.tick(4);
      cluster.core("n1").step({ kind: "compact", index: 5 as Index });
      return cluster;
    }

    /** Ticks until n1 wants to send a snapshot, at most so many times; how often it asked. */
    function wanted(cluster: CoreCluster, ticks: number): number {
      let count = 0;
      const core = cluster.core("n1");
      const take = core.take.bind(core);
      core.take = () => {
        const output = take();
        count += output.snapshots.length;
        return output;
      };
      cluster.tick(ticks);
      core.take = take;
      return count;
    }

    it("R16: a follower that a compaction passed gets one snapshot at a time, and none while it is silent", () => {
      const cluster = compacted();
      assert.equal(wanted(cluster, 20), 0);
      cluster.isolate();
      assert.equal(wanted(cluster, 50), 1);
      assert.equal(cluster.core("n1").progressOf("n3")?.state, "snapshot");
    });

    it("R16: a snapshot that failed is tried again, after an election timeout", () => {
      const cluster = compacted();
      cluster.isolate();
      assert.equal(wanted(cluster, 20), 1);
      const failed = { kind: "snapshotDone", to: "n3", ok: false, index: 0 as Index } as const;
      cluster.core("n1").step(failed);
      assert.equal(wanted(cluster, 8), 0);
      assert.equal(wanted(cluster, 20), 1);
    });

    it("R16: a snapshot at the last index is not followed by endless probing", () => {
      const cluster = compacted();
      cluster.isolate();
      wanted(cluster, 20);
      const { lastIndex } = cluster.core("n1");
      const term = cluster.core("n1").termAt(lastIndex)!;
      cluster.core("n3").step({ kind: "installed", index: lastIndex, term, from: "n1" });
      cluster.settle();
      cluster.tick(4);
      assert.equal(cluster.core("n1").progressOf("n3")?.state, "replicate");
      cluster.log = [];
      cluster.core("n1").propose(Buffer.from("next"));
      cluster.settle();
      assert.equal(cluster.core("n3").lastIndex, lastIndex + 1);
      const appends = cluster.log.filter(({ kind, to }) => kind === "append" && to === "n3");
      assert.equal(appends.length, 1);
    });
  });

  it("R20: a leader is found where some nodes reach only some others, whoever begins", () => {
    const links = new Set(["n1n2", "n1n3", "n2n3", "n2n4", "n3n5"]);
    for (const first of ["n1", "n2", "n3", "n4", "n5"]) {
      const cluster = new CoreCluster(5);
      cluster.drop = ({ from, to }) => !links.has(from + to) && !links.has(to + from);
      for (let i = 0; i < 15; i++) cluster.core(first).step({ kind: "tick" });
      cluster.tick(300);
      const leader = cluster.ids.find((id) => cluster.core(id).role === "leader");
      assert.ok(leader !== undefined, `nobody leads after ${first} began`);
      const { term } = cluster.core(leader);
      cluster.tick(500);
      assert.equal(cluster.core(leader).term, term);
      const proposed = cluster.core(leader).propose(Buffer.from("a"));
      cluster.tick(10);
      assert.ok(proposed.ok && cluster.core(leader).commitIndex >= proposed.index);
    }
  });
});

describe("raft core, where planted bugs went unseen", () => {
  it("commits no further than an append has shown to agree", () => {
    const entries = [entry(1, 1), entry(2, 1), entry(3, 1)];
    const core = makeCore({ voters, hardState: { term: 1 as Term, vote: undefined }, entries });
    const empty = { kind: "append", from: "n2", term: 2, entries: [], commit: 3 };
    receive(core, { ...empty, prevIndex: 1, prevTerm: 1 });
    assert.equal(core.commitIndex, 1, "2 and 3 may be another leader's");
  });

  it("acknowledges entries when they are on the disk, and not before", () => {
    const core = makeCore({ voters, hardState: { term: 1 as Term, vote: undefined } });
    receive(core, {
      ...{ kind: "append", from: "n2", term: 1, prevIndex: 0, prevTerm: 0, commit: 0 },
      entries: [entry(1, 1)],
    });
    const { send, sendAfterPersist } = core.take();
    assert.deepEqual(send, []);
    assert.deepEqual(
      sendAfterPersist.map(({ kind }) => kind),
      ["appendReply"],
    );
  });

  it("drops nothing for an append that came late", () => {
    const entries = [entry(1, 1), entry(2, 1), entry(3, 1)];
    const core = makeCore({ voters, hardState: { term: 1 as Term, vote: undefined }, entries });
    receive(core, {
      ...{ kind: "append", from: "n2", term: 1, prevIndex: 0, prevTerm: 0, commit: 0 },
      entries: entries.slice(0, 2),
    });
    assert.equal(core.lastIndex, 3);
    assert.equal(core.take().persist, undefined);
  });

  it("is not led back by a refusal that is older than what it knows", () => {
    const core = leadingCore({
      voters,
      hardState: { term: 1 as Term, vote: undefined },
      entries: [entry(1, 1), entry(2, 1), entry(3, 1)],
    });
    const refusal = { kind: "appendReply", from: "n2", term: 2, ok: false, index: 3 };
    const probed = () => {
      const append = core.take().send.find((each) => each.kind === "append" && each.to === "n2");
      return append?.kind === "append" ? append.prevIndex : undefined;
    };
    receive(core, { ...refusal, hintIndex: 2, hintTerm: 1 });
    assert.equal(probed(), 2);
    receive(core, { ...refusal, hintIndex: 0, hintTerm: 0 });
    assert.equal(probed(), undefined, "that was the answer to the first probe, once more");
  });

  it("goes back no further than to where the logs part", () => {
    const entries = [entry(1, 1), entry(2, 1), entry(3, 2)];
    const core = makeCore({ voters, hardState: { term: 2 as Term, vote: undefined }, entries });
    const append = { kind: "append", from: "n2", term: 4, entries: [], commit: 0 };
    receive(core, { ...append, prevIndex: 9, prevTerm: 3 });
    const output = core.take();
    const [refusal] = [...output.send, ...output.sendAfterPersist];
    assert.equal(refusal?.kind, "appendReply");
    assert.ok(refusal.kind === "appendReply");
    assert.deepEqual([refusal.hintIndex, refusal.hintTerm], [3, 2]);
    receive(core, { ...append, prevIndex: 3, prevTerm: 1 });
    const second = core.take();
    const [next] = [...second.send, ...second.sendAfterPersist];
    assert.ok(next?.kind === "appendReply");
    assert.deepEqual([next.hintIndex, next.hintTerm], [2, 1]);
  });

  it("keeps its term when it grants a pre-vote", () => {
    const core = makeCore({ voters, hardState: { term: 3 as Term, vote: "n1" } });
    receive(core, {
      ...{ kind: "requestVote", from: "n2", term: 4, preVote: true, transfer: false },
      ...{ lastIndex: 0, lastTerm: 0 },
    });
    const output = core.take();
    assert.deepEqual([core.term, core.vote, output.persist], [3, "n1", undefined]);
    assert.ok(output.send[0]?.kind === "voteReply" && output.send[0].granted);
  });

  it("tells a node to take over only when it holds everything", () => {
    const core = leadingCore({ voters });
    const ack = (index: number) => {
      receive(core, {
        ...{ kind: "appendReply", from: "n2", term: 1, ok: true },
        ...{ index, hintIndex: index, hintTerm: 1 },
      });
      return core.take().send.some(({ kind }) => kind === "timeoutNow");
    };
    ack(1);
    core.propose(Buffer.from("a"));
    persistAll(core, core.take());
    core.step({ kind: "transfer", to: "n2" });
    assert.ok(!core.take().send.some(({ kind }) => kind === "timeoutNow"));
    assert.equal(ack(2), true);
  });
});
