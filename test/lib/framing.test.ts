import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import { FrameReader, frameHeader } from "../../src/lib/framing.ts";

const framed = (payloads: readonly Uint8Array[]) =>
  Buffer.concat(payloads.flatMap((payload) => [frameHeader(payload), payload]));

describe("framing", () => {
  it("returns the payloads in order however the stream is cut", () => {
    const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
    fc.assert(
      fc.property(payloads, fc.array(fc.integer({ min: 1, max: 64 })), (sent, cuts) => {
        const stream = framed(sent);
        const reader = new FrameReader();
        const received: Buffer[] = [];
        let at = 0;
        for (let i = 0; at < stream.length; i++) {
          const step = cuts[i] ?? 7;
          received.push(...reader.push(stream.subarray(at, at + step)));
          at += step;
        }
        assert.deepEqual(
          received.map((payload) => payload.toString("hex")),
          sent.map((payload) => Buffer.from(payload).toString("hex")),
        );
      }),
    );
  });

  it("refuses a flipped byte of a payload", () => {
    const stream = framed([Buffer.from("payload")]);
    stream[10]! ^= 1;
    assert.throws(
      () => new FrameReader().push(stream),
      (error) => hasCode(error, "ProtocolError"),
    );
  });

  it("refuses a length above the limit before it buffers anything of it", () => {
    assert.throws(() => new FrameReader(16).push(framed([Buffer.alloc(17)])), /wanted at most 16/);
  });
});
