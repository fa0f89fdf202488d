/** The host's parts one by one, where planted bugs went unseen by tests of the whole. */
import assert from "node:assert/strict";
import { type Clock, seededRandom } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Applier } from "../../src/raft/host/applier.ts";
import { Driver } from "../../src/raft/host/driver.ts";
import { Persister } from "../../src/raft/host/persister.ts";
import type { JournalBatch } from "../../src/raft/journal.ts";
import type { Entry, Index, Message, Term } from "../../src/raft/types.ts";
import { eventually } from "../lib/eventually.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";
import { entry, makeCore, message } from "./lib/core-cluster.ts";
import { ListMachine } from "./lib/list-machine.ts";

/** A clock that stands still. */
const noClock: Clock = { monotonicMs: () => 0, wallMs: () => 0, after: () => () => undefined };

/** A journal whose writes end when the test says so. */
async function heldJournal() {
  const journal = new MemoryJournal();
  await journal.initialize({ nodeId: "n1", clusterId: "c" });
  const batches: JournalBatch[] = [];
  const release: (() => void)[] = [];
  journal.append = async (batch) => {
    batches.push(batch);
    await new Promise<void>((resolve) => release.push(resolve));
  };
  return { journal, batches, release };
}

async function persisterOn({ journal }: { journal: MemoryJournal }) {
  const sent: Message[] = [];
  const persister = new Persister({
    journal,
    clock: noClock,
    logger: silentLogger,
    onPersisted: () => undefined,
    onHardStatePersisted: () => undefined,
    send: (messages) => sent.push(...messages),
    onFatal: (error) => assert.fail(String(error)),
  });
  let sequence = 0;
  const write = (entries: readonly Entry[], hardState?: { term: Term; vote: string }) =>
    persister.submit({ sequence: ++sequence, hardState, reset: undefined, entries }, []);
  return { persister, sent, write };
}

const turns = () => new Promise((resolve) => setImmediate(resolve));

describe("raft persister", () => {
  it("lets a message that needs no write of its own wait for the writes before it", async () => {
    const held = await heldJournal();
    const { persister, sent, write } = await persisterOn(held);
    write([entry(1, 1)]);
    persister.submit(undefined, [message({ kind: "appendReply", to: "n2", ok: true, index: 1 })]);
    await turns();
    assert.deepEqual(sent, []);
    held.release[0]!();
    await eventually("the message", () => sent.length === 1);
  });

  it("writes of a group what is left of it, and the last term and vote", async () => {
    const held = await heldJournal();
    const { write } = await persisterOn(held);
    write([entry(1, 1)]);
    await turns();
    // All of this waits, and goes out as one: 2 and 3 are replaced from 2 on.
    write([entry(2, 1), entry(3, 1)], { term: 2 as Term, vote: "n2" });
    write([entry(2, 3)]);
    write([entry(3, 3)]);
    held.release[0]!();
    await eventually("the group", () => held.batches.length === 2);
    const { hardState, entries } = held.batches[1]!;
    assert.deepEqual(
      entries.map(({ index, term }) => [index, term]),
      [
        [2, 3],
        [3, 3],
      ],
    );
    assert.deepEqual(hardState, { term: 2, vote: "n2" });
  });
});

describe("raft applier", () => {
  it("leaves out what a snapshot has brought meanwhile", async () => {
    const machine = new ListMachine();
    const applied: number[] = [];
    const fatal: unknown[] = [];
    const applier = new Applier({
      machine,
      afterPoll: (callback) => setImmediate(callback),
      onApplied: (index) => applied.push(index),
      onFatal: (error) => fatal.push(error),
    });
    applier.between(async () => {
      machine.appliedIndex = 3;
    });
    applier.push([1, 2, 3, 4, 5].map((index) => entry(index, 1)));
    await eventually("the last one", () => applied.includes(5) || fatal.length > 0);
    assert.deepEqual(fatal, []);
    assert.deepEqual(machine.texts, ["4@1", "5@1"]);
  });
});

describe("raft driver", () => {
  it("R25: takes a heartbeat that arrives with the last tick of the timeout for what it is", () => {
    /** Ticks as many times, a heartbeat arriving in the turn of the last one; whether the node asks for votes. */
    const asksAfter = (ticks: number, hears: boolean) => {
      const sent: Message[] = [];
      const core = makeCore({
        voters: ["n1", "n2", "n3"],
        hardState: { term: 1 as Term, vote: undefined },
        random: seededRandom(3),
      });
      let onTimer: () => void = () => undefined;
      let nowMs = 0;
      const checks: (() => void)[] = [];
      const driver = new Driver({
        core,
        journal: new MemoryJournal(),
        machine: new ListMachine(),
        clock: {
          monotonicMs: () => nowMs,
          wallMs: () => nowMs,
          after: (_delayMs, callback) => {
            onTimer = callback;
            return () => undefined;
          },
        },
        logger: silentLogger,
        tickMs: 10,
        electionTicks: 10,
        retainedEntries: 100,
        retainedBytes: 64 * 1024 ** 2,
        afterPoll: (callback) => checks.push(callback),
        send: (messages) => sent.push(...messages),
        sendSnapshot: () => undefined,
        snapshotFloor: () => Number.POSITIVE_INFINITY,
        onChange: () => undefined,
        onFatal: (error) => assert.fail(String(error)),
      });
      for (let tick = 1; tick <= ticks; tick++) {
        nowMs += 10;
        onTimer();
        if (tick === ticks && hears) {
          driver.receive(
            message({
              ...{ kind: "heartbeat", from: "n2", to: "n1", term: 1 },
              ...{ commit: 0 as Index, readToken: 0 },
            }),
          );
        }
        for (const check of checks.splice(0)) check();
      }
      return sent.some(({ kind }) => kind === "requestVote");
    };
    let ticks = 1;
    while (!asksAfter(ticks, false)) ticks++;
    assert.equal(asksAfter(ticks, true), false);
  });
});
