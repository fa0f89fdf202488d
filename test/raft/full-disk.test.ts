/** What a node does while entries find no room on its disk: what makes room passes, and what waits stays small. */
import assert from "node:assert/strict";
import type { Clock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Persister } from "../../src/raft/host/persister.ts";
import type { Index, Message, Term } from "../../src/raft/types.ts";
import { eventually } from "../lib/eventually.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";
import { entry, makeCore, message } from "./lib/core-cluster.ts";
import { LoopbackCluster } from "./lib/loopback-cluster.ts";

/** A clock whose time passes at once, a turn of the event loop for each pause. */
const hastyClock: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  after: (_delayMs, callback) => {
    const immediate = setImmediate(callback);
    return () => clearImmediate(immediate);
  },
};

const persisters: Persister[] = [];

async function fullDisk() {
  const journal = new MemoryJournal();
  await journal.initialize({ nodeId: "n1", clusterId: "c" });
  await journal.append({ hardState: undefined, entries: [entry(1, 1), entry(2, 1)] });
  journal.diskFull = true;
  const done: string[] = [];
  const compact = journal.compact.bind(journal);
  journal.compact = async (index, term) => {
    done.push(`compacted to ${index}`);
    await compact(index, term);
  };
  const reset = journal.reset.bind(journal);
  journal.reset = async (index, term) => {
    done.push(`reset to ${index}`);
    await reset(index, term);
  };
  const sent: Message[] = [];
  const persister = new Persister({
    journal,
    clock: hastyClock,
    logger: silentLogger,
    onPersisted: (sequence) => done.push(`wrote ${sequence}`),
    onHardStatePersisted: () => undefined,
    send: (messages) => sent.push(...messages),
    onFatal: (error) => assert.fail(String(error)),
  });
  persisters.push(persister);
  return { journal, persister, done, sent };
}

const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

