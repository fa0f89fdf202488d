import assert from "node:assert/strict";
import type { RaftCore } from "../../src/raft/core.ts";
import { encodeConfiguration } from "../../src/raft/configuration-codec.ts";
import type { MemberChange } from "../../src/raft/member-change.ts";
import type { Configuration, Entry, Index, Member, NodeId, Term } from "../../src/raft/types.ts";
import {
  CoreCluster,
  compactedAt50,
  entry,
  leadingCore,
  makeCore,
  persistAll,
  receive,
} from "./lib/core-cluster.ts";

const ack = (core: RaftCore, from: NodeId, index: number = core.lastIndex) => {
  const { term } = core;
  const hint = { hintIndex: index, hintTerm: term };
  receive(core, { kind: "appendReply", from, term, ok: true, index, ...hint });
};
const member = (nodeId: NodeId, promote = false): Member => ({
  nodeId,
  name: `name of ${nodeId}`,
  host: "127.0.0.1",
  raftPort: 1,
  rpcPort: 2,
  promote,
});
const of = (voters: NodeId[], outgoing: NodeId[] = [], learners: NodeId[] = []): Configuration => ({
  voters,
  outgoing,
  learners,
  members: [...new Set([...voters, ...outgoing, ...learners])].map((id) => member(id)),
});
const configurationEntry = (index: number, term: number, configuration: Configuration): Entry => ({
  index: index as Index,
  term: term as Term,
  kind: "configuration",
  payload: encodeConfiguration(configuration),
});
/** Who decides and who follows, without the addresses. */
const shape = ({ voters, outgoing, learners }: Configuration) => ({ voters, outgoing, learners });
/** A cluster of n1, n2, … of which the first `voters` decide and the rest is not in it. */
const clusterOf = (voters: number, nodes = voters) => {
  const ids = Array.from({ length: voters }, (_, i) => `n${i + 1}`);
  const cluster = new CoreCluster(nodes, { configuration: of(ids) });
  cluster.elect("n1");
  return cluster;
};
/** A leader of n1, n2 and n3 whose log, from an earlier term, ends in the joint configuration that takes in n4. */
const leaderInJoint = (options: { appliedIndex?: Index } = {}) => {
  const voters = ["n1", "n2", "n3"];
  const joint = of([...voters, "n4"], voters);
  const configuration = of(voters, [], ["n4"]);
  const hardState = { term: 1 as Term, vote: undefined };
  const entries = [entry(1, 1), configurationEntry(2, 1, joint)];
  return leadingCore({ voters, configuration, hardState, entries, ...options }, joint.voters);
};
/** A leader whose voters have all got its no-op, and are told to take it out; that is committed as a joint step. */
const leaderInRemoval = (voters: NodeId[]) => {
  const core = leadingCore({ voters, configuration: of(voters) });
  const others = voters.filter((id) => id !== core.id);
  for (const id of others) ack(core, id);
  assert.ok(core.changeMembers({ kind: "remove", nodeId: core.id }).ok);
  persistAll(core, core.take());
  for (const id of ["n2", "n3"]) ack(core, id);
  persistAll(core, core.take());
  assert.deepEqual(shape(core.configuration), shape(of(others)));
  return core;
};
const change = (cluster: CoreCluster, wanted: MemberChange, leader = "n1") => {
  const changed = cluster.core(leader).changeMembers(wanted);
  assert.ok(changed.ok, `refused: ${changed.ok ? "" : changed.reason}`);
  cluster.settle();
};
const agreeOn = (cluster: CoreCluster, ids: readonly NodeId[], wanted: Configuration) => {
  for (const id of ids) {
    assert.deepEqual(shape(cluster.core(id).configuration), shape(wanted), `as ${id} has it`);
    assert.equal(cluster.core(id).isChangingMembers, false, `${id} is in the middle of a change`);
  }
};

