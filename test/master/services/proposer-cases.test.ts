/** What the proposer owes to exactly-once and to cluster time, where planted bugs went unseen. */
import assert from "node:assert/strict";
import { hasCode } from "../../../src/lib/errors.ts";
import { positionOf, type SessionId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { decode } from "../../../src/lib/schema.ts";
import { Leadership } from "../../../src/master/services/leadership.ts";
import { Proposer } from "../../../src/master/services/proposer.ts";
import { type EntryPayload, entryPayload, type Request } from "../../../src/rpc/commands.ts";
import { ManualClock, turn } from "./manual-clock.ts";

const request: Request = {
  session: 1 as SessionId,
  sequence: 1,
  acknowledgedBelow: 0,
  atomic: false,
  commands: [{ kind: "openSession", clientName: "a", timeoutMs: 1 }],
};

describe("Proposer, cases", () => {
  let clock: ManualClock;
  let leadership: Leadership;
  let proposer: Proposer;
  let log: { index: number; term: number; payload: EntryPayload }[];

  const lead = (role: "leader" | "follower", term: number) => {
    leadership.update({
      nodeId: "n",
      role,
      term,
      leaderName: "master-1",
      leaderRpcAddress: "10.0.0.1:19998",
      commitIndex: 0,
      lastIndex: 0,
      appliedIndex: 0,
    } as Parameters<Leadership["update"]>[0]);
    if (role === "leader") leadership.applied(term);
  };

  /** Applies what stands at `place` of the log, as if `term` had written it. */
  const apply = (place: number, term = log[place]!.term) => {
    const { index, payload } = log[place]!;
    const applied = {
      results: [[{ ok: true as const, id: index }]],
      positions: [positionOf(index, 0)],
      replayed: [false],
      changes: { size: 0, inodes: [], names: [] },
      events: [],
    };
    proposer.applied({ index, term, payload, applied });
  };

  const submit = () => proposer.submit(request, AbortSignal.timeout(60_000));

  beforeEach(() => {
    clock = new ManualClock();
    log = [];
    leadership = new Leadership({
      clock,
      logger: silentLogger,
      lastClusterTimeMs: () => 5000,
      isBootstrapped: () => true,
      onEmpty: () => true,
      onReign: (reign) => reign.signal.addEventListener("abort", () => proposer.leadershipLost()),
    });
    proposer = new Proposer({
      clock,
      leadership,
      propose: (encoded) => {
        const place = { index: log.length + 1, term: leadership.status!.term };
        log.push({ ...place, payload: decode(entryPayload, encoded, "entry") });
        return place;
      },
      isStoreFull: () => false,
      isHandingOver: () => false,
      beforeTurn: (callback) => setImmediate(callback),
    });
    lead("leader", 2);
  });

  it("R13: proposes a request again whose entry was lost: nothing is remembered before it is committed", async () => {
    const first = submit();
    await turn();
    lead("follower", 3);
    apply(0, 3);
    await assert.rejects(first, (error) => hasCode(error, "NotLeader"));
    lead("leader", 4);
    let isAnswered = false;
    const second = submit().finally(() => {
      isAnswered = true;
    });
    await turn();
    assert.equal(log.length, 2, "the retry stands in the log itself");
    assert.equal(isAnswered, false, "answered before its entry was applied");
    apply(1);
    assert.deepEqual((await second).results, [{ ok: true, id: 2 }]);
  });

  it("lets cluster time go on in a second reign, though the state is not there yet", async () => {
    clock.advance(1000);
    submit().catch(() => undefined);
    await turn();
    lead("follower", 3);
    lead("leader", 4);
    submit().catch(() => undefined);
    await turn();
    assert.deepEqual(
      log.map(({ payload }) => payload.clusterTimeMs),
      [6000, 6000],
    );
  });
});