describe("raft: a full disk", () => {
  afterEach(() => Promise.all(persisters.splice(0).map((each) => each.stop())));

  it("gets room by the compaction that is due, though entries wait before it", async () => {
    const { journal, persister, done } = await fullDisk();
    const compact = journal.compact.bind(journal);
    journal.compact = async (index, term) => {
      await compact(index, term);
      journal.diskFull = false;
    };
    persister.submit(
      { sequence: 1, hardState: undefined, reset: undefined, entries: [entry(3, 1)] },
      [],
    );
    await turns(5);
    persister.compact(2 as Index, () => 1 as Term);
    await eventually("the entry to be written", () => done.includes("wrote 1"));
    assert.deepEqual(done, ["compacted to 2", "wrote 1"]);
  });

  it("does not compact before a reset what came behind it", async () => {
    const { journal, persister, done } = await fullDisk();
    const none = { hardState: undefined, reset: undefined };
    persister.submit({ ...none, sequence: 1, entries: [entry(3, 1)] }, []);
    await turns(5);
    const reset = { index: 10 as Index, term: 1 as Term };
    persister.submit({ ...none, sequence: 2, reset, entries: [] }, []);
    persister.submit({ ...none, sequence: 3, entries: [entry(11, 1)] }, []);
    persister.compact(11 as Index, () => 1 as Term);
    await eventually("the reset", () => done.includes("wrote 2"));
    await turns(20);
    assert.deepEqual(done, ["reset to 10", "wrote 2"]);
    journal.diskFull = false;
    await eventually("all of it", () => done.includes("compacted to 11"));
    assert.deepEqual(done, ["reset to 10", "wrote 2", "wrote 3", "compacted to 11"]);
  });

  it("does not compact before a reset, though the journal holds entries of that index", async () => {
    const { persister, done } = await fullDisk();
    const none = { hardState: undefined, reset: undefined };
    persister.submit({ ...none, sequence: 1, entries: [entry(3, 1)] }, []);
    await turns(5);
    // The log behind a snapshot of 2@2: what the journal has at 2 is of term 1, and goes.
    const reset = { index: 2 as Index, term: 2 as Term };
    persister.submit({ ...none, sequence: 2, reset, entries: [] }, []);
    persister.compact(2 as Index, () => 2 as Term);
    await eventually("both", () => done.includes("compacted to 2"));
    assert.deepEqual(done, ["reset to 2", "wrote 2", "compacted to 2"]);
  });

  const voteReply = message({
    ...{ kind: "voteReply", from: "n1", to: "n2", term: 2 },
    ...{ preVote: false, granted: true },
  });

  it("gives entries that wait up for the reset that forgets them, with what would acknowledge them", async () => {
    const { journal, persister, done, sent } = await fullDisk();
    const none = { hardState: undefined, reset: undefined };
    const acknowledgement = message({
      ...{ kind: "appendReply", from: "n1", to: "n2", term: 1, ok: true, index: 11 },
      ...{ readToken: 0 },
    });
    const entries = Array.from({ length: 9 }, (_, i) => entry(3 + i, 1));
    persister.submit({ ...none, sequence: 1, entries }, [acknowledgement]);
    await turns(5);
    const hardState = { term: 2 as Term, vote: "n2" };
    persister.submit({ ...none, hardState, sequence: 2, entries: [] }, [voteReply]);
    const reset = { index: 10 as Index, term: 2 as Term };
    const installed = message({
      ...{ kind: "snapshotDone", from: "n1", to: "n3", term: 2 },
      ...{ ok: true, index: 10 },
    });
    persister.submit({ ...none, sequence: 3, reset, entries: [] }, [installed]);
    // What follows finds no room, and holds up neither the reset nor what waits for it.
    persister.submit({ ...none, sequence: 4, entries: [entry(11, 2)] }, []);
    await eventually("the reset", () => done.includes("wrote 3"));
    await turns(20);
    assert.deepEqual(done, ["reset to 10", "wrote 3"]);
    assert.deepEqual(sent, [voteReply, installed]);
    const { state } = journal.crash();
    assert.deepEqual(
      [state.hardState, state.baseIndex, state.entries],
      [hardState, reset.index, []],
    );
  });

  /** Where a compaction has to wait for entries that wait: a snapshot has brought them to the state machine. */
  async function withCompaction() {
    const disk = await fullDisk();
    const none = { hardState: undefined, reset: undefined };
    disk.persister.submit({ ...none, sequence: 1, entries: [entry(3, 1), entry(4, 1)] }, []);
    await turns(5);
    disk.persister.compact(4 as Index, () => 1 as Term);
    return disk;
  }

  it("lets a vote leave behind a compaction that has to wait", async () => {
    const { journal, persister, done, sent } = await withCompaction();
    const hardState = { term: 2 as Term, vote: "n2" };
    persister.submit({ hardState, reset: undefined, sequence: 2, entries: [] }, [voteReply]);
    await eventually("the vote", () => sent.length > 0);
    assert.deepEqual(sent, [voteReply]);
    assert.deepEqual(journal.crash().state.hardState, hardState);
    assert.deepEqual(done, ["compacted to 2"]);
  });

  it("makes no pile of answers to heartbeats behind a compaction that has to wait", async () => {
    const { journal, persister, done, sent } = await withCompaction();
    const beat = (readToken: number) =>
      message({ kind: "heartbeatReply", from: "n1", to: "n2", term: 1, readToken });
    for (let token = 1; token <= 200; token++) {
      persister.submit(undefined, [beat(token)]);
      await turns(1);
    }
    await turns(5);
    journal.diskFull = false;
    await eventually("the compaction", () => done.includes("compacted to 4"));
    assert.deepEqual(sent, [beat(200)]);
    assert.deepEqual(done, ["compacted to 2", "wrote 1", "compacted to 4"]);
  });

  it("does not compact what waits itself, though a snapshot has brought it to the state machine", async () => {
    const { journal, persister, done } = await fullDisk();
    const none = { hardState: undefined, reset: undefined };
    persister.submit({ ...none, sequence: 1, entries: [entry(3, 1), entry(4, 1)] }, []);
    await turns(5);
    // What lies before the entries that wait was forgotten before.
    persister.compact(3 as Index, (index) => (index === 3 ? (1 as Term) : undefined));
    await turns(20);
    assert.equal(done.length, 0);
    journal.diskFull = false;
    await eventually("all of it", () => done.includes("compacted to 3"));
    assert.deepEqual(done, ["wrote 1", "compacted to 3"]);
  });

  it("compacts what the journal holds, where the compaction is of entries that wait, too", async () => {
    const { journal, persister, done } = await fullDisk();
    const compact = journal.compact.bind(journal);
    journal.compact = async (index, term) => {
      await compact(index, term);
      journal.diskFull = false;
    };
    const none = { hardState: undefined, reset: undefined };
    persister.submit({ ...none, sequence: 1, entries: [entry(3, 1), entry(4, 1)] }, []);
    persister.submit({ ...none, sequence: 2, entries: [entry(5, 1)] }, []);
    // Asked for while the first write is under way: nobody knows yet that it finds no room.
    persister.compact(4 as Index, () => 1 as Term);
    await eventually("the compaction", () => done.includes("compacted to 4"));
    assert.deepEqual(done, ["compacted to 2", "wrote 2", "compacted to 4"]);
  });

  it("makes no pile of answers to heartbeats in a follower", async () => {
    const { journal, persister, sent } = await fullDisk();
    const core = makeCore({
      voters: ["n1", "n2", "n3"],
      id: "n1",
      entries: [entry(1, 1), entry(2, 1)],
    });
    const append = { kind: "append", from: "n2", to: "n1", term: 1, commit: 0, prevTerm: 1 };
    const receive = async (fields: object) => {
      core.step({ kind: "receive", message: message({ ...append, ...fields }) });
      const { persist, sendAfterPersist } = core.take();
      persister.submit(persist, sendAfterPersist);
      await turns(1);
    };
    await receive({ prevIndex: 2, entries: [entry(3, 1)] });
    for (let beat = 0; beat < 200; beat++) await receive({ prevIndex: 3, entries: [] });
    assert.equal(sent.length, 0);
    await turns(5);
    journal.diskFull = false;
    await eventually("the acknowledgement", () => sent.length > 0);
    assert.deepEqual(
      sent.map((each) => each.kind === "appendReply" && each.ok && each.index),
      [3],
    );
  });
});

