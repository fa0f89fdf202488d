import assert from "node:assert/strict";
import type { Configuration, Message, NodeId } from "../../src/raft/types.ts";
import { CoreCluster, makeCore, makeLeader, persistAll, receive } from "./lib/core-cluster.ts";

const led = (count: number, configuration?: Configuration) => {
  const cluster = new CoreCluster(count, configuration && { configuration });
  cluster.elect("n1");
  cluster.tick(3);
  return cluster;
};
const leaders = (cluster: CoreCluster): NodeId[] =>
  cluster.ids.filter((id) => cluster.core(id).role === "leader");

describe("leadership transfer", () => {
  it("to a voter that has everything takes one message, and goes to the best one when none is named", () => {
    const cluster = led(3);
    cluster.drop = ({ kind, to }) => kind === "append" && to === "n2";
    cluster.core("n1").propose(Buffer.from("a"));
    cluster.settle();
    assert.deepEqual(cluster.core("n1").transfer(undefined), { ok: true, target: "n3" });
    const { send } = cluster.core("n1").take();
    assert.deepEqual(
      send.filter(({ kind }) => kind === "timeoutNow").map(({ to }) => to),
      ["n3"],
    );
    receive(cluster.core("n3"), { kind: "timeoutNow", from: "n1", term: 1 });
    cluster.settle();
    assert.deepEqual(leaders(cluster), ["n3"]);
  });

  it("is begun by a leader of a moment too: who has just voted is there, and goes on when it has the rest", () => {
    const voters = ["n1", "n2", "n3"];
    const core = makeCore({ voters });
    makeLeader(core, voters);
    assert.equal(core.role, "leader");
    assert.deepEqual(core.transfer(undefined), { ok: true, target: "n2" });
    persistAll(core, core.take());
    const reply = { kind: "appendReply", term: 1, ok: true, index: 1, hintIndex: 1, hintTerm: 1 };
    receive(core, { ...reply, from: "n3" });
    assert.ok(core.take().send.every(({ kind }) => kind !== "timeoutNow"));
    receive(core, { ...reply, from: "n2" });
    assert.deepEqual(
      core.take().send.flatMap(({ kind, to }) => (kind === "timeoutNow" ? [to] : [])),
      ["n2"],
    );
  });

  it("is soon refused by a leader whom nobody answers, and ends no later than its lead", () => {
    const voters = ["n1", "n2", "n3"];
    const core = makeCore({ voters });
    makeLeader(core, voters);
    for (let i = 0; i < 10; i++) core.step({ kind: "tick" });
    assert.equal(
      core.role,
      "follower",
      "a vote counts as a sign of life from when it was asked for",
    );
    assert.equal(core.transfer(undefined).ok, false);
  });

  it("goes to nobody who does not answer, however much it holds", () => {
    const cluster = led(3);
    cluster.drop = ({ kind, to }) => kind === "append" && to === "n3";
    cluster.core("n1").propose(Buffer.from("a"));
    cluster.settle();
    cluster.drop = ({ kind, from, to }) => from === "n2" || to === "n2" || kind === "append";
    cluster.tick(15);
    const matchOf = (id: NodeId) => cluster.core("n1").progressOf(id)!.matchIndex;
    assert.ok(matchOf("n2") > matchOf("n3"));
    assert.deepEqual(cluster.core("n1").transfer(undefined), { ok: true, target: "n3" });
  });

  it("brings the target up to date first, and takes no commands meanwhile", () => {
    const cluster = led(3);
    cluster.drop = ({ kind, to }) => kind === "append" && to === "n2";
    for (let i = 0; i < 10; i++) cluster.core("n1").propose(Buffer.from("a"));
    cluster.settle();
    assert.ok(cluster.core("n1").transfer("n2").ok);
    cluster.settle();
    assert.deepEqual(leaders(cluster), ["n1"]);
    assert.deepEqual(cluster.core("n1").propose(Buffer.from("b")), { ok: false, code: "Busy" });
    cluster.drop = () => false;
    cluster.tick(4);
    assert.deepEqual(leaders(cluster), ["n2"]);
    assert.equal(cluster.core("n2").termAt(11), 1);
  });

  it("is refused for who is no voter, for the leader itself, and by who does not lead", () => {
    const cluster = led(3, { voters: ["n1", "n2"], outgoing: [], learners: ["n3"] });
    const reasonOf = (id: NodeId, target: NodeId | undefined) => {
      const started = cluster.core(id).transfer(target);
      return started.ok ? "" : `${started.code}: ${started.reason}`;
    };
    const cannot = "Cannot hand over the leadership";
    assert.equal(reasonOf("n1", "n3"), `InvalidArgument: ${cannot}: the target is no voter`);
    assert.equal(reasonOf("n1", "n9"), `InvalidArgument: ${cannot}: the target is no voter`);
    assert.equal(reasonOf("n1", "n1"), `InvalidArgument: ${cannot}: the target leads already`);
    assert.equal(reasonOf("n2", undefined), `NotLeader: ${cannot}: this node does not lead`);
    assert.equal(cluster.core("n1").propose(Buffer.from("a")).ok, true);
    const alone = led(1).core("n1").transfer(undefined);
    assert.equal(!alone.ok && alone.code, "Busy");
  });

  it("A9: happens once: what comes late flips nothing, and the new leader stays", () => {
    const cluster = led(3);
    cluster.log = [];
    cluster.core("n1").transfer("n2");
    cluster.settle();
    assert.deepEqual(leaders(cluster), ["n2"]);
    const { term } = cluster.core("n2");
    const late = cluster.log;
    for (const each of late) cluster.core(each.to).step({ kind: "receive", message: each });
    cluster.tick(100);
    assert.deepEqual(leaders(cluster), ["n2"]);
    assert.equal(cluster.core("n2").term, term);
  });

  it("reaches its target though the word to campaign is lost once", () => {
    const cluster = led(3);
    let lost = 0;
    cluster.drop = ({ kind }) => kind === "timeoutNow" && lost++ === 0;
    cluster.core("n1").transfer("n2");
    cluster.tick(3);
    assert.deepEqual(leaders(cluster), ["n2"]);
  });

  it("asked again for the same target is under way already; for another one it is refused", () => {
    const cluster = led(3);
    cluster.drop = ({ kind }) => kind === "timeoutNow";
    assert.deepEqual(cluster.core("n1").transfer("n2"), { ok: true, target: "n2" });
    assert.deepEqual(cluster.core("n1").transfer(undefined), { ok: true, target: "n2" });
    assert.equal(cluster.core("n1").transfer("n3").ok, false);
    cluster.tick(12);
    assert.deepEqual(cluster.core("n1").transfer("n3"), { ok: true, target: "n3" });
  });

  it("R11: reads of the old leader are confirmed by a quorum or not at all, before, during and after", () => {
    const cluster = led(3);
    const n1 = cluster.core("n1");
    // n1 hands over and hears nothing of what becomes of it; there is no lease that would let it answer.
    cluster.drop = ({ to }) => to === "n1";
    n1.transfer("n2");
    cluster.settle();
    assert.deepEqual(leaders(cluster), ["n1", "n2"]);
    cluster.core("n2").propose(Buffer.from("new"));
    cluster.settle();
    const held: Message[] = [];
    cluster.drop = (each) => {
      if (each.to === "n1") held.push(each);
      return each.to === "n1";
    };
    n1.step({ kind: "read", id: 1 });
    for (let i = 0; i < 8; i++) {
      n1.step({ kind: "tick" });
      cluster.settle();
    }
    assert.equal(n1.role, "leader");
    assert.deepEqual(cluster.reads.get("n1"), []);
    // What the others answered says that the reign is over.
    for (const each of held) n1.step({ kind: "receive", message: each });
    cluster.settle();
    assert.deepEqual(cluster.reads.get("n1"), [{ id: 1, index: undefined }]);
  });

  it("R11: a read during a transfer that fails is confirmed as ever", () => {
    const cluster = led(3);
    cluster.drop = ({ kind }) => kind === "timeoutNow";
    cluster.core("n1").transfer("n2");
    cluster.core("n1").step({ kind: "read", id: 1 });
    cluster.settle();
    assert.deepEqual(cluster.reads.get("n1"), [{ id: 1, index: cluster.core("n1").commitIndex }]);
  });
});
