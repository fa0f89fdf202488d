import assert from "node:assert/strict";
import type { Message, NodeId } from "../../src/raft/types.ts";
import { CoreCluster, makeCore, persistAll, receive } from "./lib/core-cluster.ts";

/** A cluster that n1 leads. */
function led(count: number): CoreCluster {
  const cluster = new CoreCluster(count);
  while (cluster.core("n1").role === "follower") cluster.core("n1").step({ kind: "tick" });
  cluster.settle();
  assert.equal(cluster.core("n1").role, "leader");
  return cluster;
}

/** The process of n1 ends: nothing comes from it or goes to it, and the others know. */
function end(cluster: CoreCluster, ...whoKnows: NodeId[]): void {
  cluster.drop = ({ from, to }) => from === "n1" || to === "n1";
  for (const id of whoKnows) cluster.core(id).step({ kind: "gone", node: "n1" });
}

/** Ticks of those that are left. */
function tick(cluster: CoreCluster, count = 1): void {
  for (let i = 0; i < count; i++) {
    for (const id of cluster.ids.slice(1)) cluster.core(id).step({ kind: "tick" });
    cluster.settle();
  }
}

/** The same where messages arrive within the tick, but with those of the others that were sent at the same time. */
function tickTogether(cluster: CoreCluster, count: number): void {
  const rest = cluster.ids.slice(1);
  for (let i = 0; i < count; i++) {
    for (const id of rest) cluster.core(id).step({ kind: "tick" });
    for (let flying: Message[] | undefined; flying === undefined || flying.length > 0; ) {
      flying = rest.flatMap((id) => {
        const output = cluster.core(id).take();
        persistAll(cluster.core(id), output);
        return [...output.send, ...output.sendAfterPersist];
      });
      for (const message of flying.filter((each) => !cluster.drop(each))) {
        cluster.core(message.to).step({ kind: "receive", message });
      }
    }
  }
}

/** n1 is gone; n2 is a candidate and has the vote of n3, which does not arrive. */
function campaigning() {
  const cluster = led(3);
  end(cluster, "n2", "n3");
  cluster.core("n2").step({ kind: "tick" });
  const { drop } = cluster;
  cluster.drop = (message) => drop(message) || (message.kind === "voteReply" && !message.preVote);
  cluster.settle();
  return { candidate: cluster.core("n2"), voter: cluster.core("n3") };
}

const roles = (cluster: CoreCluster) => cluster.ids.map((id) => cluster.core(id).role);

