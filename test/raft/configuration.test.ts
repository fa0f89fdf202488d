import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import { decodeConfiguration, encodeConfiguration } from "../../src/raft/configuration-codec.ts";
import { ConfigurationHistory } from "../../src/raft/configuration-history.ts";
import type { Configuration, Entry, Index, Term } from "../../src/raft/types.ts";

const ids = fc.array(fc.string({ minLength: 1, maxLength: 6 }), { maxLength: 4 });
const member = fc
  .record({
    nodeId: fc.string(),
    name: fc.string(),
    host: fc.string(),
    raftPort: fc.nat(65_535),
    rpcPort: fc.nat(65_535),
    promote: fc.boolean(),
  })
  .map((each) => ({ ...each }));
const configuration: fc.Arbitrary<Configuration> = fc.record({
  voters: ids,
  outgoing: ids,
  learners: ids,
  members: fc.option(fc.array(member, { maxLength: 4 }), { nil: undefined }),
});
const numbered = (index: number): Configuration => ({
  voters: [`v${index}`],
  outgoing: [],
  learners: [],
  members: undefined,
});
const placed = (index: number): Entry => ({
  index: index as Index,
  term: 1 as Term,
  kind: "configuration",
  payload: encodeConfiguration(numbered(index)),
});

describe("raft configuration", () => {
  it("comes out of its bytes as it went in, and equal ones have equal bytes", () => {
    fc.assert(
      fc.property(configuration, (value) => {
        const bytes = encodeConfiguration(value);
        assert.deepEqual(decodeConfiguration(bytes), { ...value });
        assert.deepEqual(encodeConfiguration(decodeConfiguration(bytes)), bytes);
      }),
    );
  });

  it("is read from bytes of its first version", () => {
    const bytes = Buffer.from(
      "920194" + "92a161a162" + "91a161" + "91a163" + "9196a161a16ea168cd4b00cd4e1ec3",
      "hex",
    );
    assert.deepEqual(decodeConfiguration(bytes), {
      voters: ["a", "b"],
      outgoing: ["a"],
      learners: ["c"],
      members: [
        { nodeId: "a", name: "n", host: "h", raftPort: 19_200, rpcPort: 19_998, promote: true },
      ],
    });
  });

  it("is refused when the bytes are cut or of a version to come", () => {
    const bytes = encodeConfiguration(numbered(1));
    for (const bad of [bytes.subarray(0, 3), Buffer.from("9202c0", "hex"), Buffer.alloc(0)]) {
      assert.throws(
        () => decodeConfiguration(bad),
        (error) => hasCode(error, "ProtocolError"),
      );
    }
  });

  it("that is active is the last one that the log holds, through appends, truncations and compactions", () => {
    const step = fc.record({
      kind: fc.constantFrom("append", "append", "truncate", "settle", "reset"),
      at: fc.nat(20),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const history = new ConfigurationHistory(numbered(0));
        let base = 0;
        let model = [0];
        let next = 1;
        for (const { kind, at } of steps) {
          if (kind === "append") {
            next += at;
            history.append(placed(next));
            model.push(next++);
          } else if (kind === "truncate" && next > base) {
            // Never behind the base: what is there is committed.
            const index = base + 1 + (at % (next - base));
            history.truncateFrom(index);
            model = model.filter((each, place) => place === 0 || each < index);
            next = index;
          } else if (kind === "settle") {
            base = Math.min(next - 1, base + at);
            history.settle(base);
            while (model.length > 1 && model[1]! <= base) model.shift();
          } else if (kind === "reset") {
            next += at;
            base = next;
            history.reset(base, { index: base as Index, configuration: numbered(base) });
            model = [base];
            next++;
          }
          assert.deepEqual(history.active, numbered(model.at(-1)!));
          assert.equal(history.activeIndex, model.at(-1));
        }
      }),
    );
  });
});
