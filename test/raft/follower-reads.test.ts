import assert from "node:assert/strict";
import { seededRandom } from "../../src/lib/clock.ts";
import type { RaftCore } from "../../src/raft/core.ts";
import type { Message, NodeId } from "../../src/raft/types.ts";
import { CoreCluster, leadingCore, makeCore, receive } from "./lib/core-cluster.ts";

const ofKind = (messages: readonly Message[], kind: Message["kind"]) =>
  messages.filter((each) => each.kind === kind);
const followed = (core: RaftCore, leader: NodeId, term = 1) => {
  receive(core, { kind: "heartbeat", from: leader, term, commit: 0, readToken: 0 });
};
const requestOf = (core: RaftCore) => {
  const [sent] = ofKind(core.take().send, "readRequest");
  return sent?.kind === "readRequest" ? sent.request : undefined;
};
const voters = ["n1", "n2", "n3"];

describe("reads on a node that does not lead", () => {
  it("reach what was acknowledged before them, and reads of a turn share a request", () => {
    const cluster = new CoreCluster(3);
    cluster.elect("n1");
    cluster.core("n1").propose(Buffer.from("a"));
    cluster.settle();
    cluster.log = [];
    for (let id = 1; id <= 50; id++) cluster.core("n2").step({ kind: "read", id });
    cluster.settle();
    assert.equal(ofKind(cluster.log, "readRequest").length, 1);
    assert.equal(ofKind(cluster.log, "readReply").length, 1);
    const reads = cluster.reads.get("n2")!;
    assert.equal(reads.length, 50);
    for (const { index } of reads) assert.equal(index, cluster.core("n1").commitIndex);
  });

  it("R8: wait for the leader's first commit of its term", () => {
    const core = leadingCore({ voters });
    receive(core, { kind: "readRequest", from: "n2", term: 1, request: 7 });
    const asked = core.take().send;
    assert.ok(asked.every((each) => each.kind !== "heartbeat" || each.readToken === 0));
    const acked = { kind: "appendReply", from: "n3", term: 1, ok: true, index: 1 };
    receive(core, { ...acked, hintIndex: 1, hintTerm: 1 });
    const { send } = core.take();
    assert.equal(ofKind(send, "readReply").length, 0, "answered before a quorum confirmed");
    const [beat] = ofKind(send, "heartbeat");
    const readToken = beat?.kind === "heartbeat" ? beat.readToken : 0;
    receive(core, { kind: "heartbeatReply", from: "n2", term: 1, readToken });
    assert.deepEqual(ofKind(core.take().send, "readReply"), [
      { kind: "readReply", from: "n1", to: "n2", term: 1, request: 7, index: 1 },
    ]);
  });

  it("R9: a late reply to an earlier request answers no later read, not even after a restart", () => {
    const first = makeCore({ voters, id: "n2", random: seededRandom(1) });
    followed(first, "n1");
    first.step({ kind: "read", id: 1 });
    const request = requestOf(first)!;
    // The node is started anew, in the same term, and reads again.
    const second = makeCore({ voters, id: "n2", random: seededRandom(2) });
    followed(second, "n1");
    second.step({ kind: "read", id: 1 });
    assert.notEqual(requestOf(second), request);
    receive(second, { kind: "readReply", from: "n1", term: 1, request, index: 3 });
    assert.deepEqual(second.take().reads, []);
  });

  it("R9: a read that arrives behind a request is not answered with it", () => {
    const core = makeCore({ voters, id: "n2" });
    followed(core, "n1");
    core.step({ kind: "read", id: 1 });
    const request = requestOf(core);
    core.step({ kind: "read", id: 2 });
    receive(core, { kind: "readReply", from: "n1", term: 1, request, index: 3 });
    const { reads, send } = core.take();
    assert.deepEqual(reads, [{ id: 1, index: 3 }]);
    assert.equal(ofKind(send, "readRequest").length, 1);
  });

  it("R9: a deposed leader answers nobody, whatever it hears late", () => {
    const cluster = new CoreCluster(3);
    cluster.elect("n1");
    cluster.tick(3);
    const late: Message[] = [];
    cluster.drop = (each) => {
      if (each.kind === "heartbeatReply") late.push(each);
      return each.kind === "heartbeatReply";
    };
    cluster.core("n1").step({ kind: "read", id: 1 });
    cluster.settle();
    cluster.isolate("n1");
    // n1 sleeps, the others miss it.
    for (let i = 0; i < 11; i++) cluster.core("n3").step({ kind: "tick" });
    cluster.elect("n2");
    cluster.core("n2").propose(Buffer.from("new"));
    cluster.settle();
    assert.ok(cluster.core("n2").commitIndex > cluster.core("n1").commitIndex);
    assert.equal(cluster.core("n1").role, "leader");
    assert.notEqual(late.length, 0);
    receive(cluster.core("n1"), { kind: "readRequest", from: "n3", term: 1, request: 7 });
    for (const each of late) cluster.core("n1").step({ kind: "receive", message: each });
    assert.deepEqual(ofKind(cluster.core("n1").take().send, "readReply"), []);
  });

  it("are asked again when a request or a reply is lost", () => {
    for (const kind of ["readRequest", "readReply"]) {
      const cluster = new CoreCluster(3);
      cluster.elect("n1");
      let lost = 0;
      cluster.drop = (each) => each.kind === kind && lost++ === 0;
      cluster.core("n2").step({ kind: "read", id: 1 });
      cluster.tick(5);
      assert.equal(lost >= 1, true);
      assert.deepEqual(
        cluster.reads.get("n2")!.map(({ id }) => id),
        [1],
      );
      assert.notEqual(cluster.reads.get("n2")![0]!.index, undefined);
    }
  });

  it("go to the next leader when the one that was asked is gone", () => {
    const core = makeCore({ voters, id: "n2" });
    followed(core, "n1");
    core.step({ kind: "read", id: 1 });
    const request = requestOf(core);
    followed(core, "n3", 2);
    assert.equal(requestOf(core), request);
    receive(core, { kind: "readReply", from: "n1", term: 1, request, index: 1 });
    assert.deepEqual(core.take().reads, [], "a reply of an earlier term");
    receive(core, { kind: "readReply", from: "n3", term: 2, request, index: 5 });
    assert.deepEqual(core.take().reads, [{ id: 1, index: 5 }]);
    receive(core, { kind: "readReply", from: "n3", term: 2, request, index: 5 });
    assert.deepEqual(core.take().reads, [], "answered twice");
  });

  it("are the new leader's own when it is elected meanwhile", () => {
    const cluster = new CoreCluster(3);
    cluster.elect("n1");
    cluster.isolate("n1");
    cluster.core("n2").step({ kind: "read", id: 1 });
    cluster.settle();
    // Stepping down by the quorum's silence takes longer than the read may wait: hand over at once.
    cluster.isolate();
    cluster.core("n1").step({ kind: "transfer", to: "n2" });
    cluster.settle();
    assert.equal(cluster.core("n2").role, "leader");
    assert.deepEqual(cluster.reads.get("n2"), [{ id: 1, index: cluster.core("n2").commitIndex }]);
  });

  it("fail within an election timeout, and at once where no leader is known", () => {
    const cluster = new CoreCluster(3);
    cluster.core("n2").step({ kind: "read", id: 1 });
    assert.deepEqual(cluster.core("n2").take().reads, [{ id: 1, index: undefined }]);
    cluster.elect("n1");
    cluster.isolate("n2");
    for (let id = 2; id < 20; id++) {
      cluster.core("n2").step({ kind: "read", id });
      cluster.settle();
    }
    for (let i = 0; i < 10; i++) {
      cluster.core("n2").step({ kind: "tick" });
      cluster.settle();
    }
    const reads = cluster.reads.get("n2")!;
    assert.equal(reads.length, 18);
    for (const { index } of reads) assert.equal(index, undefined);
  });

  it("are few messages however many turns bring some: at most four requests wait at once", () => {
    const core = makeCore({ voters, id: "n2" });
    followed(core, "n1");
    let requests = 0;
    for (let id = 1; id <= 20; id++) {
      core.step({ kind: "read", id });
      requests += ofKind(core.take().send, "readRequest").length;
    }
    assert.equal(requests, 4);
  });
});
