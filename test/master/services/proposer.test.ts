import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { hasCode, WeirError } from "../../../src/lib/errors.ts";
import { type Position, positionOf, type SessionId } from "../../../src/lib/ids.ts";
import type { Leadership } from "../../../src/master/services/leadership.ts";
import type { Proposer } from "../../../src/master/services/proposer.ts";
import type { Request } from "../../../src/rpc/commands.ts";
import { leaderAddressOf } from "../../../src/rpc/wire.ts";
import { type ManualClock, turn } from "./manual-clock.ts";
import { ProposerFixture } from "./proposer-fixture.ts";

const never = new AbortController().signal;
setMaxListeners(0, never);

describe("Proposer", () => {
  let stage: ProposerFixture;
  let clock: ManualClock;
  let leadership: Leadership;
  let proposer: Proposer;
  let log: ProposerFixture["log"];

  beforeEach(() => {
    stage = new ProposerFixture();
    ({ clock, leadership, proposer, log } = stage);
  });

  function request(sequence: number, commands = 1, nameLength = 1): Request {
    return {
      session: 1 as SessionId,
      sequence,
      acknowledgedBelow: 0,
      atomic: false,
      commands: Array.from({ length: commands }, () => ({
        kind: "openSession",
        clientName: "x".repeat(nameLength),
        timeoutMs: 1,
      })),
    };
  }

  /** Applies the entry at `place` of the log, as of `term`. */
  function apply(place: number, term = log[place]!.term) {
    const { index, payload } = log[place]!;
    proposer.applied({
      index,
      term,
      payload,
      applied: {
        results: payload.requests.map(({ commands, sequence }) =>
          commands.map(() => ({ ok: true as const, id: sequence })),
        ),
        positions: payload.requests.map((_, i) => positionOf(index, i)),
        replayed: payload.requests.map(() => false),
        changes: { size: 0, inodes: [], names: [] },
        events: [],
      },
    });
  }

  it("makes one entry of all requests of one turn, and answers each with its own results", async () => {
    const answers = [1, 2, 3].map((sequence) => proposer.submit(request(sequence), never));
    await turn();
    assert.equal(log.length, 1);
    apply(0);
    const outcomes = await Promise.all(answers);
    assert.deepEqual(
      outcomes.map(({ results }) => results),
      [1, 2, 3].map((id) => [{ ok: true, id }]),
    );
    assert.deepEqual(
      outcomes.map(({ position }) => position),
      [0, 1, 2].map((place) => positionOf(1, place)) satisfies Position[],
    );
  });

  it("keeps entries within 1,024 commands and 1 MiB", async () => {
    for (let i = 0; i < 3; i++) proposer.submit(request(i, 500), never).catch(() => undefined);
    await turn();
    assert.deepEqual(
      log.map(({ payload }) => payload.requests.length),
      [2, 1],
    );
    log.length = 0;
    for (let i = 0; i < 8; i++) {
      proposer.submit(request(i, 1, 300_000), never).catch(() => undefined);
    }
    await turn();
    assert.deepEqual(
      log.map(({ payload }) => payload.requests.length),
      [2, 2, 2, 2],
    );
    await assert.rejects(proposer.submit(request(9, 1, 2 ** 20), never), (error) =>
      hasCode(error, "InvalidArgument"),
    );
    await assert.rejects(proposer.submit(request(9, 1025), never), (error) =>
      hasCode(error, "InvalidArgument"),
    );
  });

  it("holds what comes while the leadership is handed over, and says then who leads", async () => {
    stage.isHandingOver = true;
    stage.refusal = new WeirError("Busy", "the leadership is being handed over");
    const held = proposer.submit(request(1), never);
    await turn();
    clock.advance(15);
    await turn();
    // Consensus knows before this master's services do.
    stage.refusal = new WeirError("NotLeader", "it follows");
    const late = proposer.submit(request(2), never);
    await turn();
    stage.become("follower", 3);
    for (const each of [held, late]) {
      await assert.rejects(each, (error) => {
        assert(hasCode(error, "NotLeader"));
        assert.equal(leaderAddressOf(error), "10.0.0.2:19998");
        return true;
      });
    }
    assert.equal(log.length, 0);
  });

  it("proposes what was held when nobody took the leadership over", async () => {
    stage.isHandingOver = true;
    stage.refusal = new WeirError("Busy", "the leadership is being handed over");
    const held = [1, 2].map((sequence) => proposer.submit(request(sequence), never));
    await turn();
    stage.refusal = undefined;
    clock.advance(15);
    assert.equal(log.length, 1);
    apply(0);
    assert.deepEqual(
      (await Promise.all(held)).map(({ results }) => results),
      [1, 2].map((id) => [{ ok: true, id }]),
    );
  });

  it("says notApplied, and who leads, when another term's entry took the place", async () => {
    const answer = proposer.submit(request(1), never);
    await turn();
    stage.become("follower", 3);
    apply(0, 3);
    await assert.rejects(answer, (error) => {
      assert(hasCode(error, "NotLeader"));
      assert.equal(error.outcome, "notApplied");
      return true;
    });
  });

  it("still answers an entry that commits after leadership was lost", async () => {
    const answer = proposer.submit(request(1), never);
    await turn();
    stage.become("follower", 3);
    clock.advance(1000);
    apply(0, 2);
    assert.equal((await answer).results.length, 1);
  });

  it("says unknown when nobody decides an entry after leadership was lost", async () => {
    const answer = proposer.submit(request(1), never);
    await turn();
    stage.become("follower", 3);
    clock.advance(3000);
    await assert.rejects(answer, (error) => {
      assert(hasCode(error, "Unavailable"));
      assert.equal(error.outcome, "unknown");
      return true;
    });
  });

  it("does not give up an entry of the next reign at the index of one of the last", async () => {
    const old = proposer.submit(request(1), never);
    const isLost = assert.rejects(old, (error) => hasCode(error, "NotLeader"));
    await turn();
    stage.become("follower", 3);
    clock.advance(2900);
    // The log was cut there, and this master leads again.
    stage.lastIndex = 0;
    stage.lead(4);
    const answer = proposer.submit(request(2), never);
    await turn();
    assert.deepEqual(
      log.map(({ index, term }) => [index, term]),
      [
        [1, 2],
        [1, 4],
      ],
    );
    await isLost;
    clock.advance(100);
    apply(1);
    assert.equal((await answer).results.length, 1);
  });

  it("says unknown at the deadline", async () => {
    const deadline = new AbortController();
    const answer = proposer.submit(request(1), deadline.signal);
    await turn();
    deadline.abort();
    await assert.rejects(answer, (error) => {
      assert(hasCode(error, "DeadlineExceeded"));
      assert.equal(error.outcome, "unknown");
      return true;
    });
  });

  it("passes over requests whose caller is gone before they were proposed", async () => {
    const caller = { aborted: false };
    const gone = proposer.enqueue(request(1), caller);
    const stays = proposer.enqueue(request(2), { aborted: false });
    caller.aborted = true;
    await assert.rejects(gone, (error) => hasCode(error, "Cancelled"));
    assert.deepEqual(
      log.map(({ payload }) => payload.requests.map(({ sequence }) => sequence)),
      [[2]],
    );
    apply(0);
    await stays;
  });

  it("refuses with NotLeader on a follower and with Busy when the store is behind", async () => {
    stage.isStoreFull = true;
    await assert.rejects(proposer.submit(request(1), never), (error) => hasCode(error, "Busy"));
    stage.become("follower", 3);
    await assert.rejects(proposer.submit(request(1), never), (error) =>
      hasCode(error, "NotLeader"),
    );
    assert.equal(log.length, 0);
  });

  it("passes on what consensus refuses", async () => {
    stage.refusal = new WeirError("DiskFull", "the disk is full");
    await assert.rejects(proposer.submit(request(1), never), (error) => hasCode(error, "DiskFull"));
  });

  it("waits with proposals until the no-op of its own term is applied", async () => {
    stage.become("follower", 3);
    stage.become("leader", 4);
    const answer = proposer.submit(request(1), never);
    await turn();
    assert.equal(log.length, 0);
    leadership.applied(4);
    await turn();
    assert.equal(log.length, 1);
    apply(0);
    await answer;
  });

  it("continues cluster time from the state, with the monotonic clock", async () => {
    proposer.submit(request(1), never).catch(() => undefined);
    await turn();
    clock.advance(250);
    proposer.submit(request(2), never).catch(() => undefined);
    await turn();
    assert.deepEqual(
      log.map(({ payload }) => payload.clusterTimeMs),
      [5000, 5250],
    );
  });
});