describe("raft membership", () => {
  describe("learners", () => {
    it("get the log and count for nothing", () => {
      const cluster = clusterOf(1, 2);
      cluster.drop = ({ from }) => from === "n2";
      change(cluster, { kind: "addLearner", member: member("n2") });
      const proposed = cluster.core("n1").propose(Buffer.from("a"));
      cluster.settle();
      assert.ok(proposed.ok && cluster.core("n1").commitIndex >= proposed.index);
      cluster.isolate();
      cluster.tick(5);
      assert.equal(cluster.core("n2").commitIndex, cluster.core("n1").commitIndex);
      assert.equal(cluster.core("n1").role, "leader");
      agreeOn(cluster, ["n1", "n2"], of(["n1"], [], ["n2"]));
    });

    it("never campaign, however long they hear nobody", () => {
      const cluster = clusterOf(3, 4);
      change(cluster, { kind: "addLearner", member: member("n4") });
      cluster.isolate("n4");
      cluster.tick(100);
      assert.deepEqual([cluster.core("n4").role, cluster.core("n4").term], ["follower", 1]);
      receive(cluster.core("n4"), {
        kind: "heartbeat",
        from: "n1",
        term: 1,
        commit: 0,
        readToken: 0,
      });
      receive(cluster.core("n4"), { kind: "timeoutNow", from: "n1", term: 1 });
      assert.equal(cluster.core("n4").role, "follower", "told to campaign by mistake");
    });

    it("are promoted by themselves once they keep up, if they are to be", () => {
      const cluster = clusterOf(1, 3);
      change(cluster, { kind: "addLearner", member: member("n2", true) });
      cluster.tick(30);
      change(cluster, { kind: "addLearner", member: member("n3") });
      cluster.tick(30);
      agreeOn(cluster, cluster.ids, of(["n1", "n2"], [], ["n3"]));
      assert.equal(
        cluster.core("n1").configuration.members?.some(({ promote }) => promote),
        false,
      );
      change(cluster, { kind: "promote", nodeId: "n3" });
      agreeOn(cluster, cluster.ids, of(["n1", "n2", "n3"]));
    });

    it("are not promoted while they do not answer, nor while they are far behind", () => {
      const cluster = clusterOf(1, 2);
      cluster.isolate("n2");
      change(cluster, { kind: "addLearner", member: member("n2", true) });
      cluster.tick(100);
      assert.deepEqual(shape(cluster.core("n1").configuration), shape(of(["n1"], [], ["n2"])));
      const changed = cluster.core("n1").changeMembers({ kind: "promote", nodeId: "n2" });
      assert.equal(!changed.ok && changed.code, "Busy");
      // It answers heartbeats, and gets no entries.
      cluster.drop = ({ kind, to }) => kind === "append" && to === "n2";
      cluster.tick(100);
      assert.equal(cluster.core("n1").progressOf("n2")?.isActive, true);
      const asked = cluster.core("n1").changeMembers({ kind: "promote", nodeId: "n2" });
      assert.equal(!asked.ok && asked.code, "Busy");
      assert.deepEqual(shape(cluster.core("n1").configuration), shape(of(["n1"], [], ["n2"])));
      cluster.isolate();
      cluster.tick(30);
      agreeOn(cluster, cluster.ids, of(["n1", "n2"]));
    });
  });

  describe("a member that has moved", () => {
    const at = (nodeId: NodeId, port: number): Member => ({
      ...member(nodeId),
      raftPort: port,
      rpcPort: port + 100,
    });
    const cluster3 = () => {
      const configuration = { ...of(["n1", "n2", "n3"]), members: [at("n1", 1), at("n2", 2)] };
      const cluster = new CoreCluster(3, { configuration });
      cluster.elect("n1");
      return cluster;
    };
    const place = (raftPort: number, rpcPort = raftPort + 100) => ({
      host: "127.0.0.1",
      raftPort,
      rpcPort,
    });

    it("is written down in one step, and is everything else as it was", () => {
      const cluster = cluster3();
      const { lastIndex } = cluster.core("n1");
      change(cluster, { kind: "move", moves: [{ nodeId: "n2", place: place(9) }] });
      assert.equal(cluster.core("n1").lastIndex, lastIndex + 1);
      agreeOn(cluster, cluster.ids, of(["n1", "n2", "n3"]));
      for (const id of cluster.ids) {
        const { members } = cluster.core(id).configuration;
        assert.deepEqual(members, [at("n1", 1), at("n2", 9)]);
      }
    });

    it("is not written down twice, nor where another one is, nor while another change is under way", () => {
      const cluster = cluster3();
      const refused = (nodeId: NodeId, to: ReturnType<typeof place>) => {
        const moves = [{ nodeId, place: to }];
        const changed = cluster.core("n1").changeMembers({ kind: "move", moves });
        assert.ok(!changed.ok);
        return `${changed.code}: ${changed.reason}`;
      };
      const verb = 'InvalidArgument: Cannot move "name of n2" to "127.0.0.1';
      assert.equal(refused("n2", place(2)), `${verb}:2": it is there already`);
      assert.equal(refused("n2", place(1)), `${verb}:1": the log has "name of n1" there`);
      assert.equal(
        refused("n2", place(9, 101)),
        `${verb}:9": clients find "name of n1" at "127.0.0.1:101"`,
      );
      assert.match(
        refused("n3", place(9)),
        /^InvalidArgument: Cannot move "n3".*no member of which/,
      );
      cluster.isolate("n1");
      const first = cluster.core("n1").changeMembers({
        kind: "move",
        moves: [{ nodeId: "n2", place: place(9) }],
      });
      assert.ok(first.ok);
      assert.match(refused("n1", place(8)), /^Busy: .*another change is under way/);
    });

    it("may take the place of another one that moves with it, and of none that comes or stays there", () => {
      const cluster = cluster3();
      const move = (first: ReturnType<typeof place>, second: ReturnType<typeof place>) =>
        cluster.core("n1").changeMembers({
          kind: "move",
          moves: [
            { nodeId: "n1", place: first },
            { nodeId: "n2", place: second },
          ],
        });
      const refused = (...places: Parameters<typeof move>) => {
        const changed = move(...places);
        assert.ok(!changed.ok);
        return changed.reason;
      };
      const verb = 'Cannot move "name of n1" to "127.0.0.1';
      assert.equal(refused(place(9), place(9, 3)), `${verb}:9": "name of n2" moves there`);
      assert.equal(
        refused(place(9), place(8, 109)),
        `${verb}:9": clients find "name of n2" at "127.0.0.1:109"`,
      );
      assert.ok(move(place(2), place(1)).ok);
      cluster.settle();
      for (const id of cluster.ids) {
        const { members } = cluster.core(id).configuration;
        assert.deepEqual(members, [at("n1", 2), at("n2", 1)]);
      }
    });

    it("is forgotten with the entry that says so, when another leader never had it", () => {
      const cluster = cluster3();
      cluster.isolate("n1");
      cluster
        .core("n1")
        .changeMembers({ kind: "move", moves: [{ nodeId: "n2", place: place(9) }] });
      cluster.settle();
      assert.equal(cluster.core("n1").configuration.members?.[1]?.raftPort, 9);
      cluster.tick(50);
      assert.ok(["n2", "n3"].some((id) => cluster.core(id).role === "leader"));
      cluster.isolate();
      cluster.tick(10);
      assert.equal(cluster.core("n1").configuration.members?.[1]?.raftPort, 2);
    });
  });

  it("does not promote a learner that answers but falls behind more and more", () => {
    const learner = { ...of(["n1"], [], ["n2"]), members: [member("n1"), member("n2", true)] };
    const core = makeCore({ voters: ["n1"], configuration: learner });
    core.step({ kind: "tick" });
    persistAll(core, core.take());
    ack(core, "n2", 1);
    const roles = () => shape(core.configuration);
    for (let index = 2; index < 80; index++) {
      core.step({ kind: "tick" });
      for (let i = 0; i < 20; i++) core.propose(Buffer.from("a"));
      persistAll(core, core.take());
      ack(core, "n2", index);
    }
    assert.equal(core.progressOf("n2")?.state, "replicate");
    assert.deepEqual(roles(), shape(learner));
    for (let i = 0; i < 30 && core.configuration.learners.length > 0; i++) {
      ack(core, "n2");
      core.step({ kind: "tick" });
      persistAll(core, core.take());
    }
    assert.deepEqual(roles(), shape(of(["n1", "n2"], ["n1"])));
  });

  describe("joint consensus", () => {
    it("needs both majorities until it is left", () => {
      const voters = ["n1", "n2", "n3", "n4"];
      const core = leadingCore({ voters, configuration: of(["n1", "n2", "n3"], [], ["n4"]) }, [
        "n1",
        "n2",
        "n3",
      ]);
      for (const id of ["n2", "n3", "n4"]) ack(core, id);
      assert.equal(core.commitIndex, 1);
      assert.ok(core.changeMembers({ kind: "promote", nodeId: "n4" }).ok);
      const joint = core.lastIndex;
      persistAll(core, core.take());
      ack(core, "n4");
      assert.equal(core.commitIndex, 1, "half of the new voters, and one of three old ones");
      ack(core, "n2");
      assert.equal(core.commitIndex, joint);
      assert.equal(core.lastIndex, joint, "left before the turn's output");
      persistAll(core, core.take());
      assert.deepEqual(shape(core.configuration), shape(of(["n1", "n2", "n3", "n4"])));
      assert.equal(core.isChangingMembers, true);
      ack(core, "n2");
      ack(core, "n3");
      assert.equal(core.isChangingMembers, false);
    });

    it("is left by the next leader when the one that began it is gone", () => {
      const cluster = clusterOf(3, 4);
      change(cluster, { kind: "addLearner", member: member("n4") });
      cluster.tick(4);
      // The joint configuration gets everywhere, but n1 never hears that it did.
      cluster.drop = ({ to, kind }) => to === "n1" && kind === "appendReply";
      change(cluster, { kind: "promote", nodeId: "n4" });
      assert.deepEqual(cluster.core("n2").configuration.outgoing, ["n1", "n2", "n3"]);
      cluster.isolate("n1");
      cluster.tick(60);
      agreeOn(cluster, ["n2", "n3", "n4"], of(["n1", "n2", "n3", "n4"]));
      cluster.isolate();
      cluster.tick(60);
      agreeOn(cluster, cluster.ids, of(["n1", "n2", "n3", "n4"]));
    });

    it("goes on where all nodes are restarted in the middle of it", () => {
      const cluster = clusterOf(3, 4);
      change(cluster, { kind: "addLearner", member: member("n4") });
      cluster.tick(4);
      cluster.drop = ({ to, kind }) => to === "n1" && kind === "appendReply";
      change(cluster, { kind: "promote", nodeId: "n4" });
      for (const id of cluster.ids) {
        cluster.restart(id);
        assert.deepEqual(cluster.core(id).configuration.outgoing, ["n1", "n2", "n3"]);
      }
      cluster.isolate();
      cluster.tick(60);
      agreeOn(cluster, cluster.ids, of(["n1", "n2", "n3", "n4"]));
    });

    it("is rolled back when its entry is lost, as if it had never been", () => {
      const cluster = clusterOf(3);
      cluster.isolate("n1");
      assert.ok(cluster.core("n1").changeMembers({ kind: "remove", nodeId: "n3" }).ok);
      cluster.settle();
      assert.deepEqual(shape(cluster.core("n1").configuration), {
        voters: ["n1", "n2"],
        outgoing: ["n1", "n2", "n3"],
        learners: [],
      });
      cluster.tick(60);
      cluster.isolate();
      cluster.tick(60);
      agreeOn(cluster, cluster.ids, of(["n1", "n2", "n3"]));
      assert.equal(cluster.core("n1").configurationIndex, 0);
    });
  });

  describe("safety of changes", () => {
    it("R4: none begins before the leader has committed an entry of its own term", () => {
      const voters = ["n1", "n2", "n3"];
      const core = leadingCore({ voters, configuration: of(voters) });
      const early = core.changeMembers({ kind: "addLearner", member: member("n4") });
      assert.deepEqual(early, {
        ok: false,
        code: "Busy",
        reason: "Cannot change the members: the leader has not committed an entry of its term yet",
      });
      ack(core, "n2");
      assert.ok(core.changeMembers({ kind: "addLearner", member: member("n4") }).ok);
    });

    it("R4: a configuration of an earlier term that is not committed is left only after the no-op", () => {
      const core = leaderInJoint();
      for (const id of ["n2", "n3", "n4"]) ack(core, id, 2);
      core.take();
      assert.deepEqual(core.configuration.outgoing, ["n1", "n2", "n3"]);
      assert.equal(core.lastIndex, 3, "something follows the no-op");
      for (const id of ["n2", "n3"]) ack(core, id, 3);
      core.take();
      assert.deepEqual(core.configuration.outgoing, []);
    });

    it("R4: not even a joint configuration that is known to be committed is left before the no-op", () => {
      const core = leaderInJoint({ appliedIndex: 2 as Index });
      assert.deepEqual([core.commitIndex, core.lastIndex], [2, 3]);
      for (const id of ["n2", "n3"]) ack(core, id, 3);
      core.take();
      assert.deepEqual(core.configuration.outgoing, []);
    });

    it("R5: only one is under way, so that no two configurations in use lack a common voter", () => {
      const cluster = clusterOf(3, 5);
      for (const id of ["n4", "n5"]) {
        change(cluster, { kind: "addLearner", member: member(id) });
        cluster.tick(4);
      }
      const n1 = cluster.core("n1");
      cluster.isolate("n1");
      assert.ok(n1.changeMembers({ kind: "promote", nodeId: "n4" }).ok);
      cluster.settle();
      const second = n1.changeMembers({ kind: "promote", nodeId: "n5" });
      assert.deepEqual(second, {
        ok: false,
        code: "Busy",
        reason: "Cannot change the members: another change is under way",
      });
      // Not even n1, n4 and n5 together, three of five, could elect n1 with what it alone has in its log.
      cluster.drop = ({ from, to }) => [from, to].some((id) => id === "n2" || id === "n3");
      const { term } = n1;
      cluster.tick(100);
      assert.equal(n1.term, term);
      assert.notEqual(n1.role, "leader");
    });

    it("R6: a promoted node that still takes itself for a learner votes, and is elected by nobody", () => {
      const cluster = clusterOf(2, 3);
      change(cluster, { kind: "addLearner", member: member("n3") });
      cluster.tick(4);
      // n3 never hears that it was promoted; then n2 fails, so that only n1 and n3 are left of {n1, n2, n3}.
      cluster.drop = ({ to, kind }) => to === "n3" && kind === "append";
      change(cluster, { kind: "promote", nodeId: "n3" });
      assert.deepEqual(shape(cluster.core("n1").configuration), shape(of(["n1", "n2", "n3"])));
      assert.deepEqual(cluster.core("n3").configuration.learners, ["n3"]);
      cluster.drop = ({ from, to }) => from === "n2" || to === "n2";
      cluster.restart("n1");
      for (let i = 0; i < 30 && cluster.core("n1").role !== "leader"; i++) {
        cluster.core("n3").step({ kind: "tick" });
        cluster.settle();
        assert.equal(cluster.core("n3").role, "follower");
        cluster.core("n1").step({ kind: "tick" });
        cluster.settle();
      }
      assert.equal(cluster.core("n1").role, "leader");
      cluster.tick(4);
      agreeOn(cluster, ["n1", "n3"], of(["n1", "n2", "n3"]));
    });

    it("R6: a learner that has lost its leader votes whenever it is asked", () => {
      const core = makeCore({
        voters: ["n1"],
        id: "n3",
        configuration: of(["n1", "n2"], [], ["n3"]),
      });
      receive(core, { kind: "heartbeat", from: "n2", term: 1, commit: 0, readToken: 0 });
      persistAll(core, core.take());
      for (let i = 0; i < 100; i++) {
        core.step({ kind: "tick" });
        if (i < 20) continue;
        const request = {
          kind: "requestVote",
          from: "n1",
          term: 2,
          preVote: true,
          transfer: false,
        };
        receive(core, { ...request, lastIndex: 0, lastTerm: 0 });
        const [reply] = core.take().send;
        assert.equal(reply?.kind === "voteReply" && reply.granted, true, `${i} ticks after`);
      }
    });

    it("R7: a leader that is being removed does not count itself, tells the others, and goes", () => {
      const core = leaderInRemoval(["n1", "n2", "n3", "n4"]);
      const last = core.lastIndex;
      ack(core, "n2");
      assert.equal(core.commitIndex, last - 1, "its own disk and one of three");
      assert.deepEqual(core.propose(Buffer.from("a")), { ok: false, code: "Busy" });
      core.step({ kind: "read", id: 1 });
      const [beat] = core.take().send.filter(({ kind }) => kind === "heartbeat");
      const readToken = beat?.kind === "heartbeat" ? beat.readToken : 0;
      receive(core, { kind: "heartbeatReply", from: "n2", term: 1, readToken });
      assert.deepEqual(core.take().reads, [], "confirmed by itself and one of three");
      ack(core, "n3");
      const { send, reads } = core.take();
      assert.equal(core.commitIndex, last);
      assert.equal(core.role, "follower");
      assert.deepEqual(reads, [{ id: 1, index: undefined }]);
      const told = send.filter((each) => each.kind === "commitNotice" && each.commit === last);
      assert.deepEqual(
        told.map(({ to }) => to),
        ["n2", "n3"],
      );
      assert.equal(send.at(-1)?.kind, "timeoutNow");
      for (let i = 0; i < 100; i++) core.step({ kind: "tick" });
      assert.equal(core.role, "follower");
    });

    it("R7: a leader that is being removed needs all of the two that are left", () => {
      const core = leaderInRemoval(["n1", "n2", "n3"]);
      const last = core.lastIndex;
      ack(core, "n2");
      assert.equal(core.commitIndex, last - 1, "its own disk is not one of theirs");
      ack(core, "n3");
      assert.equal(core.commitIndex, last);
    });

    it("R7: a node whose removal is not committed leads once more where only it has the last entry", () => {
      const cluster = clusterOf(2);
      // n2 leads and removes itself; n1 gets the joint configuration, but not the one behind it.
      cluster.core("n1").step({ kind: "transfer", to: "n2" });
      cluster.settle();
      cluster.drop = (each) =>
        each.to === "n1" && each.kind === "append" && each.entries.some(({ index }) => index > 3);
      change(cluster, { kind: "remove", nodeId: "n2" }, "n2");
      assert.deepEqual(shape(cluster.core("n2").configuration), shape(of(["n1"])));
      assert.deepEqual(cluster.core("n1").configuration.outgoing, ["n1", "n2"]);
      for (const id of cluster.ids) cluster.restart(id);
      cluster.isolate();
      cluster.tick(60);
      agreeOn(cluster, cluster.ids, of(["n1"]));
      assert.equal(cluster.core("n1").role, "leader");
      cluster.tick(100);
      assert.equal(cluster.core("n2").role, "follower");
    });

    it("R19: a removed node that never heard of it disturbs nobody", () => {
      const cluster = clusterOf(3);
      cluster.isolate("n3");
      change(cluster, { kind: "remove", nodeId: "n3" });
      cluster.tick(60);
      cluster.isolate();
      cluster.tick(60);
      assert.equal(cluster.core("n1").role, "leader");
      assert.equal(cluster.core("n1").term, 1);
      agreeOn(cluster, ["n1", "n2"], of(["n1", "n2"]));
    });
  });

  describe("removal and replacement", () => {
    it("tells a removed node of it, though it counts no more", () => {
      const cluster = clusterOf(3);
      change(cluster, { kind: "remove", nodeId: "n3" });
      cluster.tick(3);
      assert.deepEqual(shape(cluster.core("n3").configuration), shape(of(["n1", "n2"])));
      assert.equal(cluster.core("n3").isChangingMembers, false, "the commit of its removal");
      assert.deepEqual(cluster.core("n1").peers, ["n2", "n3"]);
      cluster.tick(30);
      assert.deepEqual(cluster.core("n1").peers, ["n2"]);
      cluster.log = [];
      cluster.tick(30);
      assert.ok(cluster.log.every(({ from, to }) => from !== "n3" && to !== "n3"));
    });

    it("sends no snapshot to who is leaving", () => {
      const voters = ["n1", "n2", "n3"];
      const core = leadingCore({
        voters,
        configuration: of(voters),
        ...compactedAt50,
      });
      ack(core, "n2");
      assert.ok(core.changeMembers({ kind: "remove", nodeId: "n3" }).ok);
      persistAll(core, core.take());
      ack(core, "n2");
      persistAll(core, core.take());
      assert.deepEqual(core.peers, ["n2", "n3"]);
      // Only now it says that it needs what the log does not hold any more.
      const refused = { kind: "appendReply", from: "n3", term: core.term, ok: false, index: 50 };
      receive(core, { ...refused, hintIndex: 3, hintTerm: 1 });
      assert.deepEqual(core.take().snapshots, []);
    });

    it("grows from one to three and shrinks to one again, the log going on all the while", () => {
      const cluster = clusterOf(1, 3);
      for (const id of ["n2", "n3"]) {
        change(cluster, { kind: "addLearner", member: member(id, true) });
        cluster.tick(30);
      }
      agreeOn(cluster, cluster.ids, of(["n1", "n2", "n3"]));
      change(cluster, { kind: "remove", nodeId: "n1" });
      cluster.tick(5);
      const leader = cluster.ids.find((id) => cluster.core(id).role === "leader")!;
      assert.notEqual(leader, "n1");
      const other = leader === "n2" ? "n3" : "n2";
      change(cluster, { kind: "remove", nodeId: other }, leader);
      agreeOn(cluster, [leader], of([leader]));
      assert.equal(cluster.core(leader).isAlone, true);
      cluster.isolate(leader);
      const proposed = cluster.core(leader).propose(Buffer.from("a"));
      cluster.settle();
      assert.ok(proposed.ok && cluster.core(leader).commitIndex === proposed.index);
      const kinds = cluster.applied.get(leader)!.map(({ kind }) => kind);
      assert.equal(kinds.filter((kind) => kind === "configuration").length, 10);
    });

    it("removes a dead member, and replaces one by a node of the same name", () => {
      const cluster = clusterOf(3, 5);
      cluster.isolate("n3");
      cluster.tick(20);
      const newcomer = { ...member("n4"), name: "name of n3" };
      change(cluster, { kind: "replace", nodeId: "n3", member: newcomer });
      assert.deepEqual(
        shape(cluster.core("n2").configuration),
        shape(of(["n1", "n2"], [], ["n4"])),
      );
      cluster.tick(30);
      agreeOn(cluster, ["n1", "n2", "n4"], of(["n1", "n2", "n4"]));
      cluster.isolate("n2");
      cluster.tick(20);
      change(cluster, { kind: "remove", nodeId: "n2" });
      agreeOn(cluster, ["n1", "n4"], of(["n1", "n4"]));
    });

    for (const isDead of [true, false]) {
      const who = isDead ? "a dead" : "a live";
      it(`of ${who} member is finished by the next leader, or never began, whenever the first one dies`, () => {
        const outcomes = { finished: 0, unbegun: 0 };
        for (let heard = 0; heard < 30; heard++) {
          const cluster = clusterOf(5, 6);
          const newcomer = { ...member("n6"), name: "name of n5" };
          const replace = { kind: "replace", nodeId: "n5", member: newcomer } as const;
          let left = heard;
          const isCut = (id: NodeId) => (id === "n1" && left < 0) || (isDead && id === "n5");
          cluster.drop = ({ from, to }) => {
            if (from === "n1" || to === "n1") left--;
            return isCut(from) || isCut(to);
          };
          change(cluster, replace);
          // All that there is to say with n1 alive, as far as it gets.
          cluster.tick(15);
          left = -1;
          cluster.tick(200);
          const running = ["n2", "n3", "n4"];
          const leader = ["n2", "n3", "n4", "n5", "n6"].find(
            (id) => cluster.core(id).role === "leader",
          )!;
          if (!cluster.core(leader).configuration.voters.includes("n6")) {
            assert.deepEqual(
              shape(cluster.core(leader).configuration),
              shape(of(["n1", "n2", "n3", "n4", "n5"])),
              `${heard} heard`,
            );
            outcomes.unbegun++;
            change(cluster, replace, leader);
            cluster.tick(60);
          } else {
            outcomes.finished++;
          }
          agreeOn(cluster, [...running, "n6"], of(["n1", "n2", "n3", "n4", "n6"]));
        }
        assert.ok(outcomes.finished > 5 && outcomes.unbegun > 0, JSON.stringify(outcomes));
      });
    }

    it("is refused where those who would decide then do not answer: nothing could be decided again", () => {
      const cluster = clusterOf(3);
      cluster.isolate("n3");
      cluster.tick(20);
      assert.deepEqual(cluster.core("n1").changeMembers({ kind: "remove", nodeId: "n2" }), {
        ok: false,
        code: "Busy",
        reason: "Cannot change the members: too few of those to decide then answer now",
      });
    });

    it("of one learner by another takes one step", () => {
      const cluster = clusterOf(1, 3);
      change(cluster, { kind: "addLearner", member: member("n2") });
      change(cluster, { kind: "replace", nodeId: "n2", member: member("n3") });
      assert.deepEqual(shape(cluster.core("n1").configuration), shape(of(["n1"], [], ["n3"])));
      assert.deepEqual(
        cluster.core("n1").configuration.members?.map(({ nodeId }) => nodeId),
        ["n1", "n3"],
      );
    });
  });

  it("refuses what makes no sense, and says why", () => {
    const cluster = clusterOf(1, 3);
    change(cluster, { kind: "addLearner", member: member("n2") });
    const n1 = cluster.core("n1");
    const because = (wanted: MemberChange) => {
      const changed = n1.changeMembers(wanted);
      assert.equal(!changed.ok && changed.code, "InvalidArgument");
      return changed.ok ? "" : changed.reason;
    };
    const sameName = { ...member("n9"), name: "name of n1" };
    const reasons: [MemberChange, string][] = [
      [
        { kind: "addLearner", member: member("n2") },
        'Cannot add "name of n2": its node id "n2" is a member\'s already',
      ],
      [
        { kind: "addLearner", member: sameName },
        'Cannot add "name of n1": the name "name of n1" is a member\'s already',
      ],
      [{ kind: "promote", nodeId: "n1" }, 'Cannot promote "name of n1": it is a voter already'],
      [{ kind: "promote", nodeId: "n7" }, 'Cannot promote "n7": it is no member'],
      [{ kind: "remove", nodeId: "n7" }, 'Cannot remove "n7": it is no member'],
      [{ kind: "remove", nodeId: "n1" }, 'Cannot remove "name of n1": it is the last voter'],
      [
        { kind: "replace", nodeId: "n1", member: member("n3") },
        'Cannot replace "name of n1": it is the last voter',
      ],
      [
        { kind: "replace", nodeId: "n2", member: sameName },
        'Cannot replace "name of n2": the name "name of n1" is a member\'s already',
      ],
    ];
    const { lastIndex } = n1;
    for (const [wanted, reason] of reasons) assert.equal(because(wanted), reason);
    const elsewhere = cluster.core("n2").changeMembers({ kind: "remove", nodeId: "n1" });
    assert.equal(!elsewhere.ok && elsewhere.code, "NotLeader");
    assert.equal(n1.lastIndex, lastIndex);
  });

  describe("snapshots", () => {
    it("bring their configuration where the log begins anew behind them", () => {
      const core = makeCore({ voters: ["n1"], id: "n4", configuration: of(["n1"], [], ["n4"]) });
      const configuration = of(["n1", "n2", "n4"]);
      const place = { index: 50 as Index, term: 3 as Term };
      core.step({
        kind: "installed",
        ...place,
        from: undefined,
        configuration,
        configurationIndex: 40 as Index,
      });
      assert.deepEqual(core.configuration, configuration);
      assert.equal(core.configurationIndex, 40);
      assert.equal(core.isChangingMembers, false);
    });

    it("leave the last committed configuration when they bring none, not one that goes with the log", () => {
      const core = makeCore({ voters: ["n1"], id: "n2", configuration: of(["n1"], [], ["n2"]) });
      const kept = of(["n1", "n2"]);
      const entries = [configurationEntry(1, 1, kept), configurationEntry(2, 1, of(["n1"]))];
      const append = { kind: "append", from: "n1", term: 1, prevIndex: 0, prevTerm: 0, commit: 1 };
      receive(core, { ...append, entries });
      assert.deepEqual(shape(core.configuration), shape(of(["n1"])));
      core.step({ kind: "installed", index: 1 as Index, term: 2 as Term, from: undefined });
      core.step({ kind: "installed", index: 2 as Index, term: 2 as Term, from: undefined });
      assert.equal(core.lastIndex, 2);
      assert.deepEqual(shape(core.configuration), shape(kept));
      assert.equal(core.configurationIndex, 1);
    });

    it("are not all that is known at a start: later configurations are in the log", () => {
      const core = makeCore({
        voters: ["n1"],
        configuration: of(["n1", "n2"]),
        configurationIndex: 8 as Index,
        hardState: { term: 1 as Term, vote: undefined },
        baseIndex: 5 as Index,
        baseTerm: 1 as Term,
        appliedIndex: 9 as Index,
        entries: [
          entry(6, 1),
          configurationEntry(7, 1, of(["n1", "n2"], ["n1"])),
          configurationEntry(8, 1, of(["n1", "n2"])),
          entry(9, 1),
          configurationEntry(10, 1, of(["n1", "n2", "n3"], ["n1", "n2"])),
        ],
      });
      assert.deepEqual([core.configurationIndex, core.isChangingMembers], [10, true]);
      // A leader that never had the last one: the one before it holds again.
      const append = { kind: "append", from: "n2", term: 2, prevIndex: 9, prevTerm: 1, commit: 9 };
      receive(core, { ...append, entries: [entry(10, 2)] });
      assert.deepEqual([core.configurationIndex, core.isChangingMembers], [8, false]);
    });
  });
});
