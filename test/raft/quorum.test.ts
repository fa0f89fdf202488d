import assert from "node:assert/strict";
import fc from "fast-check";
import { hasQuorum, outcomeOf, quorumValue } from "../../src/raft/configuration.ts";

const ids = ["a", "b", "c", "d", "e", "f", "g"];
const half = fc.uniqueArray(fc.constantFrom(...ids), { minLength: 1, maxLength: 7 });
const configuration = fc.record({
  voters: half,
  outgoing: fc.oneof(fc.constant([]), half),
  learners: fc.constant([]),
});
const values = fc.dictionary(fc.constantFrom(...ids), fc.nat(20));

const isMajority = (voters: readonly string[], agrees: (id: string) => boolean) =>
  voters.filter(agrees).length * 2 > voters.length;

describe("raft quorum", () => {
  it("is a majority of both halves of a joint configuration", () => {
    fc.assert(
      fc.property(configuration, fc.uniqueArray(fc.constantFrom(...ids)), (joint, agreeing) => {
        const agrees = (id: string) => agreeing.includes(id);
        const wanted =
          isMajority(joint.voters, agrees) &&
          (joint.outgoing.length === 0 || isMajority(joint.outgoing, agrees));
        assert.equal(hasQuorum(joint, agrees), wanted);
      }),
    );
  });

  it("takes the largest value that a quorum has reached", () => {
    fc.assert(
      fc.property(configuration, values, (joint, reached) => {
        const valueOf = (id: string) => reached[id] ?? 0;
        const value = quorumValue(joint, valueOf);
        assert.ok(hasQuorum(joint, (id) => valueOf(id) >= value));
        assert.ok(!hasQuorum(joint, (id) => valueOf(id) > value));
      }),
    );
  });

  it("calls an election lost exactly when no later vote could win it", () => {
    const votes = fc.dictionary(fc.constantFrom(...ids), fc.boolean());
    fc.assert(
      fc.property(configuration, votes, (joint, cast) => {
        const map = new Map(Object.entries(cast));
        const canWin = hasQuorum(joint, (id) => map.get(id) ?? true);
        const hasWon = hasQuorum(joint, (id) => map.get(id) ?? false);
        assert.equal(outcomeOf(joint, map), hasWon ? "won" : canWin ? "open" : "lost");
      }),
    );
  });
});
