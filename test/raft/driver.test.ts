import assert from "node:assert/strict";
import { type Clock, seededRandom } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { RaftCore } from "../../src/raft/core.ts";
import { Driver, type DriverOptions } from "../../src/raft/host/driver.ts";
import type { Index, Message, Term } from "../../src/raft/types.ts";
import { eventually } from "../lib/eventually.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";
import { entry, makeCore, makeLeader, message } from "./lib/core-cluster.ts";
import { ListMachine } from "./lib/list-machine.ts";

/** An event loop by hand, in the order of Node's: timers, then sockets, then what waits for them. */
class HandLoop implements Clock {
  nowMs = 0;
  #timers: { atMs: number; callback: () => void }[] = [];
  #checks: (() => void)[] = [];
  /** What the kernel holds until sockets are read. */
  sockets: (() => void)[] = [];

  monotonicMs(): number {
    return this.nowMs;
  }
  wallMs(): number {
    return this.nowMs;
  }
  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }
  readonly afterPoll = (callback: () => void): void => {
    this.#checks.push(callback);
  };

  turn(): void {
    const due = this.#timers.filter((timer) => timer.atMs <= this.nowMs);
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.nowMs);
    for (const timer of due) timer.callback();
    const readable = this.sockets;
    this.sockets = [];
    for (const read of readable) read();
    const checks = this.#checks;
    this.#checks = [];
    for (const check of checks) check();
  }

  /** Lets time pass in small steps, a turn after each. */
  run(durationMs: number): void {
    for (const untilMs = this.nowMs + durationMs; this.nowMs < untilMs; this.nowMs++) this.turn();
  }
}

async function initialized(): Promise<MemoryJournal> {
  const journal = new MemoryJournal();
  await journal.initialize({ nodeId: "n1", clusterId: "c" });
  return journal;
}

function drive(core: RaftCore, loop: HandLoop, options: Partial<DriverOptions> = {}) {
  const sent: Message[] = [];
  const fatal: Error[] = [];
  const driver = new Driver({
    core,
    journal: options.journal ?? new MemoryJournal(),
    machine: new ListMachine(),
    clock: loop,
    logger: silentLogger,
    tickMs: 10,
    electionTicks: 10,
    retainedEntries: 100,
    retainedBytes: 64 * 1024 ** 2,
    afterPoll: loop.afterPoll,
    send: (messages) => sent.push(...messages),
    sendSnapshot: () => undefined,
    snapshotFloor: () => Number.POSITIVE_INFINITY,
    onChange: () => undefined,
    onFatal: (error) => fatal.push(error),
    ...options,
  });
  return { driver, sent, fatal };
}

const heartbeat = message({
  kind: "heartbeat",
  from: "n2",
  to: "n1",
  term: 1,
  commit: 0,
  readToken: 0,
});
const follower = () =>
  makeCore({ voters: ["n1", "n2", "n3"], hardState: { term: 1 as Term, vote: undefined } });

