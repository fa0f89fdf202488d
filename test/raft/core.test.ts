import assert from "node:assert/strict";
import type { Index, Message, Term } from "../../src/raft/types.ts";
import {
  CoreCluster,
  compactedAt50,
  entry,
  leadingCore,
  makeCore,
  makeLeader,
  persistAll,
  receive,
} from "./lib/core-cluster.ts";

const voters = ["n1", "n2", "n3"];
const ack = (from: string, term: number, index: number) => ({
  kind: "appendReply",
  from,
  term,
  ok: true,
  index,
  hintIndex: index,
  hintTerm: term,
});

describe("raft core", () => {
  describe("commit", () => {
    it("R1: never commits an entry of an earlier term by counting (Figure 8)", () => {
      const voters = ["n1", "n2", "n3", "n4", "n5"];
      const core = makeCore({
        voters,
        hardState: { term: 3 as Term, vote: undefined },
        entries: [entry(1, 1), entry(2, 2)],
      });
      makeLeader(core, voters);
      assert.equal(core.term, 4);
      persistAll(core, core.take());
      for (const from of ["n2", "n3", "n4"]) receive(core, ack(from, 4, 2));
      assert.equal(core.commitIndex, 0, "2@2 is on four of five, and still may be overwritten");
      for (const from of ["n2", "n3"]) receive(core, ack(from, 4, 3));
      assert.equal(core.commitIndex, 3, "the no-op of the own term takes it along");
    });

    it("R1: a late word of the own disk does not count for entries that replaced those written", () => {
      const core = makeCore({ voters });
      makeLeader(core, voters);
      core.propose(Buffer.from("lost"));
      const first = core.take().persist!;
      assert.deepEqual(
        first.entries.map((each) => each.index),
        [1, 2],
      );
      // A new leader replaces both before the write is done, and says that its own are committed.
      const entries = [entry(1, 2), entry(2, 2)];
      receive(core, {
        kind: "append",
        from: "n2",
        term: 2,
        prevIndex: 0,
        prevTerm: 0,
        entries,
        commit: 2,
      });
      const second = core.take();
      assert.deepEqual(second.persist!.entries, entries);
      core.step({ kind: "persisted", sequence: first.sequence });
      assert.equal(core.commitIndex, 2);
      assert.deepEqual(core.take().apply, [], "applied what only memory holds");
      core.step({ kind: "persisted", sequence: second.persist!.sequence });
      assert.deepEqual(core.take().apply, entries);
    });

    it("R14: an acknowledgement of an earlier term does not count", () => {
      const core = leadingCore({ voters });
      receive(core, { kind: "heartbeat", from: "n2", term: 2, commit: 0, readToken: 0 });
      makeLeader(core, voters);
      assert.equal(core.term, 3);
      persistAll(core, core.take());
      receive(core, ack("n2", 1, 2));
      assert.equal(core.commitIndex, 0);
      receive(core, ack("n2", 3, 2));
      assert.equal(core.commitIndex, 2);
    });

    it("counts its own disk like any other: nothing is committed by followers and memory", () => {
      const core = makeCore({ voters });
      makeLeader(core, voters);
      const output = core.take();
      assert.equal(
        output.send.filter(({ kind }) => kind === "append").length,
        2,
        "sent while writing",
      );
      receive(core, ack("n2", 1, 1));
      assert.equal(core.commitIndex, 0);
      persistAll(core, output);
      assert.equal(core.commitIndex, 1);
    });

    it("commits with all followers' disks while its own is still writing, but applies only then", () => {
      const core = makeCore({ voters });
      makeLeader(core, voters);
      const output = core.take();
      receive(core, ack("n2", 1, 1));
      receive(core, ack("n3", 1, 1));
      assert.equal(core.commitIndex, 1);
      assert.deepEqual(core.take().apply, []);
      persistAll(core, output);
      assert.equal(core.take().apply.length, 1);
    });
  });

  describe("elections", () => {
    it("R2: keeps its vote when it steps down in the same term", () => {
      const core = makeCore({ voters });
      while (core.role !== "preCandidate") core.step({ kind: "tick" });
      receive(core, { kind: "voteReply", from: "n2", term: 1, preVote: true, granted: true });
      assert.equal(core.role, "candidate");
      persistAll(core, core.take());
      receive(core, {
        kind: "append",
        from: "n2",
        term: 1,
        prevIndex: 0,
        prevTerm: 0,
        entries: [],
        commit: 0,
      });
      assert.equal(core.role, "follower");
      assert.equal(core.vote, "n1");
      core.take();
      receive(core, {
        kind: "requestVote",
        from: "n3",
        term: 1,
        preVote: false,
        transfer: true,
        lastIndex: 9,
        lastTerm: 9,
      });
      const { send, sendAfterPersist } = core.take();
      const replies = [...send, ...sendAfterPersist].map(
        (each) => "granted" in each && each.granted,
      );
      assert.deepEqual(replies, [false]);
    });

    it("R2: its own vote counts only when it is durable", () => {
      const core = makeCore({ voters });
      while (core.role !== "preCandidate") core.step({ kind: "tick" });
      receive(core, { kind: "voteReply", from: "n2", term: 1, preVote: true, granted: true });
      const output = core.take();
      assert.deepEqual(output.persist?.hardState, { term: 1, vote: "n1" });
      const isRequest = ({ kind, term }: { kind: string; term: number }) =>
        kind === "requestVote" && term === 1;
      assert.equal(output.sendAfterPersist.filter(isRequest).length, 2);
      receive(core, { kind: "voteReply", from: "n2", term: 1, preVote: false, granted: true });
      assert.equal(core.role, "candidate");
      persistAll(core, output);
      assert.equal(core.role, "leader");
    });

    it("R3: a new term and the vote in it are one record, and the vote leaves after it", () => {
      const core = makeCore({ voters });
      receive(core, {
        kind: "requestVote",
        from: "n2",
        term: 5,
        preVote: false,
        transfer: false,
        lastIndex: 0,
        lastTerm: 0,
      });
      const output = core.take();
      assert.deepEqual(output.persist?.hardState, { term: 5, vote: "n2" });
      assert.deepEqual(output.send, []);
      assert.equal(output.sendAfterPersist.length, 1);
      // A crash after the write, whether or not the vote left: nobody else gets one in this term.
      const restarted = makeCore({ voters, hardState: output.persist.hardState });
      receive(restarted, {
        ...{ kind: "requestVote", from: "n3", term: 5, preVote: false, transfer: false },
        ...{ lastIndex: 9, lastTerm: 4 },
      });
      const again = restarted.take();
      assert.equal(again.persist, undefined);
      const [reply] = [...again.send, ...again.sendAfterPersist];
      assert.equal(reply?.kind === "voteReply" && reply.granted, false);
    });

    it("does not raise the term before a quorum would vote for it", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.isolate("n3");
      cluster.tick(100);
      assert.equal(cluster.core("n3").term, 1);
      assert.equal(cluster.core("n3").role, "preCandidate");
    });

    it("R19: a node that was cut off comes back without an election", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.isolate("n3");
      cluster.tick(100);
      cluster.isolate();
      cluster.tick(50);
      assert.equal(cluster.core("n1").role, "leader");
      assert.equal(cluster.core("n1").term, 1);
      assert.equal(cluster.core("n3").leader, "n1");
    });

    it("R19: a candidate of a higher term is freed by an election that takes it along", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      // Asked to take over while nobody hears it: its term rises.
      cluster.isolate("n3");
      receive(cluster.core("n3"), { kind: "timeoutNow", from: "n1", term: 1 });
      cluster.tick(5);
      assert.equal(cluster.core("n3").term, 2);
      cluster.isolate();
      cluster.tick(100);
      const terms = cluster.ids.map((id) => cluster.core(id).term);
      assert.equal(new Set(terms).size, 1);
      assert.equal(new Set(cluster.ids.map((id) => cluster.core(id).leader)).size, 1);
      assert.notEqual(cluster.core("n1").leader, undefined);
    });

    it("R19: a pre-vote of a lower term is answered, so that mixed terms do not wait for ever", () => {
      const core = makeCore({
        voters,
        hardState: { term: 7 as Term, vote: undefined },
      });
      receive(core, {
        kind: "requestVote",
        from: "n2",
        term: 3,
        preVote: true,
        transfer: false,
        lastIndex: 0,
        lastTerm: 0,
      });
      const [reply] = core.take().send;
      assert.deepEqual([reply?.kind, reply?.term], ["voteReply", 7]);
    });

    it("R20: a leader stays where some nodes reach only some others", () => {
      const cluster = new CoreCluster(5);
      cluster.elect("n1");
      const links = new Set(["n1n2", "n1n3", "n2n3", "n2n4", "n3n5"]);
      cluster.drop = ({ from, to }) => !links.has(from + to) && !links.has(to + from);
      cluster.tick(200);
      const { term } = cluster.core("n1");
      cluster.tick(1000);
      const leaders = cluster.ids.filter((id) => cluster.core(id).role === "leader");
      assert.equal(leaders.length, 1);
      assert.equal(cluster.core(leaders[0]!).term, term);
      const proposed = cluster.core(leaders[0]!).propose(Buffer.from("a"));
      cluster.tick(10);
      assert.ok(proposed.ok && cluster.core(leaders[0]!).commitIndex >= proposed.index);
    });

    it("steps down when no quorum answers for an election timeout", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.isolate("n1");
      cluster.tick(30);
      assert.notEqual(cluster.core("n1").role, "leader");
    });

    it("refuses a vote, and the higher term, while it hears its leader", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      receive(cluster.core("n2"), {
        kind: "requestVote",
        from: "n3",
        term: 9,
        preVote: false,
        transfer: false,
        lastIndex: 99,
        lastTerm: 8,
      });
      assert.equal(cluster.core("n2").term, 1);
    });

    it("grants no vote to a log that lacks what its own has", () => {
      const core = makeCore({ voters, entries: [entry(1, 1), entry(2, 2)] });
      for (const [lastIndex, lastTerm, granted] of [
        [9, 1, false],
        [1, 2, false],
        [2, 2, true],
      ] as const) {
        receive(core, {
          kind: "requestVote",
          from: "n2",
          term: 3,
          preVote: true,
          transfer: false,
          lastIndex,
          lastTerm,
        });
        const { send, sendAfterPersist } = core.take();
        const [reply] = [...send, ...sendAfterPersist];
        assert.equal(reply?.kind === "voteReply" && reply.granted, granted);
      }
    });

    it("leads alone without waiting for an election timeout", () => {
      const core = makeCore({ voters: ["n1"] });
      core.step({ kind: "tick" });
      persistAll(core, core.take());
      assert.equal(core.role, "leader");
    });

    it("hands over to the follower that has everything, past the others' stickiness", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.core("n1").step({ kind: "transfer", to: "n2" });
      assert.deepEqual(cluster.core("n1").propose(Buffer.from("a")), { ok: false, code: "Busy" });
      cluster.settle();
      assert.equal(cluster.core("n2").role, "leader");
    });

    it("leaves its leadership to the best of those that answer when it is told to step down", () => {
      const cluster = new CoreCluster(5);
      cluster.elect("n1");
      cluster.tick(3);
      cluster.drop = ({ kind, to }) => kind === "append" && to !== "n5";
      cluster.core("n1").propose(Buffer.from("a"));
      cluster.settle();
      cluster.core("n1").step({ kind: "stepDown" });
      cluster.settle();
      assert.equal(cluster.core("n5").role, "leader", "n5 holds most");
    });

    it("elects at once when the leader's process is known to have ended, and not if that was wrong", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.tick(3);
      for (const id of ["n2", "n3"]) cluster.core(id).step({ kind: "gone", node: "n3" });
      for (const id of ["n2", "n3"]) cluster.core(id).step({ kind: "gone", node: "n1" });
      cluster.tick(20);
      assert.deepEqual([cluster.core("n1").role, cluster.core("n1").term], ["leader", 1]);
      cluster.isolate("n1");
      for (const id of ["n2", "n3"]) cluster.core(id).step({ kind: "gone", node: "n1" });
      let ticks = 0;
      const isLed = () => ["n2", "n3"].some((id) => cluster.core(id).role === "leader");
      for (; ticks < 100 && !isLed(); ticks++) cluster.tick();
      assert.ok(ticks < 10, `took ${ticks} ticks, of an election timeout of ten`);
    });

    it("takes its leadership back when nobody takes it over", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.drop = ({ kind }) => kind === "timeoutNow";
      cluster.core("n1").step({ kind: "transfer", to: "n2" });
      cluster.tick(12);
      assert.equal(cluster.core("n1").propose(Buffer.from("a")).ok, true);
    });
  });

  describe("reads", () => {
    it("R8: waits for a commit of its own term", () => {
      const core = makeCore({ voters });
      makeLeader(core, voters);
      core.step({ kind: "read", id: 1 });
      persistAll(core, core.take());
      for (const from of ["n2", "n3"]) {
        receive(core, { kind: "heartbeatReply", from, term: 1, readToken: 0 });
      }
      for (let i = 0; i < 5; i++) core.step({ kind: "tick" });
      assert.deepEqual(core.take().reads, []);
      for (const from of ["n2", "n3"]) {
        receive(core, { kind: "heartbeatReply", from, term: 1, readToken: 0 });
      }
      assert.ok(
        core.take().send.every((each) => each.kind !== "heartbeat" || each.readToken === 0),
        "a round was started too early",
      );
      receive(core, ack("n2", 1, 1));
      const asked = core.take().send.find((each) => each.kind === "heartbeat");
      const readToken = asked?.kind === "heartbeat" ? asked.readToken : 0;
      receive(core, { kind: "heartbeatReply", from: "n3", term: 1, readToken });
      assert.deepEqual(core.take().reads, [{ id: 1, index: 1 }]);
    });

    it("R9: an answer to an earlier round does not confirm a later read", () => {
      const core = leadingCore({ voters });
      receive(core, ack("n2", 1, 1));
      const round = () => {
        const sent = core.take().send.findLast((each) => each.kind === "heartbeat");
        return sent?.kind === "heartbeat" ? sent.readToken : 0;
      };
      core.step({ kind: "read", id: 1 });
      const firstToken = round();
      receive(core, { kind: "heartbeatReply", from: "n2", term: 1, readToken: firstToken });
      assert.deepEqual(core.take().reads, [{ id: 1, index: 1 }]);
      core.step({ kind: "read", id: 2 });
      const secondToken = round();
      assert.ok(secondToken > firstToken);
      receive(core, { kind: "heartbeatReply", from: "n3", term: 1, readToken: firstToken });
      assert.deepEqual(core.take().reads, []);
      receive(core, { kind: "heartbeatReply", from: "n3", term: 1, readToken: secondToken });
      assert.deepEqual(core.take().reads, [{ id: 2, index: 1 }]);
    });

    it("R10: after a pause, what was confirmed before it answers no read that comes with the waking", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.tick(3);
      const n1 = cluster.core("n1");
      const waiting: Message[] = [];
      cluster.drop = (each) => {
        if (each.to === "n1") waiting.push(each);
        return each.to === "n1";
      };
      n1.step({ kind: "read", id: 1 });
      cluster.settle();
      const before = n1.commitIndex;
      // n1 is paused. The others elect n2, which commits.
      cluster.isolate("n1");
      for (let i = 0; i < 11; i++) cluster.core("n3").step({ kind: "tick" });
      cluster.elect("n2");
      cluster.core("n2").propose(Buffer.from("new"));
      cluster.settle();
      assert.ok(cluster.core("n2").commitIndex > before);
      // It wakes: what came in the meantime, and a new read, in one turn.
      n1.step({ kind: "read", id: 2 });
      for (const each of waiting) n1.step({ kind: "receive", message: each });
      cluster.settle();
      const confirmed = cluster.reads.get("n1")!;
      assert.deepEqual(confirmed, [{ id: 1, index: before }], "the first one was asked before");
      cluster.isolate();
      cluster.tick(3);
      assert.equal(n1.leader, "n2");
      assert.deepEqual(confirmed.slice(1), [{ id: 2, index: undefined }]);
    });

    it("confirms all reads that wait with one round", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.log = [];
      for (let id = 1; id <= 100; id++) cluster.core("n1").step({ kind: "read", id });
      cluster.settle();
      assert.equal(cluster.log.filter(({ kind }) => kind === "heartbeat").length, 2);
    });

    it("refuses reads that wait when it leads no more", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      const core = cluster.core("n1");
      core.step({ kind: "read", id: 1 });
      core.take();
      receive(core, { kind: "heartbeat", from: "n2", term: 9, commit: 0, readToken: 0 });
      assert.deepEqual(core.take().reads, [{ id: 1, index: undefined }]);
    });
  });

  describe("replication", () => {
    it("R15: a follower is found again when everything sent ahead was lost", () => {
      const cluster = new CoreCluster(3, { maxAppendBytes: 1 });
      cluster.elect("n1");
      cluster.tick(4);
      cluster.drop = ({ kind, to }) => kind === "append" && to === "n3";
      for (let i = 0; i < 20; i++) cluster.core("n1").propose(Buffer.from(`${i}`));
      cluster.tick(4);
      cluster.drop = () => false;
      cluster.tick(6);
      assert.equal(cluster.core("n3").lastIndex, cluster.core("n1").lastIndex);
      assert.equal(cluster.core("n3").commitIndex, cluster.core("n1").commitIndex);
    });

    it("R18: followers and learners apply what is committed, also when nothing follows it", () => {
      const configuration = { voters, outgoing: [], learners: ["n4"] };
      const cluster = new CoreCluster(4, { configuration });
      cluster.elect("n1");
      cluster.core("n1").propose(Buffer.from("a"));
      cluster.settle();
      for (const id of cluster.ids) {
        const payloads = cluster.applied.get(id)!.map(({ payload }) => String(payload));
        assert.deepEqual(payloads, ["", "a"], `applied by ${id} without a tick`);
      }
      // The word of the commit is lost: the next heartbeat brings it.
      cluster.drop = (each) => each.kind === "commitNotice";
      cluster.core("n1").propose(Buffer.from("b"));
      cluster.settle();
      assert.equal(cluster.applied.get("n3")!.length, 2);
      cluster.drop = () => false;
      cluster.tick(2);
      for (const id of cluster.ids) assert.equal(cluster.applied.get(id)!.length, 3);
    });

    it("tells idle followers of a commit at once, and wants no answer to that", () => {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      cluster.log = [];
      cluster.core("n1").propose(Buffer.from("a"));
      cluster.settle();
      const kinds = cluster.log.map(({ kind, to }) => `${kind} ${to}`).sort();
      assert.deepEqual(kinds, [
        ...["append n2", "append n3", "appendReply n1", "appendReply n1"],
        ...["commitNotice n2", "commitNotice n3"],
      ]);
      for (const id of cluster.ids) assert.equal(cluster.core(id).appliedIndex, 2);
    });

    it("bounds the bytes that are in flight to a follower, not only the appends", () => {
      const core = leadingCore({
        voters,
        maxInflight: 100,
        maxInflightBytes: 250,
        maxAppendBytes: 100,
      });
      receive(core, ack("n2", 1, 1));
      for (let i = 0; i < 20; i++) core.propose(Buffer.alloc(100));
      const sent = () => {
        const appends = core.take().send.filter(({ kind, to }) => kind === "append" && to === "n2");
        return appends.length;
      };
      assert.equal(sent(), 3);
      assert.equal(sent(), 0);
      receive(core, ack("n2", 1, 2));
      assert.equal(sent(), 1);
      receive(core, ack("n2", 1, 5));
      assert.equal(sent(), 3);
    });

    it("keeps at most two appends in flight, and the bytes of each bounded", () => {
      const cluster = new CoreCluster(3, { maxAppendBytes: 100 });
      cluster.elect("n1");
      cluster.tick(4);
      for (let i = 0; i < 50; i++) cluster.core("n1").propose(Buffer.alloc(30));
      const sent = cluster
        .core("n1")
        .take()
        .send.filter((each) => each.kind === "append");
      assert.equal(sent.length, 4);
      for (const { entries } of sent) assert.equal(entries.length, 3);
    });

    it("finds the place where the logs part in few rounds, whatever they hold", () => {
      // The follower has a long suffix of an earlier term that the leader never saw.
      const shared = Array.from({ length: 10 }, (_, i) => entry(i + 1, 1));
      const cluster = new CoreCluster(3);
      const stale = Array.from({ length: 500 }, (_, i) => entry(i + 11, 2));
      const good = Array.from({ length: 500 }, (_, i) => entry(i + 11, 3));
      const hardState = { term: 3 as Term, vote: undefined };
      const voters = cluster.ids;
      for (const id of voters) {
        const entries = [...shared, ...(id === "n3" ? stale : good)];
        cluster.cores.set(id, makeCore({ voters, id, hardState, entries }));
      }
      cluster.elect("n1");
      const appends = cluster.log.filter((each) => each.kind === "append" && each.to === "n3");
      assert.ok(appends.length <= 4, `took ${appends.length} appends`);
      assert.equal(cluster.core("n3").termAt(510), 3);
    });

    it("refuses proposals above its quota, and takes them again when entries are applied", () => {
      const core = makeCore({ voters, maxUnappliedBytes: 100 });
      makeLeader(core, voters);
      assert.equal(core.propose(Buffer.alloc(60)).ok, true);
      assert.deepEqual(core.propose(Buffer.alloc(60)), { ok: false, code: "Busy" });
      const output = core.take();
      persistAll(core, output);
      receive(core, ack("n2", 1, 2));
      assert.equal(core.take().apply.length, 2);
      assert.deepEqual(core.propose(Buffer.alloc(60)), { ok: false, code: "Busy" });
      core.step({ kind: "applied", index: 2 as Index });
      assert.equal(core.propose(Buffer.alloc(60)).ok, true);
    });

    it("gives its quota back for what a snapshot, begun before it led, has applied", () => {
      const hardState = { term: 1 as Term, vote: undefined };
      const entries = [{ ...entry(1, 1), payload: Buffer.alloc(100) }];
      const core = makeCore({ voters, hardState, entries, maxUnappliedBytes: 100 });
      makeLeader(core, voters);
      assert.equal(core.propose(Buffer.alloc(60)).ok, false);
      core.step({ kind: "installed", index: 1 as Index, term: 1 as Term, from: "n2" });
      assert.equal(core.role, "leader");
      assert.equal(core.propose(Buffer.alloc(60)).ok, true);
    });

    it("asks for a snapshot where a follower needs what is compacted, once until it is over", () => {
      const core = leadingCore({
        voters,
        ...compactedAt50,
      });
      const refuse = (index: number) => {
        receive(core, { ...ack("n2", 2, index), ok: false, hintIndex: 3, hintTerm: 1 });
      };
      const asked: string[] = [];
      for (const index of [50, 50, 50]) {
        refuse(index);
        asked.push(...core.take().snapshots);
      }
      assert.deepEqual(asked, ["n2"]);
      receive(core, { kind: "snapshotDone", from: "n2", term: 2, ok: true, index: 50 });
      const next = core.take().send.find((each) => each.kind === "append" && each.to === "n2");
      assert.equal(next?.kind === "append" && next.prevIndex, 50);
    });

    it("R16: a follower whose snapshot ends where the log ends is replicated to at once", () => {
      const core = leadingCore({
        voters,
        ...compactedAt50,
      });
      receive(core, { ...ack("n2", 2, 50), ok: false, hintIndex: 3, hintTerm: 1 });
      assert.deepEqual(core.take().snapshots, ["n2"]);
      receive(core, ack("n3", 2, 51));
      persistAll(core, core.take());
      core.step({ kind: "applied", index: 51 as Index });
      core.step({ kind: "compact", index: 51 as Index });
      core.step({ kind: "snapshotDone", to: "n2", ok: true, index: 51 as Index });
      const [probe] = core.take().send.filter(({ kind, to }) => kind === "append" && to === "n2");
      assert.equal(probe?.kind === "append" && probe.prevIndex, 51);
      receive(core, ack("n2", 2, 51));
      assert.deepEqual(core.progressOf("n2"), {
        matchIndex: 51,
        state: "replicate",
        isActive: true,
      });
      core.propose(Buffer.from("a"));
      const output = core.take();
      assert.equal(
        output.send.filter(({ kind, to }) => kind === "append" && to === "n2").length,
        1,
      );
      assert.deepEqual(output.snapshots, []);
    });

    it("keeps what follows a snapshot that its log already agrees with", () => {
      const entries = [entry(1, 1), entry(2, 1), entry(3, 1)];
      const core = makeCore({
        voters,
        hardState: { term: 1 as Term, vote: undefined },
        entries,
      });
      core.step({ kind: "installed", index: 2 as Index, term: 1 as Term, from: "n2" });
      assert.equal(core.lastIndex, 3);
      assert.equal(core.take().persist, undefined);
      core.step({ kind: "installed", index: 3 as Index, term: 2 as Term, from: "n2" });
      assert.deepEqual(core.take().persist?.reset, { index: 3, term: 2 });
    });
  });
});
