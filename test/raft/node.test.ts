import assert from "node:assert/strict";
import { hasCode } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";
import { ListMachine } from "./lib/list-machine.ts";
import { LoopbackCluster } from "./lib/loopback-cluster.ts";

describe("raft node", function () {
  this.timeout(60_000);
  let cluster: LoopbackCluster;
  afterEach(() => cluster.stop());

  it("serves alone where it is the only master", async () => {
    cluster = await LoopbackCluster.make(1);
    await cluster.startAll();
    await cluster.write("a");
    assert.deepEqual(cluster.members[0]!.machine.texts, ["a"]);
    const { node, machine } = cluster.members[0]!;
    assert.ok((await node!.readIndex()) <= machine.appliedIndex);
  });

  it("keeps what was committed when the leader dies, when it returns, and when all restart", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    for (let i = 0; i < 20; i++) await cluster.write(`first ${i}`);
    const dead = await cluster.leader();
    await cluster.crash(dead);
    for (let i = 0; i < 20; i++) await cluster.write(`second ${i}`);
    assert.notEqual(await cluster.leader(), dead);
    await cluster.start(dead);
    await cluster.write("third");
    const before = await cluster.converged();
    for (let place = 0; place < 3; place++) await cluster.crash(place);
    await cluster.startAll();
    await cluster.write("fourth");
    const after = await cluster.converged();
    assert.deepEqual(after, [...before, "fourth"]);
    assert.equal(new Set(after).size, 42);
    for (const { machine } of cluster.members) assert.deepEqual(machine.texts, after);
  });

  it("keeps it on real files too", async () => {
    cluster = await LoopbackCluster.make(3, { retainedEntries: 5 });
    await cluster.useFiles();
    await cluster.startAll();
    for (let i = 0; i < 10; i++) await cluster.write(`first ${i}`);
    const dead = await cluster.leader();
    await cluster.reopen(dead);
    for (let i = 0; i < 10; i++) await cluster.write(`second ${i}`);
    await cluster.start(dead);
    const before = await cluster.converged();
    for (const { machine } of cluster.members) machine.flush();
    await eventually("the logs to be compacted", () =>
      cluster.members.every(({ journal }) => journal.state.baseIndex > 0),
    );
    for (let place = 0; place < 3; place++) await cluster.reopen(place);
    await cluster.startAll();
    await cluster.write("third");
    assert.deepEqual(await cluster.converged(), [...before, "third"]);
    assert.equal(before.length, 20);
  });

  it("forgets entries that are few but large, and no more of them after a restart", async () => {
    const retainedBytes = 160 * 1024;
    cluster = await LoopbackCluster.make(1, { retainedBytes });
    await cluster.startAll();
    const text = "x".repeat(10 * 1024);
    for (let i = 0; i < 50; i++) await cluster.write(`${i} ${text}`);
    const [member] = cluster.members;
    assert.equal(member!.journal.state.baseIndex, 0, "nothing is forgotten before it is flushed");
    member!.machine.flush();
    // The no-op of the term and 50 entries; 16 of them are to stay, and a step at most.
    await eventually("the log to be compacted", () => member!.journal.state.baseIndex >= 32);
    assert(member!.journal.state.baseIndex <= 35);
    await cluster.crash(0);
    await cluster.start(0);
    for (let i = 0; i < 10; i++) await cluster.write(`more ${i} ${text}`);
    member!.machine.flush();
    await eventually("the log to be compacted", () => member!.journal.state.baseIndex >= 42);
    assert(member!.journal.state.baseIndex <= 47);
  });

  it("applies after a crash what was not flushed, and of the log that it kept nothing more", async () => {
    cluster = await LoopbackCluster.make(1, { retainedEntries: 1000 });
    await cluster.startAll();
    for (let i = 0; i < 60; i++) await cluster.write(`flushed ${i}`);
    const [member] = cluster.members;
    const flushed = member!.machine.appliedIndex;
    member!.machine.flush();
    for (let i = 0; i < 5; i++) await cluster.write(`applied ${i}`);
    await cluster.crash(0);
    await cluster.start(0);
    await cluster.write("next");
    const { machine, journal } = member!;
    assert.equal(journal.state.baseIndex, 0);
    assert.equal(machine.texts.length, 66);
    // Five, the no-op of the new term, and the one after it.
    assert.equal(machine.appliedCount, 7);
    assert.equal(machine.appliedIndex, flushed + 7);
  });

  it("commits many proposals of one turn together, in order", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    const { node, machine } = cluster.members[await cluster.leader()]!;
    const texts = Array.from({ length: 5000 }, (_, i) => `entry ${i}`);
    let last = 0;
    for (const text of texts) last = node!.propose(Buffer.from(text)).index;
    await eventually("all to be applied", () => machine.appliedIndex >= last);
    assert.deepEqual(machine.texts, texts);
  });

  it("answers reads with a point at or behind everything acknowledged before", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const place = await cluster.leader();
    const { node, machine } = cluster.members[place]!;
    const acknowledged = machine.appliedIndex;
    const indexes = await Promise.all(Array.from({ length: 100 }, () => node!.readIndex()));
    for (const index of indexes) assert.ok(index >= acknowledged);
    const follower = cluster.members[(place + 1) % 3]!.node!;
    assert.ok((await follower.readIndex()) >= acknowledged, "a follower asks its leader");
    assert.throws(
      () => follower.propose(Buffer.from("b")),
      (error) => hasCode(error, "NotLeader"),
    );
  });

  it("hands its leadership over on request", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const before = await cluster.leader();
    await cluster.members[before]!.node!.transferLeadership();
    assert.notEqual(await cluster.leader(), before);
    await cluster.write("b");
  });

  it("loses and doubles nothing that was proposed while the leadership is handed over", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("start");
    const before = cluster.members[await cluster.leader()]!;
    const taken: { index: number; term: number; text: string }[] = [];
    const refusals = new Set<string>();
    const propose = (text: string) => {
      try {
        taken.push({ ...before.node!.propose(Buffer.from(text)), text });
      } catch (error) {
        assert.ok(hasCode(error, "Busy", "NotLeader"));
        refusals.add(error.code);
      }
    };
    for (let i = 0; i < 500; i++) propose(`before ${i}`);
    const handingOver = before.node!.transferLeadership();
    for (let i = 0; before.node!.status.role === "leader"; i++) {
      propose(`meanwhile ${i}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await handingOver;
    propose("after");
    // Clients that ask here are told at once where to go.
    assert.match(before.node!.status.leaderRpcAddress!, /^127\.0\.0\.1:1000[123]$/);
    assert.deepEqual([...refusals].sort(), ["Busy", "NotLeader"]);
    const texts = await cluster.converged();
    assert.deepEqual(texts, ["start", ...taken.map(({ text }) => text)]);
    for (const { index, term, text } of taken) {
      assert.deepEqual(before.machine.items.find((item) => item.index === index)?.text, text);
      assert.equal(before.machine.items.find((item) => item.index === index)?.term, term);
    }
  });

  it("R24: what a leader could not flush before it lost the lead fails, and its log follows the others", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("start");
    const place = await cluster.leader();
    const old = cluster.members[place]!;
    assert.ok(old.journal instanceof MemoryJournal);
    const others = [0, 1, 2].filter((each) => each !== place);
    // Nobody hears the old leader, and its own disk does not come to an end: nothing is decided.
    for (const each of others) await cluster.crash(each);
    const stall = old.journal.stall();
    const proposed = [1, 2, 3].map((i) => old.node!.propose(Buffer.from(`lost ${i}`)));
    await eventually("the loss of the lead", () => old.node!.status.role !== "leader");
    assert.throws(
      () => old.node!.propose(Buffer.from("refused")),
      (error) => hasCode(error, "NotLeader"),
    );
    for (const each of others) await cluster.start(each);
    const write = await eventually("another leader", () =>
      others
        .map((each) => cluster.members[each]!)
        .find(({ node }) => node!.status.role === "leader"),
    );
    write.node!.propose(Buffer.from("won"));
    stall.end();
    await eventually("the old leader to follow", () => old.machine.texts.includes("won"));
    const texts = await cluster.converged();
    assert.deepEqual(texts, ["start", "won"]);
    for (const { machine } of cluster.members) assert.deepEqual(machine.texts, texts);
    for (const { index, term } of proposed) {
      assert.notEqual(old.machine.items.find((item) => item.index === index)?.term, term);
    }
    assert.equal(old.fatal, undefined);
  });

  it("brings a follower that is behind the log up by a snapshot", async () => {
    cluster = await LoopbackCluster.make(3, { retainedEntries: 10 });
    await cluster.startAll();
    await cluster.write("start");
    const behind = ((await cluster.leader()) + 1) % 3;
    await cluster.crash(behind);
    const leader = await cluster.leader();
    const { node, machine, journal } = cluster.members[leader]!;
    for (let i = 0; i < 200; i++) node!.propose(Buffer.from(`entry ${i}`));
    await eventually("all to be applied", () => machine.texts.length === 201);
    for (const member of cluster.members) member.machine.flush();
    await eventually("the log to be compacted", () => journal.state.baseIndex > 100);
    await cluster.start(behind);
    await cluster.write("end");
    const texts = await cluster.converged();
    assert.equal(texts.length, 202);
    assert.deepEqual(cluster.members[behind]!.machine.texts, texts);
    assert.ok(cluster.members[behind]!.machine.flushedIndex().index > 100);
    // And the log goes on behind the snapshot after a crash.
    await cluster.crash(behind);
    await cluster.start(behind);
    await cluster.write("after");
    await cluster.converged();
    assert.deepEqual(cluster.members[behind]!.machine.texts, [...texts, "after"]);
  });

  it("R17: starts the log anew behind a snapshot that was installed right before a crash", async () => {
    cluster = await LoopbackCluster.make(1);
    await cluster.startAll();
    await cluster.write("a");
    const member = cluster.members[0]!;
    const { index, term } = member.machine.items.at(-1)!;
    await cluster.crash(0);
    member.machine = new ListMachine({ items: [], index: index + 100, term: term + 1 });
    await cluster.start(0);
    await cluster.write("b");
    assert.ok(member.machine.items[0]!.index > index + 100);
  });

  it("refuses entries while the disk is full, and goes on when there is room again", async () => {
    cluster = await LoopbackCluster.make(1);
    await cluster.startAll();
    await cluster.write("a");
    const { node } = cluster.members[0]!;
    const { journal } = cluster.members[0]!;
    assert.ok(journal instanceof MemoryJournal);
    journal.diskFull = true;
    assert.throws(
      () => node!.propose(Buffer.from("b")),
      (error) => hasCode(error, "DiskFull"),
    );
    journal.diskFull = false;
    await cluster.write("c");
  });

  describe("forming", () => {
    it("waits until every listed master is there", async () => {
      const warnings: object[] = [];
      const logger = { ...silentLogger, warn: (fields: object) => warnings.push(fields) };
      cluster = await LoopbackCluster.make(3);
      await cluster.start(0, { logger });
      await cluster.start(1);
      await eventually("a word on who is missing", () => warnings.length > 0);
      assert.deepEqual(warnings[0], { stage: "empty", waitsFor: ["master-3"] });
      assert.equal(cluster.members[0]!.journal.state.nodeId, undefined);
      await cluster.start(2);
      await cluster.write("a");
    });

    it("goes on when a master crashes between writing the members and taking part", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.start(0);
      await cluster.start(1);
      const late = cluster.start(2);
      await eventually("the first one to write", () => cluster.members[0]!.journal.state.nodeId);
      await late;
      await cluster.crash(0);
      await cluster.start(0);
      await cluster.write("a");
      const ids = cluster.members.map(({ node }) => node!.clusterId);
      assert.equal(new Set(ids).size, 1);
    });

    it("refuses to form a cluster of an even number of masters", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.start(0, { peers: cluster.peers.slice(0, 2) });
      await cluster.start(1, { peers: cluster.peers.slice(0, 2) });
      const fatal = await eventually("the refusal", () => cluster.members[0]!.fatal);
      assert.match(fatal.message, /Cannot form a cluster of 2 masters .*wanted an odd number/);
      assert.equal(cluster.members[0]!.journal.state.nodeId, undefined);
    });

    it("refuses a journal that was lost below a state that was not", async () => {
      cluster = await LoopbackCluster.make(1);
      cluster.members[0]!.machine = new ListMachine({ items: [], index: 7, term: 1 });
      await assert.rejects(
        cluster.start(0),
        /its journal is empty, but its state stands at entry 7/,
      );
    });

    it("refuses a master of another cluster", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.start(0);
      await cluster.start(1);
      await cluster.start(2, { clusterName: "other" });
      const fatal = await eventually("the refusal", () => cluster.members[2]!.fatal);
      assert.ok(hasCode(fatal, "ConfigInvalid"));
      assert.match(fatal.message, /belongs to cluster "other", wanted "test"/);
    });

    it("refuses the journal of a master of another name", async () => {
      cluster = await LoopbackCluster.make(1);
      await cluster.startAll();
      await cluster.write("a");
      await cluster.crash(0);
      const peers = [{ ...cluster.peers[0]!, name: "other" }];
      await assert.rejects(
        cluster.start(0, { name: "other", peers }),
        /Cannot use the journal of "other": it belongs to "master-1"/,
      );
    });
  });
});