describe("raft: a follower whose disk is full", function () {
  this.timeout(60_000);
  let cluster: LoopbackCluster;
  afterEach(() => cluster.stop());

  it("votes after a snapshot of entries that wait for room, so that the rest gets a leader", async () => {
    cluster = await LoopbackCluster.make(3, { retainedEntries: 5 });
    await cluster.startAll();
    await cluster.write("a");
    await cluster.converged();
    const leader = await cluster.leader();
    const [full, third] = [0, 1, 2]
      .filter((place) => place !== leader)
      .map((place) => cluster.members[place]!);
    const { journal } = full!;
    assert.ok(journal instanceof MemoryJournal);
    journal.diskFull = true;
    for (let i = 0; i < 30; i++) await cluster.write(`b${i}`);
    const waits = () => full!.node!.status.lastIndex > full!.machine.appliedIndex;
    await eventually("entries to wait", waits);
    for (const { machine } of [cluster.members[leader]!, third!]) machine.flush();
    const { journal: leaders } = cluster.members[leader]!;
    await eventually("the leader's log to be compacted", () => leaders.state.baseIndex > 10);
    for (let i = 0; i < 5; i++) await cluster.write(`c${i}`);
    await eventually("the snapshot", () => full!.machine.appliedIndex > 10);
    await eventually("entries to wait again", waits);
    full!.machine.flush();
    await cluster.crash(leader);
    await eventually("another leader", () => third!.node!.status.role === "leader");
    assert.ok(waits(), "its entries found room");
  });
});
