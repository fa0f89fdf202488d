import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import { FrameGatherer, FrameReader, frameHeader } from "../../src/lib/framing.ts";

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

  it("gathers the frames of several connections, large ones too, without mixing them", () => {
    const payload = fc.oneof(
      { weight: 9, arbitrary: fc.uint8Array({ maxLength: 300 }) },
      fc.integer({ min: 10_000, max: 80_000 }).map((length) => new Uint8Array(length).fill(length)),
    );
    const frame = fc.record({ head: fc.uint8Array({ maxLength: 9 }), payload });
    const step = fc.record({ to: fc.nat(2), frame: fc.option(frame, { nil: undefined }) });
    const steps = fc.array(step, { maxLength: 40 });
    const last = [0, 1, 2].map((to) => ({ to, frame: undefined }));
    fc.assert(
      fc.property(steps, (todo) => {
        const gatherers = [0, 1, 2].map(() => new FrameGatherer());
        const wanted: string[][] = [[], [], []];
        const written: Uint8Array[][] = [[], [], []];
        for (const { to, frame: added } of [...todo, ...last]) {
          const gatherer = gatherers[to]!;
          if (added !== undefined) {
            gatherer.add(added.head, added.head.length, added.payload);
            wanted[to]!.push(Buffer.concat([added.head, added.payload]).toString("hex"));
          } else {
            written[to]!.push(...gatherer.take());
            assert.equal(gatherer.bytes, 0);
          }
        }
        for (const [i, pieces] of written.entries()) {
          const payloads = new FrameReader().push(Buffer.concat(pieces));
          assert.deepEqual(
            payloads.map((each) => each.toString("hex")),
            wanted[i],
          );
        }
      }),
    );
  });
});
