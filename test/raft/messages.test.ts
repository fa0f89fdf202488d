import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import { decodeMessage, encodeMessage, haveSameBytes } from "../../src/raft/messages.ts";
import type { Message } from "../../src/raft/types.ts";

const number = fc.maxSafeNat();
const address = { from: fc.constant("n1"), to: fc.constant("n2"), term: number };
const append = fc
  .record({
    ...address,
    kind: fc.constant("append"),
    prevIndex: fc.nat(),
    prevTerm: number,
    commit: number,
    entries: fc.array(
      fc.record({
        term: number,
        kind: fc.constantFrom("command", "noop", "configuration"),
        payload: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      }),
      { maxLength: 5 },
    ),
  })
  .map((each) => ({
    ...each,
    entries: each.entries.map((entry, i) => ({ ...entry, index: each.prevIndex + 1 + i })),
  }));
const message = fc.oneof(
  append,
  fc.record({
    ...address,
    kind: fc.constant("requestVote"),
    preVote: fc.boolean(),
    transfer: fc.boolean(),
    lastIndex: number,
    lastTerm: number,
  }),
  fc.record({
    ...address,
    kind: fc.constant("voteReply"),
    preVote: fc.boolean(),
    granted: fc.boolean(),
  }),
  fc.record({
    ...address,
    kind: fc.constant("appendReply"),
    ok: fc.boolean(),
    index: number,
    hintIndex: number,
    hintTerm: number,
  }),
  fc.record({ ...address, kind: fc.constant("heartbeat"), commit: number, readToken: number }),
  fc.record({ ...address, kind: fc.constant("heartbeatReply"), readToken: number }),
  fc.record({ ...address, kind: fc.constant("commitNotice"), commit: number }),
  fc.record({ ...address, kind: fc.constant("snapshotDone"), ok: fc.boolean(), index: number }),
  fc.record({ ...address, kind: fc.constant("timeoutNow") }),
  fc.record({ ...address, kind: fc.constant("readRequest"), request: number }),
  fc.record({ ...address, kind: fc.constant("readReply"), request: number, index: number }),
) as fc.Arbitrary<Message>;

describe("raft messages", () => {
  it("come out as they went in", () => {
    fc.assert(
      fc.property(message, (sent) => {
        assert.deepEqual(decodeMessage(encodeMessage(sent), "n1", "n2"), { ...sent });
      }),
    );
  });

  it("that tell of a commit differ from a heartbeat in a flag that masters of earlier versions pass over", () => {
    const rest = { from: "n1", to: "n2", term: 3, commit: 7 };
    const notice = encodeMessage({ ...rest, kind: "commitNotice" } as Message);
    const heartbeat = encodeMessage({ ...rest, kind: "heartbeat", readToken: 0 } as Message);
    assert.notDeepEqual(notice, heartbeat);
    notice[1] = 0;
    assert.deepEqual(notice, heartbeat);
  });

  it("are encoded once for several followers only where their bytes are the same", () => {
    fc.assert(
      fc.property(append, append, fc.nat(4), (one, other, cut) => {
        const [a, b] = [one, other] as unknown as Extract<Message, { kind: "append" }>[];
        const copy = { ...a!, to: "n3", entries: [...a!.entries] };
        const shorter = { ...copy, entries: a!.entries.slice(0, cut) };
        assert.ok(haveSameBytes(a!, copy));
        for (const each of [copy, shorter, { ...copy, commit: b!.commit }, b!]) {
          if (!haveSameBytes(a!, each)) continue;
          assert.deepEqual(encodeMessage(a!), encodeMessage(each));
        }
      }),
    );
  });

  it("are refused when they are cut, lengthened or nonsense", () => {
    const isRefused = (bytes: Buffer) => {
      assert.throws(
        () => decodeMessage(bytes, "n1", "n2"),
        (error) => hasCode(error, "ProtocolError"),
      );
    };
    fc.assert(
      fc.property(message, fc.nat(), (sent, cut) => {
        const bytes = encodeMessage(sent);
        isRefused(bytes.subarray(0, cut % bytes.length));
        isRefused(Buffer.concat([bytes, Buffer.from([0])]));
      }),
    );
    isRefused(Buffer.alloc(100, 0xff));
  });
});
