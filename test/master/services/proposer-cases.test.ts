/** What the proposer owes to exactly-once and to cluster time, where planted bugs went unseen. */
import assert from "node:assert/strict";
import { hasCode } from "../../../src/lib/errors.ts";
import { positionOf, type SessionId } from "../../../src/lib/ids.ts";
import type { Proposer } from "../../../src/master/services/proposer.ts";
import type { Request } from "../../../src/rpc/commands.ts";
import { type ManualClock, turn } from "./manual-clock.ts";
import { ProposerFixture } from "./proposer-fixture.ts";

const request: Request = {
  session: 1 as SessionId,
  sequence: 1,
  acknowledgedBelow: 0,
  atomic: false,
  commands: [{ kind: "openSession", clientName: "a", timeoutMs: 1 }],
};

describe("Proposer, cases", () => {
  let stage: ProposerFixture;
  let clock: ManualClock;
  let proposer: Proposer;
  let log: ProposerFixture["log"];

  beforeEach(() => {
    stage = new ProposerFixture();
    ({ clock, proposer, log } = stage);
  });

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

  it("R13: proposes a request again whose entry was lost: nothing is remembered before it is committed", async () => {
    const first = submit();
    await turn();
    stage.become("follower", 3);
    apply(0, 3);
    await assert.rejects(first, (error) => hasCode(error, "NotLeader"));
    stage.lead(4);
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
    stage.become("follower", 3);
    stage.lead(4);
    submit().catch(() => undefined);
    await turn();
    assert.deepEqual(
      log.map(({ payload }) => payload.clusterTimeMs),
      [6000, 6000],
    );
  });
});