describe("raft core: a leader whose process has ended", () => {
  it("is followed by the next member within ticks, without a split vote", () => {
    for (const count of [3, 5, 7]) {
      const cluster = led(count);
      end(cluster, ...cluster.ids.slice(1));
      assert.equal(cluster.core("n2").leader, undefined, "nobody is taken for the leader");
      tick(cluster, 1);
      assert.equal(roles(cluster).filter((role) => role === "leader").length, 2, "n1 and one more");
      assert.equal(cluster.core("n2").term, 2, "one election was enough");
    }
  });

  it("is followed by whoever has its entries, though another one is asked first", () => {
    const cluster = led(3);
    cluster.drop = ({ to }) => to === "n2";
    cluster.core("n1").propose(Buffer.from("acknowledged"));
    cluster.settle();
    assert.equal(cluster.core("n1").commitIndex, 2);
    end(cluster, "n2", "n3");
    tick(cluster, 1);
    assert.deepEqual(roles(cluster).slice(1), ["preCandidate", "follower"], "n2 asks in vain");
    tick(cluster, 1);
    assert.equal(cluster.core("n3").role, "leader", "it did not wait for a turn of its own");
    assert.equal(cluster.core("n2").leader, "n3");
    assert.equal(cluster.core("n2").lastIndex, 3);
  });

  it("is followed as soon as the last one knows that the vote depends on", () => {
    const cluster = led(3);
    end(cluster, "n2");
    tick(cluster, 1);
    assert.equal(cluster.core("n2").role, "preCandidate");
    cluster.core("n3").step({ kind: "gone", node: "n1" });
    cluster.settle();
    assert.equal(cluster.core("n2").role, "leader", "it did not need to ask again");
  });

  it("leaves an election that has begun the time that it takes on a slow machine", () => {
    const { candidate, voter } = campaigning();
    const request = { kind: "requestVote", from: "n3", preVote: true, transfer: false } as const;
    // Asked before its sender heard of the candidate.
    receive(candidate, { ...request, term: 2, lastIndex: 1, lastTerm: 1 });
    for (let i = 0; i < 9; i++) {
      for (const core of [candidate, voter]) core.step({ kind: "tick" });
    }
    assert.equal(candidate.role, "candidate", "it still counts the votes");
    assert.equal(voter.role, "follower", "it does not campaign against whom it has voted for");
  });

  it("is followed by one of two that noticed at different moments, without a split vote", () => {
    const cluster = led(3);
    end(cluster, "n3");
    tick(cluster, 3);
    assert.equal(cluster.core("n3").role, "preCandidate");
    cluster.core("n2").step({ kind: "gone", node: "n1" });
    cluster.core("n2").step({ kind: "tick" });
    assert.equal(cluster.core("n2").role, "follower", "it has just supported another one");
    cluster.settle();
    assert.equal(cluster.core("n3").role, "leader");
    assert.equal(cluster.core("n3").term, 2);
  });

  it("is not followed for an answer that comes after its term has passed", () => {
    const core = makeCore({ voters: ["n1", "n2", "n3"], id: "n2" });
    receive(core, { kind: "heartbeat", from: "n1", term: 1, commit: 0, readToken: 0 });
    const request = { kind: "requestVote", from: "n3", preVote: true, transfer: false } as const;
    receive(core, { ...request, term: 2, lastIndex: 0, lastTerm: 0 });
    receive(core, { kind: "heartbeat", from: "n1", term: 2, commit: 0, readToken: 0 });
    core.take();
    core.step({ kind: "gone", node: "n1" });
    assert.deepEqual(core.take().send, []);
  });

  it("is followed without a split vote by those whom one asked that cannot win", () => {
    for (const count of [5, 7]) {
      const cluster = led(count);
      cluster.drop = ({ to }) => to === "n2";
      cluster.core("n1").propose(Buffer.from("acknowledged"));
      cluster.settle();
      end(cluster, ...cluster.ids.slice(1));
      tickTogether(cluster, 2);
      assert.equal(cluster.core("n3").role, "leader", "the first of the others");
      assert.equal(cluster.core("n3").term, 2);
    }
  });

  it("is followed without a split vote though one of them asked in vain long before", () => {
    for (const count of [5, 7]) {
      const cluster = led(count);
      cluster.drop = ({ from, to }) => from === "n1" && to === "n2";
      for (let i = 0; i < 60 && cluster.core("n2").role === "follower"; i++) cluster.tick();
      assert.equal(cluster.core("n2").role, "preCandidate");
      cluster.drop = () => false;
      cluster.tick(10);
      assert.equal(cluster.core("n2").leader, "n1");
      cluster.core("n1").propose(Buffer.from("more"));
      cluster.tick(3);
      end(cluster, ...cluster.ids.slice(1));
      tickTogether(cluster, 1);
      assert.equal(cluster.core("n2").role, "leader");
      assert.equal(cluster.core("n2").term, 2);
    }
  });

  it("is followed by a candidate that is asked meanwhile by one that cannot win", () => {
    const { candidate } = campaigning();
    const request = { kind: "requestVote", from: "n3", preVote: true, transfer: false } as const;
    receive(candidate, { ...request, term: 3, lastIndex: 1, lastTerm: 0 });
    for (let i = 0; i < 9; i++) candidate.step({ kind: "tick" });
    assert.equal(candidate.role, "candidate", "it still counts the votes");
  });

  it("is followed soon after the others know too, who refuse their votes before", () => {
    const cluster = led(3);
    end(cluster, "n2");
    tick(cluster, 4);
    assert.notEqual(cluster.core("n2").role, "leader");
    assert.equal(cluster.core("n3").leader, "n1");
    cluster.core("n3").step({ kind: "gone", node: "n1" });
    tick(cluster, 8);
    assert.equal(cluster.ids.slice(1).filter((id) => cluster.core(id).role === "leader").length, 1);
  });

  it("that is there after all stays the leader: who hears it refuses the others", () => {
    const cluster = led(3);
    const { term } = cluster.core("n1");
    cluster.core("n2").step({ kind: "gone", node: "n1" });
    cluster.tick(40);
    assert.deepEqual(roles(cluster), ["leader", "follower", "follower"]);
    assert.equal(cluster.core("n1").term, term);
    assert.equal(cluster.core("n2").leader, "n1");
  });

  it("that is heard again is given the whole timeout again", () => {
    const core = makeCore({ voters: ["n1", "n2", "n3"], id: "n2" });
    const heartbeat = { kind: "heartbeat", from: "n1", term: 1, commit: 0, readToken: 0 };
    receive(core, heartbeat);
    core.step({ kind: "gone", node: "n1" });
    receive(core, heartbeat);
    for (let i = 0; i < 9; i++) core.step({ kind: "tick" });
    assert.equal(core.role, "follower");
    assert.equal(core.leader, "n1");
  });

  it("is no matter to the leader itself, nor the end of another member to a follower", () => {
    const cluster = led(3);
    cluster.core("n1").step({ kind: "gone", node: "n3" });
    cluster.core("n2").step({ kind: "gone", node: "n3" });
    cluster.tick(9);
    assert.deepEqual(roles(cluster), ["leader", "follower", "follower"]);
    assert.equal(cluster.core("n2").leader, "n1");
  });

  it("leaves learners to wait for the next one", () => {
    const configuration = { voters: ["n1", "n3", "n4"], outgoing: [], learners: ["n2"] };
    const core = makeCore({ voters: configuration.voters, configuration, id: "n2" });
    const heartbeat = { kind: "heartbeat", from: "n1", term: 1, commit: 0, readToken: 0 };
    receive(core, heartbeat);
    core.step({ kind: "gone", node: "n1" });
    for (let i = 0; i < 40; i++) core.step({ kind: "tick" });
    assert.equal(core.role, "follower");
    assert.deepEqual(core.take().send, []);
  });
});
