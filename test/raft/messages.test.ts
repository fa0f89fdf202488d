import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import { encodeConfiguration } from "../../src/raft/configuration-codec.ts";
import { decodeMessage, encodeMessage, haveSameBytes } from "../../src/raft/messages.ts";
import type { Message } from "../../src/raft/types.ts";

const number = fc.maxSafeNat();
const members = Buffer.from(
  encodeConfiguration({ voters: ["n1", "n2"], outgoing: [], learners: ["n3"] }),
);

/** Index and term of an entry, or of the beginning of the log. */
function place(index: number, term: number, name: string): Record<string, number> {
  const isEntry = index > 0 && term > 0;
  return { [`${name}Index`]: isEntry ? index : 0, [`${name}Term`]: isEntry ? term : 0 };
}
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
  .map((each) => {
    // Terms as logs have them: rising, and begun.
    const terms = [each.term, each.prevTerm, ...each.entries.map((entry) => entry.term)];
    const [prevTerm = 0, ...rest] = terms.sort((a, b) => a - b);
    const previous = place(each.prevIndex, prevTerm, "prev");
    const entries = each.entries.map((entry, i) => ({
      ...entry,
      index: previous["prevIndex"]! + 1 + i,
      term: rest[i]!,
      payload: entry.kind === "configuration" ? members : entry.payload,
    }));
    return { ...each, ...previous, entries, term: rest.at(-1)! };
  });
const message = fc.oneof(
  append,
  fc
    .record({
      ...address,
      kind: fc.constant("requestVote"),
      preVote: fc.boolean(),
      transfer: fc.boolean(),
      lastIndex: number,
      lastTerm: number,
    })
    .map((each) => ({
      ...each,
      ...place(each.lastIndex, Math.min(each.lastTerm, each.term), "last"),
    })),
  fc.record({
    ...address,
    kind: fc.constant("voteReply"),
    preVote: fc.boolean(),
    granted: fc.boolean(),
  }),
  fc
    .record({
      ...address,
      kind: fc.constant("appendReply"),
      ok: fc.boolean(),
      index: number,
      hintIndex: number,
      hintTerm: number,
    })
    .map((each) => ({
      ...each,
      ...place(each.hintIndex, Math.min(each.hintTerm, each.term), "hint"),
    })),
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

  it("are refused when their fields cannot be those of a log", () => {
    const entries = [5, 5, 6].map((term, i) => ({
      ...{ index: 4 + i, term, kind: "command", payload: Buffer.from("x") },
    }));
    const append = { kind: "append", term: 6, prevIndex: 3, prevTerm: 5, commit: 0, entries };
    const vote = { kind: "requestVote", term: 6, preVote: false, transfer: false };
    const reply = { kind: "appendReply", term: 6, ok: false, index: 3 };
    const takes = (fields: object) => {
      const sent = { from: "n1", to: "n2", ...fields } as Message;
      decodeMessage(encodeMessage(sent), "n1", "n2");
    };
    takes(append);
    takes({ ...vote, lastIndex: 3, lastTerm: 6 });
    takes({ ...reply, hintIndex: 0, hintTerm: 0 });
    const last = Number.MAX_SAFE_INTEGER;
    const changed = (fields: object) => entries.map((entry) => ({ ...entry, ...fields }));
    for (const nonsense of [
      { ...append, prevTerm: 6 },
      { ...append, prevTerm: 7, entries: [] },
      { ...append, prevTerm: 0 },
      { ...append, prevIndex: 0 },
      { ...append, term: 5 },
      { ...append, entries: [...entries].reverse() },
      { ...append, prevIndex: last },
      { ...append, entries: changed({ kind: "configuration" }) },
      { ...append, term: last + 1 },
      { ...append, commit: last + 1 },
      { ...vote, lastIndex: 3, lastTerm: 7 },
      { ...vote, lastIndex: 3, lastTerm: 0 },
      { ...reply, hintIndex: 2, hintTerm: 7 },
    ]) {
      assert.throws(
        () => takes(nonsense),
        (error) => hasCode(error, "ProtocolError"),
        JSON.stringify(nonsense),
      );
    }
  });
});
