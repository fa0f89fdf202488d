/** What a node does while entries find no room on its disk: what makes room passes, and what waits stays small. */
import assert from "node:assert/strict";
import type { Clock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Persister } from "../../src/raft/host/persister.ts";
import type { Index, Message, Term } from "../../src/raft/types.ts";
import { eventually } from "../lib/eventually.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";
import { entry, makeCore, message } from "./lib/core-cluster.ts";

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
    await turns(20);
    assert.equal(done.length, 0);
    journal.diskFull = false;
    await eventually("all of it", () => done.includes("compacted to 11"));
    assert.deepEqual(done, ["wrote 1", "reset to 10", "wrote 3", "compacted to 11"]);
  });

  it("does not compact before a reset, though the journal holds entries of that index", async () => {
    const { journal, persister, done } = await fullDisk();
    const none = { hardState: undefined, reset: undefined };
    persister.submit({ ...none, sequence: 1, entries: [entry(3, 1)] }, []);
    await turns(5);
    // The log behind a snapshot of 2@2: what the journal has at 2 is of term 1, and goes.
    const reset = { index: 2 as Index, term: 2 as Term };
    persister.submit({ ...none, sequence: 2, reset, entries: [] }, []);
    persister.compact(2 as Index, () => 2 as Term);
    await turns(20);
    assert.equal(done.length, 0);
    journal.diskFull = false;
    await eventually("all of it", () => done.includes("compacted to 2"));
    assert.deepEqual(done, ["wrote 1", "reset to 2", "wrote 2", "compacted to 2"]);
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