describe("raft host", () => {
  it("R25: reads the heartbeats that wait before it acts on a late tick", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const loop = new HandLoop();
      const core = makeCore({
        voters: ["n1", "n2", "n3"],
        hardState: { term: 1 as Term, vote: undefined },
        random: seededRandom(seed),
      });
      const { driver, sent } = drive(core, loop);
      driver.receive(heartbeat);
      loop.run(85);
      assert.equal(core.leader, "n2");
      // Stopped for ten seconds, again and again; the leader's heartbeats went on and wait in the kernel.
      for (let pause = 0; pause < 30; pause++) {
        loop.nowMs += 10_000;
        loop.sockets.push(() => driver.receive(heartbeat));
        loop.turn();
        loop.turn();
        assert.equal(core.role, "follower");
      }
      assert.ok(!sent.some(({ kind }) => kind === "requestVote"));
      loop.run(300);
      assert.notEqual(core.role, "follower", "a leader that is really gone is replaced");
    }
  });

  it("R25: counts a pause as one tick, so that a leader is not given up for it", () => {
    const loop = new HandLoop();
    const core = follower();
    const { driver } = drive(core, loop);
    driver.receive(heartbeat);
    loop.run(15);
    // Not even a heartbeat waits: the leader's connection broke meanwhile, and it needs a moment to come back.
    loop.nowMs += 60_000;
    loop.turn();
    loop.turn();
    loop.run(50);
    assert.equal(core.role, "follower");
  });

  it("lets an acknowledgement leave only when the journal holds the entries", async () => {
    const loop = new HandLoop();
    const journal = await initialized();
    let release: () => void = () => undefined;
    const append = journal.append.bind(journal);
    journal.append = async (batch) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      await append(batch);
    };
    const { driver, sent } = drive(follower(), loop, { journal });
    driver.receive(
      message({
        ...{ kind: "append", from: "n2", to: "n1", term: 1, prevIndex: 0, prevTerm: 0, commit: 0 },
        entries: [entry(1, 1)],
      }),
    );
    driver.receive(heartbeat);
    loop.turn();
    await Promise.resolve();
    // A heartbeat says nothing of entries: a slow disk must not look like a dead node.
    assert.deepEqual(
      sent.map(({ kind }) => kind),
      ["heartbeatReply"],
    );
    release();
    await eventually("the acknowledgement", () => sent.some(({ kind }) => kind === "appendReply"));
  });

  it("ends when the journal fails, and lets nothing leave after it", async () => {
    const loop = new HandLoop();
    const journal = await initialized();
    journal.append = () => Promise.reject(new Error("disk gone"));
    const { driver, sent, fatal } = drive(follower(), loop, { journal });
    driver.receive(
      message({
        ...{ kind: "append", from: "n2", to: "n1", term: 1, prevIndex: 0, prevTerm: 0, commit: 0 },
        entries: [entry(1, 1)],
      }),
    );
    loop.turn();
    await eventually("the end", () => fatal.length > 0);
    driver.receive(heartbeat);
    loop.run(500);
    assert.deepEqual(sent, []);
    assert.equal(fatal.length, 1);
  });

  it("gives up leadership while its disk stalls, and does not campaign", async () => {
    const loop = new HandLoop();
    const voters = ["n1", "n2", "n3"];
    const core = makeCore({ voters });
    makeLeader(core, voters);
    const journal = await initialized();
    let stalledMs = 0;
    journal.oldestWriteAgeMs = () => stalledMs;
    const { sent } = drive(core, loop, { journal });
    loop.run(50);
    assert.equal(core.role, "leader");
    stalledMs = 1000;
    loop.run(20);
    assert.equal(core.role, "follower");
    sent.length = 0;
    loop.run(2000);
    assert.deepEqual(sent, []);
    stalledMs = 0;
    loop.run(500);
    assert.notEqual(core.role, "follower");
  });

  it("goes on voting while its disk is full, and acknowledges entries when there is room", async () => {
    const loop = new HandLoop();
    const journal = await initialized();
    const { driver, sent } = drive(follower(), loop, { journal });
    journal.diskFull = true;
    driver.receive(
      message({
        ...{ kind: "append", from: "n2", to: "n1", term: 1, prevIndex: 0, prevTerm: 0, commit: 0 },
        entries: [entry(1, 1)],
      }),
    );
    loop.turn();
    const request = { kind: "requestVote", from: "n3", to: "n1", term: 2, preVote: false };
    driver.receive(message({ ...request, transfer: true, lastIndex: 9, lastTerm: 9 }));
    await eventually("the vote", () => {
      loop.run(60);
      return sent.some(({ kind }) => kind === "voteReply");
    });
    assert.ok(!sent.some((each) => each.kind === "appendReply" && each.ok));
    journal.diskFull = false;
    await eventually("the acknowledgement", () => {
      loop.run(60);
      return sent.some((each) => each.kind === "appendReply" && each.ok && each.index === 1);
    });
  });

  it("forgets on a full disk all that is flushed, and in memory no more than otherwise", async () => {
    const loop = new HandLoop();
    const journal = await initialized();
    const entries = Array.from({ length: 20 }, (_, i) => entry(i + 1, 1));
    await journal.append({ entries });
    const machine = new ListMachine();
    await machine.apply(entries);
    machine.flush();
    const hardState = { term: 1 as Term, vote: undefined };
    const core = makeCore({
      voters: ["n1", "n2", "n3"],
      hardState,
      entries,
      appliedIndex: 20 as Index,
    });
    const { driver } = drive(core, loop, { journal, machine });
    loop.run(50);
    assert.deepEqual([journal.state.baseIndex, core.baseIndex], [0, 0]);
    journal.diskFull = true;
    loop.run(50);
    await eventually("the journal to be compacted", () => journal.state.baseIndex === 20);
    // A follower that is a few entries behind needs no snapshot.
    assert.deepEqual(core.entries(1, 21), entries);
    await driver.stop();
  });

  it("steps and answers while the state machine is busy", async () => {
    const loop = new HandLoop();
    const journal = await initialized();
    const machine = new ListMachine();
    let release: () => void = () => undefined;
    machine.beforeApply = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const { driver, sent } = drive(follower(), loop, { journal, machine });
    const append = { kind: "append", from: "n2", to: "n1", term: 1, prevTerm: 0 };
    driver.receive(message({ ...append, prevIndex: 0, commit: 1, entries: [entry(1, 1)] }));
    await eventually("the first acknowledgement", () => {
      loop.turn();
      return sent.some((each) => each.kind === "appendReply");
    });
    loop.turn();
    driver.receive(
      message({ ...append, prevIndex: 1, prevTerm: 1, commit: 2, entries: [entry(2, 1)] }),
    );
    await eventually("the second acknowledgement", () => {
      loop.turn();
      return sent.some((each) => each.kind === "appendReply" && each.index === (2 as Index));
    });
    assert.equal(machine.appliedIndex, 0);
    await eventually("both to be applied", () => {
      loop.turn();
      release();
      return machine.appliedIndex === 2;
    });
  });

  it("reads the sockets between the pieces of a long backlog", async () => {
    const loop = new HandLoop();
    const machine = new ListMachine();
    const { driver } = drive(follower(), loop, { journal: await initialized(), machine });
    const payload = Buffer.alloc(100 * 1024);
    const entries = [1, 2, 3, 4].map((index) => ({ ...entry(index, 1), payload }));
    const append = { kind: "append", from: "n2", to: "n1", term: 1, prevTerm: 0 };
    driver.receive(message({ ...append, prevIndex: 0, commit: 4, entries }));
    const seen: number[] = [];
    await eventually("all to be applied", () => {
      loop.sockets.push(() => seen.push(machine.appliedIndex));
      loop.turn();
      return machine.appliedIndex === 4;
    });
    assert.deepEqual(
      [1, 2, 3].map((index) => seen.includes(index)),
      [true, true, true],
    );
  });

  it("keeps the log for who gets a snapshot, but at most four times the bytes that it keeps anyway", async () => {
    const loop = new HandLoop();
    const journal = await initialized();
    const machine = new ListMachine();
    const core = makeCore({ voters: ["n1"] });
    // One needs all of it, and gets no further.
    const options = { retainedBytes: 20_000, retainedEntries: 1, snapshotFloor: () => 1 };
    const { driver } = drive(core, loop, { journal, machine, ...options });
    const goOn = async (until: number) => {
      for (let count = core.lastIndex; count < until; count++) driver.propose(Buffer.alloc(1000));
      await eventually(`${until} entries to be applied`, () => {
        loop.run(10);
        return machine.appliedIndex === until;
      });
      machine.flush();
      loop.run(20);
      await eventually(
        "the journal to be compacted",
        () => journal.state.baseIndex === core.baseIndex,
      );
    };
    await eventually("it to lead", () => {
      loop.run(10);
      return core.role === "leader";
    });
    await goOn(60);
    assert.equal(core.baseIndex, 1, "it is held as long as it is not too long");
    await goOn(200);
    const kept = core.lastIndex - core.baseIndex;
    assert.ok(kept >= 65 && kept <= 85, `${kept} entries are kept`);
    await driver.stop();
  });

  it("proposes before a turn what is to leave with it", async () => {
    const loop = new HandLoop();
    const core = follower();
    makeLeader(core, ["n1", "n2", "n3"]);
    const { driver } = drive(core, loop, { journal: await initialized() });
    loop.turn();
    const { lastIndex } = core;
    driver.beforeTurn(() => driver.propose(Buffer.from("first")));
    driver.beforeTurn(() => driver.propose(Buffer.from("second")));
    assert.equal(core.lastIndex, lastIndex);
    loop.turn();
    assert.equal(core.lastIndex, lastIndex + 2);
  });

  it("asks for one point of the log for all reads of a turn", async () => {
    const loop = new HandLoop();
    const { driver } = drive(follower(), loop);
    const reads = [driver.readIndex(), driver.readIndex()];
    assert.equal(reads[0], reads[1]);
    loop.turn();
    assert.notEqual(driver.readIndex(), reads[0]);
    await driver.stop();
    const outcomes = await Promise.allSettled(reads);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ["rejected", "rejected"],
    );
  });
});
